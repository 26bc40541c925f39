"""What those who check receipts do on the chain: make the beacon's seed, hand in attestations, be paid.

An attestation is for the round after the one in which its receipt was committed, and can be made once that
round has its seed. Its pay is collected when nobody may contradict it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...protocol.encoding.fields import U8, U64, Hash32
from ...protocol.errors import ChainError
from ...protocol.ids import Address, checksummed, keccak256, to_address
from ...protocol.settlement.commitments import Commitment
from ...protocol.settlement.openings import ReceiptLeaf
from ..calling.events import EventLog, EventReader, decode_log
from ..calling.transactions import Sent
from ..calling.tuples import commitment_tuple
from .bonding import BondRole
from .proving import abi_argument

if TYPE_CHECKING:
    from .chain import ChainClient


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a drawn auditor or attributor says about a receipt. Signed (EIP-712), it can be brought before the
    arbiter. `subject` is the receipt's digest, `role` AUDITOR or ATTRIBUTOR of `BondRole`."""

    subject: Hash32
    verdict: Hash32
    round: U64
    role: U8
    attester: Address


@dataclass(frozen=True, slots=True)
class Work:
    """An attestation as the work pool keeps it; `fee` is what it is paid at most."""

    attester: Address
    attested_at: int
    verdict: bytes
    fee: int
    is_paid: bool


@dataclass(frozen=True, slots=True)
class Attested:
    """An attestation that was handed in, with the signature by which it can be brought before the arbiter."""

    attestation: Attestation
    signature: bytes


@dataclass(frozen=True, slots=True)
class RoundState:
    """How far a round's seed has come: whether it is closed, and the block whose hash is then mixed in."""

    is_closed: bool
    target: int


class BeaconClient:
    """The random seed of a round, through a chain client. Blocking and thread-safe, like that."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

    def round_at(self, timestamp: int) -> int:
        """The round that a chain time lies in."""
        return int(self._client.read("Beacon", "roundAt", timestamp))

    def seed(self, number: int) -> bytes | None:
        """A round's seed; None before it is settled."""
        seed = bytes(self._client.read("Beacon", "seed", number))
        return seed if any(seed) else None

    def head(self) -> int:
        """The number of the chain's latest block."""
        return self._client.endpoint.attempt("block number", lambda web3: int(web3.eth.block_number))

    def superseded_at(self, block: int) -> int | None:
        """When (chain time) a block was followed by another; None of the latest, and of what is yet to
        come."""
        if block >= self.head():
            return None
        read = self._client.endpoint.attempt
        return read("block", lambda web3: int(web3.eth.get_block(block + 1)["timestamp"]))

    def state(self, number: int) -> RoundState:
        """How far a round has come."""
        _, target, _, _, is_closed = self._client.read("Beacon", "rounds", number)
        return RoundState(bool(is_closed), int(target))

    def has_committed(self, number: int) -> bool:
        """Whether this account has a value hidden in a round, and not revealed."""
        account = checksummed(self._client.address)
        return any(self._client.read("Beacon", "commitments", number, account))

    def commit(self, number: int, value: bytes, salt: bytes) -> Sent:
        """In a round's first half: hides a value (32 bytes) behind a salt (32 bytes, secret until the second
        half), with the network's stake; approves as needed."""
        stake = int(self._client.read("Beacon", "stake"))
        if stake:
            self._client.approve(self._client.deployment.beacon, stake)
        return self._send("commit", number, hidden_value(self._client.address, number, value, salt))

    def reveal(self, number: int, value: bytes, salt: bytes) -> Sent:
        """In the second half: shows the value. The stake comes back; who does not reveal loses it."""
        return self._send("reveal", number, value, salt)

    def close(self, number: int) -> Sent:
        """After a round: names the block whose hash is mixed in. By anybody, once."""
        return self._send("close", number)

    def settle(self, number: int) -> Sent:
        """Makes the seed, when the block after the named one is there. By anybody."""
        return self._send("settle", number)

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Beacon", name, *arguments))


def hidden_value(account: Address, number: int, value: bytes, salt: bytes) -> bytes:
    """What the beacon is given first: keccak256(abi.encode(account, round, value, salt))."""
    return keccak256(bytes(12) + account + number.to_bytes(32, "big") + value + salt)


class WorkPoolClient:
    """The pay of those who check, through a chain client. Blocking and thread-safe, like that."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client
        deployment = client.deployment
        reader = EventReader(client.endpoint, "WorkPool", deployment.check_pool, ("Attested",))
        self._log = EventLog(reader, deployment.block)

    def attested(self) -> tuple[Attested, ...]:
        """Every attestation that was handed in, in their order. Raises Unreachable, ChainError."""
        return tuple(_attested(event.arguments) for event in self._log.all())

    def case_of(self, subject: bytes, role: BondRole) -> bytes | None:
        """The arbiter's case about a receipt, open or closed; None where there was none."""
        id_ = bytes(self._client.read("Arbiter", "caseOf", subject, int(role)))
        return id_ if any(id_) else None

    def open_case(self, one: Attested, other: Attested) -> Sent:
        """Brings two who contradict each other before the arbiter: both bonds freeze. By anybody, once."""
        given: list[Any] = []
        for each in (one, other):
            given += (attestation_tuple(each.attestation), each.signature)
        return self._client.send("open", self._client.function("Arbiter", "open", *given))

    def round_of(self, lane: Address, epoch: int) -> int:
        """The round whose seed draws who checks a posted epoch. Raises ChainError where it is not posted."""
        _, posted_at = self._client.posted(lane, epoch)
        if not posted_at:
            raise ChainError(f"lane {checksummed(lane)} has posted no epoch {epoch}: nobody is drawn for it")
        return self._client.beacon.round_at(posted_at) + 1

    def is_drawn(self, role: BondRole, subject: bytes, number: int) -> bool:
        """Whether this account is to check a receipt (its digest); false until the round has its seed."""
        account = checksummed(self._client.address)
        return bool(self._client.read("Arbiter", "isDrawn", account, int(role), subject, number))

    def attestation(self, role: BondRole, subject: bytes, verdict: bytes, number: int) -> Attestation:
        """This account's word on a receipt."""
        return Attestation(subject, verdict, number, int(role), self._client.address)

    def attest(
        self,
        lane: Address,
        commitment: Commitment,
        leaf: ReceiptLeaf,
        attestation: Attestation,
        signature: bytes,
    ) -> Sent:
        """Hands in this account's signed attestation on a receipt of a final commitment; two in a role are
        taken."""
        place = (checksummed(lane), commitment_tuple(commitment), abi_argument(leaf))
        return self._send("attest", *place, attestation_tuple(attestation), signature)

    def works(self, subject: bytes, role: BondRole) -> tuple[Work, ...]:
        """The attestations on a receipt in a role, in their order."""
        works = self._client.read("WorkPool", "worksOf", subject, int(role))
        return tuple(Work(to_address(work[0]), work[1], bytes(work[2]), work[3], work[4]) for work in works)

    def due_at(self, works: tuple[Work, ...]) -> int:
        """From when on a receipt's attestations, at least one, are paid where they were not contradicted."""
        return works[-1].attested_at + int(self._client.read("WorkPool", "contestTime"))

    def collect(self, subject: bytes, role: BondRole, place: int) -> int:
        """Pays the attestation at a place, whoever's it is; one's own also with less, where the pool has no
        more. The amount.

        Raises Rejected with NotDue, NotGood (contradicted and not yet judged, or found wrong), AlreadyPaid,
        PoolTooPoor.
        """
        sent = self._send("collect", subject, int(role), place)
        pool = self._client.deployment.check_pool
        contract = self._client.endpoint.contract("WorkPool", pool)
        events = [decode_log(contract, log) for log in sent.logs if to_address(log["address"]) == pool]
        return sum(event.arguments["amount"] for event in events if event and event.name == "Paid")

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("WorkPool", name, *arguments))


def _attested(given: Mapping[str, Any]) -> Attested:
    said = (bytes(given["subject"]), bytes(given["verdict"]), int(given["round"]), int(given["role"]))
    return Attested(Attestation(*said, to_address(given["attester"])), bytes(given["signature"]))


def attestation_tuple(attestation: Attestation) -> tuple[Any, ...]:
    """An attestation as the ABI wants it."""
    given = attestation
    return (given.subject, given.verdict, given.round, given.role, checksummed(given.attester))
