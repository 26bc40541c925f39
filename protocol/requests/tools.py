"""Tools in a conversation: what may be called, what a model called, and what came back.

Rules of this file:

- They are turns like others, so a prompt's root, its price and who is shown it cover them. A turn of role
  `tools` holds the definitions (one at most; JSON, OpenAI's `tools`), one of role `calls` what the model
  called after it had said the turn before (JSON: name and arguments of each), and the turns of role `tool`
  right behind it what its calls gave back, one each, in their order. How a model reads all that is its chat
  template's to say.
- A call is named by sha2-256 of the canonical CBOR of [name, arguments, result]: a receipt says so which
  results were in the prompt, and shows none. A result without text was not in it.
- Tools are recorded and earn nothing (`channels`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..encoding.codec import encode_value
from ..encoding.untrusted_json import load_json
from ..errors import RemoteProtocolError
from ..ids import ZERO_ADDRESS
from .prompt_parts import TOOL
from .records import MAX_ROWS_SHOWN, ChatMessage, Prompt, PromptPart

TOOLS, CALLS, RESULT = "tools", "calls", "tool"
MAX_TOOLS = 64
MAX_CALLS = MAX_ROWS_SHOWN
"""In one conversation."""
MAX_TOOLS_BYTES = 32_768
MAX_NAME = 64
MAX_ARGUMENTS_BYTES = 16_384
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model called. `arguments` is its own text, JSON where it kept to the rules."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave back, and in which turn that stands."""

    turn: int
    call: ToolCall
    result: str

    @property
    def digest(self) -> bytes:
        """Its name, 32 bytes."""
        named = encode_value([self.call.name, self.call.arguments, self.result])
        return hashlib.sha256(named).digest()


def tools_turn(definitions: Sequence[Any]) -> ChatMessage:
    """The turn that holds these definitions."""
    return ChatMessage(TOOLS, _dump(list(definitions)))


def calls_turn(calls: Sequence[ToolCall]) -> ChatMessage:
    """The turn that holds these calls."""
    return ChatMessage(CALLS, _dump([{"name": call.name, "arguments": call.arguments} for call in calls]))


def read_tools(content: str) -> list[Any]:
    """The definitions in a turn. Raises RemoteProtocolError."""
    found = _load(content, MAX_TOOLS_BYTES, "definitions of tools")
    if not 0 < len(found) <= MAX_TOOLS or not all(isinstance(each, dict) for each in found):
        raise RemoteProtocolError(f"definitions of tools are a list of 1 to {MAX_TOOLS} objects")
    return found


def read_calls(content: str) -> tuple[ToolCall, ...]:
    """The calls in a turn. Raises RemoteProtocolError."""
    found = _load(content, MAX_CALLS * (MAX_ARGUMENTS_BYTES + 256), "calls of tools")
    calls = tuple(_read_call(each) for each in found)
    if not 0 < len(calls) <= MAX_CALLS:
        raise RemoteProtocolError(f"{len(calls)} calls of tools in one turn; 1 to {MAX_CALLS} may be")
    return calls


def tool_results(messages: Sequence[ChatMessage]) -> tuple[ToolResult, ...]:
    """What tools gave back in a conversation. Raises RemoteProtocolError unless each call of a turn is
    answered by one turn right behind it, and nothing else is called a tool's.
    """
    found: list[ToolResult] = []
    waiting: list[ToolCall] = []
    for turn, message in enumerate(messages):
        if message.role == RESULT:
            if not waiting:
                raise RemoteProtocolError(f"turn {turn} is a tool's result, and no call waits for one")
            found.append(ToolResult(turn, waiting.pop(0), message.content))
        elif waiting:
            raise RemoteProtocolError(f"the call of {waiting[0].name!r} has no result before turn {turn}")
        elif message.role == CALLS:
            waiting = list(read_calls(message.content))
        elif message.role == TOOLS:
            read_tools(message.content)
    if waiting:
        raise RemoteProtocolError(f"the call of {waiting[0].name!r} has no result")
    if len(found) > MAX_CALLS:
        raise RemoteProtocolError(f"{len(found)} results of tools; at most {MAX_CALLS} may be in a prompt")
    if sum(message.role == TOOLS for message in messages) > 1:
        raise RemoteProtocolError("tools are defined in one turn")
    return tuple(found)


def tool_parts(messages: Sequence[ChatMessage]) -> tuple[PromptPart, ...]:
    """The parts of a prompt that tools gave: whole turns. Raises RemoteProtocolError as `tool_results`."""
    return tuple(
        PromptPart(TOOL, found.digest, ZERO_ADDRESS, None, found.turn, 0, len(found.result))
        for found in tool_results(messages)
        if found.result
    )


def with_tool_parts(messages: Sequence[ChatMessage], parts: Sequence[PromptPart]) -> tuple[PromptPart, ...]:
    """These parts of a prompt and those that its tools gave, in the order of the text. Raises
    RemoteProtocolError.
    """
    others = [part for part in parts if part.channel != TOOL]
    return tuple(sorted([*others, *tool_parts(messages)], key=lambda part: (part.turn, part.start)))


def check_tools(prompt: Prompt) -> None:
    """Raises RemoteProtocolError unless a prompt names just what tools gave in it."""
    named = tuple(part for part in prompt.parts if part.channel == TOOL)
    if named != tool_parts(prompt.messages):
        raise RemoteProtocolError("a prompt names each result of a tool in it, and nothing else as one")


def _read_call(entry: Any) -> ToolCall:
    fields = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
    name, arguments = fields.get("name"), fields.get("arguments")
    if len(fields) != 2 or not isinstance(name, str) or not isinstance(arguments, str):
        raise RemoteProtocolError("a call of a tool is its name and its arguments, two texts")
    if not 0 < _size(name) <= MAX_NAME or not 0 <= _size(arguments) <= MAX_ARGUMENTS_BYTES:
        raise RemoteProtocolError(
            f"a tool's name is text of 1 to {MAX_NAME} bytes, its arguments of up to {MAX_ARGUMENTS_BYTES}"
        )
    return ToolCall(name, arguments)


def _size(text: str) -> int:
    """Its bytes; -1 for what is no text."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def _load(content: str, most: int, what: str) -> list[Any]:
    if len(content) > most:
        raise RemoteProtocolError(f"{what} of {len(content)} letters; at most {most} may be")
    try:
        found = load_json(content, constant=_refuse_constant)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"{what} are not JSON") from None
    if not isinstance(found, list):
        raise RemoteProtocolError(f"{what} are not a list")
    listed: list[Any] = [*found]
    _check_depth(listed, what)
    return listed


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check_depth(value: list[Any], what: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _inside(each)]
        if not level:
            return
    raise RemoteProtocolError(f"{what} are nested deeper than {MAX_DEPTH} levels")


def _inside(value: Any) -> list[Any]:
    """The lists and objects right inside one."""
    held = cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
    return [child for child in held if isinstance(child, dict | list)]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
