"""Every planted fraud is proved on chain in one transaction; no honest commitment can be.

The frauds are found and opened by what watchers run; the contracts are the real bytecode, on revm."""

from dataclasses import replace
from itertools import product

import pytest

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.proving import PROOFS, abi_argument
from commonlore.contracts.staging.cast import (
    ADAPTER,
    ADAPTER_POOL,
    ALICE,
    BOB,
    BOND,
    CURATOR,
    DATANET,
    LANE,
    LINEAGE,
    MANIFEST,
    SECOND_MANIFEST,
    TERMS,
    WATCHER,
)
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.content.lineage import Ancestor
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.encoding.merkle import MerkleSumTree
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.settlement.dishonest import FRIEND, plant
from commonlore.protocol.settlement.epoch_leaves import pool_of
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.fraud_overlaps import ChannelHistory
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import FraudKind, Posted, RawManifest, Served
from commonlore.protocol.settlement.openings import (
    open_credit,
    open_earning,
    open_leaf,
    open_line,
    open_receipt,
    open_voucher,
    span_of,
)


@pytest.fixture(scope="module")
def played():
    """A lane with two honest commitments, and a third one's receipts redeemed; some by two adapters."""
    stage = Stage()
    stage.serve(500, second_ppm=333_333)
    stage.run_epoch((900,))
    stage.serve(801, second_ppm=666_667)
    stage.run_epoch((700, 800))
    for price in (607, 403):  # units are left over, and the largest remainders are not the first
        stage.serve(price)
    stage.serve(403, second_ppm=600_001)
    stage.serve(300, by_adapter=False)
    stage.redeem()
    return stage


def honest_stage():
    """Two honest commitments and a third one's receipts, each by one adapter or none: few leaves, as every
    proof is tried with every pair of them (several adapters: `test_mixed_receipts`)."""
    stage = Stage()
    stage.run_epoch((900, 500))
    stage.run_epoch((700, 800, 800))
    for price in (607, 403, 403):
        stage.serve(price)
    stage.serve(300, by_adapter=False)
    stage.redeem()
    return stage


def frauds_of(stage):
    """All that a watcher finds in the last commitment."""
    history = ChannelHistory(lambda epoch: next(t for t in stage.epochs if t.commitment.epoch == epoch))
    overlaps = []
    for number, trees in enumerate(stage.epochs):
        before = stage.epochs[number - 1] if number else None
        overlaps = list(history.take(Posted(stage.facts(), before, trees)))
    posted = stage.posted()
    return [*find_receipt_frauds(posted), *find_earnings_frauds(posted), *overlaps]


@pytest.mark.parametrize("kind", list(FraudKind))
def test_a_fraud_kills_its_commitment_and_costs_its_poster_the_bond(stage, kind):
    network, lane = stage.network, checksummed(stage.lane)
    trees = stage.post(stage.changed(plant(kind, stage.scene())))
    fraud = next(fraud for fraud in frauds_of(stage) if fraud.kind is kind)
    assert stage.challenge(fraud) is None
    assert network.tokens(WATCHER) == BOND // 2
    assert network.read("Bonds", "bondOf", lane, 1)[0] == 0
    epoch = trees.commitment.epoch
    assert network.read("Settlement", "posted", lane, epoch)[0] == bytes(32)
    pot, committed, _, next_epoch, _ = network.read("Settlement", "lanes", lane)
    before = stage.epochs[-2].commitment
    assert (committed, next_epoch) == (trees.commitment.cumulative_total, before.epoch + 1)
    assert pot == committed + trees.commitment.receipt_sum


@pytest.mark.parametrize("kind", [FraudKind.BAD_RECEIPT, FraudKind.WRONG_CUMULATIVE])
def test_a_fraud_can_be_proved_until_the_window_ends_and_not_after(stage, kind):
    stage.post(stage.changed(plant(kind, stage.scene())))
    fraud = next(fraud for fraud in frauds_of(stage) if fraud.kind is kind)
    stage.network.wait(stage.terms.window - 1)
    before = stage.network.snapshot()
    assert stage.challenge(fraud) is None
    stage.network.revert(before)
    stage.network.wait(1)
    assert stage.challenge(fraud) == "WindowClosed"


def test_after_a_fraud_the_lane_bonds_again_and_posts_what_is_true(stage):
    network = stage.network
    served, earnings = list(stage.served), dict(stage.earnings)
    stage.post(stage.changed(plant(FraudKind.BAD_LINE, stage.scene())))
    assert stage.challenge(frauds_of(stage)[0]) is None
    stage.epochs.pop()
    stage.served, stage.earnings = served, earnings
    call = (checksummed(stage.lane), commitment_tuple(stage.build().commitment))
    network.wait(stage.terms.epoch_length)
    assert network.refusal(stage.lane, "Settlement", "postEpoch", *call) == "BondTooSmall"
    stage.bond(LANE.address, 1, BOND)
    stage.post()
    assert frauds_of(stage) == []


def test_later_commitments_die_with_the_one_they_build_on():
    stage = Stage(replace(TERMS, epoch_length=100, grace=0, thaw=10_000))
    first = stage.run_epoch()
    bad = stage.changed(plant(FraudKind.BAD_RECEIPT, served_scene(stage)))
    stage.redeem()
    stage.post(bad)
    fraud = frauds_of(stage)[0]
    later = [stage.run_epoch(), stage.run_epoch()]
    assert stage.challenge(fraud) is None
    hashes = [stage.network.read("Settlement", "posted", checksummed(stage.lane), t.commitment.epoch)[0]
              for t in (first, bad, *later)]  # fmt: skip
    assert [any(each) for each in hashes] == [True, False, False, False]
    assert stage.network.read("Settlement", "lanes", checksummed(stage.lane))[3] == first.commitment.epoch + 1


def served_scene(stage):
    for price in (900, 500):
        stage.serve(price)
    return stage.scene()


# ---- honest data


def attempts(stage):
    """Every proof against the last commitment, with leaves that are in its trees: (contract, function,
    arguments after the lane)."""
    domain, trees, previous = stage.domain, stage.epochs[-1], stage.epochs[-2]
    now, before = trees.commitment, previous.commitment
    receipts, lines = range(now.receipt_count), range(now.line_count)
    for a, b in product(receipts, receipts):
        leaves = open_leaf(domain, trees, a), open_leaf(domain, trees, b)
        yield "ReceiptProofs", "proveUnsorted", (now, *leaves)
        vouchers = open_voucher(domain, trees, a), open_voucher(domain, trees, b)
        yield "ReceiptProofs", "proveOverlap", (now, vouchers[0], now, vouchers[1])
        yield "LineProofs", "proveStrayLine", (now, open_line(trees, a), leaves)
        yield "LineProofs", "proveStrayLine", (now, open_line(trees, a), leaves[1:])
    for a, b in product(lines, lines):
        yield "LineProofs", "proveDoubleLine", (now, open_line(trees, a), open_line(trees, b))
    for a, b in product(lines, receipts):
        first = (open_line(trees, a - 1),) if a else ()
        pair = open_line(trees, a), open_receipt(trees, b)
        yield "LineProofs", "proveBadLine", (now, first, *pair)
        yield "LineProofs", "proveBadSplit", (now, *pair)
    for a, b in product(receipts, range(before.receipt_count)):
        vouchers = open_voucher(domain, trees, a), open_voucher(domain, previous, b)
        yield "ReceiptProofs", "proveOverlap", (now, vouchers[0], before, vouchers[1])
    for a in receipts:
        yield "ReceiptProofs", "proveBadReceipt", (now, open_receipt(trees, a))
    for a in lines:
        stranger = replace(MANIFEST, author_payee=BOB)
        for manifest in (encode(MANIFEST), encode(SECOND_MANIFEST), encode(stranger), b""):
            yield "LineProofs", "proveWrongAuthor", (now, open_line(trees, a), RawManifest(manifest))
        yield "LineProofs", "proveStrayLine", (now, open_line(trees, a), ())
    yield from earnings_attempts(trees, previous)
    yield from credit_attempts(trees, previous)


def earnings_attempts(trees, previous):
    now, before = trees.commitment, previous.commitment
    accounts = range(now.account_count)
    for a, b in product(accounts, accounts):
        yield "EarningsProofs", "proveUnsorted", (now, open_earning(trees, a), open_earning(trees, b))
    for a, b in product(range(before.account_count), accounts):
        old, new = open_earning(previous, a), open_earning(trees, b)
        yield "EarningsProofs", "proveDecrease", (before, old, now, new)
        yield "EarningsProofs", "proveDropped", (before, old, now, (new,))
        if b:
            yield "EarningsProofs", "proveDropped", (before, old, now, (open_earning(trees, b - 1), new))
    credits = len(trees.account_credits)
    for earning in trees.earned:
        held = [i for i, entry in enumerate(previous.earned) if entry.account == earning.account]
        old = tuple(open_earning(previous, i) for i in held)
        new = (open_earning(trees, trees.accounts.index(earning.account)),)
        for low, high in product(range(credits), range(credits + 1)):
            if low <= high:
                span = span_of(trees, False, low, high)
                call = (before, now, earning.account, old, new, span)
                yield "EarningsProofs", "proveWrongCumulative", call


def credit_attempts(trees, previous):
    now, before = trees.commitment, previous.commitment
    credits = range(now.credit_count)
    for a, b, by_pool in product(credits, credits, (False, True)):
        pair = open_credit(trees, by_pool, a), open_credit(trees, by_pool, b)
        yield "CreditProofs", "proveUnsorted", (before, now, by_pool, *pair)
        other = open_credit(trees, not by_pool, b)
        yield "CreditProofs", "proveMissing", (before, now, by_pool, pair[0], (other,))
        for step in (1, 2):  # neighbours, and those of a leaf between them
            if b >= step:
                gap = (open_credit(trees, not by_pool, b - step), other)
                yield "CreditProofs", "proveMissing", (before, now, by_pool, pair[0], gap)
    for a in credits:
        credit = open_credit(trees, True, a)
        yield "CreditProofs", "proveMissing", (before, now, True, credit, ())
        for line in range(before.line_count):
            yield "CreditProofs", "proveWrongAccount", (before, now, credit, (open_line(previous, line),))
    count = before.line_count
    for at, role in product(range(count), range(5)):
        last = tuple(open_line(previous, i) for i in (at, at + 1) if i < count)
        for low in range(now.credit_count + 1):
            for high in range(low, now.credit_count + 1):
                call = (before, now, role, last, span_of(trees, True, low, high))
                yield "CreditProofs", "provePoolSum", call
        for span in loose_spans(trees, last[0].line.pool, role):
            yield "CreditProofs", "provePoolSum", (before, now, role, last, span)


def loose_spans(trees, pool, role):
    """A role's credits without the first or the last of them, between neighbours that do not touch."""
    places = [i for i, credit in enumerate(trees.pool_credits) if (credit.pool, credit.role) == (pool, role)]
    if len(places) > 1:
        low, high = places[0], places[-1]
        whole = span_of(trees, True, low, high + 1)
        for inside in ({low, high - 1}, {low + 1, high}):
            yield replace(whole, inside=tuple(open_credit(trees, True, i) for i in sorted(inside)))


def test_no_proof_of_honest_data_is_accepted():
    """All proofs over all leaves (and pairs, gaps and spans of leaves) of an honest commitment revert."""
    stage = honest_stage()
    stage.post()
    lane, tried = checksummed(stage.lane), {}
    for contract, name, given in attempts(stage):
        arguments = [abi_argument(argument) for argument in given]
        refusal = stage.network.refusal(WATCHER, contract, name, lane, *arguments)
        assert refusal in ("NotFraud", "NotSpan"), (contract, name, given)
        tried[contract, name] = tried.get((contract, name), 0) + 1
    proofs = {proof for kind, proof in PROOFS.items() if kind is not FraudKind.OUTSIDE_LINEAGE}
    assert set(tried) == proofs


def served_by(trees):
    """A receipt of the adapter's pool, with its line."""
    index = next(
        i for i, line in enumerate(trees.lines) if pool_of(line.author, line.adapter) == ADAPTER_POOL
    )
    ids = [settled.receipt_id for settled in trees.receipts]
    place = ids.index(trees.lines[index].receipt_id)
    return Served(open_line(trees, index), open_receipt(trees, place))


class UnregisteredStage(Stage):
    """The adapter is not registered yet."""

    def register(self, *given, **named):
        pass


def test_a_record_binds_only_who_served_after_it():
    """Its author registers a lineage of nobody once there are receipts: what they earn is no fraud for it."""
    stage = UnregisteredStage()
    served = [stage.run_epoch()]
    Stage.register(stage, ADAPTER, ())
    nobody = (Ancestor(ADAPTER_POOL, (), ()),)
    for refusal in ("NotFraud", "NotFraud", None):  # before it, in its epoch, after that
        trees = stage.run_epoch()
        (index, *_) = (i for i, credit in enumerate(trees.pool_credits) if credit.role == 4)
        commitments = (served[-1].commitment, trees.commitment)
        given = (*commitments, open_credit(trees, True, index), served_by(served[-1]), nobody, ())
        call = (checksummed(stage.lane), *map(abi_argument, given))
        assert stage.network.refusal(WATCHER, "CreditProofs", "proveOutsideLineage", *call) == refusal
        served.append(trees)


def test_a_receipt_of_another_pool_binds_nobody(stage):
    stage.post(stage.changed(plant(FraudKind.OUTSIDE_LINEAGE, stage.scene())))
    fraud = next(fraud for fraud in frauds_of(stage) if fraud.kind is FraudKind.OUTSIDE_LINEAGE)
    previous = stage.epochs[-2]
    (served,) = (argument for argument in fraud.arguments if isinstance(argument, Served))
    other = next(i for i, line in enumerate(previous.lines) if not any(line.adapter))
    ids = [settled.receipt_id for settled in previous.receipts]
    line, place = open_line(previous, other), ids.index(previous.lines[other].receipt_id)
    for wrong in (Served(line, open_receipt(previous, place)), replace(served, line=line)):
        arguments = tuple(wrong if each is served else each for each in fraud.arguments)
        assert stage.challenge(replace(fraud, arguments=arguments)) == "NotFraud"
    assert stage.challenge(fraud) is None


@pytest.mark.parametrize("account", [ALICE, BOB])
def test_a_contributor_of_the_lineage_is_not_shown_to_be_outside(stage, account):
    trees = stage.post()
    before = stage.epochs[-2].commitment
    wanted = (ADAPTER_POOL, 4, account)
    places = [i for i, c in enumerate(trees.pool_credits) if (c.pool, c.role, c.account) == wanted]
    given = (before, trees.commitment, open_credit(trees, True, places[0]), served_by(stage.epochs[-2]))
    fixed = [abi_argument(argument) for argument in given]
    for other in (FRIEND, Address(b"\x01" * 20), Address(b"\xff" * 20)):
        nobody = [(Ancestor(ADAPTER_POOL, (), ()),), ()]  # a lineage that is not the registered one
        for shown in (nobody, [LINEAGE.ancestry, ()]):
            call = (checksummed(stage.lane), *fixed, *map(abi_argument, shown))
            assert stage.network.refusal(WATCHER, "CreditProofs", "proveOutsideLineage", *call)
        for contributors in ([ALICE, BOB], [ALICE], [BOB], [ALICE, BOB, CURATOR.address]):
            lineage = replace(LINEAGE, contributors={DATANET: contributors})
            for ancestry in (lineage.ancestry, ()):
                call = (checksummed(stage.lane), *fixed, *map(abi_argument, (ancestry, lineage.gaps(other))))
                assert stage.network.refusal(WATCHER, "CreditProofs", "proveOutsideLineage", *call)


def test_leaves_of_another_tree_or_commitment_prove_nothing(stage):
    """A true fraud, told of a commitment that does not have it."""
    scene = stage.scene()
    bad = stage.changed(plant(FraudKind.BAD_RECEIPT, scene))
    stage.post()
    opening = abi_argument(open_receipt(bad, 0))
    for contract, name, error, commitment in (
        ("ReceiptProofs", "proveBadReceipt", "BadProof", stage.epochs[-1].commitment),
        ("ReceiptProofs", "proveBadReceipt", "UnknownCommitment", bad.commitment),
    ):
        call = (checksummed(stage.lane), commitment_tuple(commitment), opening)
        assert stage.network.refusal(WATCHER, contract, name, *call) == error


def test_the_commitment_before_is_the_one_that_was_followed(stage):
    stage.post(stage.changed(plant(FraudKind.DECREASE, stage.scene())))
    fraud = next(fraud for fraud in frauds_of(stage) if fraud.kind is FraudKind.DECREASE)
    previous, old, now, new = fraud.arguments
    for wrong in (replace(previous, data_hash=bytes(32)), stage.epochs[0].commitment, now):
        assert stage.challenge(replace(fraud, arguments=(wrong, old, now, new))) == "NotPrevious"


def test_a_path_has_just_the_depth_of_its_tree(stage):
    """No inner node passes for a leaf, nor a leaf for one of a smaller tree where no money is beside it."""
    leaves = [(keccak256(bytes([i])), amount) for i, amount in enumerate((5, 7, 0, 0))]
    tree = MerkleSumTree(leaves)
    path = [(step.hash, step.amount) for step in tree.proof(0)]
    accepted = stage.network.read("Settlement", "climb", *leaves[0], 0, 4, path)
    assert accepted == (tree.root, tree.total)
    inner, empty = MerkleSumTree(leaves[:2]), [(step.hash, step.amount) for step in tree.proof(2)]
    for leaf, index, count, shown in (
        (leaves[2], 6, 4, empty),
        (leaves[0], 0, 1, path),
        (leaves[0], 0, 2, path),
        (leaves[0], 0, 5, path),
        (leaves[0], 4, 4, path),
        ((inner.root, inner.total), 0, 4, path[1:]),
    ):
        call = ("Settlement", "climb", *leaf, index, count, shown)
        assert stage.network.refusal(WATCHER, *call) == "BadProof", (index, count)
