"""The adapter under training: peft's LoRA on every linear of the base, and its tensors in and out.

Rules of this file:
- The start is a function of (seed, tensor name): A uniform within ±1/sqrt(inputs) from SHAKE-256, B zero.
  torch's generator promises the same numbers only within one version.
- Names are those of peft's own files, so that any library that reads peft adapters reads ours.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.architecture import LINEARS
from ..models.reference import BaseModel
from .job import TrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_model(base: BaseModel, dtype: torch.dtype) -> Any:
    """The base as transformers' causal language model, frozen, on the CPU.

    Attention is eager: stated arithmetic, and at a few hundred tokens a tenth faster than the fused kernel.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForCausalLM.from_pretrained(
        base.directory,
        dtype=dtype,
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.requires_grad_(False).eval()  # type: ignore[no-untyped-call]


def add_adapter(model: Any, config: TrainConfig) -> None:
    """Put a fresh adapter into a frozen model, in place: fp32, at the start that the seed names."""
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=list(LINEARS),
        init_lora_weights=False,
    )
    with warnings.catch_warnings():
        # peft warns that random B factors are rarely wanted; both factors are set just below
        warnings.filterwarnings("ignore", message=".*init_lora_weights.*")
        inject_adapter_in_model(lora, model)
    for name, tensor in adapter_parameters(model).items():
        tensor.data = initial_factor(config.seed, name, tuple(tensor.shape))


def initial_factor(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """A factor before the first step, float32: (rank, inputs) for A, (outputs, rank) for B."""
    if ".lora_B." in name:
        return torch.zeros(shape)
    count = shape[0] * shape[1]
    draws = np.frombuffer(
        hashlib.shake_256(f"commonlore/lora/1/{seed}/{name}".encode()).digest(4 * count), "<u4"
    )
    uniform = (draws.astype(np.float64) + 0.5) / 2**31 - 1.0
    return torch.from_numpy((uniform / shape[1] ** 0.5).astype(np.float32)).reshape(shape)


def adapter_parameters(model: Any) -> dict[str, Any]:
    """The trainable parameters under the names that they have in an adapter file, sorted."""
    found = {
        f"base_model.model.{name.replace('.default.', '.')}": parameter
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(found.items()))


def set_adapter(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Give the adapter these values (names and shapes as `adapter_parameters` has them)."""
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            parameter.copy_(tensors[name])
