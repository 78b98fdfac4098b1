"""Files that are not what their names say: every one becomes a reason of the catalog, none an exception."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer
from crawlers.recognition.safetensors_header import (
    FIRST_READ,
    HEADER_LIMIT,
    BadHeaderError,
    SafetensorsHeader,
    header_length,
    parse_header,
)
from crawlers.recognition.weight_contents import tell_contents
from manifests.generator import WeightFile

QUICK = RetryPolicy(attempts=2, first_wait=0.01)


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any = (1, 2), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "short": (b"lora", "has 4 bytes"),
    "huge-length": (safetensors({}, length=2**63), "announces a header of 9223372036854775808 bytes"),
    "longer-than-file": (safetensors({}, length=100), "announces a header of 100 bytes and has 10"),
    "no-length": (safetensors(b"", b"x" * 20, length=0), "announces a header of 0 bytes"),
    "not-json": (safetensors(b"\x80not json" * 4), "the header is not JSON"),
    "deep-json": (safetensors(b"[" * 100_000), "the header is not JSON"),
    "a-list": (safetensors([1, 2]), "a JSON list, not an object"),
    "pickle": (b"\x80\x04\x95" + b"\x00" * 200, "announces a header of"),
    "negative": (safetensors({KEY: entry(offsets=(-8, 0))}, bytes(8)), "is not the description of a tensor"),
    "beyond-end": (safetensors({KEY: entry(offsets=(0, 80), shape=(1, 20))}, bytes(8)), "is not the description"),
    "backwards": (safetensors({KEY: entry(offsets=(8, 0))}, bytes(8)), "is not the description"),
    "wrong-size": (safetensors({KEY: entry(shape=(9, 9))}, bytes(8)), "is not the description"),
    "boolean-shape": (safetensors({KEY: entry(shape=(True, 2))}, bytes(8)), "is not the description"),
    "many-sides": (safetensors({KEY: entry(shape=(10**40,) * 9)}, bytes(8)), "is not the description"),
    "no-dtype": (safetensors({KEY: entry(dtype=None)}, bytes(8)), "is not the description"),
    "text-tensor": (safetensors({KEY: "a tensor"}), "is not the description"),
    "empty": (safetensors({}), "no tensor at all"),
}


def test_a_repo_with_a_hostile_file_is_a_row_with_a_reason(hub_folder: Any, tmp_path: Path) -> None:
    for name, (data, _) in HOSTILE.items():
        hub_folder.repo(f"h/{name}", {"pytorch_lora_weights.safetensors": data}, card={"base_model": "h/base"})
    # One bad file does not hide a good one, and a hostile config or card ends nothing either.
    hub_folder.repo("h/unet", {"config.json": b"[" * 100_000, "diffusion_pytorch_model.safetensors": bytes(40)})
    hub_folder.repo("h/list", {"config.json": [], "diffusion_pytorch_model.safetensors": bytes(40)})
    unet = {"config.json": {"_class_name": "UNet2DConditionModel"}, "diffusion_pytorch_model.safetensors": bytes(40)}
    hub_folder.repo("h/zeros", unet)
    good = safetensors({KEY: entry((1, 768), (0, 3072)), "__metadata__": []}, bytes(3072))
    hub_folder.repo("h/both", {"pytorch_lora_weights.safetensors": b"lora", "b.safetensors": good})
    config = {"b.safetensors": good, "adapter_config.json": b"\xff", "README.md": b"\xff" * 100}
    hub_folder.repo("h/config", config)
    with HubServer(hub_folder.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "out", policy=QUICK)
    rows = {row.repo_id: row for row in read_catalog(tmp_path / "out")}
    for name, (_, said) in HOSTILE.items():
        row = rows[f"h/{name}"]
        assert row.reason == "no_model_index", name
        assert str(row.detail).startswith("looks like an adapter (pytorch_lora_weights.safetensors); "), name
        assert said in str(row.detail), name
    assert (rows["h/unet"].reason, rows["h/list"].reason) == ("no_model_index", "no_model_index")
    assert "config.json is not JSON" in str(rows["h/unet"].detail)
    assert "announces a header of 0 bytes" in str(rows["h/zeros"].detail)
    # It is recognised; its base, which the widths tell, is not on this hub.
    for name in ("both", "config"):
        assert (rows[f"h/{name}"].reason, rows[f"h/{name}"].weight_name) == ("no_base", "b.safetensors")
        expected = "stable-diffusion-v1-5/stable-diffusion-v1-5 (shapes): gone: 404"
        assert str(rows[f"h/{name}"].detail).startswith(expected)


def test_a_long_header_is_read_in_two_parts_and_an_endless_one_is_not(hub_folder: Any, tmp_path: Path) -> None:
    long = {f"{KEY[:-14]}{number}.lora_A.weight": entry((1, 2), (0, 8)) for number in range(1500)}
    assert len(json.dumps(long)) > 2 * FIRST_READ
    hub_folder.repo("a/long", {"pytorch_lora_weights.safetensors": safetensors(long, bytes(8))})
    padded = json.dumps({KEY: entry()}).encode().ljust(HEADER_LIMIT + 1)
    hub_folder.repo("a/endless", {"pytorch_lora_weights.safetensors": safetensors(padded, bytes(8))})
    with HubServer(hub_folder.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "out", policy=QUICK)
        asked = [record.path for record in hub.requests() if "pytorch_lora_weights" in record.path]
    rows = {row.repo_id: row for row in read_catalog(tmp_path / "out")}
    assert (rows["a/long"].reason, rows["a/long"].packaging) == ("no_base", "lora")
    assert "announces a header of 16777217 bytes" in str(rows["a/endless"].detail)
    assert sum("a/long" in path for path in asked) == 2
    assert sum("a/endless" in path for path in asked) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["__metadata__", KEY, "a.alpha", "emb_params", "clip_l", "input_blocks.0.0.weight", ""])
ENTRIES = JSON | st.builds(
    entry,
    st.lists(st.integers(-2, 2**70), max_size=9) | JSON,
    st.lists(st.integers(-2, 40), max_size=3) | JSON,
    st.sampled_from(["F32", "F8_E4M3", "X", "F4"]) | JSON,
)


@given(st.dictionaries(NAMES, ENTRIES, max_size=4), st.integers(0, 64))
@example({KEY: entry((0, 2**40), (0, 0))}, 0)
def test_whatever_a_header_says_it_is_read_or_refused(content: dict[str, Any], room: int) -> None:
    text = json.dumps(content).encode()
    try:
        parsed = parse_header(text, WeightFile(path="x.safetensors", size=8 + len(text) + room))
    except BadHeaderError:
        return
    assert isinstance(parsed, SafetensorsHeader)
    assert all(side >= 0 for tensor in parsed.tensors.values() for side in tensor.shape)
    assert tell_contents(parsed).what


@given(st.binary(max_size=64), st.integers(0, 100))
def test_whatever_a_file_begins_with(start: bytes, size: int) -> None:
    file = WeightFile(path="x.safetensors", size=size)
    try:
        assert 2 <= header_length(start, file) <= size - 8
        parse_header(start[8:], file)
    except BadHeaderError as error:
        assert str(error).startswith("x.safetensors")


@pytest.mark.parametrize("number", [3, 10])
def test_a_header_may_name_types_that_are_not_known_yet(number: int) -> None:
    text = json.dumps({"a": entry((8,), (0, number), "F4_E2M1")}).encode()
    assert parse_header(text, WeightFile(path="x", size=8 + len(text) + 10)).main_dtype == "F4_E2M1"
