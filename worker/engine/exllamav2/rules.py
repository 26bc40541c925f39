"""This house's rules over exllamav2's job and generator: pinned sampling, holds, whose pages are whose.

Rules of this file:
- A subclass adds to what exllamav2 does, it never repeats it; `super()` is the real class (see `library`).
- exllamav2 keeps tokens, pages and batches; text, stop strings, the end and the choice of a token are the
  engine's own (`prompts.Answer`, `sampler`), as in every engine.
- `receive_logits` may run in several threads, one for each row; everything else in the stepping one.
- One step computes at most one chunk of prompt, so that a long one delays running answers by that much only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..batching.prompts import Prepared
from ..batching.sequence import Sequence as Request
from ..decoding import sampler
from ..lora.tiers import Composition
from ..types import FinishReason, Logprobs, TokenEvent
from .library import PAGE_SIZE, DynamicGenerator, DynamicJob, Generator, Page, Results, Sample
from .lora import LoraWeights
from .pages import root_of, visible


class LoraMode(Protocol):
    """How the model is brought under the adapters of a pass: `MixedLoras` or `SwitchedLoras`."""

    def may_join(self, running: Sequence[Composition], composition: Composition) -> bool:
        """Whether a request under this composition may run beside those that run."""

    def plan(self, members: Sequence[LoraWeights | None]) -> Sequence[object] | None:
        """The list of LoRAs for a pass whose sequences are under these adapters."""

    def forget(self) -> None:
        """Keep no adapter alive."""


class NoText:
    """In the place of exllamav2's tokenizer: the engine makes its own text."""

    def get_id_to_piece_list(self, _special: bool) -> NoText:
        """A list that has nothing to say about any token."""
        return self

    def __getitem__(self, _token: int) -> str:
        return ""


class JobRules(DynamicJob):
    """One request. `event` is what the last step made of it; `used` are the pages it had when it failed.

    `computed` tokens and those of `reused` above `counted` are not in the engine's statistics yet.
    """

    def __init__(self, request: Request, lora: LoraWeights | None, vocabulary: int) -> None:
        answer, sampling = request.answer, request.prepared.request.sampling
        self.request = request
        self.lora = lora
        self.vocabulary = vocabulary
        self.computed = self.counted = 0
        self.failed = False
        self.used: list[Page] = []
        self.event = event_of(request.prepared)
        self._logprobs: tuple[Logprobs, ...] = ()
        room = min(sampling.max_tokens, answer.room) - len(answer.tokens)
        super().__init__(input_ids=torch.tensor([request.tokens]), max_new_tokens=room)

    @property
    def reused(self) -> int:
        """Prompt tokens found in the cache."""
        return self.cached_pages * PAGE_SIZE + self.cached_tokens

    # ---- pages

    def prepare_for_queue(self, generator: Generator, serial_number: int) -> None:
        """Hash the prompt's pages."""
        with root_of(self.request.root):
            super().prepare_for_queue(generator, serial_number)

    def allocate_pages(self) -> None:
        """Take pages; the first belongs to the root."""
        super().allocate_pages()
        self._mark()

    def prefill(self, results: Results) -> None:
        """A chunk of the prompt, unless it is held or the step's chunk is spent."""
        position = -1
        while self._may_prefill() and position != self._position():
            position = self._position()  # it moves over pages found in the cache without computing, too
            self._prefill_once(results)

    def _may_prefill(self) -> bool:
        waiting = self.request.held or self.generator.prefill_budget <= 0
        return not waiting and not self.is_prefill_done()

    def _prefill_once(self, results: Results) -> None:
        before = self._position() - self.reused
        self.generator.prepare_loras([self])
        with visible(self.generator.all_pages, self.request.root):
            super().prefill(results)
        self._mark()
        computed = self._position() - self.reused - before
        self.computed += computed
        self.generator.prefill_budget -= computed

    def is_prefill_done(self) -> bool:
        """Whether it decodes; one that is held does not."""
        return not self.request.held and super().is_prefill_done()

    def _position(self) -> int:
        return self.sequences[0].kv_position

    def _mark(self) -> None:
        self.sequences[0].allocated_pages[0].prev_hash = self.request.root

    # ---- tokens

    def receive_logits(self, logits: Tensor) -> Sample:
        """The next token by the pinned sampler."""
        row = logits[0, :, : self.vocabulary].numpy()
        request = self.request.prepared.request
        self.failed = not bool(np.isfinite(row).all())
        token = 0
        if not self.failed:
            draw = sampler.Draw(request.sampling, len(self.request.answer.tokens), self.request.tokens)
            (token,) = sampler.choose(row, [draw])
            top = request.top_logprobs
            self._logprobs = (sampler.compute_logprobs(row[0], token, top),) if top else ()
        return torch.tensor([[token]]), None, None, None, False

    def receive_sample(
        self,
        logits: Tensor | None,
        next_token: Tensor | None,
        next_k_tokens: Tensor | None,
        next_k_probs: Tensor | None,
        next_prob: Tensor | None,
        filter_eos: bool | None,
        results: Results,
        first_sample_in_sd_batch: bool = True,
    ) -> tuple[bool, Tensor]:
        """Take the token into the answer; the last one ends the job."""
        assert next_token is not None  # this class made it
        self._take(int(next_token.item()))
        if self.request.answer.finish is not None:
            self.max_new_tokens = self.new_tokens + 1  # this one
        self.computed += 1
        with root_of(self.request.root):
            return super().receive_sample(
                logits,
                next_token,
                next_k_tokens,
                next_k_probs,
                next_prob,
                filter_eos,
                results,
                first_sample_in_sd_batch,
            )

    def _take(self, token: int) -> None:
        request, answer = self.request, self.request.answer
        request.cached = max(request.cached, self.reused)
        if self.failed:
            answer.finish, self.used = FinishReason.ERROR, list(self.sequences[0].allocated_pages)
            adapters = ", ".join(one.adapter for one in request.prepared.request.adapters) or "none"
            error = f"the model gave numbers that are not finite (adapters: {adapters})"
            self.event = replace(event_of(request.prepared, request.cached), error=error)
            return
        request.tokens.append(token)
        text = answer.push(token)
        event = event_of(request.prepared, request.cached)
        self.event = replace(event, tokens=(token,), text=text, logprobs=self._logprobs)


def event_of(prepared: Prepared, cached: int = 0) -> TokenEvent:
    """An event that says how a request stands, and nothing new."""
    finish = prepared.answer.finish
    return TokenEvent(
        prepared.request.request_id,
        prompt_tokens=len(prepared.prompt),
        cached_tokens=cached,
        finish=None if finish is None else finish.value,
    )


class GeneratorRules(DynamicGenerator):
    """The batch. `prefill_budget`: prompt tokens that this step may still compute."""

    def __init__(self, mode: LoraMode, **settings: object) -> None:
        self.mode = mode
        self.prefill_budget = 0
        super().__init__(**settings)

    def iterate(self) -> Results:
        """A step: start what fits, a chunk of prompt, a token of everything that decodes."""
        self.prefill_budget = 1
        return super().iterate()

    def iterate_gen(self, results: Results, draft_tokens: Tensor | None = None) -> None:
        """A token of everything that decodes."""
        jobs = [job for job in self.active_jobs if job.is_prefill_done()]
        if jobs:
            self.prepare_loras(jobs)
        super().iterate_gen(results, draft_tokens)

    def prepare_loras(self, jobs: Sequence[JobRules]) -> None:
        """The next forward pass computes rows of these jobs, in this order."""
        self.current_loras = self.mode.plan([job.lora for job in jobs])

    @torch.inference_mode()
    def scrub(self, pages: Sequence[Page]) -> None:
        """Forget and zero those of these pages that nobody uses: NaN times nothing is NaN."""
        for page in pages:
            if page.ref_count == 0:
                page.clear()
                start = page.page_index * PAGE_SIZE
                for tensor in self.cache.all_tensors():
                    tensor[:, start : start + PAGE_SIZE] = 0
