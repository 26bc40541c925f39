"""Names for the beginnings of a prompt, so that a conversation goes on where its past is cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...protocol.content.compositions import AdapterWeight
from ...protocol.ids import Cid
from ...protocol.requests.records import ChatMessage
from ...scheduler.events import Prefix

MAX_PREFIXES = 8
"""Of a long conversation, the last so many: its next turn begins with one of them."""
CHARACTERS_PER_TOKEN = 3


def prompt_prefixes(
    messages: Sequence[ChatMessage], base: Cid, adapters: Sequence[AdapterWeight]
) -> tuple[Prefix, ...]:
    """One after each message, the shortest first, with about how many tokens it has.

    A worker's cache tells base and composition apart, so the names do too.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (base, *(f"{entry.adapter}={entry.weight_ppm}" for entry in adapters)):
        _add(digest, part)
    characters, prefixes = 0, list[Prefix]()
    for message in messages:
        _add(digest, message.role)
        _add(digest, message.content)
        characters += len(message.content)
        prefixes.append((digest.digest(), characters // CHARACTERS_PER_TOKEN))
    return tuple(prefixes[-MAX_PREFIXES:])


def _add(digest: hashlib.blake2b, text: str) -> None:
    """A part with its length, so that no two prompts are one."""
    data = text.encode()
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)
