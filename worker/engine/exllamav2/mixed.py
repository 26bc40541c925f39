"""Another adapter for every row of one batch, on a model that knows one set of adapters for all rows.

exllamav2 hands a list of LoRAs down to its modules without looking inside. Here that list is a `LoraBatch`,
which knows each row's adapter, and every linear that an adapter may change adds the batch's low-rank update
to what it computes.

Rules of this file:
- Attention and MLP are one fused call each, with no place for such an update: a kind of block is taken apart
  (`q_handle` None: linear by linear, the quantised products stay) for the passes whose adapters change that
  kind, and fused in all others.
- Slot 0 is no adapter: zeros. What a batch gathers is kept while its members stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..lora.tiers import Composition
from .library import Block, Linear, Model
from .lora import Factors, LoraWeights, is_mlp


class _NoHead:
    """Stands first in the list, where exllamav2 looks for a changed head and embedding."""

    lm_head = None
    embed_tokens = None


class LoraBatch(list[_NoHead]):
    """What one pass adds. `slots[0]` is None; sequence i of the pass is under `slots[row_slot[i]]`."""

    def __init__(self, members: Sequence[LoraWeights | None]) -> None:
        super().__init__((_NoHead(),))
        distinct = dict.fromkeys(member for member in members if member is not None)
        self.slots: tuple[LoraWeights | None, ...] = (None, *distinct)
        self.row_slot = tuple(self.slots.index(member) for member in members)
        self._gathered: dict[str, Factors | None] = {}

    @property
    def adapters(self) -> list[LoraWeights]:
        """The distinct ones."""
        return [slot for slot in self.slots if slot is not None]

    def has(self, members: Sequence[LoraWeights | None]) -> bool:
        """Whether these are its members, in this order."""
        own = [self.slots[slot] for slot in self.row_slot]
        return len(own) == len(members) and all(a is b for a, b in zip(own, members, strict=True))

    def add(self, key: str, x: Tensor, out: Tensor) -> None:
        """out += the update of the linear `key` for x. x is [sequences, tokens, in], out changed in place."""
        if key not in self._gathered:
            self._gathered[key] = self._gather(key)
        factors = self._gathered[key]
        if factors is None:
            return
        down, up = factors
        if down.dim() == 2:
            out.view(-1, out.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]) @ down, up)
        else:
            out.baddbmm_(torch.bmm(x, down), up)

    def _gather(self, key: str) -> Factors | None:
        """One pair for all rows, or [sequences, in, R] and [sequences, R, out], or nothing to add."""
        found = [None if slot is None else slot.factors.get(key) for slot in self.slots]
        used = [pair for pair in (found[slot] for slot in self.row_slot) if pair is not None]
        if not used:
            return None
        if len(set(self.row_slot)) == 1:
            return used[0]
        rows = torch.tensor(self.row_slot, device=used[0][0].device)
        rank = max(a.shape[1] for a, _ in used)
        (inputs, _), outputs = used[0][0].shape, used[0][1].shape[1]
        down = used[0][0].new_zeros(len(found), inputs, rank)
        up = used[0][1].new_zeros(len(found), rank, outputs)
        for slot, pair in enumerate(found):
            if pair is not None:
                down[slot, :, : pair[0].shape[1]] = pair[0]
                up[slot, : pair[1].shape[0]] = pair[1]
        return down[rows], up[rows]


def _forward(linear_key: str, plain: Any, hidden_states: Tensor, *rest: Any, **named: Any) -> Any:
    """`ExLlamaV2Linear.forward` with the batch's update in the place of exllamav2's own LoRA code."""
    loras = named.get("loras")
    if not isinstance(loras, LoraBatch):
        return plain(hidden_states, *rest, **named)
    out = plain(hidden_states, *rest, **(named | {"loras": None}))
    loras.add(linear_key, hidden_states, out)
    return out


@dataclass(slots=True)
class _Fused:
    """The fused blocks of one kind and their handles."""

    blocks: list[tuple[Block, int]] = field(default_factory=list)
    apart: bool = False

    def take_apart(self, apart: bool) -> None:
        if apart != self.apart:
            for block, handle in self.blocks:
                block.q_handle = None if apart else handle
            self.apart = apart


class MixedLoras:
    """A model whose passes take `LoraBatch`es."""

    def __init__(self, model: Model, linears: Mapping[str, Linear]) -> None:
        self._attention, self._mlp = _Fused(), _Fused()
        self._last = LoraBatch(())
        for key, linear in linears.items():
            linear.forward = partial(_forward, key, linear.forward)
        for block in _blocks(model, linears):
            if block.q_handle is not None:
                kind = self._mlp if is_mlp(block.submodules[0].key) else self._attention
                kind.blocks.append((block, block.q_handle))

    def may_join(self, _running: Sequence[Composition], _composition: Composition) -> bool:
        """Whether a request may run beside these: always."""
        return True

    def plan(self, members: Sequence[LoraWeights | None]) -> Sequence[object] | None:
        """The list for a pass whose sequences are under these adapters; the blocks are made ready for it."""
        if not self._last.has(members):
            self._last = LoraBatch(members)
        adapters = self._last.adapters
        self._attention.take_apart(any(adapter.changes_attention for adapter in adapters))
        self._mlp.take_apart(any(adapter.changes_mlp for adapter in adapters))
        return self._last if adapters else None

    def forget(self) -> None:
        """Let go of what the last batch gathered."""
        self.plan(())


def _blocks(model: Model, linears: Mapping[str, Linear]) -> Iterable[Block]:
    """The modules that hold the linears."""
    for module in model.modules:
        if any(part.key in linears for part in module.submodules):
            yield module
