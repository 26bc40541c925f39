"""`commonlore status`: how the running node of this home is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import HomeOption, JsonOption
from .printing import print_facts, print_json
from .reach import node_of


def status(home: HomeOption = None, json: JsonOption = False) -> None:
    """How the running node is doing: peers, workers, adapters, chain."""
    with node_of(home) as client:
        found = client.get("/status")
    if json:
        print_json(found)
    else:
        print_facts(_summary(found))


def purse(read: Mapping[str, int] | None) -> dict[str, object]:
    """What an owner has, as facts; nothing where no chain told."""
    if read is None:
        return {}
    gas = f"{read['gas_wei'] / 10**18:.6f} ETH"
    return {"escrow": f"{read['balance']:,} units", "account": f"{read['tokens']:,} units, {gas} for gas"}


def _summary(found: Mapping[str, Any]) -> dict[str, object]:
    worker, settlement, watching = found["worker"], found["settlement"], found["watching"]
    registering, checking = found["registering"], found["checking"]
    facts: dict[str, object] = {
        "peer": found["peer_id"],
        "roles": found["roles"],
        "addresses": found["addresses"],
        "owner": found["owner"],
        "connected": f"{len(found['connected'])} peers",
        "workers": [entry["peer"] for entry in found["workers"]],
        "adapters": found["adapters"],
        "datanets": found["datanets"],
        "retrieval": found["retrieval"],
        **purse(found["purse"]),
        "chain": f"{found['chain']}, epoch {found['epoch']}" if found["chain"] else None,
    }
    if worker is not None:
        facts["serves"] = f"{worker['name']} ({worker['base']}) in {worker['precision']}"
        facts["resident"] = worker["resident"]
        facts["load"] = f"{worker['running']} running, {worker['queued']} queued"
        facts["memory"] = (
            f"{_mib(worker['adapter_bytes'])} of adapters, {_mib(worker['slot_bytes'])} of slots, "
            f"{_mib(worker['spare_bytes'])} to read the next into"
        )
    if settlement is not None:
        facts["settlement"] = settlement["waiting_for"] or "up to date"
    if registering is not None and (registering["registered"] or registering["waiting_for"]):
        done = f"{registering['registered']} Datanets and adapters"
        facts["registered"] = registering["waiting_for"] or done
    if watching is not None:
        done = f"{watching['judged']} commitments judged, {watching['challenges']} challenges"
        done += f", {watching['doubts']} doubtful" if watching["doubts"] else ""
        facts["watching"] = watching["waiting_for"] or done
    if checking is not None and checking["attested"]:
        facts["checking"] = (
            f"{checking['attested']} receipts attested, {checking['contradicted']} paid otherwise"
        )
    return facts


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.0f} MiB"
