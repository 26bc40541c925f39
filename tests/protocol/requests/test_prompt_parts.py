"""Parts of a prompt: where they may lie, and what is left without them."""

from dataclasses import replace

import pytest

from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import ReceiptDetails
from commonlore.protocol.receipts.rules import check_parts_named, name_parts
from commonlore.protocol.requests.prompt_parts import (
    check_parts,
    part_digest,
    parts_of,
    show_rows,
    without_parts,
)
from commonlore.protocol.requests.records import MAX_ROWS_SHOWN, ChatMessage, Prompt, PromptPart, Sampling

ANA, SHARD = Address(b"a" * 20), cid_of(b"shard")
QUESTION = ChatMessage("user", "What is it?")
ROWS = [(f"text {n}", bytes([n]) * 32, ANA, SHARD) for n in range(3)]
DETAILS = ReceiptDetails(bytes(32), bytes(32), Sampling(0, 9), "stop")


def prompt(messages, parts):
    return Prompt(bytes(32), messages, parts=parts)


def shown(*before, rows=ROWS):
    return prompt(*show_rows((*before, QUESTION), "Passages:", rows))


def test_rows_stand_before_the_question_with_their_numbers():
    made = shown()
    assert made.messages == (ChatMessage("system", "Passages:\n[1] text 0\n[2] text 1\n[3] text 2"), QUESTION)
    check_parts(made)
    assert parts_of(made, "row") == tuple(digest for _, digest, _, _ in ROWS)
    assert parts_of(made, "tool") == ()


def test_a_system_turn_keeps_what_it_says():
    made = shown(ChatMessage("system", "Be brief."))
    assert made.messages[0].content.endswith("[3] text 2\n\nBe brief.")
    check_parts(made)
    assert show_rows((QUESTION,), "Passages:", []) == ((QUESTION,), ())


@pytest.mark.parametrize(
    ("left_out", "text"),
    [
        ((), "Passages:\n[1] text 0\n[2] text 1\n[3] text 2"),
        ((1,), "Passages:\n[1] text 0\n[3] text 2"),
        ((0, 2), "Passages:\n[2] text 1"),
        ((2, 1, 0), "Passages:"),
    ],
)
def test_parts_may_be_left_out(left_out, text):
    assert without_parts(shown(), left_out) == (ChatMessage("system", text), QUESTION)


def test_a_turn_that_was_nothing_else_goes_too():
    template = PromptPart("template", part_digest("Be brief."), ANA, None, 0, 0, 9)
    made = prompt((ChatMessage("system", "Be brief."), QUESTION, ChatMessage("user", "")), (template,))
    check_parts(made)
    assert without_parts(made, {0}) == (QUESTION, ChatMessage("user", ""))


PART = PromptPart("row", bytes(32), ANA, SHARD, 0, 0, 4)


@pytest.mark.parametrize(
    "parts",
    [
        (replace(PART, end=12),),
        (replace(PART, end=0),),
        (replace(PART, turn=1),),
        (replace(PART, channel="bonus"),),
        (replace(PART, source=None),),
        (replace(PART, channel="tool"),),
        (PART, replace(PART, start=3, end=6)),
        (replace(PART, start=4, end=6), PART),
        (
            replace(PART, channel="template", source=None),
            replace(PART, channel="template", source=None, start=4),
        ),
        tuple(replace(PART, start=n, end=n + 1) for n in range(MAX_ROWS_SHOWN + 1)),
    ],
)
def test_parts_that_make_no_sense_are_refused(parts):
    long = ChatMessage("user", "?" * 999) if len(parts) > 9 else QUESTION
    with pytest.raises(RemoteProtocolError):
        check_parts(prompt((long,), parts))


def test_a_receipt_names_exactly_what_was_in_the_prompt():
    made = shown()
    named = name_parts(DETAILS, made)
    assert (named.retrieved_rows, named.prompt_template, named.tool_calls) == (
        parts_of(made, "row"),
        None,
        (),
    )
    check_parts_named(named, made)
    for wrong in (
        DETAILS,
        replace(named, retrieved_rows=named.retrieved_rows[:2]),
        replace(named, tool_calls=(bytes(32),)),
    ):
        with pytest.raises(RemoteProtocolError, match="in the prompt"):
            check_parts_named(wrong, made)
