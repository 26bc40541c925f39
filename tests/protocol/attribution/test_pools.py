from __future__ import annotations

import hashlib
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.attribution.pools import (
    FEWEST_DRAWN,
    TOLERANCE_PPM,
    Basis,
    PoolReceipt,
    divide_pool,
    draw_attributors,
    draw_receipts,
    draw_second,
    judge,
    sample_size,
    total_variation_ppm,
)
from commonlore.protocol.attribution.scoring import check_weights
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import Address
from commonlore.protocol.receipts.credits import apportion
from commonlore.protocol.receipts.records import Weight

A, B, C = (Address(bytes([i]) * 20) for i in (1, 2, 3))
PRIORS = (Weight(A, 500_000), Weight(B, 500_000))


def weights(a: int) -> tuple[Weight, ...]:
    return tuple(w for w in (Weight(A, a), Weight(B, PPM - a)) if w.ppm)


def receipt(number: int, *stated: tuple[Weight, ...], amount: int = 100) -> PoolReceipt:
    return PoolReceipt(hashlib.sha256(number.to_bytes(4, "big")).digest(), amount, stated)


def test_small_pools_are_drawn_whole_and_large_ones_by_a_rate() -> None:
    assert [sample_size(n) for n in (0, 1, FEWEST_DRAWN, FEWEST_DRAWN + 1)] == [0, 1, 10, 10]
    assert sample_size(1_000) == 10
    assert sample_size(10_000) == 100


def test_the_draw_is_of_the_beacon_and_no_order() -> None:
    hashes = [receipt(i).receipt_hash for i in range(200)]
    drawn = draw_receipts(b"beacon", hashes)
    assert drawn == draw_receipts(b"beacon", hashes[::-1])
    assert len(drawn) == 10
    assert drawn != draw_receipts(b"other", hashes)
    counts = [0] * 200
    for beacon in range(300):
        for digest in draw_receipts(beacon.to_bytes(2, "big"), hashes):
            counts[hashes.index(digest)] += 1
    assert min(counts) > 3
    assert max(counts) < 36  # 15 expected each


def test_attributors_are_drawn_for_each_receipt() -> None:
    keys = [bytes([i]) * 32 for i in range(5)]
    seen = {draw_attributors(b"b", receipt(i).receipt_hash, keys) for i in range(50)}
    assert all(len(set(pair)) == 2 for pair in seen)
    assert len(seen) > 10
    assert draw_attributors(b"b", bytes(32), keys[:1]) == (keys[0],)
    assert draw_attributors(b"b", bytes(32), ()) == ()


def test_who_has_bonded_seconds_before_anybody_else() -> None:
    owners = {bytes([i]) * 32: Address(bytes([i]) * 20) for i in range(5)}
    bonded = {owners[bytes([i]) * 32] for i in (1, 3)} | {Address(b"z" * 20)}
    drawn = [draw_second(b"b", receipt(i).receipt_hash, owners, bonded) for i in range(40)]
    assert set(drawn) == {bytes([1]) * 32, bytes([3]) * 32}
    assert drawn != [draw_second(b"c", receipt(i).receipt_hash, owners, bonded) for i in range(40)]
    anybody = {draw_second(b"b", receipt(i).receipt_hash, owners, ()) for i in range(60)}
    assert anybody == set(owners)
    assert draw_second(b"b", bytes(32), {}, bonded) is None


def test_many_keys_of_one_owner_draw_no_more_than_one_key() -> None:
    owners = {bytes([key]) * 32: A for key in range(50)} | {b"\xff" * 32: B}
    drawn = [draw_second(b"b", receipt(i).receipt_hash, owners, (A, B)) for i in range(60)]
    assert 15 <= drawn.count(b"\xff" * 32) <= 45
    assert len(set(drawn)) > 10


def test_two_who_agree_are_averaged_and_two_who_do_not_are_disputed() -> None:
    assert judge((), PRIORS).basis is Basis.PRIOR
    assert judge((weights(700_000),), PRIORS) == judge((weights(700_000),), ())
    near = judge((weights(700_000), weights(700_000 + TOLERANCE_PPM)), PRIORS)
    assert (near.basis, near.weights) == (Basis.AGREED, weights(705_000))
    far = judge((weights(700_000), weights(700_001 + TOLERANCE_PPM)), PRIORS)
    assert (far.basis, far.weights) == (Basis.DISPUTED, PRIORS)
    third = judge((weights(700_000), weights(700_000), weights(0)), PRIORS)
    assert third.basis is Basis.AGREED


def test_total_variation_is_the_money_that_would_go_elsewhere() -> None:
    assert total_variation_ppm(weights(700_000), weights(600_000)) == 100_000
    assert total_variation_ppm((Weight(C, PPM),), weights(600_000)) == PPM
    assert total_variation_ppm(weights(5), weights(5)) == 0


def test_a_small_pool_pays_each_receipt_by_its_own_statement() -> None:
    pool = [receipt(i, weights(100_000 * i)) for i in range(10)]
    divided = divide_pool(b"beacon", pool, PRIORS)
    for i, each in enumerate(pool):
        assert divided.receipts[each.receipt_hash].weights == weights(100_000 * i)
    assert divided.mean == weights(450_000)
    assert divided.error_ppm == 0


def test_without_statements_the_priors_apply() -> None:
    divided = divide_pool(b"beacon", [receipt(i) for i in range(40)], PRIORS)
    assert {each.weights for each in divided.receipts.values()} == {PRIORS}
    assert sum(each.basis is Basis.POOLED for each in divided.receipts.values()) == 30
    assert divide_pool(b"beacon", [], PRIORS).mean == PRIORS


def test_what_was_not_drawn_is_ignored_even_if_stated() -> None:
    hashes = [receipt(i).receipt_hash for i in range(40)]
    drawn = draw_receipts(b"beacon", hashes)
    pool = [receipt(i, weights(200_000 if hashes[i] in drawn else 999_999)) for i in range(40)]
    divided = divide_pool(b"beacon", pool, PRIORS)
    assert divided.mean == weights(200_000)
    assert {each.weights for each in divided.receipts.values()} == {weights(200_000)}


def test_disputes_are_named_and_paid_by_the_priors() -> None:
    pool = [receipt(0, weights(0), weights(PPM)), receipt(1, weights(300_000))]
    divided = divide_pool(b"beacon", pool, PRIORS)
    assert divided.disputed == {pool[0].receipt_hash}
    assert divided.receipts[pool[0].receipt_hash].weights == PRIORS
    assert divided.mean == weights(400_000)


def test_a_receipt_twice_in_its_pool_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        divide_pool(b"", [receipt(1), receipt(1)], PRIORS)


def test_the_error_shown_is_the_error_made() -> None:
    """Over many beacons, the mean lies around the whole pool's, and as far off as it says."""
    pool = [receipt(i, weights(PPM * (i * 37 % 101) // 101), amount=50 + i % 100) for i in range(400)]
    whole = sum(r.amount for r in pool)
    truth = sum(r.amount * next((w.ppm for w in r.stated[0] if w.payee == A), 0) for r in pool) / whole
    found, said = [], []
    for beacon in range(300):
        divided = divide_pool(beacon.to_bytes(2, "big"), pool, PRIORS)
        found.append(next(w.ppm for w in divided.mean if w.payee == A) - truth)
        said.append(divided.errors_ppm[A])
    assert abs(statistics.mean(found)) < 3 * statistics.stdev(found) / 300**0.5
    assert statistics.mean(said) == pytest.approx(statistics.stdev(found), rel=0.15)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**18), st.lists(st.integers(0, PPM), max_size=3)),
        max_size=60,
    ),
    st.binary(max_size=32),
)
def test_every_receipt_is_divided_whole(parts: list[tuple[int, list[int]]], beacon: bytes) -> None:
    pool = [receipt(i, *(weights(a) for a in stated), amount=n) for i, (n, stated) in enumerate(parts)]
    divided = divide_pool(beacon, pool, PRIORS)
    assert set(divided.receipts) == {each.receipt_hash for each in pool}
    for each in pool:
        own = divided.receipts[each.receipt_hash].weights
        check_weights(own)
        assert sum(apportion(each.amount, [w.ppm for w in own], [w.payee for w in own])) == each.amount
    check_weights(divided.mean)
    assert divide_pool(beacon, pool[::-1], PRIORS) == divided
