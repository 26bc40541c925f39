"""A base opened by exllamav2: what is served of it, the loaded model, its cache, what adapters may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ....protocol.errors import ConfigError, InvalidModel
from ...models.architecture import Architecture, block_of, linear_shapes
from ...models.artefacts import Artefact
from ...models.reference import BaseModel
from ..types import EngineConfig, EngineFacts
from .library import PAGE_SIZE, Cache, Library, Linear, Model
from .lora import FactorLayout, LinearShape


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens of a sequence, of the whole cache and of a chunk of prompt; sequences of a batch; threads."""

    context: int
    cache: int
    chunk: int
    batch: int
    sampling_threads: int


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A loaded base. `linears` are those that an adapter may change, `shapes` what its factors must fit."""

    model: Model
    cache: Cache
    linears: Mapping[str, Linear]
    shapes: Mapping[str, LinearShape]

    @property
    def device(self) -> str:
        """Where the linears' weights are."""
        return next(iter(self.linears.values())).device()

    @torch.inference_mode()
    def clear_cache(self) -> None:
        """Zero all keys and values."""
        for tensor in self.cache.all_tensors():
            tensor.zero_()


def round_up(tokens: int) -> int:
    """To whole pages."""
    return math.ceil(tokens / PAGE_SIZE) * PAGE_SIZE


def facts_of(config: EngineConfig, base: BaseModel, artefact: Artefact, layout: FactorLayout) -> EngineFacts:
    """What an engine of this configuration serves. Raises InvalidModel."""
    if artefact.manifest.reference != base.id:
        raise InvalidModel(
            f"the artefact {artefact.id} is of the base {artefact.manifest.reference}, not of {base.id}"
        )
    limits = limits_of(config, base)
    return EngineFacts(
        base=base.id,
        artefact=artefact.id,
        name=base.label.name,
        precision=f"{artefact.manifest.format}-{artefact.manifest.precision}"[:64],
        tokenizer=base.manifest.tokenizer,
        chat_template=base.manifest.chat_template,
        max_context=limits.context,
        max_batch=config.max_batch,
        max_queue=config.max_queue,
        pages=limits.cache // PAGE_SIZE,
        page_size=PAGE_SIZE,
        slots=config.slots,
        max_rank=config.max_rank,
        adapter_ram=config.adapter_ram,
        packed_sizes=layout.packed_sizes(config.max_rank),
        backend="exllamav2",
    )


def limits_of(config: EngineConfig, base: BaseModel) -> Limits:
    """How large the loaded model's buffers are."""
    tokens = round_up(config.pages * config.page_size)
    return Limits(
        context=min(base.architecture.max_positions, tokens),
        cache=tokens,
        chunk=round_up(config.max_step_tokens),
        batch=config.max_batch,
        sampling_threads=max(1, config.threads),
    )


def open_model(library: Library, directory: Path, architecture: Architecture, limits: Limits) -> OpenModel:
    """Load the weights in `directory` onto the device.

    Raises InvalidModel; ConfigError when they do not fit.
    """
    try:
        config = library.config(str(directory))
        config.arch_compat_overrides()
        config.max_seq_len = limits.context
        config.max_input_len = max(limits.chunk, round_up(limits.batch))
        model = library.model(config)
        model.load()
        cache = library.cache(model, batch_size=1, max_seq_len=limits.cache)
    except torch.cuda.OutOfMemoryError as wrong:
        raise ConfigError(
            f"the base in {directory} and {limits.cache} tokens of cache do not fit on the device: "
            f"lower engine_pages ({str(wrong)[:200]})"
        ) from None
    except (AssertionError, ValueError, TypeError, KeyError, OSError, RuntimeError) as wrong:
        raise InvalidModel(f"exllamav2 cannot load {directory}: {wrong or type(wrong).__name__}") from None
    linears = {key: model.modules_dict[key] for key in linear_keys(architecture)}
    orders = _orders(directory)
    shapes = {key: _shape(key, linear, orders) for key, linear in linears.items()}
    return OpenModel(model, cache, linears, shapes)


def linear_keys(architecture: Architecture) -> list[str]:
    """The linears that an adapter may change, as exllamav2 names them."""
    return [
        f"model.layers.{layer}.{block_of(linear)}.{linear}"
        for layer in range(architecture.layers)
        for linear in linear_shapes(architecture)
    ]


def _shape(key: str, linear: Linear, orders: Mapping[str, Tensor]) -> LinearShape:
    block, _, _ = key.rpartition(".")
    return LinearShape(linear.in_features, linear.out_features, orders.get(block))


def _orders(directory: Path) -> dict[str, Tensor]:
    """How exllamav2 reorders the inside of each EXL2 MLP, by the MLP's key."""
    end = ".down_proj.q_invperm"
    found: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    if name.endswith(end):
                        found[name.removesuffix(end)] = torch.argsort(file.get_tensor(name).int())
        except (SafetensorError, OSError) as wrong:
            raise InvalidModel(f"{path} cannot be read: {wrong}") from None
    return found
