"""Gas of settlement's entry points that no epoch needs, and tables of what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from commonlore.contracts import stage as stages
from commonlore.contracts.records import PayeeRotation
from commonlore.contracts.stage import key_of
from commonlore.contracts.tuples import commitment_tuple
from commonlore.protocol.eip712 import sign
from commonlore.protocol.ids import checksummed, digest_of, keccak256

from .settlement_lane import MeasuredStage, open_stage


def measure_rest() -> dict[str, list[int]]:
    """The gas of entry points that no epoch needs, by contract and function."""
    stage = open_stage(stages.TERMS)
    stage.run_epoch((900, 500))
    client, lane, payer = stages.CLIENT.address, stage.lane, stages.PAYER.address
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
    stage.call(key_of("guardian").address, "Settlement", "pause", 60)
    _register_more(stage)
    return dict(stage.network.gas)


def _register_more(stage: MeasuredStage) -> None:
    curator, digest = stages.CURATOR.address, keccak256(b"artefact")
    stage.call(curator, "Registry", "registerArtefact", digest, digest_of(stages.BASE))
    stage.call(curator, "Registry", "appendAliases", bytes(32), digest, 1)
    rotation = PayeeRotation(curator, stages.WATCHER)
    arguments = (checksummed(curator), checksummed(stages.WATCHER))
    signature = sign(stage.domain, stages.CURATOR, rotation)
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
