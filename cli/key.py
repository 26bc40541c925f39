"""`commonlore key`: the peer's own keys and named contributor identities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import HomeOption, JsonOption, config_of, home_at, keystore_of
from .printing import print_facts, print_json, print_table

if TYPE_CHECKING:
    from ..peer.home import Home
    from ..peer.identity.keystore import Identity

app = typer.Typer(help="Keys: this peer's own, and the identities that sign Datanet shards.")
AskOption = Annotated[
    bool, typer.Option("--ask-passphrase", help="Type a passphrase instead of keeping one on this machine.")
]
NameArgument = Annotated[str, typer.Argument(help="Up to 64 of a-z 0-9 . _ -")]


@app.command()
def new(
    name: NameArgument, home: HomeOption = None, ask: AskOption = False, json: JsonOption = False
) -> None:
    """Make an identity, offline: an Ed25519 key that signs shards and a payee account that earns."""
    identity = keystore_of(_place(home), ask=ask).create(name)
    _print(_described(identity), json)


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The identities in this home; needs no passphrase."""
    from ..protocol.ids import checksummed

    found = keystore_of(_place(home)).identities()
    rows = [{"name": i.name, "peer_id": i.peer_id, "payee": checksummed(i.payee)} for i in found]
    if json:
        print_json(rows)
    elif rows:
        print_table(("name", "peer id", "payee"), [tuple(row.values()) for row in rows])
    else:
        print("no identities yet; make one with: commonlore key new NAME")


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="An identity; without it, this peer's own keys.")] = None,
    home: HomeOption = None,
    ask: AskOption = False,
    json: JsonOption = False,
) -> None:
    """The public parts of an identity, or of this peer's own keys (made at first use).

    Secrets are never shown.
    """
    from ..protocol.ids import checksummed

    keystore = keystore_of(_place(home), ask=ask)
    if name is not None:
        _print(_described(keystore.identity(name)), json)
        return
    own = keystore.own()
    accounts = {"owner": checksummed(own.owner.address), "session": checksummed(own.session.address)}
    _print({"peer_id": own.peer.peer_id, **accounts}, json)


@app.command()
def rotate(name: NameArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Give an identity a new payee account, and tell the chain, if one is configured, to pay it from now
    on.
    """
    from ..peer.settling.rotation import rotate_payee
    from ..protocol.ids import checksummed

    place = _place(home)
    done = rotate_payee(keystore_of(place), name, config_of(place))
    _print(
        {"before": checksummed(done.before), **_described(done.identity), "transaction": done.transaction},
        json,
    )


def _place(home: Path | None) -> Home:
    """The home of the node that answers here, so that it can sign with what is made here."""
    from ..peer.local.one_machine import running_home

    return running_home(home_at(home))


def _described(identity: Identity) -> dict[str, object]:
    from ..protocol.ids import checksummed

    payee = checksummed(identity.payee.address)
    return {"name": identity.name, "peer_id": identity.peer.peer_id, "payee": payee}


def _print(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
