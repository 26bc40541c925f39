"""A worker's log of asks for whoever studies it: one line of JSON for each that was answered, with its times.

Rules of this file: no prompts, no answers, no payers; milliseconds from the ask's arrival, by a clock that
never jumps. `simulations.studies.calibration` reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(slots=True)
class ServedTimes:
    """One ask. `arrived_ms` is Unix time; `running` counts the asks served here when it came, it included;
    `held` says whether its adapters were ready; `ready_ms`, `first_ms` and `last_ms` are when they were, and
    when the first and the last token came. `delivered` output tokens came from other workers before."""

    arrived_ms: int
    running: int
    held: bool
    adapter: str | None = None
    prompt_tokens: int = 0
    delivered: int = 0
    output_tokens: int = 0
    ready_ms: float = 0.0
    first_ms: float = 0.0
    last_ms: float = 0.0
    finish: str = ""


class RequestLog:
    """Appends to a file; without one it does nothing."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises OSError where the file cannot be written."""
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def note(self, times: ServedTimes) -> None:
        """Write a line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(times)) + "\n")
