"""One frozen configuration: defaults < `config.toml` < COMMONLORE_* in the environment < flags.

Rules of this file:

- A name is the same everywhere: `engine_pages` in TOML, COMMONLORE_ENGINE_PAGES, `--engine-pages`.
- An unknown name is an error that offers the nearest known ones. A value is checked when it is read, once.
- In the environment, lists are separated by commas.
- Credits, rates and prices are token units; rates are per 1,000 tokens.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from ..protocol.errors import ConfigError
from ..protocol.gossip.adverts import Rates
from ..scheduler.policies import DEFAULT_POLICY, POLICIES
from .training.splits import SPLITS

PREFIX = "COMMONLORE_"
RESERVED = frozenset({"NATIVE", "HOME", "PASSPHRASE", "PASSPHRASE_FILE", "CACHE"})
"""Variables with the prefix that are no settings: where the home is, what opens its keys, and whether engines
compile.
"""

ROLES = ("worker", "contributor", "gateway", "bootstrap", "settler", "watchtower")
ENGINES = ("torch", "exllamav2")
PRECISIONS = ("bf16", "int4", "fp32")
DEVICES = ("auto", "cpu", "cuda")
EMBEDDINGS = ("auto", "on", "off")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a person may set. Make it with `load_config`."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    """Multiaddresses to listen on; port 0 lets the system choose."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddresses with /p2p/ of peers to start from."""
    roles: tuple[str, ...] = ()
    """What this peer does beside asking: see ROLES."""

    base: str = "starter"
    """The base model: `starter`, a folder, a GGUF file, or a Hugging Face repository id."""
    engine: str = "torch"
    """What computes: see ENGINES; exllamav2 needs a GPU and an artefact of the base."""
    artefact: str = ""
    """The EXL2 artefact that exllamav2 loads, by id; empty: the only one of the base."""
    precision: str = "bf16"
    """Of the torch engine."""
    device: str = "auto"
    """Where it computes: see DEVICES; auto is a GPU where there is one."""
    threads: int = 0
    """Threads of the engine; 0 is one per physical core."""
    engine_pages: int = 512
    """Pages of the engine's KV cache."""
    engine_page_size: int = 16
    """Tokens of a page."""
    engine_slots: int = 16
    """Different adapters that the engine computes with at once: best no fewer than `max_batch`."""
    adapter_ram: int = 1 << 30
    """Bytes of adapters that the engine keeps in memory, ready for its slots."""
    max_batch: int = 8
    """Sequences that the engine decodes together."""
    adapters: tuple[str, ...] = ()
    """Adapters to have ready before the first request: `owner/name` or ids."""
    step_tokens: int = 128
    """Output tokens that one receipt of a long answer pays."""

    prompt_rate: int = 1_000
    output_rate: int = 4_000
    request_fee: int = 100
    split: str = "default"
    """How adapters trained here divide a price: see `splits`."""
    credit_limit: int = 1_000_000
    """What a payer may owe before its next voucher."""

    max_price: int = 1_000_000
    """What an answer may cost whose caller names no limit: nobody pays whatever a worker asks."""

    chain_url: str = ""
    """JSON-RPC endpoint of the chain; empty: answers are receipted but not settled."""
    deployment: str = ""
    """A deployment JSON, or the path of a file with one."""
    settle_interval_s: int = 10
    prompt_epochs: int = 8
    """Epochs that a worker keeps what was asked and answered, from their commitment's being final on; then
    only hashes."""
    bond: int = 0
    """What this peer's owner bonds as a poster; at least what the network asks for."""
    watch_interval_s: int = 30
    watch_demands: int = 3
    """Leaves of one commitment that a watchtower demands at most while its data cannot be had."""
    max_gas_gwei: int = 0
    """The most that settlement pays for a unit of gas; it waits while gas costs more. 0: what it costs."""
    escrow_reading_s: int = 30
    """How long a worker goes by what the chain said of a payer's escrow."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8080
    """0 lets the system choose."""
    api_keys: tuple[str, ...] = ()
    """Who may use the gateway; empty: anybody who reaches it, so keep it on loopback then."""

    blob_quota: int = 20_000_000_000
    """Bytes of blobs kept on disk."""
    policy: str = DEFAULT_POLICY
    """How a worker is chosen: see POLICIES."""
    client_asks: int = 0
    """Asks that each API key may have under way at once; 0: any number."""
    client_spend: int = 0
    """What the asks of each API key may cost within an hour; 0: anything."""
    hedge_ppm: int = 0
    """Of a million asks, how many may go to a second worker too because their first token is late; 0: none.
    Who comes second is cancelled, and paid what it delivered."""
    log_level: str = "info"
    request_log: str = ""
    """A file, from the home's logs on, that gets a line of JSON with the times of each ask served here."""
    embeddings: str = "auto"
    """Whether rows are found by their meaning, too: see EMBEDDINGS; auto is yes where the model is here."""
    cache_dir: str = ""
    """Where base models are kept; empty: the user's cache folder."""

    @property
    def rates(self) -> Rates:
        """What this worker asks."""
        return Rates(self.prompt_rate, self.output_rate, self.request_fee)

    def __repr__(self) -> str:
        """Without the API keys, which are secrets."""
        shown = ((f.name, "…" if f.name == "api_keys" else getattr(self, f.name)) for f in fields(self))
        return "Config(" + ", ".join(f"{name}={value!r}" for name, value in shown) + ")"


CHOICES: Mapping[str, tuple[str, ...]] = {
    "roles": ROLES,
    "engine": ENGINES,
    "precision": PRECISIONS,
    "device": DEVICES,
    "split": tuple(SPLITS),
    "policy": tuple(POLICIES),
    "log_level": LOG_LEVELS,
    "embeddings": EMBEDDINGS,
}
RANGES: Mapping[str, tuple[int, int]] = {
    "threads": (0, 1024),
    "engine_pages": (8, 1 << 24),
    "engine_page_size": (1, 4096),
    "engine_slots": (1, 4096),
    "adapter_ram": (1 << 20, 1 << 50),
    "max_batch": (1, 1024),
    "step_tokens": (1, 8192),
    "settle_interval_s": (1, 86_400),
    "prompt_epochs": (1, 1 << 32),
    "watch_interval_s": (1, 86_400),
    "watch_demands": (0, 10_000),
    "max_gas_gwei": (0, 1_000_000),
    "escrow_reading_s": (0, 3_600),
    "gateway_port": (0, 65_535),
}
MAX_AMOUNT = (1 << 64) - 1


def load_config(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
) -> Config:
    """The configuration of this invocation. A missing `file` is an empty one, a None flag not given.

    Raises ConfigError naming the source, the name and what would be right.
    """
    settings: dict[str, Any] = {}
    if file is not None and file.exists():
        settings |= _checked(_read_toml(file).items(), str(file))
    settings |= _checked(_from_environment(environment), "the environment")
    given = ((name, value) for name, value in (flags or {}).items() if value is not None)
    settings |= _checked(given, "the command line")
    return Config(**settings)


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Config)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[str, object]]:
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in RESERVED:
            yield name.lower(), parse_text(name.lower(), text)


def parse_text(name: str, text: str) -> object:
    """A variable's or flag's text as its setting's type; what does not parse is left for the check."""
    kind = _types().get(name)
    if isinstance(kind, types.GenericAlias):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is int:
        try:
            return int(text)
        except ValueError:
            return text
    return text


def _checked(settings: Iterable[tuple[str, object]], source: str) -> dict[str, Any]:
    return {name: _check(name, value, source) for name, value in settings}


def _check(name: str, value: object, source: str) -> object:
    kind = _types().get(name)
    if kind is None:
        raise ConfigError(f"unknown setting {name!r} in {source}; {_nearest(name)}")
    if isinstance(kind, types.GenericAlias):
        return _check_list(name, value, source)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{name} in {source} is {value!r}; expected {_describe(name)}")
    if isinstance(value, int):
        low, high = RANGES.get(name, (0, MAX_AMOUNT))
        if not low <= value <= high:
            raise ConfigError(f"{name} in {source} is {value}; expected {low} to {high}")
    elif name in CHOICES and value not in CHOICES[name]:
        raise ConfigError(f"{name} in {source} is {value!r}; expected {_describe(name)}")
    return value


def _check_list(name: str, value: object, source: str) -> tuple[str, ...]:
    items = tuple(value) if isinstance(value, list | tuple) else (None,)
    allowed = CHOICES.get(name)
    for item in items:
        if not isinstance(item, str) or (allowed is not None and item not in allowed):
            shown = value if item is None else item
            raise ConfigError(f"{name} in {source} has {shown!r}; expected a list of {_describe(name)}")
    return tuple(item for item in items if item is not None)


def _describe(name: str) -> str:
    if name in CHOICES:
        return "one of " + ", ".join(CHOICES[name]) if name != "roles" else ", ".join(CHOICES[name])
    return "a whole number" if _types()[name] is int else "text"


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _types(), n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "known are " + ", ".join(sorted(_types()))
