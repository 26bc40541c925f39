"""`commonlore datanet`: publishing rows that adapters learn from, and who gave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .grouped import takes_groups
from .options import HomeOption, JsonOption
from .printing import fact, print_facts, print_json, print_table
from .reach import node_of

SHOWN_CONTRIBUTORS = 3
app = typer.Typer(help="Datanets: rows that adapters learn from, signed by who gave them.")


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The Datanets that are announced."""
    with node_of(home) as client:
        found = client.get("/datanets")
    if json:
        print_json(found)
    elif found:
        columns = ("name", "version", "rows", "contributors", "licence", "id")
        print_table(columns, [_line(datanet) for datanet in found])
    else:
        print("no Datanets are announced yet; publish one with: commonlore datanet add NAME --rows YOU=FILE")


def _line(datanet: dict[str, Any]) -> list[object]:
    """What is not known yet is a dash."""
    contributors = datanet["contributors"] or []
    named = ", ".join(contributors[:SHOWN_CONTRIBUTORS])
    more = (
        f" and {len(contributors) - SHOWN_CONTRIBUTORS} more"
        if len(contributors) > SHOWN_CONTRIBUTORS
        else ""
    )
    known = [datanet["name"], datanet["version"], datanet["rows"], named + more]
    return [*known, datanet["licence"], datanet["datanet"]]


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published, and under which terms."""

    name: Annotated[str, typer.Argument(help="What the Datanet is called.")]
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IDENTITY=FILE", help="Rows of one contributor: .jsonl or .csv with question and answer."
        ),
    ] = None
    corpus: Annotated[str | None, typer.Option(help="Instead of files, a packaged corpus: icd10 or cwe.")] = (
        None
    )
    purpose: Annotated[str, typer.Option(help="What it is for, in a sentence.")] = ""
    licence: Annotated[str, typer.Option(help="Under which the rows may be used.")] = ""
    origin: Annotated[str, typer.Option(help="Where the rows come from.")] = ""
    notice: Annotated[Path | None, typer.Option(metavar="FILE", help="A notice that travels with them.")] = (
        None
    )

    def body(self, home: Path | None) -> dict[str, Any]:
        """As the node takes it. Raises BadParameter, ConfigError."""
        if (self.corpus is None) == (not self.rows):
            raise typer.BadParameter("give --rows IDENTITY=FILE, once a contributor, or --corpus")
        if self.corpus is not None:
            return _from_corpus(self.name, self.corpus, home)
        travels = {
            "licence": _required(self.licence),
            "origin": self.origin,
            "notice": _text_of(self.notice),
        }
        return _from_files(self.name, self.purpose, self.rows or [], travels)


@app.command()
@takes_groups
def add(publication: Publication, home: HomeOption = None, json: JsonOption = False) -> None:
    """Publish a version of a Datanet: every contributor's rows, signed with its keys (`commonlore key
    new`).
    """
    body = publication.body(home)
    with node_of(home) as client:
        record = client.post("/datanets", body)
    if json:
        print_json(record)
    else:
        print_facts({"name": record["name"], "version": record["version"], "id": record["datanet"]})


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="The Datanet.")],
    identity: Annotated[str, typer.Option(help="Whose rows to take back: an identity of this home.")],
    reason: Annotated[str, typer.Option(help="Why, for those who published or used them.")] = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Take an identity's rows back: they are deleted here, and adapters that learnt from them are refused."""
    body = {"datanet": name, "contributor": identity, "reason": reason}
    with node_of(home) as client:
        done = client.post("/datanets/withdraw", body)
    if json:
        print_json(done)
        return
    facts = {"datanet": name, "withdrawn": ", ".join(done["shards"]), "next": _next(done)}
    tainted = ", ".join(f"{found['alias']} ({found['adapter']})" for found in done["tainted"])
    facts |= {"to be trained again": tainted or "no announced adapter"}
    print_facts(facts | {f"index of {found['alias']}": _taken(found) for found in done["tainted"]})


def _next(done: dict[str, Any]) -> str:
    """What is to be done by whom."""
    if done["version"]:
        return f"version {done['version']} is without them"
    return "its curator must publish a version without them"


def _taken(found: dict[str, Any]) -> str:
    """What was taken out of an adapter's index, from whom; why nothing was, where nothing was."""
    if not found["difference"]:
        return f"unchanged: {found['without_difference']}"
    whose = [
        f"{each['rows']} rows of {each.get('contributor') or each['payee']}" for each in found["rows_taken"]
    ]
    return f"{', '.join(whose)} taken out; difference {found['difference']}"


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The Datanet.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """One Datanet: what it holds, what was taken back of it, and which adapters had learnt from that."""
    with node_of(home) as client:
        found = client.get(f"/datanets/{name}")
    if json:
        print_json(found)
        return
    withdrawn, learnt = found.pop("withdrawn"), found.pop("learnt_from_it")
    print_facts(dict(fact(name, value) for name, value in found.items()))
    for each in withdrawn:
        print()
        print_facts(dict(fact(name, value) for name, value in each.items()))
    for each in learnt:
        print(f"\n{_fate(each)}")


def _fate(found: dict[str, Any]) -> str:
    """What became of an adapter that had learnt from withdrawn rows."""
    called = f"{found['alias']} ({found['adapter']})" if found["alias"] else found["adapter"]
    taken = f"; index: {_taken(found)}" if found.get("difference") else ""
    again = ", ".join(f"{each['alias']} ({each['adapter']})" for each in found["retrained_as"])
    retrained = f"retrained without as {again}" if again else "not trained again yet"
    return f"adapter {called} learnt from it, refused since; {retrained}{taken}"


def _required(licence: str) -> str:
    if not licence:
        raise typer.BadParameter("say under which licence the rows may be used: --licence CC0-1.0")
    return licence


def _text_of(notice: Path | None) -> str:
    """Raises ConfigError on what is no text."""
    from ..protocol.errors import ConfigError

    try:
        return "" if notice is None else notice.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{notice} is not text in UTF-8 ({error.reason}); save the notice as such"
        ) from None


def _from_files(name: str, purpose: str, rows: list[str], travels: dict[str, str]) -> dict[str, Any]:
    from ..peer.datanets.row_files import read_rows

    contributions = []
    for text in rows:
        identity, equals, file = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--rows {text} is not IDENTITY=FILE")
        pairs = [pair._asdict() for pair in read_rows(Path(file))]
        contributions.append({"contributor": identity, "rows": pairs, **travels})
    described = {"name": name, "purpose": purpose, "kind": "questions", "licence": travels["licence"]}
    return {**described, "contributions": contributions}


def _from_corpus(name: str, corpus: str, home: Path | None) -> dict[str, Any]:
    """A packaged corpus in the hands of its contributors; identities that are missing are made."""
    from ..peer.datanets.corpora import corpus as load_corpus
    from ..peer.datanets.corpus_orders import contributors_of, publication_of
    from ..peer.local.one_machine import running_home
    from .options import home_at, keystore_of

    source = load_corpus(corpus)
    contributors_of(source, keystore_of(running_home(home_at(home))))
    return {**publication_of(source), "name": name}
