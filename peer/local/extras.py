"""The package's optional parts, as its metadata lists them: what each extra brings, and whether it is here.

Nothing is imported to find out: distributions are looked up by name, modules by where they would be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec

from ...protocol.errors import MissingDependency

PACKAGE = "commonlore"
_ASKED = re.compile(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?.*;.*\bextra == [\"']([\w-]+)[\"']")
"""One line of metadata: a distribution, the extras that are wanted of it, and the extra that asks for it."""
_OTHER_NAMES = {
    "web3": ("web3", "eth_abi", "eth_account", "eth_utils", "hexbytes", "requests"),
    "py-evm": ("eth", "rlp"),
    "mypy": ("mypy", "mypyc"),
}
"""Distributions whose modules have other names than they have, or bring others that are imported here."""
_FOR_DEVELOPERS = "dev"


@cache
def extras() -> Mapping[str, tuple[str, ...]]:
    """The distributions that each extra brings, also by other extras; nothing where nothing is installed."""
    found: dict[str, list[str]] = {}
    for name, nested, extra in _asked():
        brought = found.setdefault(extra, [])
        brought += [name] if name != PACKAGE else _all_of(found, nested)
    return {extra: tuple(dict.fromkeys(names)) for extra, names in found.items() if extra != _FOR_DEVELOPERS}


def _asked() -> Iterator[tuple[str, str, str]]:
    """(distribution, its extras with commas, the extra that asks), in the order of pyproject.toml."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        if match := _ASKED.match(line):
            yield match[1], match[2] or "", match[3]


def _all_of(found: Mapping[str, list[str]], nested: str) -> list[str]:
    return [name for extra in nested.split(",") for name in found.get(extra.strip(), ())]


def modules_of(extra: str) -> tuple[str, ...]:
    """The top names under which an extra's packages are imported."""
    return tuple(module for name in extras().get(extra, ()) for module in _modules(name))


def extra_of(module: str) -> str | None:
    """The smallest extra that brings a module, by its name or a submodule's; None for any other."""
    top = module.partition(".")[0]
    fitting = [extra for extra in extras() if top in modules_of(extra)]
    return min(fitting, key=lambda extra: len(extras()[extra]), default=None)


def require(*wanted: str) -> None:
    """Raises MissingDependency where a package of these extras is not here, with the line that brings all."""
    absent = next(_absent(wanted), None)
    if absent is not None:
        raise MissingDependency(lacking(absent, wanted))


def lacking(module: str, wanted: Iterable[str]) -> str:
    """What to say of a package that is not here."""
    return f"this needs {module}, which is not installed: pip install '{PACKAGE}[{','.join(wanted)}]'"


def _absent(wanted: Iterable[str]) -> Iterator[str]:
    return (_modules(name)[0] for extra in wanted for name in extras().get(extra, ()) if not _is_here(name))


def _is_here(distribution: str) -> bool:
    return find_spec(_modules(distribution)[0]) is not None


def _modules(distribution: str) -> tuple[str, ...]:
    return _OTHER_NAMES.get(distribution, (distribution.replace("-", "_").replace(".", "_"),))
