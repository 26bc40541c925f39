"""What a check reads of who scored a receipt beside its worker: their statements, the lists that they were
drawn from, and what the chain says of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from ...protocol.encoding.codec import decode
from ...protocol.errors import ChainError, NotFound, Unreachable
from ...protocol.ids import Cid, checksummed
from ...protocol.receipts.records import AttributionStatement, Receipt
from ...protocol.receipts.seconding import MAX_BONDED_BYTES, BondedList
from ...protocol.signing.envelope import Sealed
from .second_draw import DrawFacts

ReadBlob = Callable[[Cid, int], Awaitable[bytes]]
"""The verified content of at most so many bytes. Raises NotFound, Unreachable."""
ReadFacts = Callable[[Receipt, BondedList], Awaitable[DrawFacts | None]]
"""What the chain says of a draw; None in a network without one."""


@dataclass(frozen=True, slots=True)
class SecondEvidence:
    """One second statement; the list that it was drawn from, and the chain's word on that, as far as they
    were read. `unknown` is why they could not be. `query` is its query vector, where it is by the index of
    the worker's statement."""

    sealed: Sealed[AttributionStatement]
    listed: BondedList | None = None
    facts: DrawFacts | None = None
    unknown: str = ""
    query: bytes = b""

    @property
    def named(self) -> str:
        """Who it is by, as it says."""
        drawn = self.sealed.record.drawn
        return "nobody" if drawn is None else checksummed(drawn.binding.binding.owner)


async def read_second(
    sealed: Sealed[AttributionStatement], receipt: Receipt, blob: ReadBlob, facts: ReadFacts
) -> SecondEvidence:
    """A second statement with what level 1 reads of its draw."""
    known, drawn = SecondEvidence(sealed), sealed.record.drawn
    if drawn is None or drawn.bonded is None:
        return known
    try:
        listed = decode(BondedList, await blob(drawn.bonded, MAX_BONDED_BYTES), MAX_BONDED_BYTES)
        known = replace(known, listed=listed)
        return replace(known, facts=await facts(receipt, listed))
    except (NotFound, Unreachable, ChainError) as error:
        return replace(known, unknown=str(error))


def seconds_among(
    statements: Sequence[Sealed[AttributionStatement]], worker_key: bytes
) -> tuple[SecondEvidence, ...]:
    """The statements of others than the worker."""
    return tuple(SecondEvidence(one) for one in statements if one.public_key != worker_key)
