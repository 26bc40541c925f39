"""transformers with peft: a batch starts and ends together."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..engines.jobs import Answered, Job, Message
from .turns import Arm, serve


class PeftArm(Arm):
    """A PeftModel; adapters are loaded on demand and stay."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self._folder = Path(settings["adapters"])
        dtype = getattr(torch, settings["dtype"])
        model = AutoModelForCausalLM.from_pretrained(settings["base_dir"], dtype=dtype).eval()
        self._options = {"autocast_adapter_dtype": settings["dtype"] == "float32"}
        self._model = PeftModel.from_pretrained(
            model, self._path(0), adapter_name="a0", **self._options
        ).eval()
        self._held = {0}

    def facts(self) -> Message:
        """See Arm."""
        return {
            "version": version("peft"),
            "transformers": version("transformers"),
            "torch": version("torch"),
            "batching": "static",
        }

    def run(self, job: Job) -> list[Answered]:
        """See Arm."""
        began = time.perf_counter()
        answered: list[Answered] = []
        for start in range(0, len(job.asks), job.concurrency):
            batch = job.asks[start : start + job.concurrency]
            stamps = _Stamps(began, [Answered(time.perf_counter() - began) for _ in batch])
            adapters = [ask.adapter for ask in batch]
            self.hold_in_memory([adapter for adapter in adapters if adapter is not None])
            self._generate([list(ask.prompt) for ask in batch], adapters, job.tokens, stamps)
            answered += stamps.answered
        return answered

    def _generate(
        self, prompts: Sequence[list[int]], adapters: Sequence[int | None], tokens: int, stamps: _Stamps
    ) -> None:
        import torch

        ids = torch.tensor(prompts)
        options: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "max_new_tokens": tokens,
            "min_new_tokens": tokens,
            "do_sample": False,
            "pad_token_id": 0,
            "stopping_criteria": [stamps],
        }
        with torch.inference_mode():
            if adapters.count(None) == len(adapters):
                with self._model.disable_adapter():
                    self._model.generate(**options)
            else:
                self._model.generate(**options, adapter_names=[f"a{adapter}" for adapter in adapters])

    # ---- adapters

    def bring(self, adapter: int) -> None:
        """See Arm."""
        self._model.load_adapter(self._path(adapter), adapter_name=f"a{adapter}", **self._options)
        self._held.add(adapter)

    def hold_in_memory(self, adapters: Sequence[int]) -> None:
        """See Arm."""
        for adapter in adapters:
            if adapter not in self._held:
                self.bring(adapter)

    def activate(self, adapter: int) -> None:
        """See Arm."""
        self._model.set_adapter(f"a{adapter}")

    def _path(self, adapter: int) -> str:
        return str(self._folder / f"a{adapter:04}")


class _Stamps:
    """Called after every token of a batch; never asks to stop."""

    def __init__(self, began: float, answered: list[Answered]) -> None:
        self._began, self.answered = began, answered

    def __call__(self, ids: Any, _scores: Any, **_rest: Any) -> Any:
        now = time.perf_counter() - self._began
        for row, one in enumerate(self.answered):
            one.took(now, 1, int(ids[row, -1]) if not one.tokens else "")
        return ids.new_zeros(ids.shape[0], dtype=bool)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore")
    sys.exit(serve(PeftArm))
