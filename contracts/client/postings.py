"""Lanes' commitments as they stand: posted, and not taken back by a proof of fraud."""

from __future__ import annotations

from ...protocol.ids import Address, checksummed, to_address
from ..calling.events import EventLog, EventReader
from ..calling.records import ChainEvent, KilledEpoch, PostedCommitment
from ..calling.tuples import commitment_of
from .calls import ContractCalls

MOST_BEACONS = 32
"""Commitments after a receipt's own epoch that it is looked for in."""


class Postings:
    """Every lane's commitments, from the settlement's events. Thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        deployment = client.deployment
        names = ("EpochPosted", "EpochKilled")
        reader = EventReader(client.endpoint, "Settlement", deployment.settlement, names)
        self._client = client
        self._log = EventLog(reader, deployment.block)

    def of(self, lane: Address) -> tuple[PostedCommitment, ...]:
        """A lane's standing commitments in the order of their epochs."""
        text = checksummed(lane)
        standing: list[ChainEvent] = []
        for event in self._events():
            if event.arguments["lane"] != text:
                continue
            if event.name == "EpochKilled":
                epoch = event.arguments["epoch"]
                standing = [each for each in standing if each.arguments["commitment"]["epoch"] < epoch]
            else:
                standing.append(event)
        return tuple(self._posted(event) for event in standing)

    def beacon_after(self, lane: Address, epoch: int) -> bytes:
        """The hash of the block in which a lane's epoch was posted: nobody knew it before. Empty where it
        does not stand."""
        blocks = [posted.block for posted in self.of(lane) if posted.commitment.epoch == epoch]
        return self._hash_of(blocks[0]) if blocks else b""

    def beacons_from(self, lane: Address, epoch: int) -> tuple[bytes, ...]:
        """The beacons of a lane's commitments from an epoch on, the first MOST_BEACONS: a receipt that was
        paid late is in one of them."""
        blocks = [posted.block for posted in self.of(lane) if posted.commitment.epoch >= epoch]
        return tuple(self._hash_of(block) for block in blocks[:MOST_BEACONS])

    def _hash_of(self, block: int) -> bytes:
        read = self._client.endpoint.attempt
        return read("beacon", lambda web3: bytes(web3.eth.get_block(block)["hash"]))

    def killed(self) -> tuple[KilledEpoch, ...]:
        """Every commitment that was proved wrong, in the order of the proofs."""
        return tuple(_killed(event) for event in self._events() if event.name == "EpochKilled")

    def lanes(self) -> tuple[Address, ...]:
        """Every lane that has posted an epoch, in the order of their first."""
        posted = (event for event in self._events() if event.name == "EpochPosted")
        return tuple(to_address(text) for text in dict.fromkeys(event.arguments["lane"] for event in posted))

    def _events(self) -> tuple[ChainEvent, ...]:
        return self._log.all()

    def _posted(self, event: ChainEvent) -> PostedCommitment:
        posted_at = int(event.arguments["postedAt"])
        return PostedCommitment(
            commitment=commitment_of(event.arguments["commitment"]),
            lane=to_address(event.arguments["lane"]),
            posted_at=posted_at,
            final_at=posted_at + self._client.deployment.window,
            block=event.block,
        )


def _killed(event: ChainEvent) -> KilledEpoch:
    given = event.arguments
    return KilledEpoch(
        lane=to_address(given["lane"]),
        epoch=int(given["epoch"]),
        challenger=to_address(given["challenger"]),
        reason=bytes(given["reason"]).rstrip(b"\x00").decode(errors="replace"),
        slashed=int(given["slashed"]),
    )
