"""Gas of settlement: every entry point, fraud proofs, and an epoch at 1, 100, 10,000 and a million
receipts."""

from __future__ import annotations

from dataclasses import dataclass

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.chain import CLAIM_BATCH
from commonlore.contracts.client.proving import PROOFS, abi_argument, path_tuples, receipt_opening
from commonlore.contracts.client.redeeming import REDEEM_BATCH
from commonlore.contracts.staging import cast
from commonlore.protocol.ids import Address, checksummed
from commonlore.protocol.settlement.dishonest import plant
from commonlore.protocol.settlement.epoch_leaves import pack_line
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.fraud_overlaps import ChannelHistory
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import FraudKind
from commonlore.protocol.settlement.openings import open_line, open_receipt

from .entries import batch_table, gas_table
from .lane import ManyChannels, MeasuredStage, open_stage


@dataclass(frozen=True, slots=True)
class Scale:
    """An epoch: its receipts, the channels that are redeemed and the claims that are made for it."""

    receipts: int
    channels: int
    claims: int


SCALES = (Scale(1, 1, 1), Scale(100, 10, 5), Scale(10_000, 200, 50), Scale(1_000_000, 2_000, 500))


# ---- fraud


def measure_frauds() -> tuple[dict[str, int], dict[str, list[int]]]:
    """The gas of proving one planted fraud of each kind, demanding a leaf, answering, and taking back; and
    what each entry point cost that this took."""
    stage = open_stage(cast.TERMS)
    for prices in ((900, 500, 500, 700), (800, 500, 500, 700)):
        stage.run_epoch(prices)
    stage.serve(900)
    for price in (500, 500, 300):
        stage.serve(price)
    stage.serve(300, by_adapter=False)
    stage.redeem()
    frauds = {kind.value: _proof_gas(stage, kind) for kind in FraudKind}
    return {**frauds, **_demand_gas(stage)}, stage.network.gas


def _proof_gas(stage: MeasuredStage, kind: FraudKind) -> int:
    saved, now, epochs = stage.network.chain.snapshot(), stage.network.now, list(stage.epochs)
    served, earnings = stage.served, stage.earnings
    stage.post(stage.changed(plant(kind, stage.scene())))
    posted = stage.posted()
    history = ChannelHistory(lambda epoch: next(e for e in stage.epochs if e.commitment.epoch == epoch))
    for earlier in stage.epochs[:-1]:
        history.remember(stage.lane, earlier)
    found = [*find_receipt_frauds(posted), *history.take(posted), *find_earnings_frauds(posted)]
    fraud = next(fraud for fraud in found if fraud.kind is kind)
    contract, name = PROOFS[kind]
    arguments = [abi_argument(argument) for argument in fraud.arguments]
    used: int = stage.call(cast.WATCHER, contract, name, checksummed(stage.lane), *arguments)  # type: ignore[assignment]
    stage.network.chain.restore(saved)
    stage.network.now, stage.epochs = now, epochs
    stage.served, stage.earnings = served, earnings
    return used


def _demand_gas(stage: MeasuredStage) -> dict[str, int]:
    """A demand for each kind of answer, and one that nobody answers."""
    trees, lane, watcher = stage.post(), checksummed(stage.lane), cast.WATCHER
    commitment, before = (commitment_tuple(each.commitment) for each in (trees, stage.epochs[-2]))

    def sent(sender: Address, name: str, *arguments: object) -> int:
        used: int = stage.call(sender, "Demands", name, lane, *arguments)  # type: ignore[assignment]
        return used

    demanded = sent(watcher, "demand", commitment, 0, 1)
    shown = sent(cast.LANE.address, "answerReceipt", commitment, receipt_opening(open_receipt(trees, 1)))
    sent(watcher, "demand", commitment, 1, 2)
    line = open_line(trees, 2)
    leaf = (1, 2, pack_line(line.line), path_tuples(line.path))
    answered = sent(cast.LANE.address, "answer", before, commitment, *leaf)
    sent(watcher, "demand", commitment, 2, 0)
    stage.network.wait(stage.terms.answer_time)
    expired = sent(watcher, "expire", commitment, 2, 0)
    return {
        "demand": demanded,
        "answer (receipt)": shown,
        "answer (other leaf)": answered,
        "data withheld": expired,
    }


# ---- an epoch at size


def measure_epochs() -> tuple[dict[str, dict[str, float]], dict[str, object]]:
    """Gas per receipt by number of receipts (`post`, `redeem`, `claims`) of an epoch whose channels were
    redeemed and whose accounts were paid before; and beside it what the first time costs, batch by batch."""
    lane = ManyChannels()
    first_redeem = {count: lane.redeem(count) for count in (REDEEM_BATCH,)}
    first_post = lane.post()
    again = {count: lane.redeem(count) for count in (1, 10, 50, REDEEM_BATCH)}
    post = lane.post()
    lane.post_rest()
    counts = _parts(500, CLAIM_BATCH) | {1, 5, 50}
    first_claims = lane.claim_all(counts)
    lane.redeem(REDEEM_BATCH)
    lane.post()
    lane.post_rest()
    claims = lane.claim_all(counts)
    per_receipt = {
        str(scale.receipts): {
            "post": post / scale.receipts,
            "redeem": _in_batches(again, scale.channels, REDEEM_BATCH) / scale.receipts,
            "claims": _in_batches(claims, scale.claims, CLAIM_BATCH) / scale.receipts,
        }
        for scale in SCALES
    }
    table = gas_table(lane.stage.network.gas)
    table |= batch_table("Escrow.redeemMany", first_redeem, again)
    table |= batch_table("Settlement.claimMany", first_claims, claims)
    detail: dict[str, object] = {
        "post_first": first_post,
        "post_again": post,
        "redeem_batch_first": first_redeem,
        "redeem_batch_again": again,
        "claim_batch_first": first_claims,
        "claim_batch_again": claims,
        "claim_path_steps": 9,
        "entry_points": table,
    }
    return per_receipt, detail


def _parts(whole: int, batch: int) -> set[int]:
    return {batch, whole % batch} - {0}


def _in_batches(measured: dict[int, int], count: int, batch: int) -> int:
    """The gas of so many in batches, each of a size that was measured."""
    full, rest = divmod(count, batch)
    return full * measured.get(batch, 0) + (measured[rest] if rest else 0)
