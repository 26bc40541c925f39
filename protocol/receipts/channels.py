"""What brought an answer about: its adapters' rows, rows and templates in its prompt, tools. Integers only.

Rules of this file:

- Effects are in millionths of a nat: by how much a thing made the answer's tokens likelier, measured by
  leaving it out. Negative effects count as zero.
- The adapter's channel has what is left of 1,000,000 ppm after the others. Each of those has its part of all
  effects, at most its cap: who asks chooses the rows, so rows never take all of the contributors' money.
  Tools are recorded and not paid.
- Only parts of the adapter's own contributors are paid (`payable`): so a statement pays nobody else, whatever
  an asker or a worker says of a part.
- Within a channel the parts' effects divide it; the adapter's channel is divided by the adapter's own weights
  (of several adapters: theirs, by the weights that they had in the answer).
- Divisions are by largest remainder, ties to the lowest account; everything adds up to exactly 1,000,000 ppm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..encoding.fields import PPM
from ..errors import LocalProtocolError
from ..ids import Address
from .credits import apportion
from .records import Effects, Weight


class Channel(StrEnum):
    """By which way somebody's work came into an answer."""

    ADAPTER = "adapter"
    ROW = "row"
    TEMPLATE = "template"
    TOOL = "tool"


CAPS_PPM = {Channel.ROW: 500_000, Channel.TEMPLATE: 100_000, Channel.TOOL: 0}


@dataclass(frozen=True, slots=True)
class ChannelShare:
    """A channel's part of the contributors' amount, and who has it; weights add up to `ppm`."""

    channel: Channel
    ppm: int
    weights: tuple[Weight, ...]


def divide_channels(adapter: Sequence[Weight], effects: Effects | None) -> tuple[ChannelShare, ...]:
    """The channels that an answer has, the adapter's first; their ppm add up to 1,000,000.

    `adapter` are the weights of the adapter's own channel, in any unit. Raises LocalProtocolError where they
    are nobody's.
    """
    by_channel = _effects_by_channel(effects)
    whole = (effects.adapter_micro if effects else 0) + sum(map(_total, by_channel.values()))
    shares = {
        channel: min(CAPS_PPM[channel], PPM * _total(parts) // whole)
        for channel, parts in by_channel.items()
        if _total(parts)
    }
    found = [ChannelShare(c, ppm, _divide(ppm, by_channel[c])) for c, ppm in shares.items() if ppm]
    rest = PPM - sum(share.ppm for share in found)
    own = _add((weight.payee, weight.ppm) for weight in adapter)
    return (ChannelShare(Channel.ADAPTER, rest, _divide(rest, own)), *found)


def combine_channels(adapter: Sequence[Weight], effects: Effects | None) -> tuple[Weight, ...]:
    """The contributors' weights over all channels: sorted by account, adding up to exactly 1,000,000."""
    shares = divide_channels(adapter, effects)
    merged = _add((weight.payee, weight.ppm) for share in shares for weight in share.weights)
    return tuple(Weight(payee, merged[payee]) for payee in sorted(merged))


def payable(effects: Effects | None, contributors: Collection[Address]) -> Effects | None:
    """What of the effects is paid: that of parts whose account is one of the adapter's contributors. Whose
    another part is rests on its asker's word; it is stated and not paid.
    """
    if effects is None:
        return None
    return Effects(effects.adapter_micro, tuple(part for part in effects.parts if part.payee in contributors))


def mix_adapters(parts: Sequence[tuple[Sequence[Weight], int]]) -> tuple[Weight, ...]:
    """The weights of several adapters' contributors, each set counting with its adapter's weight.

    Raises LocalProtocolError without any weight.
    """
    mixed = _add((own.payee, own.ppm * weight) for weights, weight in parts for own in weights)
    return _divide(PPM, mixed)


def _effects_by_channel(effects: Effects | None) -> dict[Channel, dict[Address, int]]:
    """The paid channels' effects by account, in the channels' order."""
    parts = effects.parts if effects else ()
    paid = [channel for channel in Channel if CAPS_PPM.get(channel)]
    return {
        channel: _add((part.payee, part.effect_micro) for part in parts if part.channel == channel)
        for channel in paid
    }


def _total(amounts: dict[Address, int]) -> int:
    return sum(amounts.values())


def _divide(whole: int, amounts: dict[Address, int]) -> tuple[Weight, ...]:
    if whole and not _total(amounts):
        raise LocalProtocolError("the adapter's channel has nobody to be paid to")
    payees = sorted(amounts)
    parts = apportion(whole, [amounts[payee] for payee in payees], payees)
    return tuple(Weight(payee, ppm) for payee, ppm in zip(payees, parts, strict=True) if ppm)


def _add(amounts: Iterable[tuple[Address, int]]) -> dict[Address, int]:
    found: dict[Address, int] = {}
    for payee, amount in amounts:
        found[payee] = found.get(payee, 0) + amount
    return found
