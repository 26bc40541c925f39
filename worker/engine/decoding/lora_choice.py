"""Which code multiplies with the adapters: Triton's kernels on a GPU where they work, else torch."""

from __future__ import annotations

import logging

from ...models.architecture import Architecture
from ..lora.slot_pools import SlotPools
from ..lora.torch_lora import TorchLora, TorchLoraLayout
from .decoder import Lora

log = logging.getLogger("commonlore.worker.engine")


def choose_lora(architecture: Architecture, layout: TorchLoraLayout, pools: SlotPools) -> Lora:
    """The fastest that works on the layout's device."""
    if layout.device.type != "cuda":
        return TorchLora(layout, pools)
    try:
        from ..lora.triton_lora import TritonLora, rehearse

        rehearse(architecture, layout)
    except Exception as wrong:  # a compiler's, a driver's, an import's: Triton has no common class for them
        log.warning("adapters are multiplied with torch, not with Triton's kernels: %s", wrong)
        return TorchLora(layout, pools)
    return TritonLora(architecture, layout, pools)
