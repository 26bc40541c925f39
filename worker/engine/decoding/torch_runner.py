"""Steps computed by this package's decoder on torch: every precision, on every CPU and on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...models.reference import BaseModel
from ..batching.steps import Work
from ..lora.plan import LoraPlan
from ..lora.slot_pools import SlotPools
from ..lora.torch_lora import TorchLoraLayout
from ..memory.devices import CPU
from ..memory.weights import DTYPES, load_weights
from ..runner import Backend, Logits, ModelRunner
from ..types import EngineConfig
from .attention import choose_attention
from .cache import KvCache
from .decoder import Decoder
from .lora_choice import choose_lora
from .tensors import build_batch


class TorchRunner(ModelRunner):
    """A base at fp32, bf16 or int4 and its paged cache."""

    def __init__(
        self,
        config: EngineConfig,
        base: BaseModel,
        max_context: int,
        layout: TorchLoraLayout,
        pools: SlotPools,
    ) -> None:
        """Read the base."""
        architecture, dtype, self._device = base.architecture, DTYPES[config.precision], layout.device
        weights = load_weights(base.weights(), architecture, config.precision, self._device)
        lora = choose_lora(architecture, layout, pools)
        self._decoder = Decoder(architecture, weights, max_context, lora)
        self._cache = KvCache(architecture, config.pages, config.page_size, dtype, self._device)
        self._plan = choose_attention(architecture, dtype, config.page_size, self._device)

    @torch.inference_mode()
    def run(self, works: Sequence[Work], plan: LoraPlan) -> Logits:
        """See ModelRunner."""
        batch = build_batch(works, self._cache.page_size, self._device, self._plan)
        logits: Logits = self._decoder.forward(batch, self._cache, plan).cpu().numpy()
        return logits

    def scrub(self, pages: list[int]) -> None:
        """See ModelRunner."""
        self._cache.scrub(pages)


def torch_backend(
    config: EngineConfig, base: BaseModel, max_context: int, device: torch.device = CPU
) -> Backend:
    """torch, for this configuration, on this device."""
    layout = TorchLoraLayout(base.architecture, DTYPES[config.precision], device)
    name = "torch" if device.type == "cpu" else device.type
    return Backend(name, layout, lambda pools: TorchRunner(config, base, max_context, layout, pools))
