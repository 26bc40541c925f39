"""A conversation as chat templates want it: turns as mappings, tools with their definitions and calls.

Rules of this file: what a template does with tools is read from its own text. One that has no `tools` takes
no definitions: they are refused, as the model would never see them. One that has no `tool_calls` is told a
call as models were taught to write it, within <tool_call> marks, as text of the assistant's turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...protocol.encoding.untrusted_json import load_json
from ...protocol.errors import Refused
from ...protocol.inference.messages import RefusalCode
from ...protocol.requests.records import ChatMessage
from ...protocol.requests.tools import CALLS, RESULT, TOOLS, ToolCall, read_calls, read_tools


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template takes."""

    tools: bool
    tool_calls: bool


@dataclass(frozen=True, slots=True)
class TemplateTurns:
    """What a template is rendered with."""

    messages: list[dict[str, Any]]
    tools: list[Any] | None


def template_turns(messages: Sequence[ChatMessage], traits: TemplateTraits) -> TemplateTurns:
    """The turns of a conversation. Raises Refused(invalid) where this template takes no tools,
    RemoteProtocolError where a turn of tools is malformed.
    """
    turns: list[dict[str, Any]] = []
    tools: list[Any] | None = None
    waiting: list[dict[str, Any]] = []
    for message in messages:
        if message.role == TOOLS:
            tools = read_tools(message.content)
        elif message.role == CALLS:
            waiting = _add_calls(turns, read_calls(message.content), traits)
        elif message.role == RESULT:
            named = waiting.pop(0) if waiting else {}
            turns.append({"role": RESULT, "content": message.content, **named})
        else:
            turns.append({"role": message.role, "content": message.content})
    if tools is not None and not traits.tools:
        raise Refused(
            RefusalCode.INVALID,
            "this base takes no tools: its chat template has no place for their definitions; leave out tools",
            retryable=False,
        )
    return TemplateTurns(turns, tools)


def _add_calls(
    turns: list[dict[str, Any]], calls: Sequence[ToolCall], traits: TemplateTraits
) -> list[dict[str, Any]]:
    """Put calls into the assistant's turn that they end; what names each to the turn of its result."""
    if not turns or turns[-1]["role"] != "assistant" or "tool_calls" in turns[-1]:
        turns.append({"role": "assistant", "content": ""})
    turn = turns[-1]
    named = [
        {"name": call.name, "tool_call_id": f"call{number:05d}"}
        for number, call in enumerate(calls, len(turns))
    ]
    if traits.tool_calls:
        turn["tool_calls"] = [
            {"id": each["tool_call_id"], "type": "function", "function": _function(call)}
            for each, call in zip(named, calls, strict=True)
        ]
    else:
        written = [
            f"<tool_call>\n{json.dumps(_function(call), ensure_ascii=False)}\n</tool_call>" for call in calls
        ]
        turn["content"] = "\n".join([turn["content"], *written] if turn["content"] else written)
    return cast(list[dict[str, Any]], named)


def _function(call: ToolCall) -> dict[str, Any]:
    """Arguments as a mapping, which templates write as JSON; else as the text that they are."""
    try:
        arguments = load_json(call.arguments)
        json.dumps(arguments, ensure_ascii=False).encode()  # no lone surrogates: no tokenizer takes them
    except (ValueError, RecursionError):
        arguments = call.arguments
    return {"name": call.name, "arguments": arguments if isinstance(arguments, dict) else call.arguments}
