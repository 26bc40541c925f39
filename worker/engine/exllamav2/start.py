"""The generator over a loaded base, in mixed mode where that proves to work, else draining and switching.

Mixed mode relies on code paths of exllamav2 that its own users hardly take. An adapter of zeros takes them
and changes nothing, so at the start a prompt must get the same answer alone, with it, and beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from ....protocol.requests.records import Sampling
from ..batching.prompts import Answer, Prepared
from ..batching.sequence import Sequence as Request
from ..batching.text import TextStream
from ..types import GenerationRequest, Logprobs
from .library import PAGE_SIZE, Library
from .lora import LinearShape, LoraWeights
from .mixed import MixedLoras
from .model import Limits, OpenModel
from .rules import GeneratorRules, JobRules, LoraMode, NoText
from .switched import SwitchedLoras

log = logging.getLogger("commonlore.worker.engine")
TOLERANCE_MICRO_NATS = 300_000
"""Between two orders of fp16 additions; a wrong computation is off by nats."""
_TOKENS = 4


def start_generator(
    library: Library, opened: OpenModel, limits: Limits, vocabulary: int, mixed: bool
) -> GeneratorRules:
    """Not `mixed`: drain and switch in any case."""
    if mixed:
        generator = _new_generator(library, opened, limits, MixedLoras(opened.model, opened.linears))
        job = library.subclass(JobRules, library.job)
        if _agrees(generator, job, zero_adapter(opened.shapes, opened.device), vocabulary):
            return generator
        generator.mode.forget()  # its blocks are fused again
        opened.clear_cache()  # whatever the probe left there
        log.error("adapters cannot be mixed in one batch here: one composition runs at a time")
    return _new_generator(library, opened, limits, SwitchedLoras(opened.model, opened.linears))


def _new_generator(library: Library, opened: OpenModel, limits: Limits, mode: LoraMode) -> GeneratorRules:
    return library.subclass(GeneratorRules, library.generator)(
        mode,
        model=opened.model,
        cache=opened.cache,
        tokenizer=NoText(),
        max_batch_size=limits.batch,
        max_chunk_size=limits.chunk,
        max_q_size=1,
        max_sampling_threads=limits.sampling_threads,
        filter_background_eval=False,
    )


def _agrees(generator: GeneratorRules, job: type[JobRules], zero: LoraWeights, vocabulary: int) -> bool:
    """Run the probe. The generator must be idle, and is not to be used again if this is False."""
    length = min(PAGE_SIZE + 7, generator.max_pages * PAGE_SIZE - _TOKENS)
    prompt = tuple(number % vocabulary for number in range(3, 3 + length))

    def one(root: bytes, lora: LoraWeights | None) -> JobRules:
        return job(Request(_prepare(prompt), root, list(prompt)), lora, vocabulary)

    try:
        (fused,) = _run(generator, [one(b"fused", None)])
        beside = _run(generator, [one(b"apart", zero), one(b"beside", None)])
    except (RuntimeError, AssertionError, AttributeError, TypeError, NotImplementedError):
        log.exception("the probe of mixed adapters failed")
        return False
    worst = max(_difference(fused, other) for other in beside)
    if worst > TOLERANCE_MICRO_NATS:
        log.error("the base taken apart differs from the fused one by %d micronats", worst)
    return worst <= TOLERANCE_MICRO_NATS


def _prepare(prompt: tuple[int, ...]) -> Prepared:
    """A request of these tokens that no end token ends."""
    sampling = Sampling(seed=0, max_tokens=_TOKENS)
    request = GenerationRequest(b"probe", sampling, prompt_tokens=prompt, top_logprobs=1)
    answer = Answer(request, frozenset(), _TOKENS, TextStream(lambda _tokens: "", ()))
    return Prepared(request, prompt, answer, None)


def zero_adapter(shapes: Mapping[str, LinearShape], device: str) -> LoraWeights:
    """An adapter on every linear that changes nothing."""
    factors = {
        key: (
            torch.zeros(shape.inputs, 1, dtype=torch.half, device=device),
            torch.zeros(1, shape.outputs, dtype=torch.half, device=device),
        )
        for key, shape in shapes.items()
    }
    return LoraWeights(factors)


def _run(generator: GeneratorRules, jobs: list[JobRules]) -> list[list[Logprobs]]:
    """The log-probabilities of each job's tokens."""
    said: dict[JobRules, list[Logprobs]] = {job: [] for job in jobs}
    for job in jobs:
        generator.enqueue(job)
    while generator.pending_jobs or generator.active_jobs:
        for result in generator.iterate():
            if result["stage"] == "streaming":
                event = result["job"].event
                if event.error:
                    raise RuntimeError(event.error)
                said[result["job"]] += event.logprobs
    return list(said.values())


def _difference(first: list[Logprobs], second: list[Logprobs]) -> int:
    """Of the best token's log-probability, up to where they choose differently: two tokens that compete may
    change places, and then are alike.
    """
    worst = 0
    for a, b in zip(first, second, strict=True):
        worst = max(worst, abs(a.top[0].micro_nats - b.top[0].micro_nats))
        if a.chosen.token != b.chosen.token:
            break
    return worst
