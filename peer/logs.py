"""Structured logs: JSON lines under the home, only warnings on stderr, and never a secret in either.

Rules of this file:

- A module logs to `logging.getLogger(__name__)`; facts go into `extra={...}` and become keys of the line.
- Whoever holds a secret tells `keep_secret`. A line that would show one, in any common spelling, says
  `[secret]`.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 8 * 1024 * 1024
LOG_FILES = 3
MIN_SECRET_BYTES = 6
"""Shorter values would be cut out of innocent text."""
HIDDEN = "[secret]"
SECRET_KEYS = frozenset(
    {"secret", "seed", "passphrase", "password", "api_key", "authorization", "private_key"}
)
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_secrets: set[str] = set()


def keep_secret(value: bytes | str) -> None:
    """From now on no log line of this process shows `value`, nor its hexadecimal or base64 text."""
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) < MIN_SECRET_BYTES:
        return
    _secrets.add(raw.hex())
    _secrets.add(base64.b64encode(raw).decode().rstrip("="))
    _secrets.add(base64.urlsafe_b64encode(raw).decode().rstrip("="))
    _secrets.add(value if isinstance(value, str) else repr(value)[2:-1])


def without_secrets(text: str) -> str:
    """`text` with every kept secret hidden."""
    for secret in sorted(_secrets, key=len, reverse=True):  # a secret may lie within another
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the record's extra facts, any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        for key, value in vars(record).items():
            if key not in _PLAIN:
                line[key] = HIDDEN if key.lower() in SECRET_KEYS else value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, default=_spell, ensure_ascii=False))


class PlainLines(logging.Formatter):
    """What a person reads on stderr: level and message, one line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return without_secrets(f"{record.levelname.lower()}: {record.getMessage()}")


def _spell(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


@contextmanager
def open_logs(
    folder: Path, level: str = "info", *, name: str = "node", verbose: bool = False
) -> Iterator[Path]:
    """Log into `folder`/`name`.jsonl at `level` while the block lasts; stderr gets warnings, or all
    (`verbose`).

    Third-party loggers are heard from warnings on, and only in the file.
    """
    path = folder / f"{name}.jsonl"
    own, root = logging.getLogger("commonlore"), logging.getLogger()
    file = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    file.setFormatter(JsonLines())
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(PlainLines())
    screen.setLevel(level.upper() if verbose else logging.WARNING)
    before = own.level
    own.setLevel(level.upper())
    own.addHandler(screen)
    root.addHandler(file)
    try:
        yield path
    finally:
        own.setLevel(before)
        own.removeHandler(screen)
        root.removeHandler(file)
        file.close()
