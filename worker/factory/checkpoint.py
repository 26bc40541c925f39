"""Training state on disk: safetensors, never pickle; each file whole or not there.

Rules of this file:
- A checkpoint is the adapter, AdamW's two moments, what the early mean has summed and the number of steps
  done, under the digest of its job. Loading it continues the run bit for bit; a checkpoint of another job, or
  one that cannot be read, is as good as none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from .early import EarlyMean
from .job import CHECKPOINT_FILE, write_whole

_MOMENTS = ("exp_avg", "exp_avg_sq")
_EARLY = "early"


def write_adapter(path: Path, parameters: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """An adapter file as others will load it."""
    tensors = {name: parameter.detach().to(dtype).contiguous() for name, parameter in parameters.items()}
    write_whole(path, save(tensors, metadata={"format": "pt"}))


def read_adapter(path: Path) -> dict[str, Tensor]:
    """The tensors of an adapter file that this program wrote, as float32."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict


def write_checkpoint(
    job_dir: Path, digest: str, step: int, trained: tuple[Mapping[str, Tensor], AdamW], early: EarlyMean
) -> None:
    """Replace the folder's checkpoint with the state after `step` steps."""
    parameters, optimizer = trained
    tensors = {f"value/{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= {f"{_EARLY}/{name}": each for name, each in early.sums.items()}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        tensors |= {f"{moment}/{name}": state[moment] for moment in _MOMENTS}
    write_whole(job_dir / CHECKPOINT_FILE, save(tensors, metadata={"digest": digest, "step": str(step)}))


def read_checkpoint(
    job_dir: Path, digest: str, trained: tuple[Mapping[str, Tensor], AdamW], early: EarlyMean
) -> int:
    """Continue where the folder's checkpoint of this job stands: the steps done, 0 where there is none."""
    try:
        with safe_open(job_dir / CHECKPOINT_FILE, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("digest") != digest:
                return 0
            step = int(metadata["step"])
            _restore(file, step, *trained)
            early.sums = {
                name.removeprefix(f"{_EARLY}/"): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - not a dict
                if name.startswith(f"{_EARLY}/")
            }
            return step
    except (OSError, SafetensorError, ValueError, KeyError):
        return 0


def _restore(file: Any, step: int, parameters: Mapping[str, Tensor], optimizer: AdamW) -> None:
    values = {name: file.get_tensor(f"value/{name}") for name in parameters}
    moments = {
        name: {moment: file.get_tensor(f"{moment}/{name}") for moment in _MOMENTS} for name in parameters
    }
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments[name]}


def remove_checkpoint(job_dir: Path) -> None:
    """What a finished run no longer needs."""
    (job_dir / CHECKPOINT_FILE).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The digest of a file, hexadecimal."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(directory: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
