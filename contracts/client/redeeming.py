"""Redeeming many vouchers: which of each channel, in which batches, and what to do with those that are
refused.

The contract pays a batch whole or not at all and its errors name the payer. So a refused voucher is set
aside, the next lower one of its channel takes its place if the escrow was too small, and the rest is tried
again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...protocol.errors import InsufficientEscrow, LocalProtocolError
from ...protocol.ids import Address, checksummed, to_address
from ...protocol.receipts.records import SignedVoucher
from ..calling.endpoint import Rejected
from ..calling.records import Redemption, RefusedVoucher
from ..calling.tuples import voucher_tuple
from .calls import ContractCalls

REDEEM_BATCH = 150
"""Vouchers a transaction: at most about 55k gas each, and below 10M together."""


class Redeemer:
    """One redemption through a client's account."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client
        self._paid: list[SignedVoucher] = []
        self._amount = 0
        self._refused: list[RefusedVoucher] = []
        self._transactions: list[str] = []

    def redeem(self, vouchers: Sequence[SignedVoucher]) -> Redemption:
        """See ChainClient.redeem. Raises LocalProtocolError when the vouchers are of several lanes."""
        lanes = {signed.voucher.lane for signed in vouchers}
        if len(lanes) > 1:
            raise LocalProtocolError("vouchers of several lanes cannot be redeemed at once")
        channels = _by_payer(vouchers)
        payers = list(channels)
        for start in range(0, len(payers), REDEEM_BATCH):
            self._redeem_batch({payer: channels[payer] for payer in payers[start : start + REDEEM_BATCH]})
        return Redemption(tuple(self._paid), self._amount, tuple(self._refused), tuple(self._transactions))

    def _redeem_batch(self, channels: dict[Address, list[SignedVoucher]]) -> None:
        while channels:
            chosen = [candidates[-1] for candidates in channels.values()]
            lane = chosen[0].voucher.lane
            try:
                sent = self._client.send("redeem", self._function(lane, chosen))
            except Rejected as error:
                self._set_aside(channels, error)
                continue
            self._transactions.append(sent.text)
            self._paid += chosen
            self._amount += sum(
                event.arguments["amount"] for event in self._client.events_of(sent, "Redeemed")
            )
            return

    def _function(self, lane: Address, chosen: list[SignedVoucher]) -> Any:
        fields = [voucher_tuple(signed) for signed in chosen]
        signatures = [signed.signature for signed in chosen]
        return self._client.function("Escrow", "redeemMany", checksummed(lane), fields, signatures)

    def _set_aside(self, channels: dict[Address, list[SignedVoucher]], error: Rejected) -> None:
        """Takes the voucher that `error` is about out of its channel. Raises `error` if it is about none."""
        named = error.reason.arguments.get("payer") or error.reason.arguments.get("expected")
        payer = to_address(named) if isinstance(named, str) else None
        if payer not in channels:
            raise error
        self._refused.append(RefusedVoucher(channels[payer].pop(), error))
        if not channels[payer] or not isinstance(error, InsufficientEscrow):
            del channels[payer]


def _by_payer(vouchers: Iterable[SignedVoucher]) -> dict[Address, list[SignedVoucher]]:
    """Each channel's vouchers, the highest last."""
    channels: dict[Address, list[SignedVoucher]] = {}
    for signed in sorted(vouchers, key=lambda signed: signed.voucher.cumulative):
        channels.setdefault(signed.voucher.payer, []).append(signed)
    return channels
