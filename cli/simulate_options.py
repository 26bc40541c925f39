"""What `simulate run` is told, in groups: what to run, where it is written, on what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..simulations.sweep.pool import Pool


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """Which runs of a scenario."""

    seed: Annotated[int | None, typer.Option(min=0, help="One seed.")] = None
    seeds: Annotated[str | None, typer.Option(metavar="0-9", help="Several, such as 0-9 or 1,4,8.")] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="Set a key; several values sweep it."),
    ] = None
    driver: Annotated[
        str | None, typer.Option(help="Of kind service: kernel (models), virtual (real peers), or both: a,b.")
    ] = None

    def chosen_seeds(self) -> tuple[int, ...]:
        """The seeds. Raises BadParameter."""
        from ..simulations.sweep.run import parse_seeds

        if self.seed is not None and self.seeds is not None:
            raise typer.BadParameter("give either --seed or --seeds")
        return parse_seeds(self.seeds) if self.seeds is not None else (self.seed or 0,)

    @property
    def settings(self) -> list[str]:
        """KEY=VALUEs over the scenario's own."""
        return [*(self.set_ or []), *([] if self.driver is None else [f"driver={self.driver}"])]


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Where results are."""

    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results are written; results/SCENARIO without it."),
    ] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what another sweep left in that folder.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """On how many processes, of which machines."""

    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; without it one, or all of a cluster.")
    ] = None
    backend: Annotated[str, typer.Option(help="processes, loky, dask or ray.")] = "processes"
    cluster: Annotated[str, typer.Option(metavar="ADDRESS", help="A running Dask or Ray cluster's.")] = ""

    def pool(self) -> Pool:
        """What runs them. Raises BadParameter."""
        from ..simulations.sweep.pool import BACKENDS, Pool

        one_of("--backend", self.backend, BACKENDS)
        return Pool(self.jobs, self.backend, self.cluster)


def one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    """Raises BadParameter on what is not known."""
    if value not in known:
        raise typer.BadParameter(f"{option} is {value!r}; choose one of: {', '.join(known)}")
