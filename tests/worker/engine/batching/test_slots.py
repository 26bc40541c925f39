"""The table of slots, without memory: who lies where, who gives way, what is to be zeroed and filled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.ids import Cid, cid_of
from commonlore.worker.engine.batching.slots import Move, Place, SlotTable

A, B, C, D = (cid_of(name) for name in (b"a", b"b", b"c", b"d"))


def make_table(count: int = 2, **buckets: int) -> SlotTable:
    table = SlotTable(count)
    for name, cid in (("a", A), ("b", B), ("c", C), ("d", D)):
        table.add(cid, buckets.get(name, 8))
    return table


def use(table: SlotTable, *adapters: Cid) -> None:
    table.hold(frozenset(adapters))
    table.release(frozenset(adapters))


def test_the_least_recently_used_idle_one_gives_way() -> None:
    table = make_table()
    for adapter in (A, B, A, C):
        use(table, adapter)
    assert (table.placed, table.evictions) == ((A, C), 1)
    assert table.take_moves() == [
        Move(Place(8, 1), A),
        Move(Place(8, 2), B),
        Move(Place(8, 2), None),
        Move(Place(8, 2), C),
    ]
    assert table.take_moves() == []


def test_what_runs_never_gives_way() -> None:
    table = make_table()
    table.hold(frozenset((A,)))
    use(table, B)
    use(table, C)
    assert table.placed == (A, C)
    table.hold(frozenset((D,)))
    assert not table.can_hold(frozenset((B,)))
    assert table.can_hold(frozenset((A, D)))
    table.check_integrity([[A], [D]])


def test_adapters_of_other_ranks_have_slots_of_their_own_but_count_alike() -> None:
    table = make_table(2, b=64)
    table.hold(frozenset((A,)))
    use(table, B)
    assert (table.place_of(A), table.place_of(B)) == (Place(8, 1), Place(64, 1))
    use(table, C)
    assert table.placed == (A, C)
    assert table.take_moves()[-2:] == [Move(Place(64, 1), None), Move(Place(8, 2), C)]


def test_two_sequences_of_one_adapter_hold_it_until_both_have_ended() -> None:
    table = make_table(1)
    for _ in range(2):
        table.hold(frozenset((A,)))
    table.release(frozenset((A,)))
    assert not table.can_hold(frozenset((B,)))
    table.release(frozenset((A,)))
    assert table.can_hold(frozenset((B,)))


def test_the_one_that_fewest_use_is_in_the_way() -> None:
    table = make_table(2)
    for adapters in ((A,), (A,), (B,)):
        table.hold(frozenset(adapters))
    assert table.in_the_way(frozenset((C,))) == {B}
    assert table.in_the_way(frozenset((C, D))) == {A, B}
    assert table.in_the_way(frozenset((B, C))) == {A}
    assert table.in_the_way(frozenset((A, B))) == frozenset()


def test_what_is_forgotten_leaves_its_slot() -> None:
    table = make_table()
    use(table, A)
    table.take_moves()
    table.forget(A)
    table.forget(B)
    assert (table.placed, table.take_moves()) == ((), [Move(Place(8, 1), None)])
    table.check_integrity([])


@pytest.mark.parametrize(
    ("running", "complaint"), [([], "other sequences"), ([[A], [A]], "other sequences"), ([[B]], "other")]
)
def test_a_wrong_account_is_found(running: list[list[Cid]], complaint: str) -> None:
    table = make_table()
    table.hold(frozenset((A,)))
    with pytest.raises(AssertionError, match=complaint):
        table.check_integrity(running)


@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 7), min_size=1, max_size=3))))
def test_any_order_of_starts_and_ends_is_sound(steps: list[tuple[int, set[int]]]) -> None:
    adapters = [cid_of(bytes([number])) for number in range(8)]
    table = SlotTable(3)
    for number, adapter in enumerate(adapters):
        table.add(adapter, 8 << number % 3)
    contents: dict[Place, Cid] = {}
    running: list[frozenset[Cid]] = []
    for ending, numbers in steps:
        wanted = frozenset(adapters[number] for number in numbers)
        if ending == 0 and running:
            table.release(running.pop(0))
        elif table.can_hold(wanted):
            table.hold(wanted)
            running.append(wanted)
        for move in table.take_moves():
            if move.adapter is None:
                del contents[move.place]
            else:
                assert move.place not in contents
                contents[move.place] = move.adapter
        table.check_integrity(running)
        assert contents == {table.place_of(adapter): adapter for adapter in table.placed}
        assert all(table.place_of(adapter) for held in running for adapter in held)
