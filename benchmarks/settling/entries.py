"""Gas of settlement's entry points that no epoch needs, and tables of what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from commonlore.contracts.calling.records import PayeeRotation
from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple
from commonlore.contracts.staging import cast
from commonlore.protocol.ids import checksummed, digest_of, keccak256
from commonlore.protocol.signing.eip712 import sign

from .lane import MeasuredStage, open_stage

NOT_MEASURED = {
    "Bonds.freeze": "called by the contracts that slash, and counted there",
    "Bonds.unfreeze": "called by the contracts that slash, and counted there",
    "Bonds.slash": "called by the contracts that slash, and counted there",
    "Settlement.credit": "called by Escrow.redeemMany, and counted there",
    "Settlement.kill": "called by the fraud proofs, and counted there",
    "Settlement.hold": "called by Demands.demand, and counted there",
    "Settlement.letGo": "called by Demands, and counted there",
}
"""Functions that no account can call, and where their gas is found."""


def measure_rest() -> dict[str, list[int]]:
    """The gas of entry points that no epoch needs, by contract and function."""
    stage = open_stage(cast.TERMS)
    stage.run_epoch((900, 500))
    client, lane, payer = cast.CLIENT.address, stage.lane, cast.PAYER.address
    channel = (checksummed(payer), checksummed(lane))
    thaw = stage.terms.thaw_period
    stage.call(client, "Escrow", "reserve", *channel, 100)
    stage.call(client, "Escrow", "thawReservation", *channel, 100)
    stage.call(client, "Escrow", "thaw", 100)
    stage.bond(lane, 1, 10)
    stage.call(lane, "Bonds", "thaw", 1, 10)
    stage.call(client, "Escrow", "revoke", checksummed(payer))
    stage.network.wait(thaw)
    stage.call(client, "Escrow", "releaseReservation", *channel)
    stage.call(client, "Escrow", "withdraw")
    stage.call(lane, "Bonds", "withdraw", 1)
    last = stage.epochs[-1]
    stage.call(lane, "Settlement", "finalise", checksummed(lane), commitment_tuple(last.commitment))
    stage.call(lane, "Settlement", "appoint", checksummed(lane), checksummed(lane))
    stage.call(cast.GUARDIAN, "Settlement", "pause", 60)
    stage.call(cast.GUARDIAN, "Settlement", "unpause")
    _register_more(stage)
    watcher = checksummed(cast.WATCHER)
    stage.call(lane, "CommonloreToken", "approve", watcher, 10)
    stage.call(cast.WATCHER, "CommonloreToken", "transferFrom", checksummed(lane), watcher, 10)
    return dict(stage.network.gas)


def measure_handovers() -> dict[str, list[int]]:
    """The gas of a lane in other hands: served by another, taken over, closed, its residue shared."""
    stage = open_stage(cast.TERMS)
    stage.run_epoch((900, 500))
    last = stage.run_epoch((700, 800))
    lane = checksummed(stage.lane)
    for poster in (cast.WATCHER, cast.SUCCESSOR):
        stage.bond(poster, 1, cast.BOND)
    stage.network.wait(stage.terms.window)
    stage.call(stage.lane, "Settlement", "appoint", lane, checksummed(cast.WATCHER))
    stage.call(cast.WATCHER, "Settlement", "serve", lane)
    _wait_until(stage, stage.network.read("Settlement", "succeedableAt", lane))
    stage.call(cast.SUCCESSOR, "Settlement", "succeed", lane)
    _wait_until(stage, stage.network.read("Settlement", "succeedableAt", lane) + stage.terms.residue)
    call = (lane, commitment_tuple(last.commitment))
    stage.call(cast.WATCHER, "Settlement", "closeLane", *call)
    claims = [claim_tuple(claim) for claim in last.claims()]
    stage.call(cast.WATCHER, "Settlement", "claimResidue", *call, claims)
    return dict(stage.network.gas)


def _wait_until(stage: MeasuredStage, time: int) -> None:
    stage.network.wait(time - stage.network.now)


def _register_more(stage: MeasuredStage) -> None:
    curator, digest = cast.CURATOR.address, keccak256(b"artefact")
    stage.call(curator, "Registry", "registerArtefact", digest, digest_of(cast.BASE))
    stage.call(curator, "Registry", "appendAliases", bytes(32), digest, 1)
    rotation = PayeeRotation(curator, cast.WATCHER)
    arguments = (checksummed(curator), checksummed(cast.WATCHER))
    signature = sign(stage.domain, cast.CURATOR, rotation)
    stage.call(curator, "Registry", "rotatePayee", *arguments, signature)


def gas_table(measured: Mapping[str, list[int]]) -> dict[str, int]:
    """What each entry point costs: its first call, and where it differs its last."""
    table: dict[str, int] = {}
    for name, used in sorted(measured.items()):
        if name in ("Escrow.redeemMany", "Settlement.claimMany"):
            continue  # by their number of vouchers and claims
        table[name] = used[0]
        if len(used) > 1 and used[-1] != used[0]:
            table[f"{name} (again)"] = used[-1]
    return table


def batch_table(name: str, first: Mapping[int, int], again: Mapping[int, int]) -> dict[str, int]:
    """What an entry point costs that takes many, by how many."""
    return {f"{name} ({count}, first)": used for count, used in first.items()} | {
        f"{name} ({count}, again)": used for count, used in again.items()
    }
