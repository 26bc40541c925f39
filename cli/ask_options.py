"""What `ask` and `chat` are told, in groups; each knows the fields of an ask that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completing
from .options import BootstrapOption, ChainOption, DeploymentOption, HomeOption, home_at

if TYPE_CHECKING:
    from ..peer.gateway.control_client import ControlClient


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """Who answers, and how."""

    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            "-a",
            metavar="OWNER/NAME[=WEIGHT]",
            help="An adapter by name or id. Several answer together, equally or by weights that make 1.",
            autocompletion=completing.adapters,
        ),
    ] = None
    max_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Output tokens at most.")] = 256
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0 takes the likeliest token.")] = 0.0
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 0

    def fields(self) -> dict[str, Any]:
        """Of an ask. Raises ConfigError on adapters that make no composition."""
        sampled = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return self._chosen() | sampled

    def _chosen(self) -> dict[str, Any]:
        """One alone may also be a base."""
        from ..peer.asking.composition import is_composition, read_composition

        match self.adapter or []:
            case []:
                return {}
            case [name] if not is_composition(name):
                return {"adapter": name}
            case names:
                named = read_composition(names)
                return {"adapters": [{"name": name, "weight_ppm": ppm} for name, ppm in named]}

    def names(self) -> list[str]:
        """The adapters that are named."""
        return [part.partition("=")[0] for text in self.adapter or [] for part in text.split("+")]


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What goes before the question."""

    retrieve: Annotated[
        str | None,
        typer.Option(
            metavar="DATANET[=ROWS]",
            help="Put a Datanet's rows that go with the question before it; cite them.",
        ),
    ] = None
    template: Annotated[
        str | None,
        typer.Option(
            metavar="DATANET[=ROW]",
            help="Begin with a prompt template: what a Datanet's row answers, the first's.",
        ),
    ] = None
    tool_result: Annotated[
        list[str] | None,
        typer.Option(
            "--tool-result",
            metavar="NAME=FILE",
            help="Show what a tool gave back, from a file. Repeatable; the receipt names each by its hash.",
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Of an ask. Raises ConfigError."""
        found: dict[str, Any] = {}
        if self.retrieve is not None:
            from ..peer.datanets.retrieving import read_retrieval

            wanted = read_retrieval(self.retrieve)
            found["retrieve"] = {"datanet": wanted.datanet, "rows": wanted.rows}
        if self.template is not None:
            from ..peer.datanets.retrieving import read_template

            template = read_template(self.template)
            found["template"] = {"datanet": template.datanet, "row": template.row}
        if self.tool_result:
            found["tool_results"] = [_tool_result(text) for text in self.tool_result]
        return found


def _tool_result(text: str) -> dict[str, str]:
    """What a tool gave back, from NAME=FILE. Raises ConfigError."""
    from ..protocol.errors import ConfigError

    name, _, path = text.partition("=")
    if not name or not path:
        raise ConfigError(f"--tool-result {text}: expected NAME=FILE")
    try:
        return {"name": name, "result": Path(path).read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"--tool-result {text}: cannot read {path} as text: {wrong}") from None


@dataclass(frozen=True, slots=True)
class BoundOptions:
    """Where an answer ends."""

    stop: Annotated[list[str] | None, typer.Option(help="End where this text comes. Repeatable.")] = None
    max_price: Annotated[int | None, typer.Option(min=0, help="Token units at most for one answer.")] = None
    deadline: Annotated[
        float, typer.Option(min=1, max=600, help="Seconds; then it ends with what there is.")
    ] = 120.0

    def fields(self) -> dict[str, Any]:
        """Of an ask."""
        chosen = {"stop": self.stop, "max_price": self.max_price, "deadline_s": self.deadline}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True, slots=True)
class VisitOptions:
    """By which node: the home's, or one that lives as long as the command."""

    bootstrap: BootstrapOption = None
    chain_url: ChainOption = None
    deployment: DeploymentOption = None
    home: HomeOption = None

    @contextmanager
    def node(self, adapters: list[str]) -> Iterator[ControlClient]:
        """The node, once it knows these adapters."""
        from ..peer.local.visits import get_acquainted, visit
        from .ending import ended_by_signals

        flags = {
            "bootstrap": self.bootstrap,
            "chain_url": self.chain_url,
            "deployment": self.deployment,
        }
        with ended_by_signals(), visit(home_at(self.home), flags) as client:
            get_acquainted(client, adapters)
            yield client
