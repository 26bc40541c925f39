"""From a TOML table to a frozen dataclass, and from a wrong key to the line that it stands in.

Rules of this file: unknown keys, wrong types, numbers that are no numbers and values out of their bounds are
errors that name the key. Bounds stand with the fields (`above`, `between`), so they cannot be forgotten in a
check elsewhere; each number has two, the upper one far above what anybody runs, so that a slip of the finger
is told before it takes the machine's memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from ...protocol.errors import ConfigError

MOST_SHOWN = 10**30
Table = Mapping[str, Any]
Bounds = Mapping[str, tuple[float, float]]
T = TypeVar("T")
_HEADER = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")


class WrongKey(ConfigError):
    """A value that no scenario can have, and the dotted key that it stands under."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def above(least: float, most: float, default: Any) -> Any:
    """A field whose value must be greater than `least`, and at most `most`."""
    return field(default=default, metadata={"above": least, "most": most})


def between(least: float, most: float, default: Any) -> Any:
    """A field whose value must lie within both, which are allowed."""
    return field(default=default, metadata={"least": least, "most": most})


def one_of(choices: tuple[str, ...], default: str) -> Any:
    """A field whose value must be one of these words."""
    return field(default=default, metadata={"choices": choices})


def read_table(cls: type[T], table: Table, where: str = "", bounds: Bounds | None = None) -> T:
    """A dataclass from a TOML table, with nested ones from its tables. `bounds` are those of fields that have
    none, by name; a nested dataclass of another room gets them from its field's metadata, as "bounds".

    Raises WrongKey.
    """
    hints = get_type_hints(cls)
    names = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            raise WrongKey(f"{where}{key}", f"unknown key {where}{key}; known: {', '.join(names)}")
    for name, each in names.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            raise WrongKey(f"{where}{name}", f"{where}{name} is missing")
    limits = {key: dict(names[key].metadata) | _limits(bounds, key) for key in table}
    values = {key: _value(hints[key], limits[key], table[key], f"{where}{key}") for key in table}
    try:
        return cls(**values)
    except ConfigError as error:  # the class's own checks, of which the message quotes the value
        guilty = next((key for key, value in values.items() if repr(value) in str(error)), "")
        raise WrongKey(f"{where}{guilty}".rstrip("."), str(error)) from error


def _limits(bounds: Bounds | None, key: str) -> dict[str, Any]:
    return dict(zip(("least", "most"), bounds[key], strict=True)) if bounds and key in bounds else {}


def _value(kind: Any, limits: Table, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(value, dict):
        return read_table(kind, value, f"{where}.", limits.get("bounds"))  # type: ignore[arg-type]
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = _to_float(value, where)
    if isinstance(value, list) and tuple in {getattr(kind, "__origin__", kind) for kind in kinds}:
        value = _to_tuple(value, where)
    elif type(value) not in kinds:
        wanted = " or ".join(getattr(one, "__name__", str(one)) for one in kinds if one is not type(None))
        raise WrongKey(where, f"{where} is {value!r}; it must be a value of type {wanted}")
    _check_bounds(limits, value, where)
    return value


def _to_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise WrongKey(where, f"{where} is {shown(value)}; it must be a finite number") from error


def _to_tuple(values: list[Any], where: str) -> tuple[Any, ...]:
    """Lists of numbers, and lists of such lists, unchangeable."""
    made = tuple(_to_tuple(each, where) if isinstance(each, list) else each for each in values)
    for each in made:
        if isinstance(each, bool) or not isinstance(each, int | float | str | tuple):
            raise WrongKey(where, f"{where} holds {each!r}; it must hold numbers")
        if isinstance(each, int | float) and not math.isfinite(each):
            raise WrongKey(where, f"{where} holds {each}; it must hold finite numbers")
    return made


def _check_bounds(limits: Table, value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongKey(where, f"{where} is {value}; it must be a finite number")
    if "choices" in limits and value not in limits["choices"]:
        raise WrongKey(where, f"{where} is {value!r}; choose one of: {', '.join(limits['choices'])}")
    if not isinstance(value, int | float):
        return
    if "above" in limits and not value > limits["above"]:
        raise WrongKey(where, f"{where} is {shown(value)}; it must be above {shown(limits['above'])}")
    if "least" in limits and value < limits["least"]:
        raise WrongKey(where, f"{where} is {shown(value)}; it must be at least {shown(limits['least'])}")
    if "most" in limits and value > limits["most"]:
        raise WrongKey(where, f"{where} is {shown(value)}; it must be at most {shown(limits['most'])}")


def shown(value: float) -> str:
    """A number for people."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < MOST_SHOWN else f"a number of {len(str(abs(value)))} digits"
    return f"{value:g}"


def within(key: str, number: float, most: float, what: str) -> None:
    """Several keys together give a number, such as the asks of a run, that a machine can bear. Raises
    WrongKey."""
    if number > most:
        raise WrongKey(key, f"{key} gives {number:,.4g} {what}, more than {shown(most)}")


def line_of(text: str, key: str) -> int | None:
    """The line (from 1) in which a TOML text sets a dotted key, or the table that would hold it; in a sweep
    of that key, the sweep's. None if nothing of it stands there."""
    lines = dict(_keys_of(text))
    for name in (f"sweep.{key}", key):
        if name in lines:
            return lines[name]
    parent, _, _ = key.rpartition(".")
    return line_of(text, parent) if parent else None


def _keys_of(text: str) -> Iterator[tuple[str, int]]:
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(line):
            table = _plain(found[1])
            yield table, number
        elif found := _KEY.match(line):
            yield f"{table}.{_plain(found[1])}" if table else _plain(found[1]), number


def _plain(dotted: str) -> str:
    return re.sub(r"""["']|\s""", "", dotted)
