"""Parts of a prompt that others made: where they are, what a receipt says of them, the prompt without them.

Rules of this file: parts stand in the order of the text and do not overlap, so that leaving any of them out
has one meaning; a part is named by what it is, never by where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

from ..errors import RemoteProtocolError
from ..ids import Address, Cid
from .records import MAX_ROWS_SHOWN, ChatMessage, Prompt, PromptPart

ROW, TEMPLATE, TOOL = "row", "template", "tool"
_MOST = {ROW: MAX_ROWS_SHOWN, TEMPLATE: 1, TOOL: MAX_ROWS_SHOWN}


def part_digest(text: str) -> bytes:
    """The name of a template or a tool call, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def check_parts(prompt: Prompt) -> None:
    """Raises RemoteProtocolError unless parts are of known kinds, few, and lie in the text in order."""
    for kind in {part.channel for part in prompt.parts}:
        if kind not in _MOST:
            raise RemoteProtocolError(f"a prompt's part is a {kind!r}; expected one of {', '.join(_MOST)}")
        if (count := len(parts_of(prompt, kind))) > _MOST[kind]:
            raise RemoteProtocolError(f"{count} parts of a prompt are a {kind}; at most {_MOST[kind]} are")
    place = (0, 0)
    for part in prompt.parts:
        if part.turn >= len(prompt.messages) or not (
            place <= (part.turn, part.start)
            and part.start < part.end <= len(prompt.messages[part.turn].content)
        ):
            raise RemoteProtocolError("a prompt's parts must lie in its text, in order, without overlapping")
        if (part.channel == ROW) != (part.source is not None):
            raise RemoteProtocolError("a row in a prompt names its shard, and nothing else does")
        place = (part.turn, part.end)


def parts_of(prompt: Prompt, channel: str) -> tuple[bytes, ...]:
    """The names of a prompt's parts of one kind, in order: what a receipt's details say."""
    return tuple(part.part for part in prompt.parts if part.channel == channel)


def without_parts(prompt: Prompt, left_out: Collection[int]) -> tuple[ChatMessage, ...]:
    """The turns of a checked prompt without some of its parts (by number); a turn left empty goes too."""
    turns = [turn.content for turn in prompt.messages]
    for number in sorted(left_out, reverse=True):
        part = prompt.parts[number]
        text = turns[part.turn]
        turns[part.turn] = text[: part.start] + text[part.end :]
    kept = zip(prompt.messages, turns, strict=True)
    return tuple(
        replace(turn, content=text) for turn, text in kept if text.strip() or not turn.content.strip()
    )


def show_rows(
    messages: Sequence[ChatMessage],
    heading: str,
    rows: Sequence[tuple[str, bytes, Address, Cid]],
    template: tuple[str, Address] | None = None,
) -> tuple[tuple[ChatMessage, ...], tuple[PromptPart, ...]]:
    """The turns of a conversation that begins with a template, (text, payee), and rows, (text, row hash,
    payee, shard) each; and the parts.

    They stand before what a system turn says already, since chat templates take one system turn.
    """
    if not rows and template is None:
        return tuple(messages), ()
    text, parts = "", list[PromptPart]()
    if template is not None:
        text, payee = template
        parts.append(PromptPart(TEMPLATE, part_digest(text), payee, None, 0, 0, len(text)))
    if rows:
        text = f"{text}\n\n{heading}" if text else heading
    for number, (said, digest, payee, shard) in enumerate(rows, 1):
        start = len(text)
        text += f"\n[{number}] {said}"
        parts.append(PromptPart(ROW, digest, payee, shard, 0, start, len(text)))
    has_system = bool(messages) and messages[0].role == "system"
    told = f"{text}\n\n{messages[0].content}" if has_system else text
    return (ChatMessage("system", told), *messages[has_system:]), tuple(parts)
