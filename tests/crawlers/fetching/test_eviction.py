"""Which repos are removed for room, against all subsets of them."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from crawlers.fetching.cache_contents import Inode, Part
from crawlers.fetching.eviction import choose_evictions

SIZES = {Inode(1, number): 2**number for number in range(8)}
"""Powers of two: a sum says which blobs are in it."""


def freed(parts: dict[str, Part], removed: tuple[str, ...] | list[str], covered: set[Inode]) -> int:
    """Bytes that lie under no name any more, counted from the other side: what is left."""
    left = {inode for name, part in parts.items() if name not in removed for inode in part.inodes}
    return sum(size for inode, size in SIZES.items() if inode not in left | covered and _lies(parts, inode))


def _lies(parts: dict[str, Part], inode: Inode) -> bool:
    return any(inode in part.inodes for part in parts.values())


def part(inodes: set[Inode]) -> Part:
    return Part({inode: SIZES[inode] for inode in inodes}, dict.fromkeys(inodes, 1))


inodes = st.sampled_from(sorted(SIZES))


@given(
    contents=st.lists(st.sets(inodes, max_size=4), min_size=1, max_size=6),
    pinned=st.integers(0, 3),
    needed=st.integers(1, 300),
    covered=st.sets(inodes, max_size=2),
)
def test_enough_goes_and_no_more_and_the_oldest(
    contents: list[set[Inode]], pinned: int, needed: int, covered: set[Inode]
) -> None:
    parts = {f"r{number}": part(content) for number, content in enumerate(contents)}
    candidates = list(parts)[pinned:]
    chosen = choose_evictions(parts, candidates, needed, covered)
    if freed(parts, candidates, covered) < needed:
        assert chosen == [], "removing everything would not do, so nothing is removed in vain"
        return
    assert freed(parts, chosen, covered) >= needed
    for fewer in combinations(chosen, len(chosen) - 1):
        assert freed(parts, fewer, covered) < needed
    oldest = next(n for n in range(len(candidates) + 1) if freed(parts, candidates[:n], covered) >= needed)
    assert set(chosen) <= set(candidates[:oldest])


def test_a_shared_blob_is_freed_with_its_last_name() -> None:
    shared, first, second = sorted(SIZES)[5:8]
    parts = {"old": part({shared, first}), "new": part({shared, second})}
    assert choose_evictions(parts, ["old", "new"], SIZES[first]) == ["old"]
    assert choose_evictions(parts, ["old", "new"], SIZES[first] + SIZES[shared]) == ["new"]
    assert choose_evictions(parts, ["old", "new"], SIZES[first] + SIZES[second] + 1) == ["old", "new"]
    assert choose_evictions(parts, ["old"], SIZES[first] + 1) == []
