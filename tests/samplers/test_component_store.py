"""What is in use is never let go, what is changed for a while is shared with nobody, and the byte count is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from samplers.component_store import ComponentStore, Lease, module_bytes


def _module(size: int) -> nn.Module:
    return nn.Linear(size, 1, bias=False)


def test_what_a_lease_holds_stays_however_little_room_there_is() -> None:
    store = ComponentStore(max_bytes=100)
    lease = store.lease()
    base = lease.fetch("base", lambda: _module(100))
    for name in "abc":
        store.fetch(name, lambda: _module(20))
    assert store.bytes == 480 and store.count == 2  # the base, and what was asked for last
    assert store.fetch("base", lambda: pytest.fail("the base was let go")) is base
    lease.release()
    assert store.bytes <= 100
    again = store.fetch("base", lambda: _module(100))
    assert again is not base


def test_releasing_keeps_what_there_is_room_for() -> None:
    store = ComponentStore(max_bytes=1000)
    lease = store.lease()
    base = lease.fetch("base", lambda: _module(100))
    lease.release()
    lease.release()
    assert store.lease().fetch("base", lambda: pytest.fail("there was room")) is base


def test_who_changes_a_module_has_it_alone() -> None:
    store = ComponentStore()
    first, second, third = store.lease(), store.lease(), store.lease()
    base = first.fetch("base", lambda: _module(5), alone=True)
    assert second.fetch("base", lambda: _module(5)) is not base
    first.release()
    assert second.fetch("base", lambda: pytest.fail("it is free again")) is base
    assert third.fetch("base", lambda: pytest.fail("two may share it")) is base
    assert first.fetch("base", lambda: _module(5), alone=True) is not base
    second.release()
    third.release()
    assert first.fetch("base", lambda: pytest.fail("it is free again"), alone=True) is base
    assert store.count == 1


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("release"), st.integers(0, 5), st.just(False)),
        st.tuples(st.just("plain"), st.integers(0, 5), st.just(False)),
    ),
    max_size=40,
)


@given(steps=_STEPS, room=st.integers(0, 60))
def test_the_count_and_the_promise_hold_in_any_order(steps: list[tuple[str, int, bool]], room: int) -> None:
    store = ComponentStore(max_bytes=room * 4)
    leases: list[tuple[Lease, int, nn.Module, bool]] = []
    for step, number, alone in steps:
        if step == "release" and leases:
            leases.pop(number % len(leases))[0].release()
        elif step == "plain":
            store.fetch(f"m{number}", lambda: _module(1 + 4 * number))  # noqa: B023 - called at once
        elif step == "fetch":
            lease = store.lease()
            module = lease.fetch(f"m{number}", lambda: _module(1 + 4 * number), alone=alone)  # noqa: B023
            leases.append((lease, number, module, alone))
        entries = store._entries
        assert store.bytes == sum(module_bytes(entry.module) for entry in entries.values())
        held = {id(entry.module) for entry in entries.values() if entry.holders}
        assert store.bytes <= room * 4 or len(entries) - len(held) <= 1
        for _, _, module, alone_there in leases:
            others = [other for _, _, other, _ in leases if other is module]
            assert not alone_there or len(others) == 1
