"""Every kind of finding, made by real damage to a real dataset."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import InputError
from shards.commits import Commit
from shards.identifiers import sha256_file
from shards.index import build_index
from shards.parquet_file import write_rows
from shards.schema import ROW_SCHEMA
from shards.statuses import Reason
from shards.tar_file import TarWriter
from shards.verify import Finding, Kind, errors, verify


def _found(workshop: Any) -> list[tuple[str, str]]:
    return [(str(finding.kind), finding.file) for finding in verify(workshop.root)]


def _edit_commit(workshop: Any, commit: Commit, **changes: Any) -> None:
    path = workshop.root / commit.file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _recommit_file(workshop: Any, commit: Commit, which: str) -> None:
    """Make the commit agree with what the file holds now, as a faulty writer would have."""
    record = getattr(commit, which)
    path = workshop.root / record.name
    _edit_commit(
        workshop, commit, **{which: {"name": record.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}}
    )


def _edit_rows(workshop: Any, commit: Commit, edit: Callable[[list[dict]], None]) -> None:
    path = workshop.root / commit.rows.name
    rows = pq.read_table(path, partitioning=None).to_pylist()
    edit(rows)
    write_rows(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), path)
    _recommit_file(workshop, commit, "rows")


@pytest.fixture
def commit(workshop: Any) -> Commit:
    workshop.commit("other", generator="other")
    return workshop.commit("u", reasons=[Reason.none, Reason.nsfw, Reason.device_oom, Reason.none])


def test_sound_dataset_has_no_findings(workshop: Any, commit: Commit, encoded: Any) -> None:
    workshop.commit("u", reasons=[Reason.none] * 4, generation=1)
    workshop.commit("failed", first=10, reasons=[Reason.repo_not_found])
    workshop.commit_reals("r", [encoded((1, 1, 1), format="JPEG")])
    build_index(workshop.root)
    seen: list[tuple[int, int]] = []
    assert verify(workshop.root, progress=lambda done, total: seen.append((done, total))) == []
    assert seen == [(done, 4) for done in range(1, 5)]


def test_empty_dataset_is_sound(workshop: Any) -> None:
    assert verify(workshop.root) == []


def test_flipped_bit_in_an_image(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.images.name
    content = bytearray(path.read_bytes())
    content[512 + 30] ^= 4
    path.write_bytes(content)
    assert _found(workshop) == [("image_hash", commit.images.name), ("shard_hash", commit.images.name)]


def test_every_single_flipped_byte_of_a_shard_is_found(workshop: Any) -> None:
    commit = workshop.commit("u", reasons=[Reason.none])
    for record in commit.files:
        path = workshop.root / record.name
        good = path.read_bytes()
        for position in range(0, len(good), 97):
            path.write_bytes(good[:position] + bytes([good[position] ^ 0x80]) + good[position + 1 :])
            assert (Kind.shard_hash, record.name) in [(f.kind, f.file) for f in errors(verify(workshop.root))]
        path.write_bytes(good)
    assert verify(workshop.root) == []


def test_flipped_bit_in_rows(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.rows.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert _found(workshop) == [("shard_hash", commit.rows.name)]


@pytest.mark.parametrize("keep", [0, 100, 700, -1])
@pytest.mark.parametrize("which", ["images", "rows"])
def test_truncated_shard(workshop: Any, commit: Commit, which: str, keep: int) -> None:
    record = getattr(commit, which)
    path = workshop.root / record.name
    path.write_bytes(path.read_bytes()[:keep])
    findings = verify(workshop.root)
    assert (Kind.truncated_shard, record.name) in [(finding.kind, finding.file) for finding in findings]
    assert {finding.file for finding in findings} == {record.name}


@pytest.mark.parametrize("which", ["images", "rows"])
def test_missing_shard(workshop: Any, commit: Commit, which: str) -> None:
    record = getattr(commit, which)
    (workshop.root / record.name).unlink()
    assert _found(workshop) == [("missing_shard", record.name)]


def test_commit_without_any_shard(workshop: Any, commit: Commit) -> None:
    for record in commit.files:
        (workshop.root / record.name).unlink()
    assert _found(workshop) == [("commit_without_shard", commit.file)]


def test_row_without_image(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.images.name
    with tarfile.open(path) as tar:
        kept = tar.getmembers()[0]
        data = tar.extractfile(kept).read()  # type: ignore[union-attr]
    path.unlink()
    with TarWriter(path) as writer:
        writer.add(kept.name, data)
        writer.close()
    _recommit_file(workshop, commit, "images")
    assert _found(workshop) == [("row_without_image", commit.images.name)]


def test_row_that_points_elsewhere_in_its_tar(workshop: Any, commit: Commit) -> None:
    _edit_rows(workshop, commit, lambda rows: rows[0].update(offset=1024))
    assert _found(workshop) == [("row_without_image", commit.images.name)]


def test_ok_row_without_stored_image_leaves_an_image_without_row(workshop: Any, commit: Commit) -> None:
    _edit_rows(workshop, commit, lambda rows: rows[0].update(file=None, offset=None, length=None))
    assert _found(workshop) == [("image_without_row", commit.images.name), ("row_without_image", commit.rows.name)]


def test_row_with_image_but_commit_without_tar(workshop: Any, commit: Commit) -> None:
    _edit_commit(workshop, commit, images=None)
    kinds = _found(workshop)
    assert kinds[:2] == [("row_without_image", commit.rows.name)] * 2
    assert kinds[2:] == [("uncommitted_file", commit.images.name)]


def test_image_without_row(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.images.name
    content = path.read_bytes()
    extra = tarfile.TarInfo("f" * 32 + ".png")
    extra.size = 512
    path.write_bytes(content[:-1024] + extra.tobuf(tarfile.USTAR_FORMAT) + bytes(512) + bytes(1024))
    _recommit_file(workshop, commit, "images")
    assert _found(workshop) == [("image_without_row", commit.images.name)]


def test_row_hash_that_the_image_does_not_have(workshop: Any, commit: Commit) -> None:
    _edit_rows(workshop, commit, lambda rows: rows[0].update(sha256="0" * 64))
    assert _found(workshop) == [("image_hash", commit.images.name)]


@pytest.mark.parametrize("which", ["images", "rows"])
def test_file_that_is_committed_but_is_no_shard(workshop: Any, commit: Commit, which: str) -> None:
    (workshop.root / getattr(commit, which).name).write_bytes(b"garbage" * 200)
    _recommit_file(workshop, commit, which)
    assert _found(workshop) == [("unreadable_shard", getattr(commit, which).name)]


def test_rows_of_another_schema(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.rows.name
    write_rows(pq.read_table(path, partitioning=None).drop_columns(["phash"]), path)
    _recommit_file(workshop, commit, "rows")
    (finding,) = verify(workshop.root)
    assert (finding.kind, finding.file) == (Kind.unreadable_shard, commit.rows.name) and "phash" in finding.detail


@pytest.mark.parametrize("column", ["unit", "generator", "generation", "label"])
def test_row_of_another_unit(workshop: Any, commit: Commit, column: str) -> None:
    value: Any = {"generation": 3, "label": 0}.get(column, "else")
    _edit_rows(workshop, commit, lambda rows: rows[1].update({column: value}))
    assert _found(workshop) == [("row_mismatch", commit.rows.name)]


def test_reason_that_cannot_have_the_status(workshop: Any, commit: Commit) -> None:
    _edit_rows(workshop, commit, lambda rows: rows[2].update(reason="worker_lost"))
    assert ("row_mismatch", commit.rows.name) in _found(workshop)


def test_counts_that_are_not_those_of_the_rows(workshop: Any, commit: Commit) -> None:
    _edit_commit(workshop, commit, counts={"ok": 3, "flagged": 1})
    (finding,) = verify(workshop.root)
    assert (finding.kind, finding.file) == (Kind.counts, commit.rows.name)
    assert "the rows say flagged 1, ok 2, oom 1" in finding.detail and "says flagged 1, ok 3" in finding.detail


@pytest.mark.parametrize(
    ("edit", "detail"),
    [
        (lambda rows: rows[1].update(index=0), "draw 0 has more than one row"),
        (lambda rows: rows[1].update(index=9), "draw 9 is not one of the unit's (0 to 3)"),
        (lambda rows: rows[1].update(index=-1), "1 of the draws 0 to 3 have no row"),
    ],
)
def test_draws_that_do_not_reconcile(workshop: Any, commit: Commit, edit: Any, detail: str) -> None:
    _edit_rows(workshop, commit, edit)
    assert detail in [finding.detail for finding in verify(workshop.root) if finding.kind is Kind.counts]


def test_more_images_than_wanted(workshop: Any, row: Any, encoded: Any) -> None:
    from shards.commits import UnitInfo
    from shards.writer import UnitWriter

    unit = workshop.unit("u")
    with UnitWriter(workshop.root, workshop.spool, unit, "gen") as writer:
        for index in (0, -1):
            writer.add(row(unit, index), encoded((0, 0, abs(index))))
        receipt = writer.publish()
    commit = workshop.record(UnitInfo(unit=unit, generator="gen", label=1, first=0, count=1), receipt)
    (finding,) = verify(workshop.root)
    assert finding == Finding(kind=Kind.counts, file=commit.rows.name, detail="2 ok images, but 1 were wanted")


def test_duplicate_image_id(workshop: Any, commit: Commit, encoded: Any) -> None:
    same = encoded((1, 1, 1), format="JPEG")
    files = [workshop.commit_reals(f"r{number}", [same], source=f"s{number}").rows.name for number in range(2)]
    (finding,) = verify(workshop.root)
    assert (finding.kind, finding.file) == (Kind.duplicate_image_id, min(files))
    assert all(name in finding.detail for name in files)


def test_overlapping_draws(workshop: Any) -> None:
    workshop.commit("long", first=0, reasons=[Reason.none] * 6)
    for name, first in (("inside", 2), ("after", 6)):
        workshop.commit(name, first=first, prompt_id=name, reasons=[Reason.device_oom] * 2)
    overlapping = [finding for finding in verify(workshop.root) if finding.kind is Kind.overlapping_draws]
    assert [finding.file for finding in overlapping] == [f"commits/{workshop.unit('inside')}.0.json"]
    assert "draws 2 to 3 of gen overlap 0 to 5" in overlapping[0].detail


def test_unreadable_commit(workshop: Any, commit: Commit) -> None:
    path = workshop.root / commit.file
    path.write_bytes(path.read_bytes()[:50])
    assert _found(workshop)[0] == ("unreadable_commit", commit.file)
    assert [finding.kind for finding in errors(verify(workshop.root))] == [Kind.unreadable_commit]


def test_missing_generation(workshop: Any, commit: Commit) -> None:
    again = workshop.commit("u", reasons=[Reason.none] * 4, generation=1)
    (workshop.root / commit.file).unlink()
    assert ("missing_generation", again.file) in _found(workshop)


def test_litter_foreign_files_and_a_stale_index_are_remarks(workshop: Any, commit: Commit) -> None:
    build_index(workshop.root)
    workshop.commit("new", first=20)
    _, receipt = workshop.publish("litter", first=30)
    (workshop.root / "images" / "gen" / "notes.txt").write_text("mine")
    (workshop.root / "commits" / ".x.0.json.0123456789abcdef.tmp").write_text("{")
    findings = verify(workshop.root)
    assert errors(findings) == [] and {finding.severity for finding in findings} == {"info"}
    assert sorted((str(finding.kind), finding.file) for finding in findings) == sorted(
        [
            ("stale_index", "index/rows.parquet"),
            ("uncommitted_file", receipt.images.name),
            ("uncommitted_file", receipt.rows.name),
            ("uncommitted_file", "commits/.x.0.json.0123456789abcdef.tmp"),
            ("foreign_file", "images/gen/notes.txt"),
        ]
    )


def test_findings_are_plain_data() -> None:
    finding = Finding.of(Kind.shard_hash, "images/a", "why")
    assert finding.model_dump(mode="json") == {
        "kind": "shard_hash",
        "file": "images/a",
        "detail": "why",
        "severity": "error",
    }


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset here"):
        verify(tmp_path)
