"""A piece of work that fails says why and lets the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...protocol.errors import CommonloreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """What came of a piece of work that has no result: the reason, in a line."""

    reason: str


def attempt(act: Callable[..., T], arguments: tuple[Any, ...]) -> T | Broken:
    """`act(*arguments)`, or why it failed."""
    try:
        return act(*arguments)
    except Exception as error:
        return Broken(reason_of(error))


def reason_of(error: Exception) -> str:
    """An error in a line; of a defect, the line of code that it came from too."""
    text = " ".join(str(error).split())
    if isinstance(error, CommonloreError):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__} in {place}{': ' if text else ''}{text}"
