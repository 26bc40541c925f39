"""vLLM on the CPU, its engine stepped in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..engines.jobs import Answered, Ask, Job, Message
from .stepping import Progress, drive
from .turns import Absent, Arm, serve

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}
CONTEXT = 256


class VllmArm(Arm):
    """An LLM engine, with LoRA switched on or (for the plain base only) off."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import torch
        from vllm import LLM

        self._lora, self._slots = bool(settings["lora"]), int(settings["slots"])
        self._folder, self._kept = Path(settings["adapters"]), int(settings["kept"])
        adapters = {
            "enable_lora": True,
            "max_loras": self._slots,
            "max_cpu_loras": self._kept,
            "max_lora_rank": settings["rank"],
        }
        self._engine = LLM(
            settings["base_dir"],
            dtype=settings["dtype"],
            max_model_len=CONTEXT,
            max_num_seqs=settings["batch"],
            enable_prefix_caching=False,
            disable_log_stats=True,
            generation_config="vllm",
            **(adapters if self._lora else {}),
        ).llm_engine
        torch.set_num_threads(1)
        self._under_way: dict[str, tuple[int, int]] = {}
        self._made = 0

    def facts(self) -> Message:
        """See Arm."""
        return {
            "version": version("vllm_cpu"),
            "torch": version("torch"),
            "lora": self._lora,
            "slots": self._slots,
            "kept_in_memory": self._kept,
        }

    def run(self, job: Job) -> list[Answered]:
        """See Arm."""
        return drive(self, job)

    # ---- adapters

    def bring(self, adapter: int) -> None:
        """See Arm."""
        if not self._lora:
            raise Absent("this arm serves the plain base only")
        self._engine.add_lora(self._request(adapter))

    def hold_in_memory(self, adapters: Sequence[int]) -> None:
        """See Arm."""
        if len(adapters) + self._slots > self._kept:
            raise Absent("not enough adapters are kept in memory")
        for adapter in adapters:
            self.bring(adapter)
        others = [other for other in range(len(adapters) + self._slots) if other not in adapters]
        for other in others[: self._slots]:
            self.bring(other)

    def activate(self, adapter: int) -> None:
        """See Arm."""
        self.bring(adapter)

    def _request(self, adapter: int) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"a{adapter}", adapter + 1, str(self._folder / f"a{adapter:04}"))

    # ---- the loop's engine

    def start(self, number: int, ask: Ask, tokens: int) -> bool:
        """See Stepper."""
        from vllm import SamplingParams

        self._made += 1
        key = str(self._made)
        self._engine.add_request(
            key,
            {"prompt_token_ids": list(ask.prompt)},
            SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False),
            lora_request=None if ask.adapter is None else self._request(ask.adapter),
        )
        self._under_way[key] = (number, 0)
        return True

    def step(self) -> list[Progress]:
        """See Stepper."""
        progress = []
        for output in self._engine.step():
            key = _key_of(output.request_id, self._under_way)
            number, known = self._under_way[key]
            tokens = output.outputs[0].token_ids
            self._under_way[key] = (number, len(tokens))
            if output.finished:
                del self._under_way[key]
            progress.append(Progress(number, list(tokens[known:]), output.finished))
        return progress


def _key_of(given: str, known: Mapping[str, object]) -> str:
    """The engine may add something to a request's id."""
    return given if given in known else given.split("-")[0]


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.exit(serve(VllmArm))
