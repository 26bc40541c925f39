"""Recorded requests as workloads: when they came, and how many tokens went in and came out.

Formats, all of them small and read whole: `azure:FILE` is the CSV of Azure's LLM inference traces of 2023
(TIMESTAMP, ContextTokens, GeneratedTokens), `mooncake:FILE` a JSON object a line (timestamp in milliseconds,
input_length, output_length), `csv:FILE` any CSV with a header naming arrival_s, prompt_tokens and
output_tokens. The traces themselves are not part of this package.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..experiment.models import WorkModel
from ..experiment.tables import WrongKey

Ints = npt.NDArray[np.int64]
Row = tuple[float, int, int]
"""Seconds, prompt tokens, output tokens."""
KEY = "work.trace"
MOST_SECONDS, MOST_TOKENS = 1 << 40, 1 << 40
"""No recorded request is so far from 0, nor so long: larger numbers would not be whole microseconds."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival, the first at 0."""

    arrival_us: Ints
    prompt_tokens: Ints
    output_tokens: Ints


def check_trace(work: WorkModel) -> None:
    """Raises WrongKey unless the trace is of a known format."""
    form, colon, name = work.trace.partition(":")
    if work.trace and (form not in FORMATS or not colon or not name):
        known = ", ".join(f"{each}:FILE" for each in FORMATS)
        raise WrongKey(KEY, f"{KEY} is {work.trace!r}; write it like one of: {known}")


def locate_trace(work: WorkModel, folder: Path) -> WorkModel:
    """The same with an absolute path, from `folder` or from here, and the file read once to see that it is
    right.

    Raises WrongKey.
    """
    if not work.trace:
        return work
    form, _, name = work.trace.partition(":")
    path = folder / name if (folder / name).exists() else Path(name)
    located = replace(work, trace=f"{form}:{path.absolute()}")
    read_trace(located.trace)
    return located


def trace_files(work: WorkModel) -> tuple[str, ...]:
    """The file that the trace is in, if there is one."""
    return (work.trace.partition(":")[2],) if work.trace else ()


def read_trace(text: str) -> Trace:
    """The trace of `format:path`, read once as long as the file stays as it is.

    Raises WrongKey with the line of the file that is wrong.
    """
    form, _, name = text.partition(":")
    try:
        found = Path(name).stat()
    except OSError as error:
        raise WrongKey(KEY, f"{KEY}: {error}") from error
    return _read(form, name, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read(form: str, name: str, _changed_ns: int, _size: int) -> Trace:
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as lines:
            rows = list(FORMATS[form].rows(lines, name))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongKey(KEY, f"{KEY}: {error}") from error
    if not rows:
        raise WrongKey(KEY, f"{KEY}: {name} holds no requests")
    rows.sort(key=lambda row: row[0])
    seconds = np.array([row[0] for row in rows])
    arrivals = np.rint((seconds - seconds[0]) * 1e6).astype(np.int64)
    return Trace(arrivals, *(np.array([row[at] for row in rows], np.int64) for at in (1, 2)))


def _azure_row(row: list[str]) -> Row:
    came = datetime.fromisoformat(row[0][:26]).replace(tzinfo=UTC)  # the same on machines of every time zone
    return came.timestamp(), int(row[1]), int(row[2])


def _csv_row(row: list[str]) -> Row:
    return float(row[0]), int(row[1]), int(row[2])


def _mooncake_row(row: list[str]) -> Row:
    entry = json.loads(row[0])
    return entry["timestamp"] / 1000, int(entry["input_length"]), int(entry["output_length"])


def _records(lines: Iterator[str], name: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Each record with its line: the wanted columns of a CSV, or whole lines where none are named."""
    if not wanted:
        yield from ((line, [text]) for line, text in enumerate(lines, 1) if text.strip())
        return
    reader = csv.reader(lines)
    header = [column.strip() for column in next(reader, [])]
    missing = [column for column in wanted if column not in header]
    if missing:
        raise WrongKey(KEY, f"{name}, line 1: no column {missing[0]}; it must have {', '.join(wanted)}")
    places = [header.index(column) for column in wanted]
    for record in reader:
        if record:
            yield reader.line_num, [record[at] if at < len(record) else "" for at in places]


@dataclass(frozen=True, slots=True)
class Format:
    """The columns of a CSV (none: a JSON object a line), and a request from them."""

    columns: tuple[str, ...]
    row: Callable[[list[str]], Row]

    def rows(self, lines: Iterator[str], name: str) -> Iterator[Row]:
        """Every request. Raises WrongKey."""
        for line, record in _records(lines, name, self.columns):
            try:
                yield _checked(self.row(record))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise WrongKey(KEY, f"{name}, line {line}: not a request: {error}") from error


def _checked(row: Row) -> Row:
    seconds, prompt, output = row
    is_whole = 0 <= prompt <= MOST_TOKENS and 0 <= output <= MOST_TOKENS
    if not math.isfinite(seconds) or abs(seconds) > MOST_SECONDS or not is_whole:
        raise ValueError(f"time {seconds}, {prompt} prompt tokens, {output} output tokens")
    return row


FORMATS = {
    "azure": Format(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _azure_row),
    "mooncake": Format((), _mooncake_row),
    "csv": Format(("arrival_s", "prompt_tokens", "output_tokens"), _csv_row),
}
