"""Which repos go when room is needed: the least recently used, and no more of them than must."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from crawlers.fetching.cache_contents import Inode, Part


def choose_evictions(
    parts: Mapping[str, Part], candidates: Sequence[str], needed: int, covered: Collection[Inode] = ()
) -> list[str]:
    """Return the candidates to remove so that at least `needed` bytes become free; [] if all together would not do.

    Bytes that also lie elsewhere in the cache are only freed with the last of their names, so the candidates are
    weighed together, not one by one.

    Args:
        candidates: names of parts, least recently used first.
        covered: inodes that a reservation counts already: removing them frees nothing.
    """
    elsewhere: Counter[Inode] = Counter()
    for part in parts.values():
        elsewhere.update(part.names)
    freed = 0
    chosen: list[str] = []
    for name in candidates:
        if freed >= needed:
            break
        freed += _take(parts[name], elsewhere, covered)
        chosen.append(name)
    if freed < needed:
        return []
    # From the most recently used back: what the others free without it may stay.
    for name in reversed(chosen[:]):
        back = _put_back(parts[name], elsewhere, covered)
        if freed - back >= needed:
            freed -= back
            chosen.remove(name)
        else:
            _take(parts[name], elsewhere, covered)
    return chosen


def _take(part: Part, elsewhere: Counter[Inode], covered: Collection[Inode]) -> int:
    freed = 0
    for inode, names in part.names.items():
        elsewhere[inode] -= names
        if elsewhere[inode] == 0 and inode not in covered:
            freed += part.inodes[inode]
    return freed


def _put_back(part: Part, elsewhere: Counter[Inode], covered: Collection[Inode]) -> int:
    back = 0
    for inode, names in part.names.items():
        if elsewhere[inode] == 0 and inode not in covered:
            back += part.inodes[inode]
        elsewhere[inode] += names
    return back
