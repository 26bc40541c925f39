"""`import_base`: whatever names a base becomes a checked directory in this machine's cache, once.

Rules of this file:
- The result has one canonical form, whatever the source; its id says what it is.
- `starter` and `tiny` are known beforehand: when the cache has them, nothing is read or fetched.
- One import at a time on a machine, and none that is half done (`cache`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...protocol.errors import InvalidModel, NotFound
from .cache import default_cache_dir, find_base, importing, publish, set_name
from .label import write_label
from .reference import BaseModel, Progress, load_base, no_progress, write_reference
from .sources import STARTER, read_source
from .tiny import build_tiny

TINY = "tiny"


def import_base(
    source: str,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
    name: str | None = None,
) -> BaseModel:
    """Import a base: `starter`, `tiny`, a model folder, a .gguf file, or a Hugging Face repository id.

    `name` replaces the source's own, and is shown from then on. Blocks (seconds to minutes); safe
    in several processes at once. Raises InvalidModel, NotFound, Unreachable, ConfigError, MissingDependency.
    """
    cache = cache_dir or default_cache_dir()
    if source == TINY:
        return build_tiny(cache)
    known = _known(cache, source)
    if known is not None:
        return known
    progress("waiting for the cache", 0, 1)
    with importing(cache) as work:
        return _known(cache, source) or _import(source, cache, (work, name), progress)


def open_base(name_or_id: str, cache_dir: Path | None = None) -> BaseModel:
    """A base that is in the cache, by its id or name. Raises NotFound, InvalidModel."""
    return load_base(find_base(cache_dir or default_cache_dir(), name_or_id))


def _known(cache: Path, source: str) -> BaseModel | None:
    """The starter base, if the cache holds it whole.

    Other sources may have changed since: they are read again.
    """
    if source != STARTER:
        return None
    try:
        return open_base(source, cache)
    except (NotFound, InvalidModel):
        return None


def _import(source: str, cache: Path, where: tuple[Path, str | None], progress: Progress) -> BaseModel:
    work, name = where
    fetched, directory = work / "fetched", work / "base"
    fetched.mkdir()
    directory.mkdir()
    material = read_source(source, fetched, progress)
    base = write_reference(material, directory, progress)
    place = publish(directory, cache, base)
    if name is not None:
        write_label(place, replace(material.label, name=name))
    for alias in {source if source == STARTER else material.label.name, name or material.label.name}:
        set_name(cache, alias, base)
    return load_base(place)
