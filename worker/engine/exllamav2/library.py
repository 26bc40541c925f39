"""The seam to exllamav2 0.3.2: what of it is used, as the type checker sees it, and how it is brought in.

Rules of this file:
- exllamav2 has no types and compiles itself at its first import: only `load_library` imports it, once asked.
- The stub classes say what the real ones have; at run time they are `object`, and `type()` puts the real ones
  in their place (`Library.subclass`). A test holds every name and signature here to the real package.
- Whatever exllamav2 raises while it is brought in becomes MissingDependency.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from torch import Tensor

from ....protocol.errors import MissingDependency
from . import flash
from .pages import salted_hash
from .requirements import PACKAGE

log = logging.getLogger("commonlore.worker.engine")
PAGE_SIZE = 256
"""Tokens of a page, fixed by exllamav2."""
Results = list[dict[str, Any]]
Sample = tuple[Tensor, None, None, None, bool]
_Rules = TypeVar("_Rules", bound=type)

if TYPE_CHECKING:

    class DynamicJob:
        """`generator.dynamic.ExLlamaV2DynamicJob`: one sequence on its way."""

        generator: Generator
        sequences: list[JobSequence]
        new_tokens: int
        max_new_tokens: int
        cached_pages: int
        cached_tokens: int

        def __init__(self, input_ids: Tensor, max_new_tokens: int) -> None: ...
        def prepare_for_queue(self, generator: Generator, serial_number: int) -> None: ...
        def allocate_pages(self) -> None: ...
        def prefill(self, results: Results) -> None: ...
        def is_prefill_done(self) -> bool: ...
        def receive_logits(self, logits: Tensor) -> Sample: ...
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
        ) -> tuple[bool, Tensor]: ...

    class DynamicGenerator:
        """`generator.dynamic.ExLlamaV2DynamicGenerator`: continuous batching over a paged cache."""

        cache: Cache
        pending_jobs: list[Any]
        active_jobs: list[Any]
        all_pages: list[Page]
        referenced_pages: dict[bytes, Page]
        unreferenced_pages: dict[bytes, Page]
        max_pages: int
        current_loras: Sequence[object] | None

        def __init__(self, **settings: object) -> None: ...
        def enqueue(self, job: DynamicJob) -> int: ...
        def cancel(self, job: DynamicJob) -> None: ...
        def iterate(self) -> Results: ...
        def iterate_gen(self, results: Results, draft_tokens: Tensor | None = None) -> None: ...

else:
    DynamicJob = DynamicGenerator = object


class Page(Protocol):
    """`CachePage`: 256 tokens of keys and values, found again by `phash`."""

    page_index: int
    phash: bytes
    prev_hash: bytes | None
    ref_count: int
    kv_position: int

    def clear(self) -> None:
        """Forget the contents of a page that nobody references."""


class JobSequence(Protocol):
    """`ExLlamaV2DynamicJob.Sequence`."""

    kv_position: int
    allocated_pages: list[Page]


class Cache(Protocol):
    """`ExLlamaV2Cache`: keys and values [1, tokens, kv heads, head_dim] of each layer."""

    def all_tensors(self) -> list[Tensor]:
        """Every tensor of it."""


class Linear(Protocol):
    """`ExLlamaV2Linear`. `lora_*_tensors` are keyed by the object in the list of LoRAs."""

    key: str
    in_features: int
    out_features: int
    forward: Callable[..., Tensor]
    lora_a_tensors: dict[object, Tensor]
    lora_b_tensors: dict[object, Tensor]

    def device(self) -> str:
        """Where its weights are."""


class Block(Protocol):
    """`ExLlamaV2Attention` or `ExLlamaV2MLP`: fused while it has a `q_handle`, else linear by linear."""

    key: str
    q_handle: int | None
    submodules: list[Any]


class Model(Protocol):
    """`ExLlamaV2`."""

    modules: list[Any]
    modules_dict: dict[str, Any]

    def update_loras(self) -> None:
        """Tell the fused blocks of the linears' LoRA tensors."""


class Generator(Protocol):
    """What a job sees of the generator that runs it, and what the engine uses of it."""

    cache: Cache
    pending_jobs: list[Any]
    active_jobs: list[Any]
    all_pages: list[Page]
    referenced_pages: dict[bytes, Page]
    unreferenced_pages: dict[bytes, Page]
    max_pages: int
    current_loras: Sequence[object] | None
    prefill_budget: int

    def prepare_loras(self, jobs: Sequence[Any]) -> None:
        """The next forward pass computes rows of these jobs, in this order."""

    def enqueue(self, job: Any) -> int:
        """Last in line."""

    def cancel(self, job: Any) -> None:
        """Take it out."""

    def iterate(self) -> Results:
        """A step."""


@dataclass(frozen=True, slots=True)
class Library:
    """exllamav2's classes, or fakes of them."""

    config: Callable[[str], Any]
    model: Callable[[Any], Any]
    cache: Callable[..., Any]
    job: type
    generator: type

    def subclass(self, rules: _Rules, real: type) -> _Rules:
        """`rules` over the real class whose stub they extend."""
        return cast("_Rules", type(rules.__name__, (rules, real), {}))


def load_library() -> Library:
    """Import exllamav2 (which may compile for minutes, once on a machine). Raises MissingDependency."""
    flash.register()
    try:
        package = importlib.import_module(PACKAGE)
        dynamic = importlib.import_module(f"{PACKAGE}.generator.dynamic")
    except (ImportError, OSError, RuntimeError) as wrong:
        log.exception("importing exllamav2")
        reason = str(wrong).strip().splitlines()[0:1] or [type(wrong).__name__]
        raise MissingDependency(f"exllamav2 cannot be loaded: {reason[0][:300]}") from None
    return library_of(vars(package), vars(dynamic))


def library_of(package: Mapping[str, Any], dynamic: dict[str, Any]) -> Library:
    """The classes in these modules' names; the dynamic generator's page hash is salted from now on."""
    dynamic["_tensor_hash_checksum"] = salted_hash
    return Library(
        config=package["ExLlamaV2Config"],
        model=package["ExLlamaV2"],
        cache=package["ExLlamaV2Cache"],
        job=dynamic["ExLlamaV2DynamicJob"],
        generator=dynamic["ExLlamaV2DynamicGenerator"],
    )
