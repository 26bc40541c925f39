"""What commands print: tables and facts for people, one JSON value for programs.

Answers go to stdout, the rest to stderr.

rich is imported on first use: it costs 50 ms that `--json` and `--help` need not pay."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_OBEYED = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_HARMLESS = dict.fromkeys(_OBEYED, "\N{REPLACEMENT CHARACTER}") | {ord(kept): kept for kept in "\n\t"}
"""Controls that move a terminal's cursor, set its title or turn the order of letters round."""


def harmless(text: str) -> str:
    """Text from elsewhere without what a terminal obeys; line breaks and tabs stay."""
    return text.translate(_HARMLESS)


def print_json(value: object) -> None:
    """One JSON value on one line of stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, aligned, one a line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {shown(value)}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under their names, never wrapped: ids can be copied. Numbers stand to the right."""
    content = [list(row) for row in rows]
    numeric = [bool(content) and all(type(row[n]) is int for row in content) for n in range(len(columns))]
    for line in aligned([columns, *([shown(value) for value in row] for row in content)], numeric):
        print(line)


def aligned(lines: Sequence[Sequence[str]], to_the_right: Sequence[bool], gap: str = "  ") -> Iterator[str]:
    """Lines of cells as text, every column as wide as its widest cell."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(to_the_right))]
    for line in lines:
        cells = zip(line, widths, to_the_right, strict=True)
        yield gap.join(f"{text:>{w}}" if right else f"{text:<{w}}" for text, w, right in cells).rstrip()


def console(*, stderr: bool = False) -> Console:
    """Where rich prints; names and texts from elsewhere are never read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)


def say(text: str) -> None:
    """A remark for the person, on stderr."""
    print(harmless(text), file=sys.stderr, flush=True)


def shown(value: Any) -> str:
    """A value as people read it: amounts with thousands separated, lists with commas, nothing as a dash; on
    one line, and harmless."""
    match value:
        case None | "" | [] | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        case list() | tuple():
            return ", ".join(shown(item) for item in value)
    return " ".join(harmless(str(value)).splitlines())


def one_line(value: Any) -> Any:
    """Nested values on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one_line(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(str(one_line(item)) for item in value)
    return value


def fact(name: str, value: Any) -> tuple[str, object]:
    """As people read it: what ends in `_ms` is a moment, here a date in this machine's time zone."""
    if name.endswith("_ms") and isinstance(value, int):
        moment = datetime.fromtimestamp(value / 1000).astimezone()
        return name.removesuffix("_ms"), moment.isoformat(" ", "seconds")
    return name, one_line(value)
