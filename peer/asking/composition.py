"""How people write several adapters with weights: `owner/a=0.7+owner/b=0.3`, the same at every door.

Rules of this file:
- A weight is a positive decimal of at most six places, taken exactly in parts per million: nothing is
  rounded. Either every adapter has one or none; without any, the adapters are equal.
- The weights of a composition make 1, because a receipt says so; those of a merge need not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ...protocol.content.compositions import MAX_ADAPTERS, AdapterWeight
from ...protocol.encoding.fields import PPM
from ...protocol.errors import ConfigError
from ...protocol.ids import Cid
from ...protocol.receipts.credits import apportion

Weighted = tuple[tuple[str, int], ...]
"""(name or id, parts per million) of each adapter."""

_DECIMAL = re.compile(r"([0-9]{0,6})(?:\.([0-9]{1,6}))?")
_PLACES = 6


def is_composition(text: str) -> bool:
    """Whether a text is more than one adapter's name."""
    return "+" in text or "=" in text


def read_composition(texts: Sequence[str]) -> Weighted:
    """Adapters that answer together, each text one or several of them. Raises ConfigError."""
    weighted = read_weighted(texts)
    if (whole := sum(ppm for _, ppm in weighted)) != PPM:
        names = " and ".join(name for name, _ in weighted)
        raise ConfigError(f"the weights of {names} add up to {write_weight(whole)}; they must make 1")
    return weighted


def read_weighted(texts: Sequence[str]) -> Weighted:
    """Distinct adapters with their weights, whatever these add up to. Raises ConfigError."""
    parts = [_read_part(part) for text in texts for part in text.split("+")]
    names = [name for name, _ in parts]
    if len(names) > MAX_ADAPTERS:
        raise ConfigError(f"{len(names)} adapters at once; at most {MAX_ADAPTERS} go together")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"the adapter {repeated[0]!r} twice; add up its weights")
    given = [weight for _, weight in parts if weight is not None]
    if not given:
        given = apportion(PPM, [1] * len(names), [name.encode() for name in names])
    if len(given) != len(names):
        bare = next(name for name, weight in parts if weight is None)
        raise ConfigError(f"the adapter {bare!r} has no weight and others have; write {bare}=0.5, say")
    return tuple(zip(names, given, strict=True))


def _read_part(text: str) -> tuple[str, int | None]:
    name, equals, weight = text.partition("=")
    if not name:
        raise ConfigError(f"no adapter's name in {text[:80]!r}; expected such as alice/icd10=0.7")
    return name, read_ppm(weight, f"the weight of {name[:80]!r}") if equals else None


def read_ppm(text: str, what: str) -> int:
    """A positive decimal in parts per million. Raises ConfigError, calling it `what`."""
    match = _DECIMAL.fullmatch(text)
    whole, places = match.groups("") if match and text else ("", "")
    ppm = int((whole or "0") + places.ljust(_PLACES, "0"))
    if not ppm:
        raise ConfigError(
            f"{what} is {text[:40]!r}; expected a positive number with at most six decimals, such as 0.7"
        )
    return ppm


def write_weight(ppm: int) -> str:
    """Parts per million as a decimal, as `read_ppm` takes it."""
    whole, places = divmod(ppm, PPM)
    return f"{whole}.{places:06}".rstrip("0").rstrip(".")


def write_weighted(adapters: Iterable[AdapterWeight], alias_of: Callable[[Cid], str | None]) -> str | None:
    """Adapters as they can be typed again, under their aliases where there are any; None for none."""
    named = [(alias_of(entry.adapter) or entry.adapter, entry.weight_ppm) for entry in adapters]
    if len(named) == 1 and named[0][1] == PPM:
        return named[0][0]
    return "+".join(f"{name}={write_weight(ppm)}" for name, ppm in named) or None
