"""The order of faults: repeatable, complete, in proportion."""

import random
from collections import Counter

import pytest
from chaos.kinds import KINDS
from chaos.schedule import INLINE, RAY, schedule


@pytest.mark.parametrize("shares", [INLINE, RAY])
@pytest.mark.parametrize("faults", [21, 57, 200, 1000])
def test_a_seed_gives_one_order_in_which_every_kind_has_its_share(shares: dict[str, int], faults: int) -> None:
    kinds = schedule(shares, faults, (), random.Random(3))
    assert kinds == schedule(shares, faults, (), random.Random(3))
    assert kinds != schedule(shares, faults, (), random.Random(4))
    assert len(kinds) == faults
    total = sum(shares.values())
    for kind, count in Counter(kinds).items():
        assert abs(count - shares[kind] * faults / total) < 2  # a rare kind takes from a frequent one
    assert set(kinds) == set(shares)


def test_what_a_machine_lacks_is_left_out_and_the_number_of_faults_stays() -> None:
    kinds = schedule(RAY, 200, {"disk_full": "no root"}, random.Random(1))
    assert len(kinds) == 200
    assert set(kinds) == set(RAY) - {"disk_full"}


def test_every_scheduled_kind_can_be_injected() -> None:
    assert RAY.keys() | INLINE.keys() == KINDS.keys()
