"""Receipts by several adapters on chain: each adapter's pool has its part, and lies about parts are proved.

The frauds are found and opened by what watchers run; the contracts are the real bytecode, on revm."""

from dataclasses import replace
from itertools import product

import pytest

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.demanding import Tree, hidden_leaf
from commonlore.contracts.client.proving import abi_argument, path_tuples
from commonlore.contracts.staging.cast import (
    ADAPTER,
    ADAPTER_POOL,
    AUTHOR,
    CAROL,
    LANE,
    SECOND,
    SECOND_AUTHOR,
    SECOND_POOL,
    TERMS,
    WATCHER,
)
from commonlore.contracts.staging.stage import Stage, data_of
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import checksummed, digest_of
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.settlement.commitments import Earning, honest_lines
from commonlore.protocol.settlement.dishonest import FRIEND, Scene
from commonlore.protocol.settlement.epoch_leaves import Line, by_account, pack_line
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import FraudKind
from commonlore.protocol.settlement.openings import open_line, open_receipt, span_of

CONTRIBUTOR, AUTHOR_ROLE = 4, 2


@pytest.fixture(scope="module")
def played():
    """Two honest commitments of mixed receipts, and a third one's receipts redeemed."""
    stage = Stage()
    for prices in (((700, 333_333), (411, 666_667)), ((1_001, 500_000), (900, 0), (3, 999_999))):
        for price, second_ppm in prices:
            stage.serve(price, second_ppm=second_ppm)
        stage.redeem()
        stage.post()
    for price, second_ppm in ((811, 600_001), (907, 250_000), (1_002, 500_000)):
        stage.serve(price, second_ppm=second_ppm)
    stage.redeem()
    return stage


def found(stage):
    return [*find_receipt_frauds(stage.posted()), *find_earnings_frauds(stage.posted())]


def proved(stage, data):
    """The kinds of what is found in this data once it is posted; the first is proved on chain."""
    stage.post(stage.changed(data))
    frauds = found(stage)
    assert stage.challenge(frauds[0]) is None
    assert not any(stage.network.read("Settlement", "posted", checksummed(stage.lane), frauds[0].epoch)[0])
    return [fraud.kind for fraud in frauds]


# ---- honest data


def test_both_adapters_people_are_paid_in_proportion_and_all_of_it():
    stage = Stage()
    first, second = stage.serve(10_000, second_ppm=300_000), stage.serve(7, second_ppm=300_000)
    stage.redeem()
    served = stage.post()
    credits = stage.run_epoch().pool_credits
    of = {(credit.pool, credit.role, credit.account): credit.amount for credit in credits}
    shares = [settled.receipt.shares for settled in (first, second)]
    (theirs,) = (
        amount for (pool, role, _), amount in of.items() if (pool, role) == (SECOND_POOL, CONTRIBUTOR)
    )
    ours = sum(
        amount for (pool, role, _), amount in of.items() if (pool, role) == (ADAPTER_POOL, CONTRIBUTOR)
    )
    assert of[SECOND_POOL, CONTRIBUTOR, CAROL] == theirs == 1_200 + 1, "1,200 of 4,000, and 1 of 3"
    assert ours + theirs == sum(each.contributors for each in shares)
    authors = (
        of[ADAPTER_POOL, AUTHOR_ROLE, AUTHOR.address],
        of[SECOND_POOL, AUTHOR_ROLE, SECOND_AUTHOR.address],
    )
    assert authors == (1_050 + 1, 450)
    assert sum(authors) == sum(each.author for each in shares)
    assert sum(of.values()) == served.commitment.receipt_sum == 10_007
    assert (served.commitment.receipt_count, served.commitment.line_count) == (2, 4)


def test_a_part_of_nothing_has_no_line():
    stage = Stage()
    stage.serve(2, second_ppm=1)
    stage.redeem()
    trees = stage.post()
    assert (trees.commitment.receipt_count, trees.commitment.line_count) == (1, 1)
    stage.run_epoch()
    assert found(stage) == []


def test_no_proof_of_honest_lines_is_accepted(stage):
    trees = stage.post()
    now, before, previous = trees.commitment, stage.epochs[-2].commitment, stage.epochs[-2]
    assert (now.receipt_count, now.line_count) == (3, 6)
    assert found(stage) == []
    attempts = []
    for a, b in product(range(now.line_count), repeat=2):
        attempts.append(("LineProofs", "proveDoubleLine", (now, open_line(trees, a), open_line(trees, b))))
    for a, b in product(range(now.line_count), range(now.receipt_count)):
        earlier = (open_line(trees, a - 1),) if a else ()
        pair = open_line(trees, a), open_receipt(trees, b)
        attempts.append(("LineProofs", "proveBadLine", (now, earlier, *pair)))
        attempts.append(("LineProofs", "proveBadSplit", (now, *pair)))
    for a in range(now.receipt_count):
        attempts.append(("ReceiptProofs", "proveBadReceipt", (now, open_receipt(trees, a))))
    for at, role in product(range(before.line_count), range(5)):
        last = tuple(open_line(previous, i) for i in (at, at + 1) if i < before.line_count)
        pool = last[0].line.pool
        places = [i for i, c in enumerate(trees.pool_credits) if (c.pool, c.role) == (pool, role)]
        span = span_of(trees, True, min(places, default=0), max(places, default=-1) + 1)
        attempts.append(("CreditProofs", "provePoolSum", (before, now, role, last, span)))
    for contract, name, given in attempts:
        call = (checksummed(stage.lane), *map(abi_argument, given))
        assert stage.network.refusal(WATCHER, contract, name, *call) in ("NotFraud", "NotSpan"), (name, given)


# ---- lines


def moved(lines: list[Line], one: int, other: int, role: int, amount: int = 1) -> list[Line]:
    """An amount of a role of one line's receipt is in the other's: all sums stay."""

    def changed(line: Line, place: int) -> Line:
        end, by = lines[place], amount if place == other else -amount
        if line.pool != end.pool or line.receipt_id < end.receipt_id:
            return line
        totals = tuple(total + by * (n == role) for n, total in enumerate(line.totals))
        return replace(line, totals=totals, price=line.price + by * (line.receipt_id == end.receipt_id))

    for place in (one, other):
        lines = [changed(line, place) for line in lines]
    return lines


def lines_of_one(lines):
    """The places of both lines of a receipt by two adapters."""
    ids = [line.receipt_id for line in lines]
    shared = next(each for each in ids if ids.count(each) == 2)
    return tuple(i for i, each in enumerate(ids) if each == shared)


@pytest.mark.parametrize("role", range(5))
def test_a_unit_of_one_adapter_s_part_in_the_other_s_is_a_fraud(stage, role):
    data = stage.scene().data
    lines = list(honest_lines(data))
    one, other = lines_of_one(lines)
    if not lines[one].totals[role]:
        one, other = other, one
    kinds = proved(stage, replace(data, lines=tuple(moved(lines, one, other, role))))
    assert set(kinds) == {FraudKind.BAD_LINE}


def test_the_whole_receipt_in_the_heaviest_s_pool_alone_is_a_fraud(stage):
    """As if the lighter adapter were none: its contributors' part would vanish in the other's."""
    data = stage.scene().data
    lines = list(honest_lines(data))
    one, other = lines_of_one(lines)
    heavy, light = (one, other) if lines[one].price > lines[other].price else (other, one)
    given = lines[light]
    before = [line for line in lines[:light] if line.pool == given.pool]
    start = before[-1].totals if before else (0,) * 5
    part = [total - earlier for total, earlier in zip(given.totals, start, strict=True)]
    for role, amount in enumerate(part):
        lines = moved(lines, light, heavy, role, amount)
    del lines[light]
    kinds = proved(stage, replace(data, lines=tuple(lines)))
    assert set(kinds) == {FraudKind.BAD_LINE}


def test_a_part_under_an_adapter_that_the_receipt_does_not_name_is_a_fraud(stage):
    data = stage.scene().data
    lines = list(honest_lines(data))
    _, other = lines_of_one(lines)
    lines[other] = replace(lines[other], adapter=b"\x07" * 32)
    lines.sort(key=lambda line: (line.pool, line.receipt_id))
    assert FraudKind.BAD_LINE in proved(stage, replace(data, lines=tuple(lines)))


def test_a_line_of_nothing_is_a_fraud():
    """What has no part of a receipt is in no pool, so that nobody serves as its last line."""
    stage = Stage()
    stage.serve(2, second_ppm=1)
    stage.redeem()
    data = data_of(stage.build())
    (line,) = honest_lines(data)
    nothing = replace(
        line, author=SECOND_AUTHOR.address, adapter=digest_of(SECOND), totals=(0, 0, 0, 0, 0), price=0
    )
    both = sorted([line, nothing], key=lambda each: (each.pool, each.receipt_id))
    assert proved(stage, replace(data, lines=tuple(both))) == [FraudKind.BAD_LINE]


def test_two_lines_of_one_part_under_two_authors_are_a_fraud(stage):
    """A pool of a copier's record beside the author's: half of the part would be in each."""
    data = stage.scene().data
    lines = list(honest_lines(data))
    at = next(i for i, line in enumerate(lines) if line.adapter == digest_of(SECOND))
    part = lines[at]
    rest = [line for line in lines if line is not part and line.pool != part.pool]
    later = [line for line in lines if line is not part and line.pool == part.pool]
    half = replace(part, totals=(0, 0, 0, 0, 1), price=1, author=FRIEND)
    own = replace(part, totals=(*part.totals[:4], part.totals[4] - 1), price=part.price - 1)
    later = [replace(line, totals=(*line.totals[:4], line.totals[4] - 1)) for line in later]
    mixed = sorted([half, own, *later, *rest], key=lambda line: (line.pool, line.receipt_id))
    stage.post(stage.changed(replace(data, lines=tuple(mixed))))
    frauds = {fraud.kind: fraud for fraud in found(stage)}
    assert {FraudKind.DOUBLE_LINE, FraudKind.BAD_LINE, FraudKind.WRONG_AUTHOR} <= set(frauds)
    assert stage.challenge(frauds[FraudKind.DOUBLE_LINE]) is None


def test_a_part_left_out_makes_lines_that_nobody_can_show(stage):
    """The lines that are there are right, so only their sum tells; what cannot be shown is demanded."""
    data = data_of(stage.build())
    lines = list(honest_lines(data))
    _, other = lines_of_one(lines)
    left = replace(data, lines=tuple(lines[:other] + lines[other + 1 :]))
    trees, before = stage.post(stage.changed(left)), stage.epochs[-2].commitment
    assert hidden_leaf(trees, before) == (Tree.LINES, 4)
    assert hidden_leaf(stage.epochs[-2], stage.epochs[-3].commitment) is None
    lane, commitment = stage.commitment_call(trees)
    stage.call(WATCHER, "Demands", "demand", lane, commitment, Tree.LINES, 4)
    place = (lane, commitment_tuple(before), commitment, Tree.LINES, 4)
    shown = (pack_line(trees.lines[4]), path_tuples(tuple(trees.line_tree.proof(4))))
    assert stage.network.refusal(LANE.address, "Demands", "answer", *place, *shown) == "BadProof"
    stage.network.wait(TERMS.answer_time)
    stage.call(WATCHER, "Demands", "expire", lane, commitment, Tree.LINES, 4)
    assert not any(stage.network.read("Settlement", "posted", lane, trees.commitment.epoch)[0])


def test_credits_that_are_not_what_was_received_cannot_be_shown(stage):
    data = data_of(stage.build())
    first, *rest = data.credits
    for named in ("credits", "pool_credits"):
        trees = stage.changed(replace(data, **{named: (replace(first, amount=first.amount + 1), *rest)}))
        tree = {"credits": Tree.CREDITS_BY_ACCOUNT, "pool_credits": Tree.CREDITS_BY_POOL}[named]
        assert hidden_leaf(trees, stage.epochs[-1].commitment) == (tree, len(rest))


def test_as_many_lines_as_receipts_at_least_are_posted(stage):
    trees = stage.build()
    stage.network.wait(TERMS.epoch_length + TERMS.grace)
    for count in (0, trees.commitment.receipt_count - 1):
        given = commitment_tuple(replace(trees.commitment, line_count=count))
        call = (checksummed(stage.lane), given)
        refusal = stage.network.refusal(LANE.address, "Settlement", "postEpoch", *call)
        assert refusal == "InconsistentCommitment"


# ---- receipts


@pytest.mark.parametrize(
    "weights",
    [
        ((ADAPTER, PPM), (ADAPTER, 0)),
        ((ADAPTER, PPM - 1),),
        ((ADAPTER, 400_000), (SECOND, 600_001)),
        ((ADAPTER, 500_000), (ADAPTER, 500_000)),
        (),
    ],
)
def test_weights_that_make_no_whole_are_a_bad_receipt(stage, weights):
    scene = stage.scene()
    settled = next(each for each in scene.data.receipts if len(each.receipt.adapters) == 2)
    adapters = tuple(AdapterWeight(*entry) for entry in weights)
    changed = scene.resigned(settled, settled.voucher.cumulative, adapters=adapters)
    changed = replace(changed, authors=(AUTHOR.address,) * len(adapters))
    assert FraudKind.BAD_RECEIPT in proved(stage, scene.first(changed))


def test_the_split_is_the_heaviest_adapter_s(stage):
    """The lighter one's line shows nothing against a receipt that its own split would divide otherwise."""
    stage.post()
    trees, (light,) = stage.epochs[-1], lines_by(stage.epochs[-1], SECOND, 250_000)
    heavy = next(
        i for i, line in enumerate(trees.lines)
        if line.receipt_id == trees.lines[light].receipt_id and i != light
    )  # fmt: skip
    facts, other = stage.facts(), Split(500, 3_000, 1_000, 1_000, 4_500)
    for pool, expected in ((SECOND_POOL, set()), (ADAPTER_POOL, {FraudKind.BAD_SPLIT})):
        registered = {**facts.adapters, pool: replace(facts.adapters[pool], split=other)}
        changed = replace(stage.posted(), facts=replace(facts, adapters=registered))
        named = {
            fraud.arguments[1].line.receipt_id for fraud in find_receipt_frauds(changed)
            if fraud.kind is FraudKind.BAD_SPLIT
        }  # fmt: skip
        assert (trees.lines[heavy].receipt_id in named) == bool(expected)


def lines_by(trees, adapter, weight_ppm):
    """The places of an adapter's lines in receipts where it weighs this."""
    by_id = {bytes(each.receipt_id): each.receipt for each in trees.receipts}
    return [
        i for i, line in enumerate(trees.lines)
        if line.adapter == digest_of(adapter)
        and AdapterWeight(adapter, weight_ppm) in by_id[line.receipt_id].adapters
    ]  # fmt: skip


def test_a_receipt_divided_by_the_lighter_one_s_split_is_a_fraud(stage):
    """On chain both are registered with one split: another division is proved by the heaviest's line only."""
    scene: Scene = stage.scene()
    settled = next(each for each in scene.data.receipts if len(each.receipt.adapters) == 2)
    shares = compute_shares(settled.receipt.price, Split(500, 3_000, 1_000, 1_000, 4_500))
    changed = scene.resigned(settled, settled.voucher.cumulative, shares=shares)
    stage.post(stage.changed(scene.first(changed)))
    frauds = [fraud for fraud in found(stage) if fraud.kind is FraudKind.BAD_SPLIT]
    assert len(frauds) == 1
    light = [
        i for i, line in enumerate(stage.epochs[-1].lines)
        if line.receipt_id == settled.receipt_id and i != frauds[0].arguments[1].index
    ]  # fmt: skip
    commitment, _, opening = frauds[0].arguments
    by_light = replace(frauds[0], arguments=(commitment, open_line(stage.epochs[-1], light[0]), opening))
    assert stage.challenge(by_light) == "NotFraud"
    assert stage.challenge(frauds[0]) is None


# ---- credits


@pytest.mark.parametrize("pool", [ADAPTER_POOL, SECOND_POOL])
@pytest.mark.parametrize("role", [AUTHOR_ROLE, CONTRIBUTOR])
def test_nobody_of_one_adapter_is_paid_from_the_other_s_pool(stage, pool, role):
    """CAROL contributed to one of a receipt's adapters: that does not make her one of the other's people."""
    data = data_of(stage.build())
    stranger = {ADAPTER_POOL: CAROL, SECOND_POOL: SECOND_AUTHOR.address}[pool]
    if role == AUTHOR_ROLE:
        stranger = SECOND_AUTHOR.address if pool == ADAPTER_POOL else AUTHOR.address
    old = next(each for each in data.credits if (each.pool, each.role) == (pool, role))
    kinds = proved(stage, recredited(data, {old: replace(old, account=stranger)}))
    assert kinds == [FraudKind.WRONG_ACCOUNT if role == AUTHOR_ROLE else FraudKind.OUTSIDE_LINEAGE]


def test_a_unit_of_one_pool_s_contributors_in_the_other_s_is_a_fraud(stage):
    data = data_of(stage.build())
    of = {each.pool: each for each in data.credits if each.role == CONTRIBUTOR}
    one, other = of[ADAPTER_POOL], of[SECOND_POOL]
    changes = {one: replace(one, amount=one.amount - 1), other: replace(other, amount=other.amount + 1)}
    assert set(proved(stage, recredited(data, changes))) == {FraudKind.POOL_SUM}


def recredited(data, changes):
    earned = data.cumulative
    for old, new in changes.items():
        earned[old.account] -= old.amount
        earned[new.account] = earned.get(new.account, 0) + new.amount
    merged = {}
    for credit in (changes.get(each, each) for each in data.credits):
        merged[credit.pool, credit.role, credit.account] = credit
    earnings = tuple(Earning(each, earned[each]) for each in sorted(earned) if earned[each])
    return replace(data, credits=tuple(sorted(merged.values(), key=by_account)), earnings=earnings)
