"""How requests spell sampling, whichever door they come through."""

from __future__ import annotations

from collections.abc import Callable

from ...protocol.encoding.fields import PPM
from ...protocol.requests.records import MAX_OUTPUT_TOKENS, Sampling
from ..asking.answers import DEFAULT_MAX_TOKENS
from .fields import Fields

Entropy = Callable[[int], bytes]
"""n → n random bytes."""

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
