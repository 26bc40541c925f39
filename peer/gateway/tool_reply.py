"""What a model called, read from its answer's text: `<tool_call>{"name": …, "arguments": …}</tool_call>`.

Rules of this file: models of several families write calls so (Hermes, Qwen, SmolLM), and nothing else is read
as one. What stands within the marks and is no call stays text. Of a stream everything from the first mark on
is held back until the answer ends.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ...protocol.encoding.untrusted_json import load_json
from ...protocol.requests.tools import MAX_ARGUMENTS_BYTES, MAX_CALLS
from .conversation import TOOL_NAME

MARK = "<tool_call>"
_END = "</tool_call>"
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>\s*", re.DOTALL)


class CallSieve:
    """Takes an answer's text as it comes; gives what of it can be no call."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be shown now."""
        self._held += text
        place = self._held.find(MARK)
        if place < 0:
            place = len(self._held) - _begun(self._held)
        shown, self._held = self._held[:place], self._held[place:]
        return shown

    def end(self, reply_id: str) -> tuple[str, list[dict[str, Any]]]:
        """The rest of the text, and the calls in OpenAI's form."""
        return split_calls(self._held, reply_id)


def split_calls(text: str, reply_id: str) -> tuple[str, list[dict[str, Any]]]:
    """An answer's text without its calls, and these; ids are made of the reply's."""
    calls: list[dict[str, Any]] = []

    def take(found: re.Match[str]) -> str:
        function = _function(found.group(1))
        if function is None or len(calls) == MAX_CALLS:
            return found.group(0)
        name = f"call_{reply_id.rpartition('-')[2]}_{len(calls)}"
        calls.append({"id": name, "type": "function", "function": function})
        return ""

    closed, end, after = text.rpartition(_END)  # behind the last end no call is looked for: linear in time
    rest = _CALL.sub(take, closed + end) + (after.lstrip() if calls else after)
    return (rest.rstrip() if calls else rest), calls


def _begun(text: str) -> int:
    """How many letters at the end may be the beginning of a mark."""
    return next((size for size in range(len(MARK) - 1, 0, -1) if text.endswith(MARK[:size])), 0)


def _function(text: str) -> dict[str, str] | None:
    try:
        found = load_json(text)
        name, arguments = found.get("name"), found.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        size = len(written.encode())
    except (AttributeError, ValueError, RecursionError):
        return None
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name) or size > MAX_ARGUMENTS_BYTES:
        return None  # what no client could send back as a call
    return {"name": name, "arguments": written}
