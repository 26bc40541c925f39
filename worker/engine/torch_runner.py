"""Steps computed by this package's decoder on torch: every precision, every machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..models.reference import BaseModel
from .batching import Work
from .cache import KvCache
from .decoder import Decoder
from .lora import TorchLora, TorchLoraLayout
from .lora_plan import LoraPlan
from .runner import Backend, Logits, ModelRunner
from .slot_pools import SlotPools
from .tensors import build_batch
from .types import EngineConfig
from .weights import DTYPES, load_weights


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
        weights = load_weights(base.weights(), base.architecture, config.precision)
        self._decoder = Decoder(base.architecture, weights, max_context, TorchLora(layout, pools))
        self._cache = KvCache(base.architecture, config.pages, config.page_size, DTYPES[config.precision])

    @torch.inference_mode()
    def run(self, works: Sequence[Work], plan: LoraPlan) -> Logits:
        """See ModelRunner."""
        batch = build_batch(works, self._cache.page_size)
        logits: Logits = self._decoder.forward(batch, self._cache, plan).numpy()
        return logits

    def scrub(self, pages: list[int]) -> None:
        """See ModelRunner."""
        self._cache.scrub(pages)


def torch_backend(config: EngineConfig, base: BaseModel, max_context: int) -> Backend:
    """torch, for this configuration."""
    layout = TorchLoraLayout(base.architecture, DTYPES[config.precision])
    return Backend("torch", layout, lambda pools: TorchRunner(config, base, max_context, layout, pools))
