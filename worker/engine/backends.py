"""Which backend computes: torch on a GPU; on the CPU the compiled one where it can, else torch.

The choice changes speed and roundings, never what an artefact's numbers mean.
"""

from __future__ import annotations

import logging

from ..models.reference import BaseModel
from .decoding.torch_runner import torch_backend
from .memory.devices import choose_device
from .native.library import Unavailable, load_library
from .native.model import suits
from .native.runner import native_backend
from .runner import Backend
from .types import EngineConfig

log = logging.getLogger("commonlore.worker.engine")


def choose_backend(config: EngineConfig, base: BaseModel, max_context: int) -> Backend:
    """The fastest backend that computes this base at this precision on the device that is wanted.

    Raises MissingDependency, ConfigError when there is no such device.
    """
    device = choose_device(config.device)
    if device.type != "cpu":
        return torch_backend(config, base, max_context, device)
    reason = why_not_native(config, base)
    if reason is None:
        return native_backend(config, base, max_context)
    if config.precision != "fp32":
        log.warning("the engine computes with torch, not with its compiled kernels: %s", reason)
    return torch_backend(config, base, max_context)


def why_not_native(config: EngineConfig, base: BaseModel) -> str | None:
    """Why the compiled library does not compute this; None when it does."""
    if config.precision == "fp32":
        return "they compute bf16 and int4, not fp32"
    shape = suits(base.architecture, config.page_size)
    if shape is not None:
        return f"the model has {shape}"
    try:
        load_library()
    except Unavailable as reason:
        return str(reason)
    return None
