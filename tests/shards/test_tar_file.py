import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.storage import read_range
from shards.tar_file import TarWriter

names = st.text("0123456789abcdef", min_size=32, max_size=32).map(lambda stem: f"{stem}.png")


@given(st.dictionaries(names, st.binary(max_size=2000), max_size=8))
def test_offsets_are_where_tarfile_finds_the_bytes(members: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.tar"
        with TarWriter(path) as writer:
            offsets = {name: writer.add(name, data) for name, data in members.items()}
            digest, size = writer.close()
        content = path.read_bytes()
        assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
        with tarfile.open(path) as tar:
            found = tar.getmembers()
            assert [member.name for member in found] == list(members)
            for member in found:
                reader = tar.extractfile(member)
                assert reader is not None
                assert reader.read() == members[member.name] == read_range(path, offsets[member.name], member.size)
                assert member.offset_data == offsets[member.name]
                fixed = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
                assert fixed == (0, 0, 0, "", "", 0o644)


def test_bytes_equal_those_of_the_standard_library_writer(tmp_path: Path) -> None:
    members = {"a.png": b"x" * 700, "b.png": b"y" * 512}
    reference = io.BytesIO()
    with tarfile.open(fileobj=reference, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with TarWriter(tmp_path / "t.tar") as writer:
        for name, data in members.items():
            writer.add(name, data)
        writer.close()
    ours = (tmp_path / "t.tar").read_bytes()
    assert reference.getvalue() == ours.ljust(10240, b"\0")  # the standard library also fills its last 10 KiB record


def test_tar_command_lists_and_extracts(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "t.tar") as writer:
        writer.add("a.png", b"hello")
        writer.add("b.png", b"")
        writer.close()
    done = subprocess.run(["tar", "-tvf", "t.tar"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["a.png", "b.png"]
    assert done.stderr == ""
    subprocess.run(["tar", "-xf", "t.tar"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.png").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["x" * 101, "ü.png"])
def test_names_that_ustar_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    with TarWriter(tmp_path / "t.tar") as writer, pytest.raises(ValueError):
        writer.add(name, b"x")


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        TarWriter(tmp_path / "t.tar")
    assert (tmp_path / "t.tar").read_bytes() == b"other"
