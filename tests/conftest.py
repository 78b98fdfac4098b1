"""The order of the suite: the folders whose files take minutes come first, so that no process ends with one alone."""

import pytest

_LONG = ("chaos", "pipeline", "samplers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder; within one, the order stays."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    parts = item.path.parts
    return next((rank for rank, name in enumerate(_LONG) if name in parts), len(_LONG))
