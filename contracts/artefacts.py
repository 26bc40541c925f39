"""The compiled contracts, as committed: ABI, bytecode, and the digests of the sources they were compiled
from.

`build` writes them; everything else only reads. Custom errors are looked up across all contracts, because a
call of one may fail inside another."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol.ids import keccak256

HERE = Path(__file__).parent
CONTRACTS = (
    "Arbiter",
    "Beacon",
    "Bonds",
    "CommonloreToken",
    "CreditProofs",
    "Demands",
    "EarningsProofs",
    "Escrow",
    "Indexes",
    "LineProofs",
    "ReceiptProofs",
    "Registry",
    "Settlement",
    "WorkPool",
)
_PANICS = {0x01: "assertion failed", 0x11: "arithmetic overflow or underflow", 0x12: "division by zero"}


@dataclass(frozen=True, slots=True)
class Artefact:
    """One compiled contract. `sources` maps file names to the sha2-256 (hex) of what was compiled."""

    name: str
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class RevertReason:
    """Why a call reverted: the error's name (`Error` and `Panic` are Solidity's own) and its arguments by
    name."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        listed = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments.items())
        return f"{self.name}({listed})"


def read_artefact(path: Path) -> Artefact:
    """The artefact in a JSON file that `build` wrote."""
    data = json.loads(path.read_text())
    return Artefact(
        path.stem, tuple(data["abi"]), bytes.fromhex(data["bytecode"].removeprefix("0x")), data["sources"]
    )


@functools.cache
def artefact(name: str) -> Artefact:
    """The committed artefact of one of CONTRACTS."""
    return read_artefact(HERE / "artifacts" / f"{name}.json")


def decode_revert(data: bytes) -> RevertReason:
    """The reason in a revert's return data; unknown data is shown by its selector."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    selector, body = data[:4], data[4:]
    entry = _errors().get(selector)
    if entry is None:
        return RevertReason(
            "reverted without a reason" if not data else f"unknown error 0x{selector.hex()}", {}
        )
    name, inputs = entry
    try:
        values = decode([kind for _, kind in inputs], body)
    except DecodingError:
        return RevertReason(name, {})
    reason = RevertReason(name, {field: value for (field, _), value in zip(inputs, values, strict=True)})
    if name == "Panic":
        return RevertReason("Panic", {"reason": _PANICS.get(values[0], hex(values[0]))})
    return reason


@functools.cache
def _errors() -> dict[bytes, tuple[str, tuple[tuple[str, str], ...]]]:
    """Every error by selector: name and (argument name, type)s."""
    found: dict[bytes, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for name, inputs in _declared_errors():
        kinds = ",".join(kind for _, kind in inputs)
        found[keccak256(f"{name}({kinds})".encode())[:4]] = (name, inputs)
    return found


def _declared_errors() -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    entries = [entry for name in CONTRACTS for entry in artefact(name).abi if entry["type"] == "error"]
    declared = [(e["name"], tuple((i["name"], i["type"]) for i in e["inputs"])) for e in entries]
    return [*declared, ("Error", (("message", "string"),)), ("Panic", (("code", "uint256"),))]


def _shown(value: Any) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
