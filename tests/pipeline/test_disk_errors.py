"""What a disk refuses is told as what it is: reading or writing, a file or its folder, no room or no right."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifests.errors import InputError
from pipeline.disk_errors import disk_refusals

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that anybody may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.fixture
def ordinary_user(folder: Path) -> Iterator[None]:
    """The superuser may do everything, so be somebody else."""
    before = os.geteuid()
    if before == 0:
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
    yield
    if before == 0:
        os.seteuid(before)


def _refusal(folder: Path, act: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught, disk_refusals(folder):
        act()
    return str(caught.value)


def test_a_file_that_may_not_be_read(folder: Path, ordinary_user: None) -> None:
    file = folder / "prompts.parquet"
    file.write_bytes(b"x")
    file.chmod(0o200)
    said = _refusal(folder, file.read_bytes)
    assert said == f"{file}: cannot be read: Permission denied; make it readable, then run the same command again"


@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["closed", "may be listed, not entered"])
def test_a_folder_that_may_not_be_entered(folder: Path, ordinary_user: None, mode: int) -> None:
    inner = folder / "rows"
    inner.mkdir()
    inner.chmod(mode)
    said = _refusal(folder, lambda: list(os.scandir(inner)) if mode == 0 else os.chdir(inner))
    assert said.startswith(f"{inner}: cannot be read: Permission denied; make it readable")


def test_a_file_in_a_folder_that_may_not_be_entered(folder: Path, ordinary_user: None) -> None:
    inner = folder / "rows"
    inner.mkdir()
    (inner / "shard.parquet").write_bytes(b"x")
    inner.chmod(0o600)
    said = _refusal(folder, (inner / "shard.parquet").read_bytes)
    inner.chmod(0o700)
    assert said.startswith(f"{inner}/shard.parquet: cannot be reached: Permission denied; make its folders accessible")


def test_a_file_that_may_not_be_written(folder: Path, ordinary_user: None) -> None:
    file = folder / "status.json"
    file.write_bytes(b"x")
    file.chmod(0o400)
    said = _refusal(folder, lambda: file.write_bytes(b"y"))
    assert said == f"{file}: cannot be written: Permission denied; make it writable, then run the same command again"


@pytest.mark.parametrize(
    "act",
    [lambda folder: (folder / "new").write_bytes(b"x"), lambda folder: (folder / "old").unlink()],
    ids=["making a file", "removing one"],
)
def test_a_folder_that_may_not_be_written(folder: Path, ordinary_user: None, act: Callable[[Path], object]) -> None:
    (folder / "old").write_bytes(b"x")
    folder.chmod(0o555)
    said = _refusal(folder, lambda: act(folder))
    assert said.startswith(f"{folder}/") and ": cannot be written: Permission denied; make it" in said


def test_what_the_kernel_forbids_for_other_reasons_is_not_guessed(folder: Path) -> None:
    file = folder / "immutable"
    file.write_bytes(b"x")

    def act() -> None:
        raise PermissionError(1, "Operation not permitted", str(file))

    assert "cannot be read or written: Operation not permitted; allow both" in _refusal(folder, act)


def test_without_a_file_the_folders_are_named(folder: Path) -> None:
    def act() -> None:
        raise OSError(28, "No space left on device")

    assert _refusal(folder, act).startswith(f"{folder}: cannot be written: No space left on device; free space")
