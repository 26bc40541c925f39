"""What the engines with a model in this process have in common: prompts as token ids, adapters in tiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...protocol.errors import InvalidAdapter
from ...protocol.requests.records import ChatMessage
from ..adapters.validate import check_adapter_file
from ..models.reference import BaseModel
from .batching.prompts import Prepared, Prompts
from .engine import Engine, LoadedAdapter
from .lora.tiers import AdapterTiers
from .types import AdapterSource, EngineFacts, GenerationRequest


class TieredEngine(Engine):
    """An Engine whose `step` is still to be written. Its constructor calls `_open`."""

    _adapters: AdapterTiers

    def _open(self, base: BaseModel, facts: EngineFacts, adapters: AdapterTiers) -> None:
        self.facts = facts
        self._architecture = base.architecture
        self._prompts = Prompts(base.tokenizer(), base.architecture, facts.max_context)
        self._adapters = adapters

    # ---- any thread

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """See Engine."""
        return self._prompts.count_tokens(messages)

    def prepare(self, request: GenerationRequest) -> Prepared:
        """See Engine."""
        return self._prompts.prepare(request)

    @torch.inference_mode()
    def read_adapter(self, source: AdapterSource) -> LoadedAdapter:
        """See Engine."""
        if source.rank > self.facts.max_rank:
            raise InvalidAdapter(
                f"the adapter {source.adapter} has rank {source.rank}; "
                f"this engine takes at most {self.facts.max_rank}"
            )
        path = Path(source.path)
        return self._adapters.read(
            source, lambda allocate: check_adapter_file(path, source, self._architecture, allocate)
        )
