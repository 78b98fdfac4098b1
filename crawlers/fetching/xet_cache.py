"""The Xet library's own caches: switched off, and put where the disk budget sees them.

On the public hub the hub client fetches large files through `hf_xet`, which may keep chunks of them (by default 10 GB
in some builds), shards (16 GB) and logs (250 MB) in a folder of its own beside the hub cache. A model is fetched once
and verified whole, so chunks of it are of no further use.
"""

import os
from contextlib import suppress
from pathlib import Path

from crawlers.fetching.file_locks import cache_locks


def xet_folder(cache_dir: Path) -> Path:
    """Return where the library keeps what it keeps all the same: empty folders, unless a version ignores its limits."""
    return cache_locks(cache_dir) / "xet"


def xet_environment(cache_dir: Path) -> dict[str, str]:
    """Return the variables for a process that fetches into a cache. A user's own place for logs is left alone."""
    return {
        "HF_XET_CACHE": str(xet_folder(cache_dir)),
        "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",
        "HF_XET_SHARD_CACHE_SIZE_LIMIT": "0",
        "HF_XET_LOG_DEST": os.environ.get("HF_XET_LOG_DEST", os.devnull),
    }


def sweep_xet(cache_dir: Path) -> None:
    """Remove all files of the library's caches; whoever has one open keeps it until he closes it.

    What cannot be removed stays: another user's file, or one that NFS keeps for a process that has it open. The disk
    budget counts it, and a download must not fail for it.
    """
    for folder, folders, files in os.walk(xet_folder(cache_dir)):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in (*files, *links):
            with suppress(OSError):
                (Path(folder) / name).unlink()
