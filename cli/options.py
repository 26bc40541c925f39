"""Options that several commands share, and the home and settings they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..peer.config import Config
    from ..peer.home import Home
    from ..peer.identity.keystore import Keystore

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="FOLDER", help="The peer's folder (or COMMONLORE_HOME)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]
ListenOption = Annotated[
    list[str] | None, typer.Option(metavar="MULTIADDR", help="Where to listen, e.g. /ip4/0.0.0.0/tcp/4001.")
]
BootstrapOption = Annotated[
    list[str] | None, typer.Option(metavar="MULTIADDR", help="A peer to start from, with /p2p/. Repeatable.")
]
ChainOption = Annotated[str | None, typer.Option(metavar="URL", help="JSON-RPC endpoint of the chain.")]
DeploymentOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="The network's deployment, as `commonlore up` wrote it.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting. Repeatable.")
]


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """What every command takes that runs a peer in the foreground."""

    listen: ListenOption = None
    bootstrap: BootstrapOption = None
    chain_url: ChainOption = None
    deployment: DeploymentOption = None
    settings: SetOption = None
    home: HomeOption = None
    json: JsonOption = False

    @property
    def place(self) -> Home:
        """The peer's home."""
        return home_at(self.home)

    def config(self, **flags: object) -> Config:
        """The home's configuration with these options, flags, and `NAME=VALUE`s over it. Raises
        ConfigError."""
        from ..peer.config import parse_text
        from ..protocol.errors import ConfigError

        flags |= {"listen": self.listen, "bootstrap": self.bootstrap}
        flags |= {"chain_url": self.chain_url, "deployment": self.deployment}
        for text in self.settings or ():
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"--set {text!r} is not NAME=VALUE")
            flags[name.replace("-", "_")] = parse_text(name.replace("-", "_"), value)
        return config_of(self.place, **flags)


def home_at(path: Path | None) -> Home:
    """The home of this invocation."""
    from ..peer.home import Home

    return Home.locate(path)


def config_of(home: Home, **flags: object) -> Config:
    """The home's configuration with these flags over it. Raises ConfigError."""
    from ..peer.config import load_config

    return load_config(home.config, flags=flags)


def keystore_of(home: Home, *, ask: bool = False) -> Keystore:
    """The home's keys; a person at a terminal is asked for a passphrase where nothing else gives it."""
    import sys

    from ..peer.identity.keystore import Keystore

    interactive = sys.stdin.isatty()
    return Keystore(home.create().keys, prompt=_prompt if interactive or ask else None, ask=ask)


def _prompt(text: str) -> str:
    entered: str = typer.prompt(
        text.rstrip(": "), hide_input=True, confirmation_prompt="New" in text, err=True
    )
    return entered
