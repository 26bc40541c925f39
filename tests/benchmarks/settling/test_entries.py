"""That no entry point is left out of the gas table. On revm: the calls are as measured, the figures not."""

from __future__ import annotations

from typing import Any

import pytest

from commonlore.benchmarks.settling import lane as settlement_lane
from commonlore.benchmarks.settling.chain import DEPLOYER
from commonlore.benchmarks.settling.checkers import measure_checkers
from commonlore.benchmarks.settling.entries import NOT_MEASURED, measure_handovers, measure_rest
from commonlore.benchmarks.settling.gas import measure_frauds
from commonlore.contracts.artefacts import CONTRACTS, artefact
from commonlore.contracts.staging import revm

OF_EPOCHS = {"Escrow.redeemMany", "Settlement.claimMany"}
"""Measured by how many a call takes, with whole epochs."""


class Recorder(revm.RevmNetwork):
    """Has what the benchmark needs of its chain."""

    def __init__(self, terms: Any, accounts: Any, now: int, keys: Any) -> None:
        super().__init__(terms, accounts, now)
        self.senders = {key.address for key in keys}
        self.gas: dict[str, list[int]] = {}
        self.chain = self

    def call(self, sender: Any, contract: str, name: str, *arguments: object) -> int:
        assert sender in self.senders | {DEPLOYER.address}
        super().call(revm.DEPLOYER if sender == DEPLOYER.address else sender, contract, name, *arguments)
        self.gas.setdefault(f"{contract}.{name}", []).append(self.gas_used)
        return self.gas_used

    def read(self, contract: str, name: str, *arguments: object) -> Any:
        return super().call(revm.DEPLOYER, contract, name, *arguments)

    restore = revm.RevmNetwork.revert


def entry_points() -> set[str]:
    """Every function that changes something."""
    return {
        f"{contract}.{entry['name']}"
        for contract in CONTRACTS
        for entry in artefact(contract).abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }


def test_every_entry_point_is_measured_or_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_lane, "ChainNetwork", Recorder)
    _, proofs = measure_frauds()
    measured = {*proofs, *measure_rest(), *measure_checkers(), *measure_handovers()}
    assert measured | OF_EPOCHS | NOT_MEASURED.keys() == entry_points()
    assert not (measured | OF_EPOCHS) & NOT_MEASURED.keys()
