"""Tools through OpenAI's door: definitions, calls, results, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from commonlore.peer.gateway.chat_request import read_chat_request
from commonlore.peer.gateway.control_orders import read_ask
from commonlore.peer.gateway.conversation import MAX_MESSAGES
from commonlore.peer.gateway.errors import InvalidRequest, envelope
from commonlore.peer.gateway.fields import Fields
from commonlore.peer.gateway.tool_reply import CallSieve, split_calls
from commonlore.protocol.errors import Refused
from commonlore.protocol.inference.messages import RefusalCode
from commonlore.protocol.requests.records import ChatMessage
from commonlore.protocol.requests.tools import ToolCall, calls_turn, tool_results, tools_turn

ASKED = {"role": "user", "content": "Is it warm?"}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


def call(name: str, called: str = "weather", arguments: str = "{}") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": called, "arguments": arguments}}


def result(name: str, content: Any = "31") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [call("a", arguments='{"city":"Bern"}'), call("b", "clock")],
}
BODY = {"model": "m", "messages": [ASKED]}


def read(**changes: Any) -> Any:
    return read_chat_request(Fields({**BODY, **changes}), lambda count: b"\x07" * count)


def test_a_conversation_with_tools_becomes_turns() -> None:
    parts = [{"type": "text", "text": "12"}, {"type": "text", "text": "00"}]
    wanted = read(
        messages=[
            {"role": "developer", "content": "s"},
            ASKED,
            CALLED,
            result("b", parts),
            result("a"),
            ASKED,
        ],
        tools=[TOOL],
    )
    calls = [ToolCall("weather", '{"city":"Bern"}'), ToolCall("clock", "{}")]
    asked = ChatMessage("user", "Is it warm?")
    assert wanted.messages == (
        ChatMessage("system", "s"), tools_turn([TOOL]), asked, calls_turn(calls),
        ChatMessage("tool", "31"), ChatMessage("tool", "12\n00"), asked,
    )  # fmt: skip
    assert [(each.call.name, each.result) for each in tool_results(wanted.messages)] == [
        ("weather", "31"),
        ("clock", "12\n00"),
    ], "results in the order of their calls, whatever order they came in"
    assert wanted.has_tools


def test_what_an_assistant_said_stands_before_its_calls() -> None:
    said = read(
        messages=[ASKED, {**CALLED, "content": "I look.", "refusal": None}, result("a"), result("b", "")]
    )
    assert [turn.role for turn in said.messages] == ["user", "assistant", "calls", "tool", "tool"]
    assert said.messages[-1].content == ""
    assert not said.has_tools


def test_tools_that_may_not_be_called_are_not_shown() -> None:
    assert read(tools=[TOOL], tool_choice="none").messages == read().messages
    assert read(tools=[], tool_choice="auto").messages == read().messages
    assert read(tools=[TOOL], tool_choice="auto").messages[0] == tools_turn([TOOL])


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


def called(*calls: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {**CALLED, "tool_calls": list(calls)}]}


LARGE = [
    {"type": "function", "function": {"name": f"x{n}", "parameters": {"a": "y" * 9_000}}} for n in range(4)
]
FORCED = {"type": "function", "function": {"name": "weather"}}
WRONG = [
    ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "expected one of function"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
    (tool(name="a b"), "tools[0].function.name", "letters, digits"),
    (tool(name="x" * 65), "tools[0].function.name", "65 bytes"),
    (tool(name="x", strict=True), "tools[0].function.strict", "not supported"),
    (tool(name="x", parameters=[]), "tools[0].function.parameters", "expected an object"),
    (tool(name="x", parameters={"a": "\ud800"}), "tools[0].function.parameters", "lone surrogate"),
    ({"tools": [TOOL, TOOL]}, "tools", "one name twice"),
    ({"tools": [TOOL] * 65}, "tools", "has 65 items"),
    ({"tools": LARGE}, "tools", "at most 32768"),
    (
        {"tools": [TOOL], "tool_choice": "required"},
        "tool_choice",
        'is "required"; expected one of none, auto',
    ),
    ({"tools": [TOOL], "tool_choice": FORCED}, "tool_choice", "is an object"),
    ({"functions": [FUNCTION]}, "functions", "is not supported here"),
    ({"messages": [ASKED, CALLED, result("a")]}, "messages[1].tool_calls[1].id", "role tool before the end"),
    ({"messages": [ASKED, CALLED, result("a"), ASKED]}, "messages[1].tool_calls[1].id", "before messages[3]"),
    ({"messages": [ASKED, CALLED, result("a"), result("a")]}, "messages[3].tool_call_id", "has its result"),
    ({"messages": [ASKED, result("a")]}, "messages[1].tool_call_id", "names no call"),
    ({"messages": [ASKED, CALLED, result("a", None)]}, "messages[2].content", "is missing"),
    (called(call("a"), call("a")), "messages[1].tool_calls[1].id", "names another call"),
    (called({"id": "a"}), "messages[1].tool_calls[0].function", "is missing"),
    (
        called(call("a", arguments="x" * 16_385)),
        "messages[1].tool_calls[0].function.arguments",
        "16385 bytes",
    ),
    ({"messages": [{**ASKED, "tool_calls": [call("a")]}]}, "messages[0].tool_calls", "is not supported here"),
    (called(*(call(str(n)) for n in range(65))), "messages[1].tool_calls", "has 65 items"),
]


@pytest.mark.parametrize(("changes", "param", "says"), WRONG)
def test_what_is_wrong_is_named(changes: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(**changes)
    assert raised.value.param == param
    assert says in str(raised.value)


def test_turns_are_few_with_their_calls() -> None:
    one = [{**CALLED, "content": "x", "tool_calls": [call("a")]}, result("a")]
    with pytest.raises(InvalidRequest, match="make 258 turns"):
        read(messages=[*one * 60, *[ASKED] * (MAX_MESSAGES + 2 - 180)])


async def test_an_ask_takes_what_tools_gave_back() -> None:
    given = [{"name": "weather", "result": "31"}, {"name": "clock", "arguments": "{}", "result": "12"}]
    options = await read_ask(Fields({"prompt": "?", "tool_results": given}), None, lambda n: bytes(n))  # type: ignore[arg-type]
    assert [turn.role for turn in options.messages] == ["user", "calls", "tool", "tool"]
    assert [each.call for each in tool_results(options.messages)] == [
        ToolCall("weather", "{}"),
        ToolCall("clock", "{}"),
    ]
    for wrong in (
        {"prompt": "?", "tool_results": [{"name": "a b", "result": "x"}]},
        {"messages": [ASKED], "tool_results": given},
    ):
        with pytest.raises(InvalidRequest):
            await read_ask(Fields(wrong), None, lambda n: bytes(n))  # type: ignore[arg-type]


def test_a_base_without_tools_is_openai_s_bad_request() -> None:
    """What a worker refuses comes as the error that OpenAI's clients know."""
    told = envelope(Refused(RefusalCode.INVALID, "this base takes no tools", retryable=False))["error"]
    assert (told["type"], told["code"], told["retryable"]) == ("invalid_request_error", "invalid", False)


# ---- what a model calls


WRITTEN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def test_calls_are_read_from_an_answer() -> None:
    text, calls = split_calls(f"I look.\n{WRITTEN}\n{WRITTEN}", "chatcmpl-12ab")
    assert text == "I look."
    assert [entry["id"] for entry in calls] == ["call_12ab_0", "call_12ab_1"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Bern"}
    assert read(
        messages=[
            ASKED,
            {"role": "assistant", "content": text, "tool_calls": calls},
            *(result(c["id"]) for c in calls),
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "no call",
        "<tool_call>{}</tool_call>",
        "<tool_call>{not JSON}</tool_call>",
        '<tool_call>{"name": 3}</tool_call>',
        '<tool_call>{"name": "x"',
        '<tool_call>{"name": "' + "x" * 65 + '"}</tool_call>',
        "<tool_call>" + '{"a":' * 3_000 + "}" * 3_000 + "</tool_call>",
        "a < b <tool",
        '<tool_call>{"name": "\\ud800"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "look up"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "' + "\u00e9" * 8_193 + '"}</tool_call>',
        "<tool_call>{" * 20_000,
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert split_calls(text, "chatcmpl-1") == (text, [])
    for size in (1, 3, 64):
        sieve = CallSieve()
        shown = "".join(sieve.feed(text[at : at + size]) for at in range(0, len(text), size))
        rest, calls = sieve.end("chatcmpl-1")
        assert (shown + rest, calls) == (text, [])


@pytest.mark.parametrize("size", [1, 4, 7, 1_000])
def test_of_a_stream_nothing_of_a_call_is_shown(size: int) -> None:
    sieve, text = CallSieve(), f"I look. <b>{WRITTEN}"
    shown = "".join(sieve.feed(text[at : at + size]) for at in range(0, len(text), size))
    assert shown == "I look. <b>"
    assert [entry["function"]["name"] for entry in sieve.end("chatcmpl-1")[1]] == ["weather"]
