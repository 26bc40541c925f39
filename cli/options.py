"""Options that several commands share, and the home and settings they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..peer.config import Config
    from ..peer.home import Home
    from ..peer.keystore import Keystore

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="FOLDER", help="The peer's folder (or COMMONLORE_HOME)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]


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

    from ..peer.keystore import Keystore

    interactive = sys.stdin.isatty()
    return Keystore(home.create().keys, prompt=_prompt if interactive or ask else None, ask=ask)


def _prompt(text: str) -> str:
    entered: str = typer.prompt(
        text.rstrip(": "), hide_input=True, confirmation_prompt="New" in text, err=True
    )
    return entered
