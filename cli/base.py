"""`commonlore base`: the base models on this machine."""

from __future__ import annotations

from pathlib import Path

import typer

from .options import HomeOption, JsonOption, config_of, home_at
from .printing import print_json, print_table

app = typer.Typer(help="Base models on this machine.")


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The bases that are ready on this machine."""
    from ..worker.models.cache import base_dir, list_bases
    from ..worker.models.reference import load_base

    cache = cache_dir(home)
    bases = [load_base(base_dir(cache, base)) for base in list_bases(cache)]
    rows = [{"name": b.manifest.name, "base": b.id, "directory": str(b.directory)} for b in bases]
    if json:
        print_json(rows)
    elif rows:
        print_table(("name", "base", "directory"), [tuple(row.values()) for row in rows])
    else:
        print("no bases yet; import one with: commonlore base add starter")


def cache_dir(home: Path | None) -> Path:
    """Where this invocation keeps bases."""
    from ..worker.models.cache import default_cache_dir

    config = config_of(home_at(home))
    return Path(config.cache_dir) if config.cache_dir else default_cache_dir()
