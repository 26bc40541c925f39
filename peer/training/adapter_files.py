"""An adapter file on this machine, judged as any worker would judge it, before it is offered to anybody.

Rank and targets are read off the tensors themselves; what a peft folder says of its scale is taken from
there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import InvalidAdapter, NotFound
from ...protocol.ids import Cid
from ...worker.adapters.validate import check_adapter_file
from ...worker.engine.types import AdapterSource
from ...worker.models.reference import BaseModel
from ...worker.models.tensor_file import Malformed, TensorFile, open_tensor_file

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
CONFIG = "adapter_config.json"
_LORA_A = re.compile(r"\.(\w+)\.lora_A\.weight$")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a file that may be served holds."""

    path: Path
    rank: int
    alpha: int
    targets: tuple[str, ...]
    tensors: int
    size: int


def check_file(path: Path, base: BaseModel) -> AdapterFacts:
    """Judge a safetensors file, or a folder as peft saves it, against a base.

    Raises InvalidAdapter saying what is wrong, NotFound.
    """
    file = _weights_of(path)
    tensors = _open(file)
    rank, targets = _shape_of(file, tensors)
    alpha = _alpha_of(file.parent, rank)
    source = AdapterSource(Cid(str(file)), str(file), rank, alpha, targets)  # no manifest, so no id yet
    check_adapter_file(file, source, base.architecture)
    return AdapterFacts(file, rank, alpha, targets, len(tensors.tensors), file.stat().st_size)


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / WEIGHTS).exists() and (path / PICKLED).exists():
        raise InvalidAdapter(
            f"{path / PICKLED} is a pickle, which can run code; save the adapter as safetensors"
        )
    return path / WEIGHTS


def _open(file: Path) -> TensorFile:
    try:
        return open_tensor_file(file)
    except Malformed as wrong:
        raise InvalidAdapter(f"the adapter {file} {wrong}") from None
    except OSError as error:
        raise NotFound(f"cannot read the adapter {file}: {error.strerror}") from None


def _shape_of(file: Path, tensors: TensorFile) -> tuple[int, tuple[str, ...]]:
    """Rank and targets, by the lora_A tensors."""
    found = [(match.group(1), name) for name in tensors.tensors if (match := _LORA_A.search(name))]
    if not found:
        raise InvalidAdapter(f"the adapter {file} holds no lora_A tensors: it is no LoRA adapter")
    shape = tensors.tensors[found[0][1]].shape
    return (shape[0] if shape else 0), tuple(sorted({target for target, _ in found}))


def _alpha_of(folder: Path, rank: int) -> int:
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except OSError:
        return 2 * rank
    except ValueError:
        raise InvalidAdapter(f"{folder / CONFIG} is not JSON; save the adapter again") from None
    alpha = told.get("lora_alpha") if isinstance(told, dict) else None
    return alpha if isinstance(alpha, int) and alpha > 0 else 2 * rank
