"""`commonlore demo`: the main job on this machine, shown as it happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .demo_screen import Screen, as_json
from .ending import ended_by_signals
from .options import JsonOption, config_of, home_at
from .printing import print_json, say


def demo(
    base: Annotated[
        str, typer.Option(help="The base model: starter, tiny (quick, talks nonsense), …")
    ] = "starter",
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps an adapter; fewer on a slow machine.")
    ] = 40,
    index_rows: Annotated[int, typer.Option(min=1, help="Rows an adapter indexed for attribution.")] = 120,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the peers' homes where they are.")] = False,
    json: JsonOption = False,
) -> None:
    """The main job: a real network on this machine that trains, answers, attributes and pays.

    Takes at most eight minutes on two cores; it downloads its base model once.
    """
    from ..peer.demo.course import run_demo
    from ..peer.demo.events import Finished
    from ..peer.demo.plan import DemoOptions
    from ..peer.local.extras import require

    require("worker", "devchain", "corpora")
    cache_dir = config_of(home_at(None)).cache_dir
    with ended_by_signals(), _folder(keep) as folder, Screen(stderr=json) as screen:
        options = DemoOptions(folder, base, cache_dir, steps, index_rows)
        with closing(run_demo(options)) as events:  # type: ignore[type-var]  # it is a generator
            for event in events:
                screen.show(event)
                if json and isinstance(event, Finished):
                    print_json(as_json(event))


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    """A temporary home for the demo's peers; kept if asked for, or where a peer failed."""
    folder = Path(tempfile.mkdtemp(prefix="commonlore-"))
    try:
        yield folder
    except Exception:
        if any(folder.glob("*/logs/*")):
            say(f"the peers' homes and logs are kept in {folder}")
        else:  # no peer was started: there is nothing to look into
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if keep:
        say(f"the peers' homes are kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
