"""What goes into an engine and what comes out, as records that travel between processes (canonical CBOR) as
they are.

Rules of this file:
- An output position counts from the answer's first token, those that another worker delivered included; so do
  `Sampling.max_tokens` and the sampler's noise. A continuation carries the original request and `delivered`.
- Text is what the tokens complete: a character or a stop string that is still undecided is held back. Tokens
  are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ...protocol.content.compositions import MAX_ADAPTERS, AdapterWeight
from ...protocol.encoding.fields import U16, U32, U64, Hash32, Label, Name, Size, Text
from ...protocol.ids import Cid
from ...protocol.inference.messages import TokenLogprob
from ...protocol.requests.records import MAX_OUTPUT_TOKENS, ChatMessage, Sampling
from ...protocol.requests.rules import MAX_TOP_LOGPROBS

MAX_PROMPT_TOKENS = 131_072
MAX_LISTED_ADAPTERS = 256
"""Adapters that an engine's stats name; they count all."""
RequestKey = Annotated[bytes, Size(1, 32)]
"""Names a request in one engine while it runs; a network request uses its 16-byte id."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model's end token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    DEADLINE = "deadline"
    ABORTED = "aborted"  # by the caller, who stopped listening: an engine never says it
    ERROR = "error"  # `TokenEvent.error` says what


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer wanted: of `messages`, or of `prompt_tokens` where the caller has tokenised itself.

    `adapters` is a composition (none: the plain base); every one of them must be in the engine's RAM when the
    request is added. `deadline_ms` is how long from now the engine may take.
    """

    request_id: RequestKey
    sampling: Sampling
    messages: Annotated[tuple[ChatMessage, ...], Size(0, 256)] = ()
    prompt_tokens: Annotated[tuple[U32, ...], Size(0, MAX_PROMPT_TOKENS)] = ()
    delivered: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)] = ()
    adapters: Annotated[tuple[AdapterWeight, ...], Size(0, MAX_ADAPTERS)] = ()
    stop: Annotated[tuple[Label, ...], Size(0, 8)] = ()
    top_logprobs: U16 = 0
    deadline_ms: U64 | None = None


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of one output token under the unpenalised softmax at temperature 1: the chosen token's, and the `top`
    most likely.
    """

    chosen: TokenLogprob
    top: Annotated[tuple[TokenLogprob, ...], Size(0, MAX_TOP_LOGPROBS)]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """Progress of one request; the last event has `finish`.

    `logprobs` are one per token where they were asked for.

    `prompt_tokens` counts the prompt without delivered tokens; `cached_tokens` those found in the prefix
    cache.
    """

    request_id: RequestKey
    tokens: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)] = ()
    text: Text = ""
    logprobs: Annotated[tuple[Logprobs, ...], Size(0, MAX_OUTPUT_TOKENS)] = ()
    prompt_tokens: U32 = 0
    cached_tokens: U32 = 0
    finish: Name | None = None
    error: Text = ""


def merge_events(first: TokenEvent, second: TokenEvent) -> TokenEvent:
    """The two consecutive events of one request as one."""
    return TokenEvent(
        request_id=first.request_id,
        tokens=first.tokens + second.tokens,
        text=first.text + second.text,
        logprobs=first.logprobs + second.logprobs,
        prompt_tokens=second.prompt_tokens,
        cached_tokens=second.cached_tokens,
        finish=second.finish,
        error=second.error,
    )


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """An adapter's weights on disk and what its manifest says of them."""

    adapter: Cid
    path: Annotated[str, Size(1, 4096)]
    rank: U16
    alpha: U16
    targets: Annotated[tuple[Name, ...], Size(1, 32)]


@dataclass(frozen=True, slots=True)
class ResidentAdapter:
    """An adapter in the engine's RAM, and whether it lies in a slot too."""

    adapter: Cid
    rank: U16
    in_slot: bool = False


@dataclass(frozen=True, slots=True)
class RankCount:
    """How many adapters of one rank bucket are in RAM."""

    bucket: U16
    count: U32


@dataclass(frozen=True, slots=True)
class PackedSize:
    """What an adapter of this rank bucket takes in RAM, in bytes."""

    bucket: U16
    bytes: U64


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How to run one base.

    `pages` of `page_size` tokens hold the keys and values of everything that runs or is cached.

    `adapter_ram` bytes of packed adapters are kept in the engine's memory; `slots` of them can run at once.

    A step computes at most `max_step_tokens` tokens, so a long prompt delays running answers by one such step
    at most.

    `engine` is torch, or exllamav2, which loads the quantised base in `artefact_dir`.
    `device` is cpu, cuda, or auto: a GPU where there is one.
    """

    base_dir: Annotated[str, Size(1, 4096)]
    precision: Name = "bf16"
    threads: U16 = 1
    pages: U32 = 1024
    page_size: U16 = 16
    max_batch: U16 = 8
    max_step_tokens: U32 = 256
    max_queue: U16 = 64
    slots: U16 = 16
    max_rank: U16 = 64
    adapter_ram: U64 = 1 << 30
    engine: Name = "torch"
    artefact_dir: Annotated[str, Size(0, 4096)] = ""
    device: Name = "auto"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine serves, fixed for its life. `max_context` is prompt and answer together, in tokens.

    `packed_sizes` are those of all rank buckets that it serves, the smallest first. `backend` computes:
    torch, native (the compiled kernels), cuda (torch on a GPU), exllamav2.
    """

    base: Cid
    artefact: Cid
    name: Name
    precision: Name
    tokenizer: Hash32
    chat_template: Hash32
    max_context: U32
    max_batch: U16
    max_queue: U16
    pages: U32
    page_size: U16
    slots: U16
    max_rank: U16
    adapter_ram: U64 = 1 << 30
    packed_sizes: Annotated[tuple[PackedSize, ...], Size(0, 16)] = ()
    backend: Name = "torch"

    def packed_bytes(self, rank: int) -> int:
        """What an adapter of this rank takes in the engine's RAM."""
        fitting = (size.bytes for size in self.packed_sizes if size.bucket >= rank)
        return next(fitting, self.packed_sizes[-1].bytes if self.packed_sizes else 0)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Load of an engine at one moment, and counters since its start. `free_pages` includes cached ones that
    may go; `held` requests wait for their readers.

    `resident` lists the most recently used adapters in RAM, `ranks` counts all; they take `adapter_bytes`,
    slots `slot_bytes` more, and what is kept to read the next ones into `spare_bytes`. `slot_fills` copies
    from RAM to slots took `slot_fill_ns` altogether, the zeroing of what gave way included.
    """

    resident: Annotated[tuple[ResidentAdapter, ...], Size(0, MAX_LISTED_ADAPTERS)]
    free_pages: U32
    queued: U32
    running: U32
    steps: U64
    output_tokens: U64
    computed_tokens: U64
    cached_tokens: U64
    preemptions: U64
    held: U32 = 0
    ranks: Annotated[tuple[RankCount, ...], Size(0, 16)] = ()
    adapter_bytes: U64 = 0
    slot_bytes: U64 = 0
    spare_bytes: U64 = 0
    slot_fills: U64 = 0
    slot_fill_ns: U64 = 0
    slot_evictions: U64 = 0
