"""Seeds are a pure function of the draw, and cost no heavy import."""

import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from samplers.seeds import seed_for


def test_seed_is_the_upper_63_bits_of_blake2b_over_the_canonical_list() -> None:
    digest = hashlib.blake2b('["sd","abc","p\u00e9",-7]'.encode(), digest_size=8).digest()
    assert seed_for("sd", "abc", "p\u00e9", -7) == int.from_bytes(digest) // 2
    assert seed_for("sd", "abc", "p1", 0) == 2190165145290741863


@given(st.text(), st.none() | st.text(), st.text(), st.integers(-(2**40), 2**40))
def test_seeds_fit_a_signed_64_bit_column(generator: str, revision: str | None, prompt_id: str, index: int) -> None:
    assert 0 <= seed_for(generator, revision, prompt_id, index) < 2**63


def test_every_part_of_the_draw_matters() -> None:
    draws = [("g", "r", "p", 0), ("g", "r", "p", 1), ("g", "r", "p1", 0), ("g", None, "p", 0), ("g", "", "p", 0)]
    draws += [("gr", "", "p", 0), ("g", "r", "p", -1)]
    assert len({seed_for(*draw) for draw in draws}) == len(draws)


def test_import_loads_no_torch() -> None:
    script = "import sys, samplers.seeds; sys.exit(bool({'torch', 'numpy', 'diffusers', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
