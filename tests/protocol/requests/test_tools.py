"""Tools in a conversation: which results a prompt names, and what is no conversation with tools."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import ZERO_ADDRESS
from commonlore.protocol.receipts.records import ReceiptDetails
from commonlore.protocol.receipts.rules import check_parts_named, name_parts
from commonlore.protocol.requests.prompt_parts import TOOL, check_parts, parts_of, show_rows, without_parts
from commonlore.protocol.requests.records import ChatMessage, Prompt, PromptPart, Sampling
from commonlore.protocol.requests.rules import TEMPLATE_TOKENS, TURN_TOKENS, most_prompt_tokens
from commonlore.protocol.requests.tools import (
    CALLS,
    MAX_CALLS,
    MAX_DEPTH,
    RESULT,
    TOOLS,
    ToolCall,
    ToolResult,
    calls_turn,
    check_tools,
    read_calls,
    read_tools,
    tool_parts,
    tool_results,
    tools_turn,
    with_tool_parts,
)

ASKED = ChatMessage("user", "Is it warm?")
WEATHER, CLOCK = ToolCall("weather", '{"city": "Bern"}'), ToolCall("clock", "")
TALK = (ASKED, calls_turn([WEATHER, CLOCK]), ChatMessage(RESULT, "31 °C"), ChatMessage(RESULT, "12:00"))


def prompt(*messages, parts=None):
    return Prompt(bytes(32), messages, parts=tool_parts(messages) if parts is None else parts)


def test_each_result_is_a_part_that_names_call_and_result():
    made = prompt(*TALK)
    check_parts(made)
    check_tools(made)
    digests = parts_of(made, TOOL)
    assert digests == (ToolResult(2, WEATHER, "31 °C").digest, ToolResult(3, CLOCK, "12:00").digest)
    assert [(part.payee, part.source, part.start, part.end) for part in made.parts] == [
        (ZERO_ADDRESS, None, 0, 5)
    ] * 2
    details = name_parts(ReceiptDetails(bytes(32), bytes(32), Sampling(0, 9), "stop"), made)
    assert details.tool_calls == digests
    check_parts_named(details, made)
    assert without_parts(made, {0}) == (*TALK[:2], TALK[3])


@pytest.mark.parametrize(
    "other",
    [
        ToolResult(2, replace(WEATHER, name="clock"), "31 °C"),
        ToolResult(2, replace(WEATHER, arguments="{}"), "31 °C"),
        ToolResult(2, WEATHER, "30 °C"),
        ToolResult(2, ToolCall("weathe", 'r{"city": "Bern"}'), "31 °C"),
    ],
)
def test_its_name_is_of_all_three(other):
    assert other.digest != ToolResult(2, WEATHER, "31 °C").digest
    assert replace(other, turn=9).digest == other.digest


def test_rows_and_tools_stand_beside_each_other():
    row = ("text", b"\x01" * 32, ZERO_ADDRESS, "bafk" + "a" * 55)
    messages, parts = show_rows(TALK, "Passages:", [row])
    made = prompt(*messages, parts=with_tool_parts(messages, parts))
    check_parts(made)
    check_tools(made)
    assert [part.channel for part in made.parts] == ["row", "tool", "tool"]
    assert with_tool_parts(messages, made.parts) == made.parts


def test_a_result_without_text_is_not_in_the_prompt():
    messages = (ASKED, calls_turn([CLOCK]), ChatMessage(RESULT, ""))
    assert [found.result for found in tool_results(messages)] == [""]
    assert tool_parts(messages) == ()


PART = PromptPart(TOOL, bytes(32), ZERO_ADDRESS, None, 2, 0, 5)


@pytest.mark.parametrize("parts", [(), (PART,), tool_parts(TALK)[:1], tool_parts(TALK)[::-1]])
def test_a_prompt_names_just_what_its_tools_gave(parts):
    with pytest.raises(RemoteProtocolError, match="names each result"):
        check_tools(prompt(*TALK, parts=parts))
    with pytest.raises(RemoteProtocolError, match="names each result"):
        check_tools(prompt(ASKED, parts=(PART,)))


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (TALK[:3], "'clock' has no result"),
        ((*TALK[:3], ASKED), "'clock' has no result before turn 3"),
        ((*TALK, ChatMessage(RESULT, "?")), "no call waits"),
        ((ASKED, ChatMessage(RESULT, "?")), "no call waits"),
        ((ChatMessage(CALLS, "no"),), "not JSON"),
        ((ChatMessage(CALLS, "{}"),), "not a list"),
        ((ChatMessage(CALLS, "[]"),), "0 calls"),
        ((ChatMessage(CALLS, "[1]"),), "two texts"),
        ((ChatMessage(CALLS, '[{"name": "x", "arguments": {}}]'),), "two texts"),
        ((ChatMessage(CALLS, '[{"name": "x", "arguments": "", "id": "1"}]'),), "two texts"),
        ((ChatMessage(CALLS, '[{"name": "", "arguments": ""}]'),), "1 to 64 bytes"),
        ((ChatMessage(CALLS, json.dumps([{"name": "x" * 65, "arguments": ""}])),), "1 to 64 bytes"),
        ((ChatMessage(CALLS, json.dumps([{"name": "x", "arguments": "y" * 16_385}])),), "16384"),
        ((ChatMessage(CALLS, '[{"name": "x", "arguments": "\\ud800"}]'),), "not JSON"),
        ((ChatMessage(CALLS, "[" * 3_000),), "not JSON"),
        ((ChatMessage(TOOLS, "[" * 100_000),), "at most 32768"),
        ((ChatMessage(TOOLS, "[]"),), "1 to 64 objects"),
        ((ChatMessage(TOOLS, "[1]"),), "1 to 64 objects"),
        ((ChatMessage(TOOLS, "[{}]"), ChatMessage(TOOLS, "[{}]")), "in one turn"),
        ((ChatMessage(TOOLS, '[{"a": NaN}]'),), "not JSON"),
        ((ChatMessage(TOOLS, '[{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}]"),), "nested deeper"),
    ],
)
def test_what_is_no_conversation_with_tools(messages, says):
    with pytest.raises(RemoteProtocolError, match=says):
        tool_results(messages)


def test_results_are_few():
    one = (calls_turn([CLOCK]), ChatMessage(RESULT, "x"))
    tool_results(one * MAX_CALLS)
    with pytest.raises(RemoteProtocolError, match="at most 64"):
        tool_results(one * (MAX_CALLS + 1))
    with pytest.raises(RemoteProtocolError, match="65 calls"):
        read_calls(calls_turn([CLOCK] * (MAX_CALLS + 1)).content)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS, TEXTS), min_size=1, max_size=6))
def test_calls_come_back_as_they_were_written(entries):
    calls = [ToolCall(name[:16], arguments) for name, arguments, _ in entries]
    assert read_calls(calls_turn(calls).content) == tuple(calls)
    messages = (calls_turn(calls), *(ChatMessage(RESULT, result) for *_, result in entries))
    found = tool_results(messages)
    assert [(each.call, each.result) for each in found] == [
        (call, result) for call, (*_, result) in zip(calls, entries, strict=True)
    ]
    check_tools(prompt(*messages))


def test_definitions_come_back_and_have_room_to_be_written_out():
    definitions = [{"type": "function", "function": {"name": "x", "parameters": {"a": ["ü", 1.5, None]}}}]
    turn = tools_turn(definitions)
    assert read_tools(turn.content) == definitions
    size = len(turn.content.encode())
    assert most_prompt_tokens([turn]) == TEMPLATE_TOKENS + TURN_TOKENS + 4 * size
    assert len(json.dumps(definitions, indent=4, ensure_ascii=False).encode()) < 4 * size
