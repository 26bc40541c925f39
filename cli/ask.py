"""`commonlore ask` and `commonlore chat`: a question, or several, to the network."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completing
from .options import BootstrapOption, ChainOption, DeploymentOption, HomeOption, JsonOption, home_at
from .printing import print_json, say

if TYPE_CHECKING:
    from ..peer.gateway.control_client import ControlClient

CHAT_DEADLINE_S = 120.0
AdapterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        "-a",
        metavar="OWNER/NAME[=WEIGHT]",
        help="An adapter by name or id. Several answer together, equally or by weights that make 1.",
        autocompletion=completing.adapters,
    ),
]
TokensOption = Annotated[int, typer.Option(min=1, max=8192, help="Output tokens at most.")]
TemperatureOption = Annotated[float, typer.Option(min=0, max=10, help="0 takes the likeliest token.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")]
RetrieveOption = Annotated[
    str | None,
    typer.Option(
        metavar="DATANET[=ROWS]", help="Put a Datanet's rows that go with the question before it; cite them."
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        metavar="DATANET[=ROW]",
        help="Begin with a prompt template: what a Datanet's row answers, the first's.",
    ),
]
ToolResultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tool-result",
        metavar="NAME=FILE",
        help="Show what a tool gave back, from a file. Repeatable; the receipt names each by its hash.",
    ),
]
PriceOption = Annotated[int | None, typer.Option(min=0, help="Token units at most for one answer.")]


def ask(
    question: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    adapter: AdapterOption = None,
    max_tokens: TokensOption = 256,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    retrieve: RetrieveOption = None,
    template: TemplateOption = None,
    tool_result: ToolResultOption = None,
    stop: Annotated[list[str] | None, typer.Option(help="End where this text comes. Repeatable.")] = None,
    max_price: PriceOption = None,
    deadline: Annotated[
        float, typer.Option(min=1, max=600, help="Seconds; then it ends with what there is.")
    ] = 120.0,
    bootstrap: BootstrapOption = None,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask once; the answer streams to stdout, its receipt to stderr.

    Through the node that runs in this home; with --bootstrap through a peer that lives as long as the answer.
    What has come by the deadline is an answer too, with exit status 0; where nothing has, it is 1.
    """
    body = _without_nothing(
        prompt=sys.stdin.read() if question == "-" else question,
        **_chosen(adapter),
        **_retrieved(retrieve),
        **_templated(template),
        **_tool_results(tool_result),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        stop=stop,
        max_price=max_price,
        deadline_s=deadline,
    )
    flags = {"bootstrap": bootstrap, "chain_url": chain_url, "deployment": deployment}
    with _node(home, flags, adapter) as client:
        done = _stream(client, body, quiet=json)
        if json:
            print_json(done)
        else:
            _show_citations(done)
            _show_receipts(done)
        _say_if_over(done, deadline, "; more with --deadline")


def chat(
    adapter: AdapterOption = None,
    max_tokens: TokensOption = 256,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    bootstrap: BootstrapOption = None,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
) -> None:
    """Talk in turns; an empty line or Ctrl-D ends it."""
    flags = {"bootstrap": bootstrap, "chain_url": chain_url, "deployment": deployment}
    fixed = _without_nothing(
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        deadline_s=CHAT_DEADLINE_S,
        **_chosen(adapter),
    )
    turns: list[dict[str, str]] = []
    with _node(home, flags, adapter) as client:
        for line in _lines():
            turns.append({"role": "user", "content": line})
            done = _stream(client, {**fixed, "messages": turns}, quiet=False)
            turns.append({"role": "assistant", "content": done["text"]})
            _show_receipts(done)
            _say_if_over(done, CHAT_DEADLINE_S)


def _chosen(adapters: list[str] | None) -> dict[str, object]:
    """The field of an ask that names these adapters: one alone may also be a base. Raises ConfigError."""
    from ..peer.asking.composition import is_composition, read_composition

    match adapters or []:
        case []:
            return {}
        case [name] if not is_composition(name):
            return {"adapter": name}
        case names:
            named = read_composition(names)
            return {"adapters": [{"name": name, "weight_ppm": ppm} for name, ppm in named]}


@contextmanager
def _node(
    home: Path | None, flags: Mapping[str, object], adapters: list[str] | None
) -> Iterator[ControlClient]:
    from ..peer.local.visits import get_acquainted, visit
    from .ending import ended_by_signals

    with ended_by_signals(), visit(home_at(home), flags) as client:
        get_acquainted(client, _names(adapters))
        yield client


def _names(adapters: list[str] | None) -> list[str]:
    return [part.partition("=")[0] for text in adapters or [] for part in text.split("+")]


def _stream(client: ControlClient, body: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Print the answer as it comes; the whole of it."""
    done: dict[str, Any] = {}
    printed = ""
    try:
        for line in client.stream("/ask", body):
            done = line.get("done", done)
            if "delta" in line and not quiet:
                printed = line["delta"] or printed
                print(line["delta"], end="", flush=True)
    except BaseException:
        if printed and not printed.endswith("\n"):
            print(flush=True)  # what is said of the end begins on a line of its own
        raise
    if not quiet:
        print(flush=True)
    return done


def _say_if_over(done: dict[str, Any], deadline: float, remedy: str = "") -> None:
    if done["finish"] == "deadline":
        say(f"the {deadline:g} s were over, and the answer ends there{remedy}")


def _retrieved(text: str | None) -> dict[str, object]:
    """The field of an ask that wants rows before the question. Raises ConfigError."""
    if text is None:
        return {}
    from ..peer.datanets.retrieving import read_retrieval

    wanted = read_retrieval(text)
    return {"retrieve": {"datanet": wanted.datanet, "rows": wanted.rows}}


def _templated(text: str | None) -> dict[str, object]:
    """The field of an ask that wants a template. Raises ConfigError."""
    if text is None:
        return {}
    from ..peer.datanets.retrieving import read_template

    wanted = read_template(text)
    return {"template": {"datanet": wanted.datanet, "row": wanted.row}}


def _tool_results(given: list[str] | None) -> dict[str, object]:
    """The field of an ask that shows what tools gave back. Raises ConfigError."""
    from ..protocol.errors import ConfigError

    found: list[dict[str, str]] = []
    for text in given or []:
        name, _, path = text.partition("=")
        if not name or not path:
            raise ConfigError(f"--tool-result {text}: expected NAME=FILE")
        try:
            found.append({"name": name, "result": Path(path).read_text(encoding="utf-8")})
        except (OSError, UnicodeDecodeError) as wrong:
            raise ConfigError(f"--tool-result {text}: cannot read {path} as text: {wrong}") from None
    return {"tool_results": found} if found else {}


def _show_citations(done: dict[str, Any]) -> None:
    for cited in done.get("citations", ()):
        said = " ".join(f"{cited['question']} {cited['answer']}".split())[:160]
        where = f"{_found(cited)}; row {cited['row'][:12]}"
        say(f"[{cited['number']}] {cited['contributor']}: {said} ({where})")


def _found(cited: dict[str, Any]) -> str:
    """By which channels a row was found, and its rank in each."""
    ranks = {"words": cited.get("by_words"), "meaning": cited.get("by_meaning")}
    return "found by " + " and by ".join(f"{name}, {rank}." for name, rank in ranks.items() if rank)


def _show_receipts(done: dict[str, Any]) -> None:
    for receipt in done["receipts"]:
        verified = "verified" if receipt["verified"] else "NOT VERIFIED"
        tokens = f"{receipt['prompt_tokens']} + {receipt['output_tokens']} tokens"
        say(f"receipt {receipt['id']}: {receipt['price']} units for {tokens}, {verified}")


def _lines() -> Iterator[str]:
    """What a person types, until an empty line or the end."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line.rstrip("\n")


def _without_nothing(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
