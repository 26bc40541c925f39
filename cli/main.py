"""The `commonlore` command, short `lore`.

Every command imports what it needs when it runs, so that help and completion stay fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from . import adapter, base_models, bond, datanet, key, receipt, simulate
from .ask import ask, chat
from .demo import demo
from .devchain import devchain
from .doctor import doctor
from .ending import Commands
from .node import node, worker
from .settle import claim, deposit, faucet, settle
from .status import status
from .train import train
from .up import up
from .watch import watch

TRY, RUN, ASK, MAKE, MONEY, CARE = (
    "Try it",
    "Run a peer",
    "Ask",
    "Make adapters",
    "Money",
    "Look after this machine",
)

app = typer.Typer(
    cls=Commands,
    help="A peer-to-peer network that serves specialised models and pays the people who made them good.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"commonlore {version('commonlore')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of every command."""


app.command(rich_help_panel=TRY)(demo)
app.command(rich_help_panel=TRY)(up)
app.add_typer(simulate.app, name="simulate", rich_help_panel=TRY)
app.command(rich_help_panel=ASK)(ask)
app.command(rich_help_panel=ASK)(chat)
app.command(rich_help_panel=RUN)(worker)
app.command(rich_help_panel=RUN)(node)
app.command(rich_help_panel=RUN)(watch)
app.command(rich_help_panel=RUN)(status)
app.command(rich_help_panel=RUN)(devchain)
app.add_typer(base_models.app, name="base", rich_help_panel=MAKE)
app.add_typer(datanet.app, name="datanet", rich_help_panel=MAKE)
app.command(rich_help_panel=MAKE)(train)
app.add_typer(adapter.app, name="adapter", rich_help_panel=MAKE)
app.add_typer(receipt.app, name="receipt", rich_help_panel=MONEY)
for command in (deposit, faucet, settle, claim):
    app.command(rich_help_panel=MONEY)(command)
app.add_typer(bond.app, name="bond", rich_help_panel=MONEY)
app.add_typer(key.app, name="key", rich_help_panel=CARE)
app.command(rich_help_panel=CARE)(doctor)


def main() -> None:
    """The entry point of both scripts."""
    app()


if __name__ == "__main__":
    main()
