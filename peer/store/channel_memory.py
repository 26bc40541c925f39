"""Channels as they stand on the disk, remembered: every message of an answer is judged by its channel.

Rules of this file: what is remembered was on the disk before, and gives way to what is later. A write
that failed is forgotten with its channel: the disk is asked again. Every write checks against the disk
itself, so a memory that is behind can be refused but not mislead.
"""

from __future__ import annotations

from collections import OrderedDict

from ...protocol.ids import Address
from .ledger_rows import Channel, Role

REMEMBERED_CHANNELS = 4_096


class ChannelMemory:
    """The channels used last."""

    def __init__(self) -> None:
        self._channels: OrderedDict[tuple[Role, Address, Address], Channel] = OrderedDict()
        self.age = 0
        """Rises with `forget`: what was read before that may be of the past."""

    def get(self, role: Role, payer: Address, lane: Address) -> Channel | None:
        """The channel, if it is remembered."""
        return self._channels.get((role, payer, lane))

    def keep(self, channel: Channel, age: int | None = None) -> Channel:
        """Remember a state that was written, or read at `age`; gives the latest that is known."""
        if age not in (None, self.age):
            return channel
        key = (channel.role, channel.payer, channel.lane)
        known = self._channels.get(key)
        if known is None or known.seq < channel.seq:
            self._channels[key] = known = channel
        self._channels.move_to_end(key)
        if len(self._channels) > REMEMBERED_CHANNELS:
            self._channels.popitem(last=False)
        return known

    def forget(self, role: Role, payer: Address, lane: Address) -> None:
        """Ask the disk the next time."""
        self._channels.pop((role, payer, lane), None)
        self.age += 1
