"""Which rows an index holds and under which projection: nothing of it is its author's choice."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.attribution.indexing import (
    Owned,
    check_beacon,
    check_indexed,
    check_priors,
    held_out,
    plan_rows,
    projection_seed,
    trained_rows,
)
from commonlore.protocol.attribution.scoring import compute_priors
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    IndexedContributor,
    IndexManifest,
    IndexPlan,
    Recipe,
)
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of

ADAPTER, BLOCK = cid_of(b"adapter"), b"\x07" * 32
SEED = projection_seed(ADAPTER, BLOCK)


def payee(number: int) -> Address:
    return Address(bytes([number]) * 20)


def rows_of(*counts: int) -> list[Owned]:
    """So many rows of each contributor."""
    return [
        (payee(number), hashlib.sha256(bytes([number, at])).digest())
        for number, count in enumerate(counts)
        for at in range(count)
    ]


def manifest_of(counted: list[Owned], plan: IndexPlan | None) -> AdapterManifest:
    return AdapterManifest(
        name="sayings", base=cid_of(b"base"), weights=cid_of(b"weights"), weights_size=1, rank=8, alpha=16,
        targets=("q_proj",), template=bytes(32), datanets=(cid_of(b"datanet"),),
        recipe=Recipe("t", 1, 1, 1, 8, 16, 0, 1, "bf16", "q"), early_checkpoint=None, factors=None,
        split=DEFAULT_SPLIT, priors=compute_priors(Counter(who for who, _ in counted).items()),
        licence="CC0-1.0", author=bytes(32), author_payee=payee(9), indexed=plan,
    )  # fmt: skip


def index_of(planned: list[Owned], **changes: Any) -> IndexManifest:
    counts = Counter(who for who, _ in planned)
    made = IndexManifest(
        adapter=ADAPTER, method="m", width=8, seed=SEED, row_count=len(planned), rows=cid_of(b"rows"),
        rows_root=bytes(32), row_hashes=tuple(digest for _, digest in planned),
        contributors=tuple(IndexedContributor(who, counts[who]) for who in sorted(counts)),
        sums=cid_of(b"sums"), beacon=BLOCK,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_plan_takes_from_the_contributors_in_turn() -> None:
    counted = rows_of(30, 2, 9)
    for count, shares in (
        (3, (1, 1, 1)),
        (8, (3, 2, 3)),
        (17, (7, 2, 8)),
        (41, (30, 2, 9)),
        (99, (30, 2, 9)),
    ):
        planned = plan_rows(counted, IndexPlan(0, count), SEED)
        found = Counter(who for who, _ in planned)
        assert sorted(found.values()) == sorted(shares), count
        assert found[payee(1)] == shares[1]
        assert [who for who, _ in planned] == sorted(who for who, _ in planned)
    few = {who for who, _ in plan_rows(counted, IndexPlan(0, 2), SEED)}
    others = {
        frozenset(who for who, _ in plan_rows(counted, IndexPlan(0, 2), bytes([n]) * 32)) for n in range(9)
    }
    assert len(few) == 2
    assert len(others) > 1, "who is left out is drawn"


def test_which_rows_are_taken_is_drawn_by_the_seed_and_held_out_rows_are_never() -> None:
    counted = rows_of(50)
    measured = held_out((digest for _, digest in counted), 10)
    assert len(measured) == 10
    assert max(measured) < min({digest for _, digest in counted} - measured)
    drawn = [{row for _, row in plan_rows(counted, IndexPlan(10, 5), bytes([n]) * 32)} for n in range(8)]
    assert all(len(rows) == 5 and not rows & measured for rows in drawn)
    assert len(set(map(frozenset, drawn))) == 8
    assert plan_rows(counted[::-1], IndexPlan(10, 5), SEED) == plan_rows(counted, IndexPlan(10, 5), SEED)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 60), st.integers(0, 30))
def test_an_index_by_the_plan_passes_and_any_other_does_not(
    counts: list[int], rows: int, heldout: int
) -> None:
    counted, plan = rows_of(*counts), IndexPlan(heldout, rows)
    manifest, planned = manifest_of(counted, plan), plan_rows(counted, plan, SEED)
    assert len(planned) == min(rows, max(len(counted) - heldout, 0))
    check_indexed(manifest, index_of(planned), counted)
    check_priors(manifest, counted)
    for at in range(len(planned)):
        with pytest.raises(RemoteProtocolError, match="lacks 1 of the"):
            check_indexed(manifest, index_of(planned[:at] + planned[at + 1 :]), counted)


def test_an_author_that_leaves_out_adds_or_reorders_rows_is_caught() -> None:
    counted, plan = rows_of(8, 8), IndexPlan(2, 10)
    manifest, planned = manifest_of(counted, plan), plan_rows(rows_of(8, 8), IndexPlan(2, 10), SEED)
    fewer = [each for each in planned if each[0] == payee(0)] + planned[-1:]
    with pytest.raises(RemoteProtocolError, match=r"lacks 4 of the 10 .*one of 0x0101.* and has 0 others"):
        check_indexed(manifest, index_of(fewer), counted)
    spare = next(each for each in counted if each not in planned)
    with pytest.raises(RemoteProtocolError, match=r"lacks 1 of the 10 .* and has 1 others"):
        check_indexed(manifest, index_of(sorted([*planned[1:], spare], key=lambda each: each[0])), counted)
    credited = index_of([(payee(0), digest) for _, digest in planned])
    with pytest.raises(RemoteProtocolError, match="lacks"):
        check_indexed(manifest, credited, counted)
    with pytest.raises(RemoteProtocolError, match="order"):
        check_indexed(manifest, index_of([planned[1], planned[0], *planned[2:]]), counted)
    with pytest.raises(RemoteProtocolError, match="does not say which rows"):
        check_indexed(replace(manifest, indexed=None), index_of(planned), counted)
    with pytest.raises(RemoteProtocolError, match="prior weights"):
        check_priors(manifest, counted[1:])
    with pytest.raises(RemoteProtocolError, match="lacks"):
        check_indexed(manifest, index_of(planned, row_hashes=index_of(planned).row_hashes[:-1]), counted)


def test_only_the_block_that_registered_the_adapter_is_its_beacon() -> None:
    index = index_of(plan_rows(rows_of(3), IndexPlan(0, 3), SEED))
    check_beacon(index, BLOCK)
    later = b"\x08" * 32  # tried until the projection suited, whenever the adapter was registered
    chosen = replace(index, beacon=later, seed=projection_seed(ADAPTER, later))
    with pytest.raises(RemoteProtocolError, match="may be chosen"):
        check_beacon(chosen, BLOCK)
    with pytest.raises(RemoteProtocolError, match="not registered"):
        check_beacon(index, b"")
    with pytest.raises(RemoteProtocolError, match="no chain"):
        check_beacon(index, None)
    with pytest.raises(RemoteProtocolError, match="not that of its adapter"):
        check_beacon(replace(index, seed=bytes(32)), BLOCK)
    without = replace(index, beacon=b"", seed=projection_seed(ADAPTER))
    check_beacon(without, None)
    with pytest.raises(RemoteProtocolError, match="may be chosen"):
        check_beacon(without, BLOCK)
    assert projection_seed(ADAPTER) == projection_seed(ADAPTER, b"")
    assert len({projection_seed(ADAPTER), SEED, projection_seed(cid_of(b"b"), BLOCK)}) == 3


def test_training_learns_from_what_it_does_not_only_measure_in_an_order_that_anybody_finds() -> None:
    counted = [(payee(number % 3), cid_of(bytes([number])).encode()[-32:]) for number in range(9)]
    assert trained_rows(counted, 0) == counted, "an order with questions of its own learns from every row"
    learnt = trained_rows(counted, 2)
    assert [row for _, row in learnt] == sorted(row for _, row in counted)[2:]
    assert not {row for _, row in learnt} & held_out((row for _, row in counted), 2)
    assert trained_rows(counted[::-1], 2) == learnt
