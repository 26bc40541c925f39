"""One adapter out of several, linear by linear, with peft's own arithmetic and without the base's weights.

Rules of this file:
- What comes out is a function of the parts and the plan. peft's DARE draws from torch's global generator;
  here the pinned PRF says which values stay (`kept`), and peft's helpers do the rest.
- Everything is computed in float32 and stored as the parts are, in float32 where they differ.
- A part is a stranger's file: it is checked as a worker would, and so is the result, before anybody sees it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from peft.utils.merge_utils import (
    calculate_majority_sign_mask,
    disjoint_merge,
    magnitude_based_pruning,
    reshape_weight_task_tensors,
    task_arithmetic,
)
from torch import Tensor

from ...protocol.encoding.fields import PPM
from ...protocol.errors import ConfigError, InvalidAdapter
from ...protocol.ids import Cid
from ...protocol.inference.sampler import key_of, philox
from ..adapters.validate import adapter_shapes, check_adapter_file
from ..engine.types import AdapterSource
from ..models.architecture import LINEARS, Architecture
from ..models.reference import load_base
from ..models.tensor_file import Malformed, TensorFile
from .checkpoint import sync_directory, write_adapter
from .job import ADAPTER_FILE, TrainProgress
from .merge_job import MergeJob, MergePart, MergePlan, MergeResult, merged_rank, read_merge, write_merged

Pair = tuple[Tensor, Tensor]
"""(A [rank, in], B [out, rank]) of one linear."""
Report = Callable[[TrainProgress], None]
_PRECISIONS = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BLOCKS = 1 << 18
"""Philox blocks drawn at once."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one part does to the linear of this name: scale · B A; `weight` is the part's in the merge."""

    adapter: Cid
    linear: str
    weight: float
    scale: float
    down: Tensor
    up: Tensor


def run_merge(job_dir: Path, report: Report) -> MergeResult:
    """Merge as the folder says; the adapter and `merged.json` are in it afterwards.

    Raises ConfigError, InvalidModel, InvalidAdapter, NotFound.
    """
    job = read_merge(job_dir)
    report(TrainProgress("loading", 0, 1))
    architecture = load_base(job.base).architecture
    rank = merged_rank(job.plan, job.parts)
    files = [check_adapter_file(part.path, _source_of(part), architecture) for part in job.parts]
    targets = tuple(name for name in LINEARS if any(name in part.targets for part in job.parts))
    source = AdapterSource(Cid(job.name), str(job_dir / ADAPTER_FILE), rank, rank, targets)
    merged = _merge_all(job, files, _linears(architecture, source), report)
    precision = _precision_of(files)
    write_adapter(job_dir / ADAPTER_FILE, merged, _DTYPES[precision])
    check_adapter_file(job_dir / ADAPTER_FILE, source, architecture)
    result = MergeResult(rank, targets, precision, (job_dir / ADAPTER_FILE).stat().st_size)
    write_merged(job_dir, result)
    sync_directory(job_dir)
    return result


def _source_of(part: MergePart) -> AdapterSource:
    return AdapterSource(part.adapter, str(part.path), part.rank, part.alpha, part.targets)


def _linears(architecture: Architecture, source: AdapterSource) -> list[str]:
    """The names of the linears that an adapter changes, as its tensors begin."""
    shapes = adapter_shapes(architecture, source)
    return [name.removesuffix(".lora_A.weight") for name in shapes if name.endswith(".lora_A.weight")]


def _precision_of(files: Sequence[TensorFile]) -> str:
    found = {span.dtype for file in files for span in file.tensors.values()}
    return _PRECISIONS[found.pop()] if len(found) == 1 else "fp32"


def _merge_all(
    job: MergeJob, files: Sequence[TensorFile], linears: Sequence[str], report: Report
) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    rank, changes = merged_rank(job.plan, job.parts), False
    for number, linear in enumerate(linears, 1):
        down, up = merge_linear(job.plan, list(_updates(job.parts, files, linear)), rank)
        changes |= bool(down.any()) and bool(up.any())
        merged |= {f"{linear}.lora_A.weight": down, f"{linear}.lora_B.weight": up}
        report(TrainProgress("merging", number, len(linears)))
    if not changes:
        raise ConfigError(f"the merge {job.name!r} would change nothing: give it a higher density")
    return merged


def _updates(parts: Sequence[MergePart], files: Sequence[TensorFile], linear: str) -> Iterator[Update]:
    for part, file in zip(parts, files, strict=True):
        if f"{linear}.lora_A.weight" in file.tensors:
            down, up = (_tensor(part, file, f"{linear}.{factor}.weight") for factor in ("lora_A", "lora_B"))
            yield Update(part.adapter, linear, part.weight_ppm / PPM, part.alpha / part.rank, down, up)


def _tensor(part: MergePart, file: TensorFile, name: str) -> Tensor:
    try:
        return torch.from_numpy(file.array(name).astype(np.float32))
    except Malformed as wrong:
        raise InvalidAdapter(f"the adapter {part.adapter} {wrong}") from None


# ---- one linear


def merge_linear(plan: MergePlan, updates: Sequence[Update], rank: int) -> Pair:
    """The factors of a merged linear, (rank, in) and (out, rank), whose scale is 1."""
    if plan.method == "cat":
        return _pad(_side_by_side(updates), rank)
    if plan.method == "svd":
        return _pad(_truncate_product(_side_by_side(updates), rank), rank)
    if plan.decomposes:
        return _pad(_truncate(_merge_whole(plan, updates), rank), rank)
    roots = [math.sqrt(update.weight * update.scale) for update in updates]
    down = _combine(plan, _named(updates, "lora_A", [update.down for update in updates]), roots)
    return down, _combine(plan, _named(updates, "lora_B", [update.up for update in updates]), roots)


def _merge_whole(plan: MergePlan, updates: Sequence[Update]) -> Tensor:
    whole = [(update.up @ update.down) * update.scale for update in updates]
    return _combine(plan, _named(updates, "update", whole), [update.weight for update in updates])


def _named(updates: Sequence[Update], kind: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    names = (f"{update.adapter}/{update.linear}.{kind}" for update in updates)
    return dict(zip(names, tensors, strict=True))


def _combine(plan: MergePlan, named: Mapping[str, Tensor], weights: Sequence[float]) -> Tensor:
    """One tensor of several of the same shape. What each is called decides what DARE drops of it."""
    tensors, weighing = [_prune(plan, name, tensor) for name, tensor in named.items()], torch.tensor(weights)
    if not plan.elects:
        return task_arithmetic(tensors, weighing)
    stacked = torch.stack(tensors)
    agreeing = calculate_majority_sign_mask(stacked)
    return disjoint_merge(stacked * reshape_weight_task_tensors(stacked, weighing), agreeing)


def _prune(plan: MergePlan, name: str, tensor: Tensor) -> Tensor:
    density = plan.density_ppm / PPM
    if not plan.prunes or plan.density_ppm == PPM:
        return tensor
    if not plan.draws:
        return magnitude_based_pruning(tensor, density)
    return tensor * kept(plan.seed, name, tuple(tensor.shape), plan.density_ppm) / density


def kept(seed: int, name: str, shape: tuple[int, ...], density_ppm: int) -> Tensor:
    """Which values of a tensor DARE keeps: (shape) bool, a share `density_ppm` of them on average.

    Value e (row-major) stays where w · 10^6 < density_ppm · 2^32; w is word e mod 4 of Philox4x32-10 under
    the sampler's key of `seed` (`protocol.inference.sampler`), with counter (e div 4 as uint64, the first 8
    bytes of the SHA-256 of `name` as uint64), each as two little-endian words. `name` is the part's adapter
    id, a slash, the linear, and .lora_A, .lora_B or .update: no mask depends on what else is merged.
    """
    count, blocks = math.prod(shape), -(-math.prod(shape) // 4)
    words = [_words(seed, name, start, min(start + _BLOCKS, blocks)) for start in range(0, blocks, _BLOCKS)]
    below = np.concatenate(words)[:count] * np.uint64(PPM) < np.uint64(density_ppm << 32)
    return torch.from_numpy(below.reshape(shape))


def _words(seed: int, name: str, start: int, end: int) -> npt.NDArray[np.uint64]:
    """The words of the blocks [start, end), in order."""
    blocks = np.arange(start, end, dtype=np.uint64)
    stream = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u4")
    low, high = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    named = [np.full(end - start, word, np.uint32) for word in stream]
    drawn = philox((low.astype(np.uint32), high.astype(np.uint32), named[0], named[1]), key_of(seed))
    return np.stack(drawn, axis=-1).reshape(-1).astype(np.uint64)


# ---- factors


def _side_by_side(updates: Sequence[Update]) -> Pair:
    """The weighted sum of updates, exactly: A below A, B beside B."""
    down = torch.cat([update.down * (update.weight * update.scale) for update in updates])
    return down, torch.cat([update.up for update in updates], dim=1)


def _truncate(whole: Tensor, rank: int) -> Pair:
    """The closest update of this rank, as peft factors it."""
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    return right[:rank], left[:, :rank] * values[:rank]


def _truncate_product(pair: Pair, rank: int) -> Pair:
    """`_truncate` of B A, by way of the small matrix between two orthogonal ones: no (out, in) is made."""
    down, up = pair
    rows, inner_down = torch.linalg.qr(down.T)
    columns, inner_up = torch.linalg.qr(up)
    right, left = _truncate(inner_up @ inner_down.T, rank)
    return right @ rows.T, columns @ left


def _pad(pair: Pair, rank: int) -> Pair:
    """Zeros up to the rank that all linears of one adapter have."""
    down, up = pair
    missing = rank - down.shape[0]
    if not missing:
        return pair
    return torch.nn.functional.pad(down, (0, 0, 0, missing)), torch.nn.functional.pad(up, (0, missing))
