"""Rows for a Datanet from a person's files: one JSON object a line, or CSV with a header.

Rules of this file: a file is read whole or not at all; what is wrong is named by file and line, before
anything is signed. UTF-8 only.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from ...protocol.content.manifests import MAX_ROW_BYTES, MAX_ROWS_PER_SHARD, MAX_SHARD_BYTES
from ...protocol.errors import InvalidShard, NotFound
from ...worker.factory.job import Pair

FIELDS = ("question", "answer")


def read_rows(path: Path) -> tuple[Pair, ...]:
    """The rows of a .jsonl or .csv file with `question` and `answer`.

    Raises NotFound, and InvalidShard naming the line.
    """
    text = _decoded(path)
    found = _csv(path, text) if path.suffix.lower() == ".csv" else _jsonl(path, text)
    rows = tuple(_checked(path, number, entry) for number, entry in found)
    if not rows:
        raise InvalidShard(f"{path} holds no rows; give a line with question and answer for each")
    if len(rows) > MAX_ROWS_PER_SHARD:
        raise InvalidShard(f"{path} holds {len(rows)} rows; a shard takes {MAX_ROWS_PER_SHARD}: divide it")
    return rows


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_SHARD_BYTES:
        raise InvalidShard(f"{path} has {len(data)} bytes; a shard takes {MAX_SHARD_BYTES}: divide it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidShard(f"{path}, line {line} is not UTF-8; save the file as UTF-8") from None


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidShard(f"{path}, line {number} is not JSON: {error}") from None


def _csv(path: Path, text: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not set(FIELDS) <= set(reader.fieldnames or ()):
        raise InvalidShard(f"{path} has no columns named question and answer in its first line")
    try:
        for row in reader:
            yield reader.line_num, {name: row[name] for name in FIELDS}
    except csv.Error as error:
        raise InvalidShard(f"{path}, line {reader.line_num} is not CSV: {error}") from None


def _checked(path: Path, number: int, entry: object) -> Pair:
    values = [entry.get(name) for name in FIELDS] if isinstance(entry, dict) else [None]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise InvalidShard(f"{path}, line {number} lacks a question or an answer, as text")
    question, answer = (str(value) for value in values)
    try:
        size = len(question.encode()) + len(answer.encode())
    except UnicodeEncodeError:
        raise InvalidShard(
            f"{path}, line {number} holds half of a surrogate pair, which is no text"
        ) from None
    if size > MAX_ROW_BYTES:
        raise InvalidShard(f"{path}, line {number} has {size} bytes of text; a row takes {MAX_ROW_BYTES}")
    return Pair(question, answer)
