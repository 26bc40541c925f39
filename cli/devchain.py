"""`commonlore devchain`: the embedded development chain, served on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def devchain(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.")] = 8545,
    state: Annotated[Path | None, typer.Option(help="Keep the chain in this file across restarts.")] = None,
    epoch_length: Annotated[int, typer.Option(help="Seconds of an epoch.")] = 3600,
    window: Annotated[int, typer.Option(help="Seconds from a posted epoch to its claims.")] = 3600,
    deployment_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the deployment here: what peers take as --deployment."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print URL and deployment as one JSON line.")] = False,
) -> None:
    """Run a development chain with the contracts deployed; its money is play money."""
    from ..contracts.embedded import devchain as chain

    arguments = ["--port", str(port), "--epoch-length", str(epoch_length), "--window", str(window)]
    for flag, file in (("--state", state), ("--deployment-out", deployment_out)):
        arguments += [flag, str(file)] if file is not None else []
    raise typer.Exit(chain.main([*arguments, *(["--json"] if json else [])]))
