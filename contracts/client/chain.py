"""The chain as the network sees it: escrow, lanes, commitments, claims. Blocking and thread-safe.

One client is one account on one deployment; every peer that settles has its own. Methods that change the
chain return when their transaction is mined. Errors: `Unreachable` (try later: nothing is lost, every
operation here may be repeated), `Rejected` with the contract's reason, `InsufficientEscrow`, else
`ChainError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...protocol.ids import ZERO_ADDRESS, Address, checksummed, to_address
from ...protocol.receipts.records import SignedVoucher
from ...protocol.settlement.commitments import Claim, Commitment
from ...protocol.signing.bindings import SignedBinding
from ..calling.endpoint import PATIENCE_S
from ..calling.records import (
    ChannelState,
    Claims,
    FundState,
    LaneState,
    PaidClaim,
    PostedCommitment,
    Redemption,
)
from ..calling.transactions import Sending, Sent
from ..calling.tuples import claim_tuple, commitment_tuple, paid_claim
from ..deploying.deployment import Deployment
from .bindings import Bindings
from .bonding import BondsClient
from .calls import ContractCalls
from .checking import BeaconClient, WorkPoolClient
from .connecting import pending_time
from .demanding import DemandsClient
from .drawing import DrawsClient
from .indexing import IndexesClient
from .posters import PostersClient
from .postings import Postings
from .redeeming import Redeemer
from .registering import RegistryClient
from .registrations import Registrations

if TYPE_CHECKING:
    from web3.providers import BaseProvider

CLAIM_BATCH = 80
"""Claims a transaction: about 95k gas each at depth 14, and below 10M together."""


class ChainClient(ContractCalls):
    """`secret` is the account's secp256k1 key, 32 bytes; without it the client only reads."""

    def __init__(
        self,
        provider: str | BaseProvider,
        deployment: Deployment,
        secret: bytes | None = None,
        patience_s: float = PATIENCE_S,
        sending: Sending | None = None,
    ) -> None:
        super().__init__(provider, deployment, secret, patience_s, sending)
        self.registry, self.registrations = RegistryClient(self), Registrations(self)
        self.bonds = BondsClient(self)
        self.demands = DemandsClient(self)
        self.postings = Postings(self)
        self.posters = PostersClient(self)
        self.beacon, self.work_pool = BeaconClient(self), WorkPoolClient(self)
        self.draws, self.bindings = DrawsClient(self), Bindings(self)
        self.indexes = IndexesClient(self)

    # ---- time

    def chain_time(self) -> int:
        """What a transaction sent now would see as the time. Node clocks differ by seconds."""
        self.check()
        return pending_time(self.endpoint)

    def epoch_at(self, timestamp: int) -> int:
        """The epoch that a chain time lies in."""
        return self.deployment.epoch_at(timestamp)

    # ---- money

    def balance(self, account: Address) -> int:
        """Tokens an account holds itself."""
        return int(self.read("CommonloreToken", "balanceOf", checksummed(account)))

    def gas_balance(self, account: Address) -> int:
        """Wei an account holds, to pay for transactions."""
        self.check()
        text: Any = checksummed(account)
        return self.endpoint.attempt("balance", lambda web3: web3.eth.get_balance(text))

    def deposit(self, amount: int, owner: Address | None = None) -> Sent:
        """Moves own tokens into the escrow, to the balance of `owner` (default: this account); approves as
        needed."""
        self.approve(self.deployment.escrow, amount)
        return self._send("Escrow", "deposit", checksummed(owner or self.address), amount)

    def thaw(self, amount: int) -> Sent:
        """Gives notice that `amount` of the unreserved balance shall leave."""
        return self._send("Escrow", "thaw", amount)

    def withdraw(self) -> Sent:
        """Takes out what has thawed."""
        return self._send("Escrow", "withdraw")

    def reserve(self, payer: Address, lane: Address, amount: int) -> Sent:
        """Sets `amount` of this owner's balance aside for the channel (payer session key, lane)."""
        return self._send("Escrow", "reserve", checksummed(payer), checksummed(lane), amount)

    def thaw_reservation(self, payer: Address, lane: Address, amount: int) -> Sent:
        """Gives notice that `amount` of a reservation shall go back to the balance."""
        return self._send("Escrow", "thawReservation", checksummed(payer), checksummed(lane), amount)

    def release_reservation(self, payer: Address, lane: Address) -> Sent:
        """Moves what has thawed of a reservation back to the balance."""
        return self._send("Escrow", "releaseReservation", checksummed(payer), checksummed(lane))

    def owner_balance(self, owner: Address) -> FundState:
        """An owner's unreserved escrow."""
        return FundState(*self.read("Escrow", "balanceOf", checksummed(owner)))

    def escrow_of(self, payer: Address, lane: Address) -> ChannelState:
        """What stands behind the channel (payer session key, lane), in one reading."""
        session, balance, reservation, paid = self.read(
            "Escrow", "channelOf", checksummed(payer), checksummed(lane)
        )
        owner = to_address(session[0])
        return ChannelState(
            owner=None if owner == ZERO_ADDRESS else owner,
            session_ends=session[1],
            revoked=session[2],
            balance=FundState(*balance),
            reservation=FundState(*reservation),
            redeemed=paid,
        )

    # ---- session keys

    def bind(self, signed: SignedBinding) -> Sent | None:
        """Records a session key (or lane) with its owner; None if the chain already has this binding or a
        later one."""
        binding = signed.binding
        session = self.read("Escrow", "sessions", checksummed(binding.session_key))
        if to_address(session[0]) == binding.owner and session[1] >= binding.not_after and not session[2]:
            return None
        fields = (
            checksummed(binding.owner),
            checksummed(binding.session_key),
            binding.ed25519_key,
            binding.not_before,
            binding.not_after,
        )
        return self._send("Escrow", "bind", fields, signed.owner_signature, signed.session_signature)

    def revoke(self, session_key: Address) -> Sent:
        """Ends an own session key after the thaw period; vouchers it gave stay redeemable until then."""
        return self._send("Escrow", "revoke", checksummed(session_key))

    def owner_of(self, session_key: Address) -> Address | None:
        """The owner a session key or lane is bound to."""
        owner = to_address(self.read("Escrow", "ownerOf", checksummed(session_key)))
        return None if owner == ZERO_ADDRESS else owner

    # ---- vouchers

    def redeemed(self, payer: Address, lane: Address) -> int:
        """What of a channel has been paid: the cumulative amount of the last voucher redeemed."""
        return int(self.read("Escrow", "redeemed", checksummed(payer), checksummed(lane)))

    def redeem(self, vouchers: Sequence[SignedVoucher]) -> Redemption:
        """Pays vouchers of one lane into its pot: of each channel the highest that its escrow covers, whole.

        A voucher the contract refuses is reported with its reason and keeps no other from being paid. Raises
        Rejected when this account may not act for the lane.
        """
        return Redeemer(self).redeem(vouchers)

    # ---- lanes

    def lane_state(self, lane: Address) -> LaneState:
        """A lane's pot and how far it is committed and claimed."""
        return LaneState(*self.read("Settlement", "lanes", checksummed(lane)))

    def post_epoch(self, lane: Address, commitment: Commitment) -> Sent:
        """Commits a lane to an epoch's receipts and the earnings before. By the lane or its owner."""
        return self._send("Settlement", "postEpoch", checksummed(lane), commitment_tuple(commitment))

    def commitments(self, lane: Address) -> tuple[PostedCommitment, ...]:
        """A lane's standing commitments in the order of their epochs."""
        return self.postings.of(lane)

    def posted(self, lane: Address, epoch: int) -> tuple[bytes, int]:
        """(hash of the commitment, when it was posted) of a lane's epoch; zeros while it is not posted."""
        posted_hash, posted_at, *_ = self.read("Settlement", "posted", checksummed(lane), epoch)
        return bytes(posted_hash), int(posted_at)

    def final_at(self, lane: Address, epoch: int) -> int:
        """When a posted commitment's claims open and its challenges close, as far as is known now."""
        return int(self.read("Settlement", "finalAt", checksummed(lane), epoch))

    def lanes(self) -> tuple[Address, ...]:
        """Every lane that has posted an epoch, in the order of their first."""
        return self.postings.lanes()

    # ---- claims

    def claimed(self, lane: Address, account: Address) -> int:
        """What an account has been paid out of a lane's pot."""
        return int(self.read("Settlement", "claimed", checksummed(lane), checksummed(account)))

    def claim(self, lane: Address, commitment: Commitment, claims: Sequence[Claim]) -> Claims:
        """Pays accounts their earnings under a final commitment, in batches.

        Any account may submit anybody's claims.
        """
        paid: list[PaidClaim] = []
        transactions: list[str] = []
        for start in range(0, len(claims), CLAIM_BATCH):
            batch = [claim_tuple(claim) for claim in claims[start : start + CLAIM_BATCH]]
            sent = self._send(
                "Settlement", "claimMany", checksummed(lane), commitment_tuple(commitment), batch
            )
            transactions.append(sent.text)
            paid += [paid_claim(event.arguments) for event in self.events_of(sent, "Claimed")]
        return Claims(tuple(paid), tuple(transactions))
