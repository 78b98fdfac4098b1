import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.identifiers import content_hash, image_id, real_image_id, sha256_bytes, sha256_file


def test_image_id_is_blake2b_of_the_canonical_json_list() -> None:
    text = json.dumps(["gen", "rev", "p1", -3], separators=(",", ":"))
    assert image_id("gen", "rev", "p1", -3) == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_ids_are_pinned() -> None:
    """Ids must never change between releases: a dataset's rows are found by them."""
    assert image_id("owner--model", "0" * 40, "p", 0) == "93d3ea3fc52645ac4b0a9125166fe112"
    assert real_image_id(b"bytes") == hashlib.blake2b(b"bytes", digest_size=16).hexdigest()


fields = st.tuples(st.text(), st.none() | st.text(), st.none() | st.text(), st.integers(-(2**40), 2**40))


@given(fields, fields)
def test_different_draws_have_different_ids(one: tuple, other: tuple) -> None:
    assert (image_id(*one) == image_id(*other)) == (one == other)


def test_content_hash_ignores_key_order_only() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": (1, 2), "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 1.5})
    assert content_hash([1, 2]) != content_hash([2, 1])
    with pytest.raises(ValueError):
        content_hash({"a": float("nan")})


def test_sha256_of_bytes_and_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256_file(path) == sha256_bytes(b"x" * 3_000_000) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
