"""How requests spell sampling and messages, whichever door they come through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...protocol.requests import MAX_OUTPUT_TOKENS, PPM, ChatMessage, Sampling
from ..asking.answers import DEFAULT_MAX_TOKENS
from .errors import InvalidRequest
from .fields import Fields, check_text

Entropy = Callable[[int], bytes]
"""n → n random bytes."""

MAX_MESSAGES = 256
MAX_STOPS = 8
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 10.0
SAMPLING_NAMES = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
)
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MESSAGE_NAMES = ("role", "content", "name")
"""`name` is taken and not used: the chat templates of the bases have no place for it."""


def read_sampling(fields: Fields, temperature: float, entropy: Entropy) -> Sampling:
    """The pinned sampler's parameters; `temperature` is the default of the door.

    Fractions become parts per million. Without a seed, one is drawn where it matters. A seed is taken modulo
    2^64, so that OpenAI's signed ones are too.
    """
    heat = _ppm(fields.number_or("temperature", temperature, 0, MAX_TEMPERATURE))
    drawn = int.from_bytes(entropy(8), "big") if heat else 0
    return Sampling(
        seed=fields.integer_or("seed", drawn, -(1 << 63), (1 << 64) - 1) % (1 << 64),
        max_tokens=_max_tokens(fields),
        temperature_ppm=heat,
        top_k=max(0, fields.integer_or("top_k", 0, -1, (1 << 31) - 1)),
        top_p_ppm=max(1, _ppm(fields.number_or("top_p", 1, 0, 1))),
        min_p_ppm=_ppm(fields.number_or("min_p", 0, 0, 1)),
        repetition_penalty_ppm=max(1, _ppm(fields.number_or("repetition_penalty", 1, 0, MAX_PENALTY))),
    )


def _ppm(fraction: float) -> int:
    return round(fraction * PPM)


def _max_tokens(fields: Fields) -> int:
    older = fields.integer_or("max_tokens", None, 1, MAX_OUTPUT_TOKENS)
    newer = fields.integer_or("max_completion_tokens", None, 1, MAX_OUTPUT_TOKENS)
    if older and newer and older != newer:
        raise fields.fail("max_tokens", f"is {older} but max_completion_tokens {newer}; give one of them")
    return newer or older or DEFAULT_MAX_TOKENS


def read_stop(fields: Fields) -> tuple[str, ...]:
    """Texts that end an answer: one, or a list of at most eight."""
    if isinstance(fields.raw("stop"), str):
        return (fields.text("stop", high=256),)
    return fields.texts("stop", 0, MAX_STOPS)


def read_messages(fields: Fields) -> tuple[ChatMessage, ...]:
    """The conversation so far. Content is text, or parts of type text, which are joined by line breaks."""
    return tuple(_read_message(message) for message in fields.objects("messages", 1, MAX_MESSAGES))


def _read_message(fields: Fields) -> ChatMessage:
    fields.only(_MESSAGE_NAMES)
    role = fields.text("role", high=64)
    if role not in _ROLES:
        raise fields.fail("role", f"is {role!r}; expected one of {', '.join(_ROLES)}")
    content: Any = fields.raw("content")
    path = fields.path("content")
    if isinstance(content, list):
        content = "\n".join(_read_part(part) for part in fields.objects("content", 1, 256))
    if content is None:
        raise InvalidRequest(f"{path} is missing; expected text", path)
    return ChatMessage(_ROLES[role], check_text(content, path, high=65_536, low=0))


def _read_part(fields: Fields) -> str:
    kind = fields.text("type", high=64)
    if kind != "text":
        raise fields.fail("type", f"is {kind!r}; only parts of type text are supported")
    fields.only(("type", "text"))
    return fields.text("text", low=0)
