"""`messages` and `tools` of a request, as OpenAI spells them, and the turns that they become.

Rules of this file:

- A conversation's tools become turns of their own (`protocol.requests.tools`): definitions behind a system
  turn, calls behind what the assistant said, results in the order of their calls, whatever order they came
  in.
- An assistant's calls are answered by messages of role `tool` right behind it, one each: as OpenAI has it.
- `name` is taken and not used: the chat templates of the bases have no place for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...protocol.requests.records import ChatMessage
from ...protocol.requests.tools import (
    MAX_ARGUMENTS_BYTES,
    MAX_CALLS,
    MAX_NAME,
    MAX_TOOLS,
    MAX_TOOLS_BYTES,
    RESULT,
    ToolCall,
    calls_turn,
    tools_turn,
)
from .errors import InvalidRequest
from .fields import Fields, check_text

MAX_MESSAGES = 256
MAX_CONTENT = 65_536
MAX_ID = 128
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": RESULT}
_NAMES = ("role", "content", "name")
TOOL_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
"""What a tool may be called, in a definition, a call and an answer alike."""


def read_messages(fields: Fields) -> tuple[ChatMessage, ...]:
    """The conversation so far. Content is text, or parts of type text, which are joined by line breaks.

    Raises InvalidRequest.
    """
    conversation = _Conversation()
    for message in fields.objects("messages", 1, MAX_MESSAGES):
        conversation.read(message)
    conversation.end()
    if len(conversation.turns) > MAX_MESSAGES:
        raise fields.fail("messages", f"make {len(conversation.turns)} turns; at most {MAX_MESSAGES} may be")
    return tuple(conversation.turns)


def read_tools(fields: Fields) -> ChatMessage | None:
    """The turn that defines the tools which may be called; None where there are none, or none may be."""
    choice = fields.choice_or("tool_choice", "auto", ("none", "auto"))
    definitions = [_read_tool(tool) for tool in fields.objects("tools", 0, MAX_TOOLS)]
    names = [definition["function"]["name"] for definition in definitions]
    if len(set(names)) != len(names):
        raise fields.fail("tools", "define one name twice")
    turn = tools_turn(definitions)
    if (size := len(turn.content.encode())) > MAX_TOOLS_BYTES:
        raise fields.fail("tools", f"have {size} bytes; at most {MAX_TOOLS_BYTES} may be")
    return turn if definitions and choice == "auto" else None


def with_tools(messages: tuple[ChatMessage, ...], tools: ChatMessage | None) -> tuple[ChatMessage, ...]:
    """A conversation with the definitions behind its system turn."""
    if tools is None:
        return messages
    place = 1 if messages[0].role == "system" else 0
    return (*messages[:place], tools, *messages[place:])


def read_tool_results(fields: Fields) -> tuple[ChatMessage, ...]:
    """What tools gave back to a question, as `tool_results` has it: {name, arguments, result} each."""
    calls: list[ToolCall] = []
    results: list[ChatMessage] = []
    for entry in fields.objects("tool_results", 0, MAX_CALLS):
        entry.only(("name", "arguments", "result"))
        arguments = entry.text_or("arguments", "{}", high=MAX_ARGUMENTS_BYTES, low=0)
        calls.append(ToolCall(_name(entry), arguments))
        results.append(ChatMessage(RESULT, entry.text("result", high=MAX_CONTENT, low=0)))
    return (calls_turn(calls), *results) if calls else ()


class _Conversation:
    """The turns so far, and the calls that wait for their results, by id."""

    def __init__(self) -> None:
        self.turns: list[ChatMessage] = []
        self._calls = 0
        self._waiting: dict[str, str] = {}
        self._results: dict[str, str] = {}

    def read(self, fields: Fields) -> None:
        """One message."""
        role = fields.text("role", high=64)
        if role not in _ROLES:
            raise fields.fail("role", f"is {role!r}; expected one of {', '.join(_ROLES)}")
        if role == RESULT:
            return self._read_result(fields)
        self._end_calls(fields)
        if role == "assistant" and fields.raw("tool_calls") not in (None, []):
            return self._read_calls(fields)
        fields.only(_NAMES)
        self.turns.append(ChatMessage(_ROLES[role], _content(fields)))

    def end(self) -> None:
        """There is no more message. Raises InvalidRequest where a call has no result."""
        self._end_calls(None)

    def _read_calls(self, fields: Fields) -> None:
        fields.only((*_NAMES, "tool_calls", "refusal"))
        if fields.has("content") and (said := _content(fields)):
            self.turns.append(ChatMessage("assistant", said))
        calls: list[ToolCall] = []
        for entry in fields.objects("tool_calls", 1, MAX_CALLS - self._calls):
            entry.only(("id", "type", "function", "index"))
            name = entry.text("id", high=MAX_ID)
            if name in self._waiting:
                raise entry.fail("id", "names another call, too")
            self._waiting[name] = entry.path("id")
            calls.append(_read_call(entry))
        self._calls += len(calls)
        self.turns.append(calls_turn(calls))

    def _read_result(self, fields: Fields) -> None:
        fields.only((*_NAMES, "tool_call_id"))
        name = fields.text("tool_call_id", high=MAX_ID)
        if name not in self._waiting:
            raise fields.fail("tool_call_id", "names no call of the assistant's message before")
        if name in self._results:
            raise fields.fail("tool_call_id", "names a call that has its result")
        self._results[name] = _content(fields)

    def _end_calls(self, following: Fields | None) -> None:
        missing = [path for name, path in self._waiting.items() if name not in self._results]
        if missing:
            where = "the end" if following is None else following.path("role").rpartition(".")[0]
            told = f"{missing[0]} names a call without a message of role tool before {where}"
            raise InvalidRequest(told, missing[0])
        self.turns += [ChatMessage(RESULT, self._results[name]) for name in self._waiting]
        self._waiting, self._results = {}, {}


def _read_call(fields: Fields) -> ToolCall:
    fields.choice_or("type", "function", ("function",))
    function = fields.object_or_none("function")
    if function is None:
        raise fields.fail("function", "is missing; expected an object")
    function.only(("name", "arguments"))
    name = _name(function)
    return ToolCall(name, function.text_or("arguments", "", high=MAX_ARGUMENTS_BYTES, low=0))


def _read_tool(fields: Fields) -> Mapping[str, Any]:
    fields.only(("type", "function"))
    fields.choice_or("type", "function", ("function",))
    function = fields.object_or_none("function")
    if function is None:
        raise fields.fail("function", "is missing; expected an object")
    function.only(("name", "description", "parameters", "strict"))
    if function.flag_or("strict", False):
        raise function.fail("strict", "is not supported here; leave it out")
    made: dict[str, Any] = {"name": _name(function)}
    if function.has("description"):
        made["description"] = function.text("description", high=4_096, low=0)
    if function.has("parameters"):
        made["parameters"] = _schema(function)
    return {"type": "function", "function": made}


def _schema(fields: Fields) -> Any:
    """A JSON schema as it stands, whose texts are texts."""
    fields.object_or_none("parameters")
    value = fields.raw("parameters")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise fields.fail("parameters", "holds text that is not valid: a lone surrogate") from None
    return value


def _name(fields: Fields) -> str:
    name = fields.text("name", high=MAX_NAME)
    if not TOOL_NAME.fullmatch(name):
        raise fields.fail("name", f"is {name!r}; expected letters, digits, _ and - only")
    return name


def _content(fields: Fields) -> str:
    content: Any = fields.raw("content")
    path = fields.path("content")
    if isinstance(content, list):
        content = "\n".join(_read_part(part) for part in fields.objects("content", 1, 256))
    if content is None:
        raise InvalidRequest(f"{path} is missing; expected text", path)
    return check_text(content, path, high=MAX_CONTENT, low=0)


def _read_part(fields: Fields) -> str:
    kind = fields.text("type", high=64)
    if kind != "text":
        raise fields.fail("type", f"is {kind!r}; only parts of type text are supported")
    fields.only(("type", "text"))
    return fields.text("text", low=0)
