"""Weights from integers: exact against Python's numbers, indifferent to order, copies and names."""

from dataclasses import replace
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from commonlore.protocol.attribution.scoring import (
    MAX_INDEXED_ROWS,
    MAX_MAGNITUDE,
    MAX_WIDTH,
    NOISE_DEVIATIONS,
    PRIOR_METHOD,
    check_weights,
    compute_priors,
    compute_scores,
    compute_weights,
    mix_priors,
    prior_weights,
    read_sums,
    recheck_statement,
    sum_rows,
    write_sums,
)
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    IndexedContributor,
    IndexManifest,
    PriorWeight,
    Recipe,
)
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError, RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import AttributionStatement, Effects, PartEffect, Weight

ALICE, BOB, CAROL = (Address(bytes([n]) * 20) for n in (1, 2, 3))

vectors = arrays.arrays(np.int8, 16, elements=st.integers(-127, 127))
index_rows = arrays.arrays(
    np.int8, st.tuples(st.integers(1, 12), st.just(16)), elements=st.integers(-127, 127)
)
scored = st.lists(
    st.tuples(st.integers(0, 9).map(lambda n: Address(bytes([n]) * 20)), st.integers(-(2**60), 2**60)),
    min_size=1,
    max_size=12,
)


def weights_of(parts) -> dict[Address, int]:
    weights = compute_weights([score for _, score in parts], [payee for payee, _ in parts])
    return {weight.payee: weight.ppm for weight in weights or ()}


def manifest_with(priors: tuple[PriorWeight, ...]) -> AdapterManifest:
    cid = cid_of(b"x")
    recipe = Recipe("trainer", 1, 1, 1, 8, 16, 0, 0, "bf16", "{question}")
    return AdapterManifest(
        name="icd", base=cid, weights=cid, weights_size=1, rank=8, alpha=16, targets=("q_proj",),
        template=bytes(32), datanets=(cid,), recipe=recipe, early_checkpoint=None, factors=None,
        split=DEFAULT_SPLIT, priors=priors, licence="CC0-1.0", author=bytes(32), author_payee=ALICE,
    )  # fmt: skip


def noise(query: list[int], total: list[int]) -> int:
    """The largest integer up to NOISE_DEVIATIONS · |query| · |sum| / sqrt(width)."""
    bound = NOISE_DEVIATIONS**2 * sum(q * q for q in query) * sum(t * t for t in total)
    return isqrt(bound // len(query))


@given(vectors, index_rows)
def test_a_score_is_the_sum_of_its_rows_products_less_the_noise(query, rows):
    by_row = [sum(int(q) * int(r) for q, r in zip(query, row, strict=True)) for row in rows]
    floor = noise(query.tolist(), rows.sum(0, dtype=np.int64).tolist())
    assert compute_scores(query, sum_rows(rows)[np.newaxis]) == [sum(by_row) - floor]


@given(vectors, st.lists(st.integers(-(2**35), 2**35), min_size=16, max_size=16))
def test_the_noise_of_large_sums_is_exact(query, total):
    product = sum(int(q) * t for q, t in zip(query, total, strict=True))
    expected = product - noise(query.tolist(), total)
    assert compute_scores(query, np.array([total], np.int64)) == [expected]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_allowed_input_is_exact(sign):
    query = np.full(MAX_WIDTH, -127, np.int8)
    sums = np.full((1, MAX_WIDTH), sign * 127 * MAX_INDEXED_ROWS, np.int64)
    exact = -sign * 127 * 127 * MAX_INDEXED_ROWS * MAX_WIDTH
    assert abs(exact) < 2**60
    floor = noise([127] * MAX_WIDTH, [127 * MAX_INDEXED_ROWS] * MAX_WIDTH)
    assert compute_scores(query, sums) == [exact - floor]


def test_vectors_without_a_common_direction_are_paid_nothing():
    rng = np.random.default_rng(1)
    strangers = np.stack([sum_rows(rng.integers(-60, 61, (40, 4096)).astype(np.int8)) for _ in range(200)])
    query = rng.integers(-60, 61, 4096).astype(np.int8)
    assert sum(score > 0 for score in compute_scores(query, strangers)) <= 12  # 2.3 % are expected


@given(index_rows)
def test_dividing_rows_among_names_earns_no_more(rows):
    query = rows[0]
    whole = compute_scores(query, sum_rows(rows)[np.newaxis])[0]
    parts = compute_scores(query, np.stack([sum_rows(row[np.newaxis]) for row in rows]))
    assert sum(parts) <= whole + len(rows)  # each is rounded by less than one


@pytest.mark.parametrize(
    ("query", "sums"),
    [
        (np.zeros(4, np.int16), np.zeros((1, 4), np.int64)),
        (np.zeros(4, np.int8), np.zeros((1, 4), np.int16)),
        (np.zeros(4, np.int8), np.zeros((1, 5), np.int64)),
        (np.zeros((1, 4), np.int8), np.zeros((1, 4), np.int64)),
        (np.array([-128], np.int8), np.zeros((1, 1), np.int64)),
        (np.zeros(1, np.int8), np.array([[MAX_MAGNITUDE * MAX_INDEXED_ROWS + 1]], np.int64)),
        (np.zeros(1, np.int8), np.array([[np.iinfo(np.int64).min]], np.int64)),
        (np.zeros(MAX_WIDTH + 1, np.int8), np.zeros((1, MAX_WIDTH + 1), np.int64)),
    ],
)
def test_input_that_might_overflow_is_refused(query, sums):
    with pytest.raises(LocalProtocolError):
        compute_scores(query, sums)


def test_sums_in_four_bytes_some_at_a_time_are_scored_as_in_eight():
    rng = np.random.default_rng(5)
    query = rng.integers(-127, 128, 64).astype(np.int8)
    sums = rng.integers(-(10**6), 10**6, (200, 64))
    found = compute_scores(query, sums)
    assert found == compute_scores(query, sums.astype(np.int32))
    assert found == [score for one in sums for score in compute_scores(query, one[np.newaxis])]


@given(scored)
def test_weights_are_whole_sorted_and_positive(parts):
    weights = compute_weights([score for _, score in parts], [payee for payee, _ in parts])
    if weights is not None:
        check_weights(weights)


@given(scored, st.randoms(use_true_random=False))
def test_weights_do_not_depend_on_order(parts, random):
    assert weights_of(parts) == weights_of(random.sample(parts, len(parts)))


@given(scored, st.data())
def test_dividing_an_account_s_score_among_its_entries_changes_nothing(parts, data):
    payee, score = parts[0]
    first = data.draw(st.integers(-(2**60), 2**60))
    assert weights_of(parts) == weights_of([(payee, first), *parts[1:], (payee, score - first)])


@given(scored)
def test_more_influence_never_weighs_less(parts):
    merged = {payee: sum(score for other, score in parts if other == payee) for payee, _ in parts}
    weights = weights_of(parts)
    for one in merged:
        for other in merged:
            if merged[one] > merged[other]:
                assert weights.get(one, 0) >= weights.get(other, 0)


def test_scores_are_clipped_after_summing():
    assert weights_of([(ALICE, 10), (BOB, 7), (BOB, -4)]) == {ALICE: 769_231, BOB: 230_769}
    assert weights_of([(ALICE, 10), (BOB, 3), (BOB, -4)]) == {ALICE: PPM}


def test_no_positive_score_leaves_it_to_the_priors():
    assert compute_weights([0, -5], [ALICE, BOB]) is None
    assert compute_weights([], []) is None


def test_priors_follow_rows_and_are_read_back_whole():
    priors = compute_priors([(BOB, 1), (ALICE, 1), (BOB, 1), (CAROL, 0)])
    assert priors == (PriorWeight(ALICE, 333_333), PriorWeight(BOB, 666_667))
    assert prior_weights(manifest_with(priors)) == (Weight(ALICE, 333_333), Weight(BOB, 666_667))
    with pytest.raises(LocalProtocolError, match="nobody"):
        compute_priors([])


def test_priors_must_be_whole():
    with pytest.raises(RemoteProtocolError, match="add up to 999999 ppm"):
        prior_weights(manifest_with((PriorWeight(ALICE, 999_999),)))


def an_index(width: int, sums: bytes, *contributors: IndexedContributor) -> IndexManifest:
    own = contributors or (IndexedContributor(ALICE, 1),)
    cids = cid_of(b"a"), describe_blob([sums])[0]
    count = sum(each.row_count for each in own)
    return IndexManifest(cids[0], "m", width, bytes(32), count, cids[0], bytes(32), (), own, cids[1])


@given(st.lists(index_rows, min_size=1, max_size=3))
def test_sums_are_read_as_they_were_written(groups):
    sums = [sum_rows(rows) for rows in groups]
    blob = write_sums(sums)
    owners = zip((ALICE, BOB, CAROL), groups, strict=False)
    contributors = [IndexedContributor(payee, len(rows)) for payee, rows in owners]
    assert np.array_equal(read_sums(an_index(16, blob, *contributors), blob), np.stack(sums))


@pytest.mark.parametrize(
    ("contributor", "width", "blob", "words"),
    [
        (IndexedContributor(ALICE, 1), 2, bytes(4), "they need 8"),
        (IndexedContributor(ALICE, 1), 0, bytes(4), "width 0"),
        (IndexedContributor(ALICE, 1), MAX_WIDTH + 1, bytes(4), "width"),
        (IndexedContributor(ALICE, 1), 1, (128).to_bytes(4, "little"), "cannot have the sum"),
        (IndexedContributor(ALICE, 100_001), 1, bytes(4), "rows"),
    ],
)
def test_impossible_sums_are_refused(contributor, width, blob, words):
    with pytest.raises(RemoteProtocolError, match=words):
        read_sums(an_index(width, blob, contributor), blob)


@pytest.mark.parametrize(
    ("payees", "more", "words"),
    [
        ((ALICE, ALICE), 0, "each account once"),
        ((BOB, ALICE), 0, "sorted"),
        ((ALICE, BOB), 1, "3 rows, 2 of"),
    ],
)
def test_an_index_that_divides_an_account_or_leaves_rows_to_nobody_is_refused(payees, more, words):
    blob = write_sums([np.ones(4, np.int64)] * 2)
    index = an_index(4, blob, *(IndexedContributor(payee, 1) for payee in payees))
    with pytest.raises(RemoteProtocolError, match=words):
        read_sums(replace(index, row_count=index.row_count + more), blob)


def test_other_sums_than_those_named_are_refused():
    with pytest.raises(RemoteProtocolError, match="not those"):
        read_sums(an_index(1, bytes(4)), (1).to_bytes(4, "little"))
    with pytest.raises(LocalProtocolError, match="sums of more"):
        write_sums([np.array([2**31], np.int64)])


def test_rows_of_another_kind_are_refused():
    for rows in (np.zeros((2, 2), np.int16), np.zeros(2, np.int8), np.full((1, 1), -128, np.int8)):
        with pytest.raises(LocalProtocolError, match="index rows"):
            sum_rows(rows)


@pytest.mark.parametrize(
    "weights",
    [
        (Weight(ALICE, PPM - 1),),
        (Weight(BOB, 1), Weight(ALICE, PPM - 1)),
        (Weight(ALICE, 1), Weight(ALICE, PPM - 1)),
        (Weight(ALICE, PPM), Weight(BOB, 0)),
        (),
    ],
)
def test_malformed_weights_are_refused(weights):
    with pytest.raises(RemoteProtocolError):
        check_weights(weights)


def test_anyone_with_the_query_and_the_index_rechecks_a_statement():
    query, slanted = np.array([1, 2] * 32, np.int8), np.array([[3, 1] * 32], np.int8)
    sums = (ALICE, BOB), np.stack([sum_rows(slanted), sum_rows(query[np.newaxis])])  # 160 - 56 and 160 - 40

    def statement(method: str, *ppm: int) -> AttributionStatement:
        weights = tuple(Weight(payee, part) for payee, part in zip((ALICE, BOB), ppm, strict=False))
        return AttributionStatement(bytes(32), cid_of(b"a"), None, method, bytes(32), weights)

    recheck_statement(statement("gradient", 464_286, 535_714), query, sums)
    recheck_statement(statement(PRIOR_METHOD, PPM), -query, sums)
    for wrong in (statement("gradient", 464_287, 535_713), statement(PRIOR_METHOD, 464_286, 535_714)):
        with pytest.raises(RemoteProtocolError, match="do not follow"):
            recheck_statement(wrong, query, sums)
    parts = (PartEffect("row", bytes(32), BOB, 1), PartEffect("row", bytes(32), CAROL, 96))
    with_rows = replace(statement("gradient", 232_143, 767_857), effects=Effects(1, parts))
    recheck_statement(with_rows, query, sums, {ALICE, BOB})  # Carol contributed nothing: stated, not paid
    for wrong in (replace(with_rows, effects=None), replace(with_rows, effects=Effects(2, parts))):
        with pytest.raises(RemoteProtocolError, match="do not follow"):
            recheck_statement(wrong, query, sums, {ALICE, BOB})


def test_priors_of_several_are_mixed_by_their_weights_exactly():
    first = manifest_with((PriorWeight(ALICE, 600_000), PriorWeight(BOB, 400_000)))
    second = manifest_with((PriorWeight(CAROL, PPM - 1), PriorWeight(BOB, 1)))
    mixed = mix_priors([(first, 700_000), (second, 300_000)])
    assert mixed == (PriorWeight(ALICE, 420_000), PriorWeight(BOB, 280_000), PriorWeight(CAROL, 300_000))
    assert mix_priors([(first, 3), (first, 4)]) == first.priors
    with pytest.raises(RemoteProtocolError, match="add up to 999999"):
        mix_priors([(first, 1), (manifest_with((PriorWeight(ALICE, PPM - 1),)), 1)])


@given(st.lists(st.tuples(st.integers(0, PPM), st.integers(1, 10 * PPM)), min_size=1, max_size=8))
def test_mixed_priors_are_whole(parts):
    manifests = [
        (manifest_with((PriorWeight(ALICE, ppm), PriorWeight(BOB, PPM - ppm))), weight)
        for ppm, weight in parts
    ]
    mixed = {prior.payee: prior.ppm for prior in mix_priors(manifests)}
    assert sum(mixed.values()) == PPM
    exact = sum(ppm * weight for ppm, weight in parts) / sum(weight for _, weight in parts)
    assert abs(mixed.get(ALICE, 0) - exact) < 1
