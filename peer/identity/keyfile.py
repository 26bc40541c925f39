"""The form of a key file: public parts in the clear, secrets in a box that a passphrase opens; private,
whole or absent.

JSON; the box is libsodium's SecretBox (XSalsa20-Poly1305) under argon2id of the passphrase (RFC 9106), whose
parameters stand beside it: https://doc.libsodium.org/password_hashing/default_phf
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from ...protocol.errors import ConfigError
from ..home import PRIVATE_FILE

FORMAT = 1
TYPED_COST = (3, 64 * 1024 * 1024)
"""argon2id passes and bytes for what a person thought of: RFC 9106's second recommended choice."""
MACHINE_COST = (1, 8192)
"""For 256 random bits there is nothing to guess, so nothing is spent on slowing guesses."""
MAX_COST = (16, 1 << 30)


@dataclass(frozen=True, slots=True)
class Passphrase:
    """What opens a box, and the argon2id cost at which a new box is sealed with it."""

    text: bytes
    cost: tuple[int, int] = TYPED_COST

    def __repr__(self) -> str:
        return "Passphrase(…)"


def seal(parts: Mapping[str, bytes], public: Mapping[str, str], passphrase: Passphrase) -> dict[str, Any]:
    """A key file's content: secrets by name, in a box, beside their public parts."""
    salt = secrets.token_bytes(pwhash.argon2id.SALTBYTES)
    operations, memory = passphrase.cost
    box = SecretBox(_derive(passphrase.text, salt, passphrase.cost))
    text = json.dumps({part: secret.hex() for part, secret in parts.items()})
    return {
        "commonlore_key": FORMAT,
        "public": dict(public),
        "kdf": {"name": "argon2id", "salt": salt.hex(), "operations": operations, "memory": memory},
        "box": base64.b64encode(box.encrypt(text.encode())).decode(),
    }


def unseal(path: Path, passphrase: Passphrase) -> dict[str, bytes]:
    """The secrets in a key file. Raises ConfigError when it does not open, or is damaged."""
    stored = read(path)
    try:
        kdf = stored["kdf"]
        cost = (int(kdf["operations"]), int(kdf["memory"]))
        if stored["commonlore_key"] != FORMAT or kdf["name"] != "argon2id" or not _is_sane(cost):
            raise ValueError("unknown format")
        box = SecretBox(_derive(passphrase.text, bytes.fromhex(kdf["salt"]), cost))
        opened = json.loads(box.decrypt(base64.b64decode(stored["box"], validate=True)))
        return {part: bytes.fromhex(secret) for part, secret in opened.items()}
    except CryptoError:
        raise ConfigError(
            f"the passphrase does not open {path}; set COMMONLORE_PASSPHRASE to the right one"
        ) from None
    except (KeyError, ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it from a backup") from error


def read(path: Path) -> dict[str, Any]:
    """A key file's content, still sealed. Raises ConfigError."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it from a backup") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("public"), dict):
        raise ConfigError(f"{path} is damaged (no key file); restore it from a backup")
    return stored


def write(path: Path, content: Mapping[str, Any], *, replace: bool = False) -> None:
    """A key file, durable and whole. Raises ConfigError when there is one already (unless `replace`)."""
    write_private(path, json.dumps(content, indent=2).encode() + b"\n", replace=replace)


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Any file of mode 0600, durable and whole. Without `replace`, raises ConfigError when it exists."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_durably(temporary, content)
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; nothing was changed") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _derive(passphrase: bytes, salt: bytes, cost: tuple[int, int]) -> bytes:
    operations, memory = cost
    return pwhash.argon2id.kdf(SecretBox.KEY_SIZE, passphrase, salt, opslimit=operations, memlimit=memory)


def _is_sane(cost: tuple[int, int]) -> bool:
    """Whether a key file asks for no more work than this program would ever have written."""
    return 1 <= cost[0] <= MAX_COST[0] and 8192 <= cost[1] <= MAX_COST[1]
