"""Epochs: the vectors that Solidity is held to, and what must not become a commitment."""

import json
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest
from eth_abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, encode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.encoding.merkle import verify_sum
from commonlore.protocol.errors import InvalidSignature, LocalProtocolError, NotFound, RemoteProtocolError
from commonlore.protocol.ids import ZERO_ADDRESS, Address, cid_of, digest_of, keccak256
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.records import Credit, Receipt, Weight
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.settlement.commitments import (
    Commitment,
    Earning,
    EpochData,
    build_epoch,
    commitment_hash,
    verify_claim,
)
from commonlore.protocol.settlement.epoch_leaves import (
    Line,
    PoolCredit,
    credit_leaf,
    earnings_leaf,
    line_leaf,
    pack_line,
    unpack_line,
)
from commonlore.protocol.settlement.published import open_epoch, published_trees
from commonlore.protocol.settlement.settled import (
    EpochBuilder,
    SettledReceipt,
    check_settled,
    fold_earnings,
    pool_credits,
    receipt_leaf,
)
from commonlore.protocol.signing.eip712 import Domain, digest, sign
from commonlore.protocol.signing.keys import AccountKey

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "settlement.json").read_text())
DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
LANE_KEY = AccountKey.from_secret(b"\x07" * 32)
PAYERS = [AccountKey.from_secret(bytes([n]) * 32) for n in (2, 3)]
ROLES = RolePayees(*(Address(bytes([n]) * 20) for n in (1, 2, 3, 4)))
STRUCT = VECTORS["epochs"][0]["commitment"]
ALICE, BOB = Address(b"\xaa" * 20), Address(b"\xbb" * 20)
ADAPTER = cid_of(b"adapter")
TREES = (b"l" * 32, b"a" * 32, b"p" * 32, 2**32 - 1, 2**32 - 2)


def settle(prices: list[int], epoch: int = 3, payer: AccountKey = PAYERS[0]) -> list[SettledReceipt]:
    """A channel's receipts of these prices, paid and credited."""
    settled, previous = [], None
    for seq, price in enumerate(prices, 1):
        receipt = Receipt(
            request_hash=bytes([seq]) * 32, payer=payer.address, lane=LANE_KEY.address, seq=seq,
            epoch=epoch, step=0, artefact=cid_of(b"artefact"), adapters=(AdapterWeight(ADAPTER, PPM),),
            prompt_tokens=1, output_tokens=1,
            output_root=bytes(32), price=price, shares=compute_shares(price, DEFAULT_SPLIT),
            details=bytes(32),
        )  # fmt: skip
        previous = make_voucher(DOMAIN, payer, receipt, previous)
        credits = compute_credits(receipt, ROLES, [Weight(ALICE, 300_000), Weight(BOB, PPM - 300_000)])
        signature = sign(DOMAIN, LANE_KEY, receipt)
        paid = (previous.voucher, previous.signature)
        settled.append(SettledReceipt(receipt, signature, *paid, (ROLES.author,), credits))
    return settled


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("case", VECTORS["leaves"])
def test_leaf_vectors(case):
    domain = Domain(case["chain_id"], Address(unhex(case["escrow"])))
    settled = decode(SettledReceipt, unhex(case["settled_receipt"]))
    check_settled(domain, settled)
    assert settled.receipt_id.hex() == case["receipt_id"]
    assert digest(domain, settled.receipt).hex() == case["receipt_digest"]
    assert digest(domain, settled.voucher).hex() == case["voucher_digest"]
    assert keccak256(settled.voucher_signature).hex() == case["signature_hash"]
    leaf = receipt_leaf(domain, settled)
    assert (leaf.hash.hex(), str(leaf.amount)) == (case["leaf"], case["amount"])


@pytest.mark.parametrize("case", VECTORS["earnings"])
def test_earnings_leaf_vectors(case):
    leaf = earnings_leaf(Address(unhex(case["account"])), int(case["cumulative"]))
    assert leaf.hash.hex() == case["leaf"]


@pytest.mark.parametrize("case", VECTORS["epochs"])
def test_epoch_vectors(case):
    domain = Domain(case["chain_id"], Address(unhex(case["escrow"])))
    data = decode(EpochData, unhex(case["data"]))
    trees = build_epoch(domain, data.epoch, data.receipts, data.cumulative, data.credits)
    assert commitment_json(trees.commitment) == case["commitment"]
    assert commitment_hash(trees.commitment).hex() == case["hash"]
    assert [claim_json(claim) for claim in trees.claims()] == case["claims"]
    assert open_epoch(domain, trees.commitment, unhex(case["data"])).lines == trees.lines


def commitment_json(commitment: Commitment) -> dict:
    return {
        "epoch": commitment.epoch,
        "receiptRoot": commitment.receipt_root.hex(),
        "earningsRoot": commitment.earnings_root.hex(),
        "receiptSum": str(commitment.receipt_sum),
        "cumulativeTotal": str(commitment.cumulative_total),
        "receiptCount": commitment.receipt_count,
        "accountCount": commitment.account_count,
        "dataHash": commitment.data_hash.hex(),
        "lineRoot": commitment.line_root.hex(),
        "accountCreditRoot": commitment.account_credit_root.hex(),
        "poolCreditRoot": commitment.pool_credit_root.hex(),
        "creditCount": commitment.credit_count,
        "lineCount": commitment.line_count,
    }


def claim_json(claim) -> dict:
    path = [{"hash": node.hash.hex(), "sum": str(node.amount)} for node in claim.path]
    return {
        "account": claim.account.hex(),
        "cumulative": str(claim.cumulative),
        "index": claim.index,
        "path": path,
    }


def test_the_commitment_is_hashed_as_the_abi_encodes_it():
    types = (
        "uint64",
        "bytes32",
        "bytes32",
        "uint128",
        "uint128",
        "uint32",
        "uint32",
        *4 * ("bytes32",),
        "uint32",
        "uint32",
    )
    assert [field.name for field in fields(Commitment)] == [snake_case(name) for name in STRUCT]
    commitment = Commitment(2**64 - 1, b"r" * 32, b"e" * 32, 2**128 - 1, 7, 2**32 - 1, 0, b"d" * 32, *TREES)
    whole = keccak256(abi_encode(types, astuple(commitment)))
    assert commitment_hash(commitment) == whole[:23] + bytes(9)


def snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


@given(st.lists(st.integers(0, 10**18), max_size=6), st.lists(st.integers(0, 10**18), max_size=4))
def test_money_is_conserved_from_receipts_to_claims(mine, theirs):
    receipts = settle(mine) + settle(theirs, payer=PAYERS[1])
    first = build_epoch(DOMAIN, 3, receipts, {})
    assert first.commitment.receipt_sum == sum(mine) + sum(theirs)
    assert (first.commitment.cumulative_total, first.accounts) == (0, ())
    credits = pool_credits(receipts)
    second = build_epoch(DOMAIN, 4, (), fold_earnings({}, credits), credits)
    assert second.account_credit_tree.total == second.pool_credit_tree.total == first.line_tree.total
    assert second.commitment.cumulative_total == first.commitment.receipt_sum
    claims = second.claims()
    assert sum(claim.cumulative for claim in claims) == first.commitment.receipt_sum
    assert all(verify_claim(second.commitment, claim) for claim in claims)


def test_earnings_accumulate():
    once = fold_earnings({ALICE: 5}, pool_credits(settle([1000])))
    twice = fold_earnings(once, pool_credits(settle([1000], payer=PAYERS[1])))
    assert (once[ALICE], twice[ALICE]) == (5 + 120, 5 + 240)
    assert sum(twice.values()) == 2005


def test_the_order_of_receipts_and_earnings_does_not_matter():
    receipts, credits = settle([5, 6, 7]), pool_credits(settle([1000]))
    earnings = fold_earnings({}, credits)
    one = build_epoch(DOMAIN, 3, receipts, earnings, credits)
    other = build_epoch(DOMAIN, 3, receipts[::-1], dict(reversed(earnings.items())), credits[::-1])
    assert (one.commitment, one.data) == (other.commitment, other.data)


def test_receipts_are_sorted_by_id_and_proved():
    receipts = settle([5, 6, 7])
    trees = build_epoch(DOMAIN, 3, receipts, {})
    ids = sorted(entry.receipt_id for entry in receipts)
    for index, receipt_id in enumerate(ids):
        entry = next(entry for entry in receipts if entry.receipt_id == receipt_id)
        root = (trees.commitment.receipt_root, trees.commitment.receipt_sum)
        assert verify_sum(root, receipt_leaf(DOMAIN, entry), index, 3, trees.receipt_tree.proof(index))


def test_nothing_worth_nothing_is_committed():
    trees = build_epoch(DOMAIN, 3, settle([0, 0]), {ALICE: 0})
    counts = (trees.commitment.receipt_count, trees.commitment.account_count)
    assert (counts, trees.commitment.receipt_root, trees.accounts) == ((0, 0), bytes(32), ())


def test_the_data_hash_names_the_published_blob():
    trees = build_epoch(DOMAIN, 3, settle([5]), {})
    assert trees.commitment.data_hash == digest_of(describe_blob([trees.data])[0])


def test_late_receipts_go_into_a_later_epoch_never_an_earlier_one():
    late = settle([5], epoch=2) + settle([5], payer=PAYERS[1])
    assert build_epoch(DOMAIN, 3, late, {}).commitment.receipt_count == 2
    with pytest.raises(LocalProtocolError, match="epoch 3 cannot be committed in epoch 2"):
        build_epoch(DOMAIN, 2, late, {})


def test_a_receipt_twice_or_of_another_lane_makes_no_epoch():
    receipts = settle([5, 6])
    with pytest.raises(LocalProtocolError, match="paid twice"):
        build_epoch(DOMAIN, 3, [*receipts, receipts[0]], {})
    stranger = replace(receipts[1], receipt=replace(receipts[1].receipt, lane=ALICE))
    with pytest.raises(LocalProtocolError, match="one lane"):
        build_epoch(DOMAIN, 3, [receipts[0], stranger], {})


def test_claims_are_for_those_who_earned():
    trees = build_epoch(DOMAIN, 4, (), {ALICE: 5, BOB: 7})
    claim = trees.claim(BOB)
    assert (claim.cumulative, claim.index) == (7, 1)
    assert not verify_claim(trees.commitment, replace(claim, cumulative=8))
    assert not verify_claim(trees.commitment, replace(claim, cumulative=2**128))
    assert not verify_claim(trees.commitment, replace(claim, account=ALICE))
    with pytest.raises(NotFound, match="no earnings"):
        trees.claim(ROLES.platform)


def test_what_is_not_paid_or_divided_whole_is_not_settled():
    entry = settle([1000])[0]
    check_settled(DOMAIN, entry)
    with pytest.raises(RemoteProtocolError, match=r"voucher\.receipt_hash"):
        check_settled(DOMAIN, replace(entry, receipt=replace(entry.receipt, step=1)))
    with pytest.raises(RemoteProtocolError, match="do not divide"):
        check_settled(DOMAIN, replace(entry, credits=entry.credits[1:]))
    with pytest.raises(RemoteProtocolError, match="which is no role"):
        check_settled(DOMAIN, replace(entry, credits=(Credit(ALICE, "friend", 1000),)))
    with pytest.raises(RemoteProtocolError, match="paid nowhere"):
        check_settled(DOMAIN, replace(entry, authors=(ZERO_ADDRESS,)))
    base = replace(entry.receipt, shares=compute_shares(999, BASE_SPLIT))
    voucher = make_voucher(DOMAIN, PAYERS[0], base, None)
    with pytest.raises(RemoteProtocolError, match="do not divide"):
        check_settled(DOMAIN, replace(entry, receipt=base, voucher=voucher.voucher))
    for field in ("receipt_signature", "voucher_signature"):
        with pytest.raises(InvalidSignature):
            check_settled(DOMAIN, replace(entry, **{field: sign(DOMAIN, PAYERS[1], entry.receipt)}))


def test_published_data_is_opened_as_it_was_committed():
    receipts = settle([5, 6])
    trees = build_epoch(DOMAIN, 3, receipts, {ALICE: 4})
    assert open_epoch(DOMAIN, trees.commitment, trees.data).earnings == {ALICE: 4}
    with pytest.raises(RemoteProtocolError, match="not what was committed"):
        open_epoch(DOMAIN, replace(trees.commitment, receipt_sum=12), trees.data)
    published = decode(EpochData, trees.data)
    for planted in (
        replace(published, receipts=published.receipts[::-1]),
        replace(published, receipts=(published.receipts[0],) * 2),
        replace(published, earnings=published.earnings * 2),
        replace(published, lines=trees.lines[::-1]),
        replace(published, pool_credits=(PoolCredit(bytes(32), 0, ALICE, 1),)),
    ):
        raw = encode(planted)
        with pytest.raises(RemoteProtocolError, match="not what was committed"):
            open_epoch(DOMAIN, trees.commitment, raw)
        assert open_epoch(DOMAIN, published_trees(DOMAIN, planted, raw).commitment, raw).data == raw
    too_much = replace(published, earnings=(Earning(ALICE, 2**128 - 1), Earning(BOB, 1)))
    with pytest.raises(RemoteProtocolError, match="makes no trees"):
        open_epoch(DOMAIN, trees.commitment, encode(too_much))


@pytest.mark.parametrize("case", VECTORS["lines"])
def test_line_vectors(case):
    line = Line(
        Address(unhex(case["author"])), unhex(case["adapter"]), unhex(case["receipt_id"]),
        tuple(int(total) for total in case["totals"]), int(case["price"]),
    )  # fmt: skip
    assert (line_leaf(line).hash.hex(), line.pool.hex()) == (case["leaf"], case["pool"])
    assert unpack_line(pack_line(line)) == line


@pytest.mark.parametrize("case", VECTORS["credits"])
def test_credit_vectors(case):
    place = (unhex(case["pool"]), case["role"], Address(unhex(case["account"])))
    assert credit_leaf(PoolCredit(*place, int(case["amount"]))).hash.hex() == case["leaf"]


def test_lines_hold_their_pools_totals():
    """By pool, then by receipt; the last line of a pool holds what its roles earn."""
    receipts = settle([1000, 7, 12]) + settle([500], payer=PAYERS[1])
    other = replace(receipts[3], authors=(BOB,))
    lines = build_epoch(DOMAIN, 3, [*receipts[:3], other], {}).lines
    assert [(line.pool, line.receipt_id) for line in lines] == sorted(
        (entry.placed[0].pool, entry.receipt_id) for entry in [*receipts[:3], other]
    )
    last = [line for line in lines if line.pool == receipts[0].placed[0].pool][-1]
    earned = dict.fromkeys(range(5), 0)
    for credit in pool_credits([*receipts[:3], other]):
        if credit.pool == last.pool:
            earned[credit.role] += credit.amount
    assert tuple(earned.values()) == last.totals
    assert sum(last.totals) == 1019


def test_an_epoch_is_folded_a_receipt_at_a_time():
    receipts = settle([5, 0, 6, 7]) + settle([9], payer=PAYERS[1])
    builder = EpochBuilder(DOMAIN, 3)
    for entry in receipts:
        builder.add(entry)
    commitment = build_epoch(DOMAIN, 3, receipts, {}).commitment
    tree = builder.receipt_tree()
    assert (tree.root, tree.total, tree.count) == (commitment.receipt_root, 27, builder.count)
    assert builder.line_tree().root == commitment.line_root
    assert set(builder.pool_credits()) == set(pool_credits(receipts))
    builder.add(receipts[0])
    with pytest.raises(LocalProtocolError, match="paid twice"):
        builder.receipt_tree()
