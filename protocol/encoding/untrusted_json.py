"""JSON from strangers: parsed so that its nesting cannot end the process.

The parser in C recurses as deep as Python's recursion limit allows, and libraries raise that limit for the
whole process (web3's py_ecc, to 100,000): far beyond what the C stack holds. A body of open brackets would
then be a segmentation fault, which nobody can catch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

MAX_FRAMES = 1_000
"""Python's own default limit."""


def load_json(
    text: str | bytes,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
) -> Any:
    """`json.loads` with its hooks for objects and for NaN and the infinities.

    Raises ValueError for what is not JSON, RecursionError for what is nested too deep.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(min(limit, MAX_FRAMES))
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    finally:
        sys.setrecursionlimit(limit)
