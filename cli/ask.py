"""`commonlore ask` and `commonlore chat`: a question, or several, to the network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .ask_options import AnswerOptions, BoundOptions, ContextOptions, VisitOptions
from .grouped import takes_groups
from .options import JsonOption
from .printing import harmless, print_json, say

if TYPE_CHECKING:
    from ..peer.gateway.control_client import ControlClient

CHAT_DEADLINE_S = 120.0


@takes_groups
def ask(
    *,
    question: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    answer: AnswerOptions,
    context: ContextOptions,
    bounds: BoundOptions,
    visit: VisitOptions,
    json: JsonOption = False,
) -> None:
    """Ask once; the answer streams to stdout, its receipt to stderr.

    Through the node that runs in this home; with --bootstrap through a peer that lives as long as the answer.
    What has come by the deadline is an answer too, with exit status 0; where nothing has, it is 1.
    """
    body = {"prompt": sys.stdin.read() if question == "-" else question}
    body |= answer.fields() | context.fields() | bounds.fields()
    with visit.node(answer.names()) as client:
        done = _stream(client, body, quiet=json)
        if json:
            print_json(done)
        else:
            _show_citations(done)
            _show_receipts(done)
        _say_if_over(done, bounds.deadline, "; more with --deadline")


@takes_groups
def chat(answer: AnswerOptions, visit: VisitOptions) -> None:
    """Talk in turns; an empty line or Ctrl-D ends it."""
    fixed = {**answer.fields(), "deadline_s": CHAT_DEADLINE_S}
    turns: list[dict[str, str]] = []
    with visit.node(answer.names()) as client:
        for line in _lines():
            turns.append({"role": "user", "content": line})
            done = _stream(client, {**fixed, "messages": turns}, quiet=False)
            turns.append({"role": "assistant", "content": done["text"]})
            _show_receipts(done)
            _say_if_over(done, CHAT_DEADLINE_S)


def _stream(client: ControlClient, body: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Print the answer as it comes; the whole of it."""
    done: dict[str, Any] = {}
    printed = ""
    try:
        for line in client.stream("/ask", body):
            done = line.get("done", done)
            if "delta" in line and not quiet:
                printed = line["delta"] or printed
                print(_told(line["delta"]), end="", flush=True)
    except BaseException:
        if printed and not printed.endswith("\n"):
            print(flush=True)  # what is said of the end begins on a line of its own
        raise
    if not quiet:
        print(flush=True)
    return done


def _told(delta: str) -> str:
    """A piece of an answer: as it is for a file or a program, harmless for a terminal."""
    return harmless(delta) if sys.stdout.isatty() else delta


def _say_if_over(done: dict[str, Any], deadline: float, remedy: str = "") -> None:
    if done["finish"] == "deadline":
        say(f"the {deadline:g} s were over, and the answer ends there{remedy}")


def _show_citations(done: dict[str, Any]) -> None:
    for cited in done.get("citations", ()):
        said = " ".join(f"{cited['question']} {cited['answer']}".split())[:160]
        where = f"{_found(cited)}; row {cited['row'][:12]}"
        say(f"[{cited['number']}] {cited['contributor']}: {said} ({where})")


def _found(cited: dict[str, Any]) -> str:
    """By which channels a row was found, and its rank in each."""
    ranks = {"words": cited.get("by_words"), "meaning": cited.get("by_meaning")}
    return " and ".join(f"number {rank} by {name}" for name, rank in ranks.items() if rank)


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
