"""Exact money: sums hold, order does not matter, more weight never earns less."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT, OPENLEDGER_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError, RemoteProtocolError
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.credits import (
    RolePayees,
    apportion,
    compute_credits,
    compute_price,
    compute_shares,
    heaviest_adapter,
    sum_shares,
)
from commonlore.protocol.receipts.records import Receipt, Shares, Weight

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "credits.json").read_text())
ROLES = RolePayees(*(Address(bytes([n]) * 20) for n in (1, 2, 3, 4)))

amounts = st.integers(0, 2**128 - 1)
parties = st.lists(
    st.tuples(st.integers(0, 2**70), st.binary(min_size=20, max_size=20)),
    min_size=1,
    max_size=12,
    unique_by=lambda party: party[1],
)


@st.composite
def splits(draw):
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=4, max_size=4)))
    return Split(*(high - low for low, high in zip([0, *cuts], [*cuts, 10_000], strict=True)))


def receipt_of(price: int, shares: Shares) -> Receipt:
    lane = Address(b"l" * 20)
    return Receipt(
        request_hash=bytes(32), payer=Address(b"p" * 20), lane=lane, seq=1, epoch=0, step=0,
        artefact=cid_of(b"base"), adapters=(), prompt_tokens=1, output_tokens=1, output_root=bytes(32),
        price=price, shares=shares, details=bytes(32),
    )  # fmt: skip


@pytest.mark.parametrize("case", VECTORS["apportion"])
def test_apportion_vectors(case):
    keys = [bytes.fromhex(key) for key in case["keys"]]
    weights = [int(weight) for weight in case["weights"]]
    assert apportion(int(case["total"]), weights, keys) == [int(part) for part in case["parts"]]


@pytest.mark.parametrize("case", VECTORS["shares"])
def test_share_vectors(case):
    shares = compute_shares(int(case["price"]), Split(*case["split"]))
    names = ("platform", "worker", "author", "work_pool", "contributors")
    assert [str(getattr(shares, name)) for name in names] == case["shares"]


@pytest.mark.parametrize("case", VECTORS["price"])
def test_price_vectors(case):
    rates = Rates(*(int(rate) for rate in case["rates"]))
    price = compute_price(rates, case["prompt_tokens"], case["output_tokens"], step=case["step"])
    assert price == int(case["price"])


@pytest.mark.parametrize("split", [DEFAULT_SPLIT, OPENLEDGER_SPLIT, BASE_SPLIT])
def test_presets_are_whole(split):
    assert sum_shares(compute_shares(10_000, split)) == 10_000


@given(amounts, splits())
def test_shares_sum_to_the_price_and_stay_within_one_unit(price, split):
    shares = compute_shares(price, split)
    assert sum_shares(shares) == price
    for name in ("platform", "worker", "author", "work_pool", "contributors"):
        assert abs(getattr(shares, name) * 10_000 - price * getattr(split, name)) < 10_000


@given(amounts, parties)
def test_apportion_conserves_keeps_quota_and_respects_weight(total, parties):
    weights, keys = [w for w, _ in parties], [k for _, k in parties]
    if not any(weights):
        return
    parts = apportion(total, weights, keys)
    assert sum(parts) == total
    assert all(
        abs(part * sum(weights) - total * w) < sum(weights) for part, w in zip(parts, weights, strict=True)
    )
    ranked = sorted(zip(weights, parts, strict=True))
    assert all(low[1] <= high[1] for low, high in pairwise(ranked) if low[0] < high[0])


@given(amounts, parties, st.randoms(use_true_random=False))
def test_apportion_does_not_depend_on_order(total, parties, random):
    if not any(weight for weight, _ in parties):
        return
    shuffled = random.sample(parties, len(parties))
    paid = [
        dict(
            zip(
                [k for _, k in order],
                apportion(total, [w for w, _ in order], [k for _, k in order]),
                strict=True,
            )
        )
        for order in (parties, shuffled)
    ]
    assert paid[0] == paid[1]


def test_apportion_breaks_ties_by_the_lowest_key():
    assert apportion(2, [1, 1, 1], [b"c", b"a", b"b"]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("total", "weights", "keys"),
    [(1, [], []), (1, [0], [b"a"]), (1, [-1], [b"a"]), (-1, [1], [b"a"]), (1, [1], [])],
)
def test_apportion_refuses_what_has_no_answer(total, weights, keys):
    with pytest.raises(LocalProtocolError):
        apportion(total, weights, keys)


def test_nothing_divided_among_nobody_is_nothing():
    assert apportion(0, [], []) == []
    assert apportion(0, [0, 0], [b"a", b"b"]) == [0, 0]


def test_a_split_must_be_whole():
    with pytest.raises(RemoteProtocolError, match="9999 basis points"):
        compute_shares(1, Split(499, 3000, 1500, 1000, 4000))


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=6), *[st.integers(0, 10**20)] * 3, st.integers(0, 4000)
)
def test_steps_never_cost_more_than_one_receipt(steps, prompt_rate, output_rate, fee, prompt):
    rates = Rates(prompt_rate, output_rate, fee)
    prices = [
        compute_price(rates, 0 if step else prompt, tokens, step=step) for step, tokens in enumerate(steps)
    ]
    assert sum(prices) <= compute_price(rates, prompt, sum(steps))
    assert sum(prices) + len(steps) > compute_price(rates, prompt, sum(steps))


@given(
    amounts, splits(), st.lists(st.tuples(st.integers(0, 5), st.integers(1, PPM)), min_size=1, max_size=10)
)
def test_credits_sum_to_the_price(price, split, weights):
    receipt = receipt_of(price, compute_shares(price, split))
    credits = compute_credits(receipt, ROLES, [Weight(Address(bytes([n]) * 20), ppm) for n, ppm in weights])
    assert sum(credit.amount for credit in credits) == price
    accounts = [credit.account for credit in credits if credit.role == "contributor"]
    assert accounts == sorted(set(accounts))


@given(st.integers(0, 10**12), st.integers(0, PPM), st.integers(0, PPM))
def test_naming_an_account_twice_changes_nothing(price, half, other):
    receipt = receipt_of(price, compute_shares(price, DEFAULT_SPLIT))
    alice, bob = Address(b"a" * 20), Address(b"b" * 20)
    once = compute_credits(receipt, ROLES, [Weight(alice, 2 * half + 1), Weight(bob, other)])
    twice = compute_credits(
        receipt, ROLES, [Weight(alice, half), Weight(bob, other), Weight(alice, half + 1)]
    )
    assert once == twice


def test_credits_need_their_payees():
    receipt = receipt_of(100, compute_shares(100, DEFAULT_SPLIT))
    weights = [Weight(Address(b"a" * 20), PPM)]
    with pytest.raises(LocalProtocolError, match="author"):
        compute_credits(receipt, RolePayees(ROLES.platform, ROLES.worker, None, ROLES.work_pool), weights)
    with pytest.raises(LocalProtocolError, match="nobody"):
        compute_credits(receipt, ROLES, [])
    with pytest.raises(LocalProtocolError, match="not to the price"):
        compute_credits(receipt_of(101, receipt.shares), ROLES, weights)


def test_an_answer_without_an_adapter_pays_no_author_and_no_contributor():
    receipt = receipt_of(100, compute_shares(100, BASE_SPLIT))
    credits = compute_credits(receipt, RolePayees(ROLES.platform, ROLES.worker, None, ROLES.work_pool), [])
    assert [(credit.role, credit.amount) for credit in credits] == [
        ("platform", 5), ("worker", 85), ("work_pool", 10)
    ]  # fmt: skip


def test_the_heaviest_adapter_pays_ties_to_the_lowest_id():
    low, high = sorted((cid_of(b"x"), cid_of(b"y")))
    assert heaviest_adapter(()) is None
    assert heaviest_adapter((AdapterWeight(high, 5), AdapterWeight(low, 5))) == low
    assert heaviest_adapter((AdapterWeight(low, 4), AdapterWeight(high, 5))) == high
