"""Adapters that somebody named, as what can be asked or merged: distinct, whole in weight, on one base."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.content.compositions import AdapterWeight
from ...protocol.errors import ConfigError, ProtocolError
from ...protocol.ids import Cid
from ...protocol.requests.rules import check_adapters
from ..catalog import Catalog
from .composition import Weighted


def chosen_adapters(catalog: Catalog, named: Weighted) -> tuple[AdapterWeight, ...]:
    """The adapters of one ask, by id.

    Raises NotFound for an unknown one, ConfigError for several that cannot answer together.
    """
    found = tuple(AdapterWeight(catalog.adapter_id(name), ppm) for name, ppm in named)
    try:
        check_adapters(found)
    except ProtocolError as wrong:
        raise ConfigError(f"these adapters cannot answer together: {wrong}") from None
    return found


async def common_base(catalog: Catalog, adapters: Sequence[Cid]) -> Cid:
    """The base that all these adapters were made for. Raises ConfigError, and as `Catalog.adapter`."""
    bases = [(await catalog.adapter(adapter)).base for adapter in adapters]
    for adapter, base in zip(adapters, bases, strict=True):
        if base != bases[0]:
            raise ConfigError(
                f"these adapters do not go together: {adapters[0]} is for base {bases[0]}, "
                f"{adapter} for {base}"
            )
    return bases[0]
