"""Git and LFS object ids, as the hub reports them: blob, LFS pointer, tree, commit.

Large or binary files are Git LFS files on the hub: git holds only a pointer, the file is known by its sha256. The
ids made here are git's own, so ``git write-tree`` over the same files gives the same tree id.
"""

import hashlib
import re
from collections.abc import Mapping

_LFS_SUFFIX = re.compile(
    r"\.(7z|arrow|bin|bz2|ckpt|ftz|gguf|gz|h5|joblib|mlmodel|model|msgpack|npy|npz|onnx|ot|parquet|pb|pickle|pkl|pt"
    r"|pth|rar|safetensors|tar|tflite|tgz|wasm|xz|zip|zst|bmp|gif|jpe?g|png|tiff?|webp|flac|mp3|mp4|ogg|wav)$",
    re.IGNORECASE,
)
LFS_BYTES = 10 * 1024 * 1024


def is_lfs(path: str, size: int) -> bool:
    """Whether the file is in LFS: by suffix (the hub's default ``.gitattributes``, media), or over 10 MiB."""
    return size > LFS_BYTES or _LFS_SUFFIX.search(path) is not None


def object_id(kind: str, content: bytes) -> str:
    """The id of a git object: sha1 over its kind, length and content."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git stores in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """Return the git tree id of every folder, by its path; ``""`` is the root.

    Args:
        blobs: blob id by file path (``/`` between parts).
    """
    folders: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path, blob in blobs.items():
        parent, _, name = path.rpartition("/")
        folders.setdefault(parent, {})[name] = ("100644", blob)
        while parent:
            grandparent, _, name = parent.rpartition("/")
            folders.setdefault(grandparent, {}).setdefault(name, ("40000", ""))
            parent = grandparent
    ids: dict[str, str] = {}
    for folder in sorted(folders, key=lambda path: path.count("/") if path else -1, reverse=True):
        lines = []
        for name, (mode, blob) in folders[folder].items():
            child = blob if mode == "100644" else ids[f"{folder}/{name}" if folder else name]
            # Git sorts a folder as if its name ended in a slash.
            lines.append((name + "/" if mode == "40000" else name, mode, name, child))
        ids[folder] = object_id(
            "tree",
            b"".join(
                f"{mode} {name}\0".encode() + bytes.fromhex(child)
                for _, mode, name, child in sorted(lines, key=lambda line: line[0].encode())
            ),
        )
    return ids


def commit_id(tree: str) -> str:
    """The id of the one commit that holds ``tree``; author and date are fixed, so equal content is an equal commit."""
    who = "hub <hub@localhost> 0 +0000"
    return object_id("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nFiles as served\n".encode())
