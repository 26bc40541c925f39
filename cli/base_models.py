"""`commonlore base`: the base models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .ending import ended_by_signals
from .options import HomeOption, JsonOption, config_of, home_at
from .printing import print_facts, print_json, print_table, say
from .progress import bars

app = typer.Typer(help="Base models on this machine.")


@app.command()
def add(
    source: Annotated[
        str, typer.Argument(help="starter, a model folder, a .gguf file, or a Hugging Face id.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call it; default: as its source does.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Import a base model once: checked, converted and cached, ready for workers and trainers."""
    from ..worker.models.importing import import_base

    with bars() as advance:
        base = import_base(source, cache_dir(home), advance, name)
    facts = {"name": base.label.name, "base": base.id, "directory": str(base.directory)}
    if json:
        print_json(facts)
    else:
        print_facts(facts)


@app.command()
def quantize(
    name: Annotated[str, typer.Argument(help="A base that was added, by name or id.")],
    bpw: Annotated[float, typer.Option(help="Bits a weight, on average: 2 to 8.")] = 4.0,
    head_bits: Annotated[int, typer.Option(help="Bits a weight of the output layer.")] = 6,
    rows: Annotated[int, typer.Option(min=1, help="Rows of calibration text.")] = 100,
    measurement_rows: Annotated[int, typer.Option(min=1, help="Rows to measure errors with.")] = 16,
    length: Annotated[int, typer.Option(min=64, max=2048, help="Tokens of a row.")] = 2048,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Make an EXL2 artefact of a base, for `engine = exllamav2`; needs an NVIDIA GPU.

    Stopped, the same command goes on where it was.
    """
    from ..worker.engine.exllamav2.quantize import Options, quantize_base
    from ..worker.models.importing import open_base

    cache = cache_dir(home)
    options = Options(bpw, head_bits, rows, length, measurement_rows)
    with ended_by_signals(), bars() as advance:
        artefact = quantize_base(open_base(name, cache), cache, options, advance)
    facts = {
        "artefact": artefact.id,
        "base": artefact.manifest.reference,
        "directory": str(artefact.directory),
    }
    if json:
        print_json(facts)
    else:
        print_facts(facts)


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The bases that are ready on this machine."""
    from ..protocol.errors import InvalidModel
    from ..worker.models.cache import base_dir, list_bases
    from ..worker.models.reference import BaseModel, load_base

    cache = cache_dir(home)
    bases: list[BaseModel] = []
    for directory in [base_dir(cache, base) for base in list_bases(cache)]:
        try:
            bases.append(load_base(directory))
        except InvalidModel as wrong:  # one that is damaged hides no other
            say(f"left out: {wrong}")
    rows = [{"name": b.label.name, "base": b.id, "directory": str(b.directory)} for b in bases]
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
