"""What is simulated: a TOML file becomes an experiment, one frozen configuration an arm.

`kind` says what is simulated (`service` where it is missing: see `kinds`). `[sweep]` maps dotted keys to
lists of values, e.g. `"scheduler.policy" = ["random", "cheapest"]`; each combination is an arm.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

from ...protocol.errors import ConfigError
from .kinds import Kind, kind_of
from .tables import Table, WrongKey, line_of, read_table

PACKAGED = Path(__file__).parent.with_name("scenarios")
MAX_ARMS = 4_096
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""What a scenario may be called: results lie in a folder of that name."""
Overrides = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the sweep: its label, such as `policy=random`, what was chosen by dotted key, and
    the configuration that follows (of the kind's own type, such as `models.Scenario`): `scenario` names files
    where they are, `written` as the scenario does, which is the same on every machine."""

    label: str
    scenario: Any
    kind: str
    choice: tuple[tuple[str, Any], ...]
    written: Any


@dataclass(frozen=True, slots=True)
class Experiment:
    """A scenario file: its arms, in the order of the sweep, the digest (sha-256, hexadecimal) of its meaning,
    and those of the files that it reads, by name.
    """

    name: str
    about: str
    arms: tuple[Arm, ...]
    digest: str
    inputs: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> Kind:
        """What is simulated."""
        return kind_of(self.arms[0].kind)

    @property
    def swept(self) -> tuple[str, ...]:
        """The dotted keys in which arms differ."""
        return tuple(key for key, _ in self.arms[0].choice)


def scenario_names() -> list[str]:
    """The scenarios that come with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.toml"))


def scenario_path(name: str) -> Path:
    """The file of a packaged scenario's name, whole or up to its first _ (E1 is e1_scheduling), or of a path.
    Raises ConfigError if there is none."""
    path = Path(name)
    if path.suffix != ".toml":
        known = {each.partition("_")[0]: each for each in scenario_names() if each[:1] == "e"}
        path = PACKAGED / f"{known.get(name.lower(), name)}.toml"
    if not path.is_file():
        raise ConfigError(f"no scenario {name!r}; give a .toml file or one of: {', '.join(scenario_names())}")
    return path


def parse_overrides(texts: list[str]) -> dict[str, tuple[Any, ...]]:
    """Values by dotted key from texts such as `adapters.zipf=0.6,1.0`. Raises ConfigError."""
    overrides: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, sign, values = text.partition("=")
        if not sign or not key.strip() or not values.strip():
            raise ConfigError(f"not a parameter: {text!r}; write it like adapters.zipf=0.6,1.0")
        overrides[key.strip()] = _parse_values(values)
    return overrides


def _parse_values(text: str) -> tuple[Any, ...]:
    """TOML values, lists among them, between commas; or words, which need no quotes."""
    try:
        return tuple(tomllib.loads(f"values = [{text}]")["values"])
    except tomllib.TOMLDecodeError:
        return tuple(_parse_value(each.strip()) for each in text.split(","))


def _parse_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none: words need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def load_experiment(path: Path, overrides: Overrides | None = None) -> Experiment:
    """The experiment in a file; `overrides` are dotted keys with values that replace its sweep's.

    Raises ConfigError with the line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return read_experiment(_overridden(table, overrides or {}), path.parent)
    except WrongKey as error:
        raise ConfigError(f"{_place(path, text, error.key, overrides or {})}: {error}") from error


def _place(path: Path, text: str, key: str, overrides: Overrides) -> str:
    """Where a value came from."""
    if key in overrides:
        return "given parameters"
    line = line_of(text, key)
    return f"{path}, line {line}" if line else f"{path}"


def _overridden(table: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """One value sets a key, several sweep it."""
    sweep = dict(table.get("sweep", {}))
    plain = deepcopy({key: value for key, value in table.items() if key != "sweep"})
    for key, values in overrides.items():
        if len(values) == 1:
            sweep.pop(key, None)
            _set(plain, key, values[0])
        else:
            sweep[key] = list(values)
    return {**plain, "sweep": sweep} if sweep else plain


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making tables on its way."""
    *parents, last = key.split(".")
    if (parents or [last])[0] == "sweep":
        wrong = f"{key}: give the key that is swept and its values, such as adapters.zipf=0.6,1.0"
        raise WrongKey(key, wrong)
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise WrongKey(key, f"{key}: there is no table {parent}")
    table[last] = value


def read_experiment(table: Table, folder: Path | None = None) -> Experiment:
    """The experiment a parsed TOML table describes; relative file names in it are from `folder` on.

    Raises WrongKey.
    """
    sweep = table.get("sweep", {})
    plain = {key: value for key, value in table.items() if key != "sweep"}
    if not isinstance(sweep, dict) or not all(isinstance(each, list) and each for each in sweep.values()):
        raise WrongKey("sweep", "[sweep] maps dotted keys to lists of values that are not empty")
    if math.prod(len(values) for values in sweep.values()) > MAX_ARMS:
        raise WrongKey("sweep", f"[sweep] has more than {MAX_ARMS} combinations")
    for key, values in sweep.items():
        if len({str(value) for value in values}) < len(values):
            raise WrongKey(key, f"{key} is swept over a value twice: {', '.join(map(str, values))}")
    kind = kind_of(plain.pop("kind", "service"))
    arms = tuple(
        _arm(kind, plain, dict(zip(sweep, values, strict=True)), folder)
        for values in product(*sweep.values())
    )
    _check_names(arms)
    canonical = json.dumps({**table, "sweep": sweep}, sort_keys=True, separators=(",", ":"))
    name, about = arms[0].scenario.name, arms[0].scenario.about
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Experiment(name, about, arms, digest, () if folder is None else _digests(kind, arms))


def _check_names(arms: tuple[Arm, ...]) -> None:
    for arm in arms:
        name = arm.written.name
        if not NAME.fullmatch(name):
            allowed = "up to 64 letters, digits, dots, dashes and underscores, the first of them no dot"
            raise WrongKey("name", f"name is {name!r}; it must have {allowed}")


def short_names(keys: Iterable[str]) -> list[str]:
    """Swept keys without their tables, where that leaves no two alike."""
    whole = list(keys)
    last = [key.rpartition(".")[2] for key in whole]
    return [key if last.count(name) > 1 else name for key, name in zip(whole, last, strict=True)]


def _digests(kind: Kind, arms: tuple[Arm, ...]) -> tuple[tuple[str, str], ...]:
    """What stands in the files that the arms read."""
    names = (zip(kind.inputs(arm.written), kind.inputs(arm.scenario), strict=True) for arm in arms)
    paths = dict(chain.from_iterable(names))
    return tuple(
        (name, hashlib.sha256(Path(path).read_bytes()).hexdigest()) for name, path in sorted(paths.items())
    )


def _arm(kind: Kind, table: Table, choice: Mapping[str, Any], folder: Path | None) -> Arm:
    chosen = deepcopy(dict(table))
    for key, value in choice.items():
        _set(chosen, key, value)
    written: Any = read_table(kind.config, chosen)
    kind.check(written)
    scenario = written if folder is None else kind.locate(written, folder)
    label = ", ".join(
        f"{name}={value}" for name, value in zip(short_names(choice), choice.values(), strict=True)
    )
    return Arm(label or kind.label(written), scenario, kind.name, tuple(choice.items()), written)
