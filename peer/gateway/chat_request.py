"""`POST /v1/chat/completions`: what may be asked (https://platform.openai.com/docs/api-reference/chat/create).

Rules of this file:

- OpenAI's defaults hold: temperature and top_p are 1 where they are absent. `max_tokens` is 256 then.
- `top_k`, `min_p` and `repetition_penalty` are extensions that other servers have too; `retrieve` and
  `template` are ours.
- Tools may be defined, and what they gave back be in the conversation (`conversation`); that they be called
  cannot be required.
- What would change the answer and is not supported is an error, unless its value changes nothing. What could
  not change it (`user`, `metadata`) is ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...protocol.requests.records import ChatMessage, Sampling
from ...protocol.requests.rules import MAX_TOP_LOGPROBS
from ...protocol.requests.tools import TOOLS
from ..asking.answers import AskOptions, Retrieval, Template
from .conversation import read_messages, read_tools, with_tools
from .fields import Fields
from .models import MAX_MODEL, Target
from .retrieve import read_retrieve, read_template
from .sampling import SAMPLING_NAMES, Entropy, read_sampling, read_stop

TEMPERATURE = 1.0
IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
NEUTRAL: Mapping[str, Collection[Any]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
}
"""Fields of OpenAI's that are taken only with a value that asks for nothing."""

_KNOWN = frozenset(
    (
        "model",
        "messages",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "retrieve",
        "template",
        "tools",
        "tool_choice",
        *SAMPLING_NAMES,
    )
) | {*IGNORED, *NEUTRAL}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated request. `top_logprobs` is None when no log-probabilities are wanted."""

    model: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    retrieve: Retrieval | None = None
    template: Template | None = None

    @property
    def has_tools(self) -> bool:
        """Whether the model may call tools: its answer is read for calls."""
        return any(message.role == TOOLS for message in self.messages)

    def options(self, target: Target) -> AskOptions:
        """What the node is asked, once the model is resolved."""
        return AskOptions(
            messages=self.messages,
            adapters=target.adapters,
            base=target.base,
            sampling=self.sampling,
            stop=self.stop,
            top_logprobs=0 if self.top_logprobs is None else max(1, self.top_logprobs),
            retrieve=self.retrieve,
            template=self.template,
        )


def read_chat_request(fields: Fields, entropy: Entropy) -> ChatRequest:
    """Raises InvalidRequest naming the field."""
    fields.only(_KNOWN)
    _refuse_unsupported(fields)
    stream = fields.flag_or("stream", False)
    return ChatRequest(
        model=fields.text("model", high=MAX_MODEL),
        messages=with_tools(read_messages(fields), read_tools(fields)),
        sampling=read_sampling(fields, TEMPERATURE, entropy),
        stop=read_stop(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream),
        top_logprobs=_top_logprobs(fields),
        retrieve=read_retrieve(fields),
        template=read_template(fields),
    )


def _refuse_unsupported(fields: Fields) -> None:
    for name, neutral in NEUTRAL.items():
        if fields.has(name) and fields.raw(name) not in (*neutral, [], {}):
            shown = " or ".join(repr(value) for value in neutral)
            raise fields.fail(name, f"is not supported here; leave it out or send {shown}")


def _include_usage(fields: Fields, stream: bool) -> bool:
    options = fields.object_or_none("stream_options")
    if options is None:
        return False
    if not stream:
        raise fields.fail("stream_options", "is only for stream: true; leave it out")
    options.only(("include_usage", "include_obfuscation"))
    return options.flag_or("include_usage", False)


def _top_logprobs(fields: Fields) -> int | None:
    wanted = fields.flag_or("logprobs", False)
    top = fields.integer_or("top_logprobs", 0, 0, MAX_TOP_LOGPROBS)
    if top and not wanted:
        raise fields.fail("top_logprobs", "needs logprobs: true")
    return top if wanted else None
