"""The keys of one home: the peer's own, and named contributor identities, each in an encrypted file
(`keyfile`).

Rules of this file:

- The passphrase is COMMONLORE_PASSPHRASE, else the file COMMONLORE_PASSPHRASE_FILE, else the machine's own
  `keystore.passphrase` beside the keys, else it is asked for.
- A home that nobody gave a passphrase gets such a machine file of 256 random bits, mode 0600, so that a node
  starts without a prompt. Honestly: that protects a copied key file, not against whoever reads the whole
  folder. A person who wants more types one at the first start (`--ask-passphrase`) or sets one of the
  variables.
- Secrets are in no repr, and are kept out of the logs (`logs.keep_secret`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...protocol.content.names import EXPECTED, is_name
from ...protocol.errors import ConfigError, NotFound
from ...protocol.ids import Address, checksummed, to_address
from ...protocol.signing.keys import AccountKey, PeerKey
from ..home import PRIVATE_FOLDER
from ..logs import keep_secret
from .keyfile import MACHINE_COST, Passphrase, read, seal, unseal, write, write_private

OWN = "peer"
MACHINE_FILE = "keystore.passphrase"
PASSPHRASE = "COMMONLORE_PASSPHRASE"
PASSPHRASE_FILE = "COMMONLORE_PASSPHRASE_FILE"

Prompt = Callable[[str], str]
"""Asks a person for a passphrase, showing this text."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A peer's own keys: its network identity, the account that owns it, the session key that signs."""

    peer: PeerKey
    owner: AccountKey
    session: AccountKey


@dataclass(frozen=True, slots=True)
class Identity:
    """A contributor's keys: `peer` signs its shards; `payee` is where its money goes, and signs for that."""

    name: str
    peer: PeerKey
    payee: AccountKey


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What may be known of an identity without its passphrase."""

    name: str
    peer_id: str
    payee: Address


class Keystore:
    """The keys under one folder (`Home.keys`). Nothing is read or asked for before it is needed."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] = os.environ,
        prompt: Prompt | None = None,
        *,
        ask: bool = False,
    ) -> None:
        """`prompt` asks a person when nothing else gives the passphrase; `ask`: also for the first keys."""
        self._folder = folder
        self._environment = environment
        self._prompt = prompt
        self._ask = ask
        self._passphrase: Passphrase | None = None

    def own(self) -> Keys:
        """The peer's own keys, made at first use. Raises ConfigError when they cannot be opened."""
        if not self._path(OWN).exists():
            accounts = {"owner": _account_secret(), "session": _account_secret()}
            self._create(OWN, {"peer": secrets.token_bytes(32), **accounts})
        opened = self._open(OWN)
        owner, session = (AccountKey.from_secret(opened[part]) for part in ("owner", "session"))
        return Keys(PeerKey.generate(opened["peer"]), owner, session)

    def create(self, name: str) -> Identity:
        """Make a named identity, offline. Raises ConfigError when the name is taken or not a name."""
        _check_name(name)
        if self._path(name).exists():
            raise ConfigError(f"there is already a key named {name!r}; choose another name")
        self._create(name, {"peer": secrets.token_bytes(32), "payee": _account_secret()})
        return self.identity(name)

    def identity(self, name: str) -> Identity:
        """A named identity. Raises NotFound, saying how to make it, or ConfigError when it does not open."""
        _check_name(name)
        if not self._path(name).exists():
            raise NotFound(f"no key named {name!r}; make it with: commonlore key new {name}")
        opened = self._open(name)
        return Identity(name, PeerKey.generate(opened["peer"]), AccountKey.from_secret(opened["payee"]))

    def identities(self) -> tuple[PublicIdentity, ...]:
        """The public parts of all named identities, by name; needs no passphrase."""
        names = sorted(path.stem for path in self._folder.glob("*.json") if path.stem != OWN)
        return tuple(self._public_identity(name) for name in names)

    def replace_payee(self, name: str) -> tuple[Identity, Identity]:
        """Give an identity a new payee account; returns (before, after).

        The old key is kept as `NAME.before-N`: it owns what it earned, and has to sign the rotation.
        """
        before = self.identity(name)
        number = 1 + sum(1 for _ in self._folder.glob(f"{name}.before-*.json"))
        self._create(f"{name}.before-{number}", {"peer": before.peer.seed, "payee": before.payee.secret})
        fresh = {"peer": before.peer.seed, "payee": _account_secret()}
        write(self._path(name), seal(fresh, _public(fresh), self._found(new=True)), replace=True)
        return before, self.identity(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _create(self, name: str, parts: Mapping[str, bytes]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        write(self._path(name), seal(parts, _public(parts), self._found(new=True)))

    def _open(self, name: str) -> dict[str, bytes]:
        path = self._path(name)
        opened = unseal(path, self._found(new=False))
        if _public(opened) != read(path)["public"]:
            raise ConfigError(f"the public part of {path} was changed; restore it from a backup")
        for secret in opened.values():
            keep_secret(secret)
        return opened

    def _public_identity(self, name: str) -> PublicIdentity:
        public = read(self._path(name))["public"]
        return PublicIdentity(name, public["peer"], to_address(public["payee"]))

    def _found(self, *, new: bool) -> Passphrase:
        """The passphrase, looked for once. `new`: it will seal; then a first one may be made."""
        if self._passphrase is None:
            self._passphrase = self._find(first=new and not any(self._folder.glob("*.json")))
            keep_secret(self._passphrase.text)
        return self._passphrase

    def _find(self, *, first: bool) -> Passphrase:
        machine = self._folder / MACHINE_FILE
        if given := self._environment.get(PASSPHRASE):
            return Passphrase(given.encode())
        if file := self._environment.get(PASSPHRASE_FILE):
            return Passphrase(_read_passphrase(Path(file)))
        if first and not self._ask and not machine.exists():
            write_private(machine, secrets.token_hex(32).encode() + b"\n")
        if machine.exists():
            return Passphrase(_read_passphrase(machine), MACHINE_COST)
        if self._prompt is not None:
            return Passphrase(self._prompt("New passphrase: " if first else "Passphrase: ").encode())
        raise ConfigError(f"no passphrase for {self._folder}; set {PASSPHRASE} or {PASSPHRASE_FILE}")


def _check_name(name: str) -> None:
    if name == OWN or not is_name(name):
        raise ConfigError(f"not a name for a key: {name!r}; use {EXPECTED}, and not {OWN!r}")


def _account_secret() -> bytes:
    """A secp256k1 secret: uniform below 2^256 - 2^130, which is below the curve's order."""
    return (1 + secrets.randbelow((1 << 256) - (1 << 130))).to_bytes(32, "big")


def _public(parts: Mapping[str, bytes]) -> dict[str, str]:
    """Peer id and addresses of the secrets."""
    accounts = {k: checksummed(AccountKey.from_secret(v).address) for k, v in parts.items() if k != "peer"}
    return {"peer": PeerKey.generate(parts["peer"]).peer_id, **accounts}


def _read_passphrase(path: Path) -> bytes:
    try:
        text = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read the passphrase file {path}: {error.strerror}") from error
    if not text:
        raise ConfigError(f"the passphrase file {path} is empty; write the passphrase into it")
    return text
