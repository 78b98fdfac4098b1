"""Prompts come from captions, class labels and a captioner, and prompts.parquet only ever grows."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captioning.class_labels import prompts_from_class_labels
from captioning.make_prompt import make_prompt, prompt_id_of
from captioning.prompt_table import Appended, append_prompts, read_prompts
from captioning.real_record import RealRecord
from manifests.errors import InputError
from manifests.prompts import PROMPT_SCHEMA, Prompt
from shards.identifiers import content_hash

RECORDS = [
    RealRecord(path="a", sha256="sa", image_id="ia", caption="a dog", photograph="p", class_label="dog", content="c"),
    RealRecord(path="b", sha256="sb", image_id="ib"),
    RealRecord(path="c", sha256="sc", image_id="ic", caption="a cat", class_label="cat"),
]


def prompt(text: str, image: str = "i") -> Prompt:
    return Prompt(
        prompt_id=prompt_id_of("caption", text, image), prompt=text, prompt_source="caption", source_image_id=image
    )


def test_a_given_caption() -> None:
    assert make_prompt(RECORDS[0], "src", "a dog", "caption", "train") == Prompt(
        prompt_id=content_hash(["caption", "a dog", "ia"]),
        prompt="a dog",
        prompt_source="caption",
        class_label="dog",
        real_source="src",
        source_image_id="ia",
        photograph="p",
        content="c",
        split="train",
    )


def test_class_labels() -> None:
    found = prompts_from_class_labels(RECORDS, "src", 0.5, "s")
    assert [(item.prompt, item.prompt_source, item.class_label, item.source_image_id) for item in found] == [
        ("photo of dog", "class_label", "dog", "ia"),
        ("photo of cat", "class_label", "cat", "ic"),
    ]
    with pytest.raises(InputError, match=r"^template = 'a photo': it must hold \{class\}"):
        prompts_from_class_labels(RECORDS, "src", 0.5, "s", "a photo")


def test_a_generated_caption() -> None:
    found = make_prompt(RECORDS[1], "src", " a bird ", "blip", "test", "rev")
    assert (found.prompt, found.prompt_source, found.captioner_revision) == ("a bird", "blip", "rev")
    assert found.prompt_id == prompt_id_of("blip", "a bird", "ib")


def test_appending_keeps_rows_and_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "prompts.parquet"
    assert append_prompts(path, [prompt("z"), prompt("a"), prompt("z"), prompt("  ")]) == Appended(2, 1, 1)
    first = pq.read_table(path)
    assert first.schema.equals(PROMPT_SCHEMA)
    assert first["prompt"].to_pylist() == ["z", "a"]

    moved = prompt("a").model_copy(update={"split": "test"})
    assert append_prompts(path, [prompt("m"), moved, prompt("a", "other image")]) == Appended(2, 1, 0)
    second = pq.read_table(path)
    assert second.slice(0, 2).equals(first)
    assert second["prompt"].to_pylist() == ["z", "a", "m", "a"]
    assert read_prompts(path) == [prompt("z"), prompt("a"), prompt("m"), prompt("a", "other image")]

    before = (path.stat().st_ino, path.read_bytes())
    assert append_prompts(path, [prompt("m"), prompt("\n")]) == Appended(0, 1, 1)
    assert (path.stat().st_ino, path.read_bytes()) == before
    assert [file.name for file in path.parent.iterdir()] == ["prompts.parquet"]


def test_a_table_without_prompts_is_a_table(tmp_path: Path) -> None:
    assert append_prompts(tmp_path / "p.parquet", []) == Appended(0, 0, 0)
    assert read_prompts(tmp_path / "p.parquet") == []


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.parquet"
    append_prompts(path, [prompt("a")])
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError) as caught:
        append_prompts(path, [prompt("b")])
    assert (
        str(caught.value)
        == f"{path}: cannot be written: No space left on device; free space, then run the same command again"
    )
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    good = pa.Table.from_pylist([prompt("a").model_dump(), prompt("b").model_dump()], schema=PROMPT_SCHEMA)
    null = pa.table({**{name: good[name] for name in good.column_names}, "prompt": pa.array(["a", None])})
    allowed = f"a prompt table has {', '.join(PROMPT_SCHEMA.names)}"
    cases = {
        f"{path}: the column 'split' is missing; {allowed}": good.drop_columns(["split"]),
        f"{path}: unknown column 'extra'; {allowed}": good.append_column("extra", pa.array([1, 2])),
        f"{path}: column 'prompt' is int64; it must be string": good.set_column(1, "prompt", pa.array([1, 2])),
        f"{path}: row 1: column 'prompt' must not be null": null,
        f"{path}: prompt_id '{prompt('a').prompt_id}' is there twice": pa.concat_tables([good, good]),
    }
    for message, table in cases.items():
        pq.write_table(table, path)
        for use in (read_prompts, lambda path: append_prompts(path, [])):
            with pytest.raises(InputError) as caught:
                use(path)
            assert str(caught.value) == message
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"p\.parquet: cannot be read as Parquet: "):
        read_prompts(path)
    with pytest.raises(InputError, match=r"none\.parquet: there is no such file$"):
        read_prompts(tmp_path / "none.parquet")


def test_another_writers_column_order_and_text_type_are_fine(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([prompt("a").model_dump()], schema=PROMPT_SCHEMA)
    large = table.cast(pa.schema([pa.field(name, pa.large_string()) for name in table.column_names]))
    pq.write_table(large.select(list(reversed(table.column_names))), tmp_path / "p.parquet")
    assert read_prompts(tmp_path / "p.parquet") == [prompt("a")]


def test_only_blip_loads_torch() -> None:
    folder = Path(sys.modules["captioning.prompt_table"].__file__ or "").parent
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem not in ("__init__", "blip"))
    code = (
        f"import sys, {', '.join(f'captioning.{name}' for name in names)}\n"
        "found = {'torch', 'transformers', 'pandas', 'imagehash'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
