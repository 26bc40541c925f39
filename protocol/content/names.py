"""What things may be called: keys, Datanets, and adapters by their aliases `owner/name`.

One rule for all of them, so that a key's owner can name what it makes after the key. Small letters only:
names that differ in case would be taken for each other.
"""

from __future__ import annotations

import re

from ..errors import RemoteProtocolError

EXPECTED = "up to 64 of a-z 0-9 . _ -, a letter or digit first"
_WORD = r"[a-z0-9][a-z0-9._-]{0,63}"
_NAME = re.compile(_WORD)
_ALIAS = re.compile(f"{_WORD}/{_WORD}")


def is_name(text: str) -> bool:
    """Whether a key or a Datanet may be called this."""
    return _NAME.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether an adapter may be called this: `owner/name`, two names."""
    return _ALIAS.fullmatch(text) is not None


def check_name(text: str) -> None:
    """Raises RemoteProtocolError."""
    if not is_name(text):
        raise RemoteProtocolError(f"not a name: {text[:64]!r}; expected {EXPECTED}")


def check_alias(text: str) -> None:
    """Raises RemoteProtocolError."""
    if not is_alias(text):
        raise RemoteProtocolError(
            f"not an adapter's alias: {text[:130]!r}; expected owner/name, each {EXPECTED}"
        )
