"""llama.cpp's server core, in this process through xllamacpp: continuous batching of requests that use the
same adapters; others wait for their turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from ..engines.jobs import Answered, Ask, Job, Message
from .turns import Arm, serve

CONTEXT = 256


class LlamaArm(Arm):
    """A server with the adapters it was started with."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = settings["gguf"]
        parameters.n_parallel = settings["batch"]
        parameters.n_ctx = settings["batch"] * CONTEXT
        parameters.n_batch = 512
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        parameters.warmup = True
        parameters.verbosity = 0
        parameters.lora_adapters = [_adapter(xllamacpp, path) for path in settings["gguf_adapters"]]
        self._server = xllamacpp.Server(parameters)
        self._system = " ".join(xllamacpp.get_system_info().split())

    def facts(self) -> Message:
        """See Arm."""
        return {"version": version("xllamacpp"), "built_for": self._system}

    def run(self, job: Job) -> list[Answered]:
        """See Arm."""
        began = time.perf_counter()
        with ThreadPoolExecutor(job.limit) as threads:
            return list(threads.map(lambda ask: self._answer(ask, job.tokens, began), job.asks))

    def _answer(self, ask: Ask, tokens: int, began: float) -> Answered:
        answered = Answered(time.perf_counter() - began)
        texts: list[str] = []

        def hear(event: Mapping[str, Any]) -> None:
            """A piece of text: of one token, or of several when one alone is no character."""
            now = time.perf_counter() - began
            answered.first = answered.first or now
            answered.last = now
            texts.append(event["choices"][0]["text"])
            answered.tokens = event.get("usage", {}).get("completion_tokens", answered.tokens)

        self._server.handle_completions(
            {
                "prompt": list(ask.prompt),
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
                "stream": True,
                "stream_options": {"include_usage": True},
                "lora": [] if ask.adapter is None else [{"id": ask.adapter, "scale": 1.0}],
            },
            hear,
        )
        answered.begins = "".join(texts)
        return answered


def _adapter(xllamacpp: Any, path: str) -> Any:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = path, 0.0
    return adapter


if __name__ == "__main__":
    sys.exit(serve(LlamaArm))
