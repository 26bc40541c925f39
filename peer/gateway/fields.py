"""Reading JSON from outside, field by field.

Rules of this file:

- Every error is an InvalidRequest that names the field by its path (`messages[2].content`) and says what
  would be right.
- null is as good as absent. Numbers are finite, whole numbers are whole, booleans are no numbers, text has no
  lone surrogates and is measured in UTF-8 bytes.
- A name that nobody reads is an error, unless what it carries is empty: what is empty asks for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ...protocol.encoding.untrusted_json import load_json
from .errors import InvalidRequest

MAX_DEPTH = 16
MAX_TEXT = 65_536
T = TypeVar("T")


def parse_json(data: bytes) -> dict[str, Any]:
    """The object in a JSON body. Raises InvalidRequest on anything that is not exactly that."""
    try:
        value = load_json(data.decode(), _without_duplicates, _refuse_constant)
    except UnicodeDecodeError as wrong:
        raise InvalidRequest(f"the body is not UTF-8: byte {wrong.start}") from None
    except RecursionError:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as wrong:
        raise InvalidRequest(f"the body is not JSON: {wrong}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is {_kind(value)}; send a JSON object")
    _check_depth(value)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name occurs twice in one object, among {', '.join(list(found)[:8])}")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> Collection[Any]:
    found = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in found if isinstance(child, dict | list)]


class Fields:
    """One JSON object and where it stands in the body. `name_or` forms give `default` for what is absent."""

    __slots__ = ("_path", "_values")

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def path(self, name: str) -> str:
        """The field's path in the body."""
        return f"{self._path}.{name}" if self._path else name

    def fail(self, name: str, what: str) -> InvalidRequest:
        """The error to raise about a field: its path, then `what`."""
        return InvalidRequest(f"{self.path(name)} {what}", self.path(name))

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """The field as it stands; None for one that is absent."""
        return self._values.get(name)

    def only(self, known: Collection[str]) -> None:
        """Raises InvalidRequest for a name outside `known` that carries something."""
        for name, value in self._values.items():
            if name not in known and value is not None and value not in ([], {}, ""):
                raise self.fail(_shown(name), "is not supported here; leave it out")

    # ---- one value

    def text(self, name: str, high: int = MAX_TEXT, low: int = 1) -> str:
        """A text of `low` to `high` UTF-8 bytes."""
        value = self._required(name, f"text of {low} to {high} bytes")
        return check_text(value, self.path(name), high, low)

    def text_or(self, name: str, default: T, high: int = MAX_TEXT, low: int = 1) -> str | T:
        """As `text`."""
        return self.text(name, high, low) if self.has(name) else default

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._required(name, f"a whole number from {low} to {high}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(name, f"is {_kind(value)}; expected a whole number from {low} to {high}")
        return value

    def integer_or(self, name: str, default: T, low: int, high: int) -> int | T:
        """As `integer`."""
        return self.integer(name, low, high) if self.has(name) else default

    def number_or(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self._values.get(name, default)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(name, f"is {_kind(value)}; expected a number from {low:g} to {high:g}")
        return float(value)

    def flag_or(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fail(name, f"is {_kind(value)}; expected true or false")
        return default if value is None else value

    def choice_or(self, name: str, default: str, choices: Collection[str]) -> str:
        """One of `choices`."""
        value = self._values.get(name)
        if value is not None and (not isinstance(value, str) or value not in choices):
            raise self.fail(name, f"is {_kind(value)}; expected one of {', '.join(choices)}")
        return default if value is None else str(value)

    # ---- what is made of values

    def object_or_none(self, name: str) -> Fields | None:
        """An object within this one."""
        value = self._values.get(name)
        if value is None:
            return None
        return self._as_fields(value, self.path(name))

    def objects(self, name: str, low: int, high: int) -> Iterator[Fields]:
        """A list of `low` to `high` objects."""
        for index, value in enumerate(self._list(name, low, high)):
            yield self._as_fields(value, f"{self.path(name)}[{index}]")

    def texts(self, name: str, low: int, high: int, size: int = 256) -> tuple[str, ...]:
        """A list of `low` to `high` texts, each of 1 to `size` bytes."""
        found = enumerate(self._list(name, low, high))
        return tuple(check_text(value, f"{self.path(name)}[{index}]", size) for index, value in found)

    def _list(self, name: str, low: int, high: int) -> Sequence[Any]:
        value = self._required(name, f"a list of {low} to {high}") if low else self._values.get(name) or []
        if not isinstance(value, list):
            raise self.fail(name, f"is {_kind(value)}; expected a list")
        if not low <= len(value) <= high:
            raise self.fail(name, f"has {len(value)} items; expected {low} to {high}")
        return value

    def _required(self, name: str, expected: str) -> Any:
        value = self._values.get(name)
        if value is None:
            raise self.fail(name, f"is missing; expected {expected}")
        return value

    def _as_fields(self, value: Any, path: str) -> Fields:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{path} is {_kind(value)}; expected an object", path)
        return Fields(value, path)


def check_text(value: Any, path: str, high: int, low: int = 1) -> str:
    """`value` as text of `low` to `high` UTF-8 bytes. Raises InvalidRequest naming `path`."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{path} is {_kind(value)}; expected text", path)
    try:
        size = len(value.encode())
    except UnicodeEncodeError as wrong:
        raise InvalidRequest(f"{path} is not valid text: lone surrogate at {wrong.start}", path) from None
    if not low <= size <= high:
        raise InvalidRequest(f"{path} has {size} bytes; expected {low} to {high}", path)
    return value


def _kind(value: Any) -> str:
    """A value as an error may show it: scalars as they are, cut; the others by their kind."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return "not a finite number"
        case int() | float():
            return f"{value}" if isinstance(value, float) or abs(value) < 1 << 128 else "a huge number"
        case str():
            return _shown(json.dumps(value))
        case list():
            return "a list"
        case dict():
            return "an object"
    return type(value).__name__


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
