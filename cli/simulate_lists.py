"""`commonlore simulate list` and `keys`: what there is to simulate, and what of it can be set."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Annotated

import typer

from .options import JsonOption
from .printing import print_json, print_table


def list_(json: JsonOption = False) -> None:
    """The scenarios that come with the package."""
    from ..simulations.experiment.scenario import load_experiment, scenario_names, scenario_path

    found = [load_experiment(scenario_path(name)) for name in scenario_names()]
    rows = [
        {"name": name, "kind": each.kind.name, "arms": len(each.arms), "about": each.about}
        for name, each in zip(scenario_names(), found, strict=True)
    ]
    if json:
        print_json(rows)
    else:
        print_table(("name", "kind", "arms", "about"), [tuple(row.values()) for row in rows])


def keys(
    scenario: Annotated[str, typer.Argument(help="A .toml file, or a packaged name: see `simulate list`.")],
    json: JsonOption = False,
) -> None:
    """Every key that a scenario or -p may set: its value there, and what it allows."""
    from ..simulations.experiment.keys import keys_of
    from ..simulations.experiment.scenario import load_experiment, scenario_path

    found = keys_of(load_experiment(scenario_path(scenario)))
    if json:
        print_json([asdict(key) for key in found])
    else:
        print_table(("key", "value", "allowed"), [astuple(key) for key in found])
