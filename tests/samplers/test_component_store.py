"""What is in use is never let go, what is changed for a while is shared with nobody, and the byte count is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from samplers.component_store import ComponentStore, Lease, module_bytes


def _module(size: int) -> nn.Module:
    return nn.Linear(size, 1, bias=False)


def _nothing() -> nn.Module:
    pytest.fail("it was let go")


def _held_in(store: ComponentStore) -> list[str]:
    return list(store._entries)


def test_what_a_lease_holds_stays_however_little_room_there_is() -> None:
    store = ComponentStore()
    lease = store.lease()
    base = lease.fetch("base", lambda: _module(100))
    for name in "abc":
        store.fetch(name, lambda: _module(20))
    assert store.make_room({"cpu": 0}) == 240
    assert _held_in(store) == ["base"] and store.bytes == 400
    assert store.fetch("base", _nothing) is base
    lease.release()
    lease.release()
    assert store.fetch("base", _nothing) is base  # nobody needs the room yet
    assert store.make_room({"cpu": 399}) == 400
    assert store.fetch("base", lambda: _module(100)) is not base


def test_the_least_recently_used_go_first_and_no_more_than_must() -> None:
    store = ComponentStore()
    for name in "abcad":
        store.fetch(name, lambda: _module(10))
    assert store.make_room({"cpu": 160}) == 0
    assert store.make_room({"cpu": 119}) == 80
    assert _held_in(store) == ["a", "d"]


def test_what_the_next_takes_over_is_kept_and_does_not_count() -> None:
    """It is in the next one's plan already: counted twice, the others would go for nothing."""
    store = ComponentStore()
    for name, size in {"encoder": 10, "base": 1000, "vae": 20}.items():
        store.fetch(name, lambda size=size: _module(size))  # type: ignore[misc]
    assert store.make_room({"cpu": 120}, keep={"base", "not here"}) == 0
    assert store.make_room({"cpu": 100}, keep={"base"}) == 40
    assert _held_in(store) == ["base", "vae"]


def test_each_memory_has_a_room_of_its_own() -> None:
    store = ComponentStore()
    store.fetch("waits", lambda: _module(50))
    for name in "ab":
        store.fetch(name, lambda: _module(30).to("meta"))
    assert store.make_room({"cuda": 0}) == 0
    assert store.make_room({"meta": 120, "cpu": 1000}) == 120
    assert _held_in(store) == ["waits", "b"]
    assert store.make_room({"cpu": 0}) == 200
    assert _held_in(store) == ["b"]


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
        st.tuples(st.just("room"), st.integers(0, 60), st.just(False)),
    ),
    max_size=40,
)


@given(steps=_STEPS)
def test_the_count_and_the_promise_hold_in_any_order(steps: list[tuple[str, int, bool]]) -> None:
    store = ComponentStore()
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
        before, kept = store.bytes, f"m{number % 6}"
        here = kept in store._entries
        holding = {key for key, entry in store._entries.items() if entry.holders}
        given_up = store.make_room({"cpu": 4 * number}, keep={kept}) if step == "room" else 0
        entries = store._entries
        assert store.bytes == before - given_up
        assert store.bytes == sum(module_bytes(entry.module) for entry in entries.values())
        if step == "room":
            idle = [entry.bytes for key, entry in entries.items() if not entry.holders and key != kept]
            assert sum(idle) <= 4 * number and (kept in entries) == here
        assert holding <= entries.keys()
        for _, _, module, alone_there in leases:
            others = [other for _, _, other, _ in leases if other is module]
            assert not alone_there or len(others) == 1
