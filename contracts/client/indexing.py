"""Gradient indexes through a chain client: committing to one's own, what became of others', proofs against
them.

Field orders are those of the Solidity structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from ...protocol.attribution.index_frauds import (
    ChunkOpening,
    ClosingOpening,
    IndexArgument,
    IndexFraud,
    IndexFraudKind,
    RowOpening,
    RunningOpening,
)
from ...protocol.attribution.index_trees import IndexCommitment
from ...protocol.ids import Address, checksummed, to_address
from ..calling.events import EventLog, EventReader
from ..calling.transactions import Sent
from .calls import ContractCalls

INDEX_PROOFS: Mapping[IndexFraudKind, str] = {
    IndexFraudKind.BAD_ROW: "proveRow",
    IndexFraudKind.TWICE: "proveTwice",
    IndexFraudKind.UNSORTED: "proveUnsorted",
    IndexFraudKind.BAD_SUM: "proveSum",
    IndexFraudKind.BAD_CLOSING: "proveClosing",
    IndexFraudKind.GAP: "proveGap",
}


@dataclass(frozen=True, slots=True)
class CommittedIndex:
    """An index on the chain; `killed` says why it does not stand any more, where it does not."""

    commitment: IndexCommitment
    block: int
    killed: str = ""


class IndexesClient:
    """Committed indexes. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client
        names = ("IndexCommitted", "IndexKilled")
        reader = EventReader(client.endpoint, "Indexes", client.deployment.indexes, names)
        self._log = EventLog(reader, client.deployment.block)

    def all(self) -> tuple[CommittedIndex, ...]:
        """Every index that was committed, in that order. Raises Unreachable, ChainError."""
        events = self._log.all()
        killed = {
            bytes(event.arguments["id"]): bytes(event.arguments["reason"]).rstrip(b"\x00").decode()
            for event in events
            if event.name == "IndexKilled"
        }
        made = [event for event in events if event.name == "IndexCommitted"]
        return tuple(
            CommittedIndex(
                _commitment(event.arguments["index"]),
                event.block,
                killed.get(bytes(event.arguments["id"]), ""),
            )
            for event in made
        )

    def of(self, maker: Address, manifest: bytes) -> tuple[CommittedIndex, ...]:
        """What an account committed of a published index (its digest). Raises Unreachable, ChainError."""
        named = (maker, manifest)
        return tuple(one for one in self.all() if (one.commitment.maker, one.commitment.manifest) == named)

    def window(self) -> int:
        """For how many seconds a committed index can be challenged."""
        return int(self._client.read("Indexes", "window"))

    def minimum_bond(self) -> int:
        """The least bond, as an attributor or as a contributor, with which an index can be committed."""
        return int(self._client.read("Indexes", "minimumBond"))

    def open_until(self, commitment: IndexCommitment) -> int:
        """When (chain time) an index's challenges end; 0 where it is not committed."""
        id_ = self._client.read("Indexes", "indexId", commitment_tuple(commitment))
        committed_at, *_ = self._client.read("Indexes", "entries", id_)
        return int(committed_at) + self.window() if committed_at else 0

    def commit(self, commitment: IndexCommitment) -> Sent:
        """Commits this account, which must be the maker, to an index. Raises Rejected without the bond."""
        return self._send("commitIndex", commitment_tuple(commitment))

    def prove(self, commitment: IndexCommitment, fraud: IndexFraud) -> Sent:
        """Kills an index: its maker's bond is slashed, half of it to this account. Raises Rejected where the
        contract sees no fraud, or the window has passed."""
        given = [proof_argument(each) for each in fraud.arguments]
        return self._send(INDEX_PROOFS[fraud.kind], commitment_tuple(commitment), *given)

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Indexes", name, *arguments))


def commitment_tuple(commitment: IndexCommitment) -> tuple[Any, ...]:
    """A commitment as the ABI wants it."""
    made = commitment
    roots = (made.rows_root, made.running_root, made.sums_root)
    counts = (made.row_count, made.sum_count, made.width)
    return (checksummed(made.maker), made.adapter, made.manifest, *roots, *counts)


def proof_argument(argument: IndexArgument) -> Any:
    """One argument of a proof, as the ABI wants it."""
    match argument:
        case int():
            return argument
        case tuple():
            return [proof_argument(each) for each in argument]
        case RowOpening(row_hash, written, index, path):
            return (row_hash, written, index, list(path))
        case RunningOpening(running, index, path):
            return (checksummed(running.account), running.row_hash, running.sum_root, index, list(path))
        case ChunkOpening(leaf, numbers, path):
            return (proof_argument(leaf), (numbers, list(path)))
        case ClosingOpening(closing, index, path):
            return (checksummed(closing.account), closing.end, closing.sum_root, index, list(path))
        case _:
            assert_never(argument)


def _commitment(given: Mapping[str, Any]) -> IndexCommitment:
    return IndexCommitment(
        maker=to_address(given["maker"]),
        adapter=bytes(given["adapter"]),
        manifest=bytes(given["manifest"]),
        rows_root=bytes(given["rowsRoot"]),
        running_root=bytes(given["runningRoot"]),
        sums_root=bytes(given["sumsRoot"]),
        row_count=int(given["rowCount"]),
        sum_count=int(given["sumCount"]),
        width=int(given["width"]),
    )
