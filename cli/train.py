"""`commonlore train`: an adapter from Datanets, indexed for attribution and announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from . import completing
from .ending import ended_by_signals
from .grouped import takes_groups
from .options import HomeOption, JsonOption
from .printing import print_facts, print_json
from .progress import bars
from .reach import node_of


def _finite(rate: float | None) -> float | None:
    """Raises BadParameter on what no training can use, before anything is ordered."""
    if rate is not None and not 0 < rate < 1:
        raise typer.BadParameter(f"--learning-rate {rate} does not lie between 0 and 1, such as 0.008")
    return rate


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What is to be trained."""

    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="What the adapter is called.")]
    datanet: Annotated[
        list[str],
        typer.Option(help="A Datanet by name. Repeatable.", autocompletion=completing.datanets),
    ]
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 40
    rank: Annotated[int, typer.Option(min=1, max=256, help="Of the LoRA factors.")] = 8
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 8
    learning_rate: Annotated[
        float | None, typer.Option(help="At its peak, between 0 and 1; default: 0.008.", callback=_finite)
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of order and initial factors.")] = 1
    index_rows: Annotated[int, typer.Option(min=1, help="Rows indexed for attribution.")] = 120
    retrainings: Annotated[
        int | None,
        typer.Option(
            "--faithfulness",
            metavar="RETRAININGS",
            min=4,
            max=1000,
            help="Short trainings that show how well attribution foretells them; default: 6.",
        ),
    ] = None
    no_faithfulness: Annotated[
        bool, typer.Option("--no-faithfulness", help="None: contributors are paid by their number of rows.")
    ] = False
    refuse_noise: Annotated[
        bool,
        typer.Option("--refuse-noise/--keep-noise", help="Leave out whose rows are no language."),
    ] = True
    licence: Annotated[str, typer.Option(help="The adapter's; default: its first Datanet's.")] = ""

    def body(self) -> dict[str, Any]:
        """As the node takes it; what nobody chose is its to choose."""
        config = {"steps": self.steps, "rank": self.rank, "alpha": 2 * self.rank}
        config |= {"batch_size": self.batch_size, "seed": self.seed}
        chosen = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        order: dict[str, Any] = {
            "name": self.name,
            "datanets": self.datanet,
            "config": config | chosen,
            "index_rows": self.index_rows,
            "licence": self.licence,
            "refuse_noise": self.refuse_noise,
        }
        if self.no_faithfulness or self.retrainings is not None:
            order["retrainings"] = 0 if self.no_faithfulness else self.retrainings
        return order


@takes_groups
def train(order: TrainingOrder, home: HomeOption = None, json: JsonOption = False) -> None:
    """Train an adapter in the running node and announce it.

    Stopped, the same command goes on where it was.
    """
    from ..peer.training.train_stages import TrainStages

    done: dict[str, Any] = {}
    stages = TrainStages(order.name)
    with ended_by_signals(), node_of(home) as client, bars() as advance:
        for line in client.stream("/train", order.body()):
            done = line.get("done", done)
            for stage in stages.follow(line.get("progress", {})):
                advance(*stage)
    if json:
        print_json(done)
        return
    facts = {"adapter": done["alias"], "id": done["adapter"], "held-out loss": _losses(done)}
    facts["faithfulness"] = done["faithfulness"]
    facts |= _dropped(done.get("dropped") or {}) | _cut(done.get("cut", 0))
    print_facts(facts | _flagged(done.get("flagged") or []))


def _dropped(kinds: dict[str, int]) -> dict[str, object]:
    """Rows that were left out, and why: copies of earlier rows, or noise."""
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return {"rows left out": listed} if kinds else {}


def _cut(rows: int) -> dict[str, object]:
    """Rows that are longer than a training takes."""
    from ..worker.factory.job import LONGEST

    return {"cut": f"{rows} longer than {LONGEST} tokens, learnt as far as that"} if rows else {}


def _flagged(rows: list[str]) -> dict[str, object]:
    """Rows that work against their contributor's others."""
    return {"rows to look at": f"{len(rows)} against their own kind, first {rows[0]}"} if rows else {}


def _losses(done: dict[str, Any]) -> str:
    before, after = done["loss_before"], done["loss_after"]
    if before is None or after is None:
        return "not measured: the Datanet is too small for rows to be held out"
    return f"{before:.3f} before, {after:.3f} after"
