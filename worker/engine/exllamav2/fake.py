"""exllamav2 without a GPU: its own Python over a stand-in for its CUDA extension, on the CPU.

What is real here is every class of exllamav2, its generator, page table and modules; what is fake is the
arithmetic below them, written plainly in torch. A quantised matrix is a file's 32-bit integers taken as
floats, reordered on loading as exllamav2 reorders real ones. So tests see how the engine drives exllamav2,
and nothing of its kernels.

Rules of this file:
- `import_on_cpu` must come before exllamav2's first import in a process, and is for good: tests only.
- Functions have the extension's names and argument orders, whatever they are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ...models.artefacts import Artefact, publish_artefact
from ...models.reference import BaseModel
from . import flash
from .library import Library, library_of
from .model import linear_keys
from .quantize import library_config
from .requirements import EXTENSION, PACKAGE


def import_on_cpu() -> Library:
    """exllamav2's classes, computing on the CPU. Raises ImportError where the package is not installed."""
    sys.modules.setdefault(EXTENSION, _extension_module())
    flash.register()
    package = importlib.import_module(PACKAGE)
    dynamic = importlib.import_module(f"{PACKAGE}.generator.dynamic")
    for name, changed in _CHANGED.items():
        vars(importlib.import_module(f"{PACKAGE}.{name}")).update({one: _STAND_INS[one] for one in changed})
    return library_of(vars(package), vars(dynamic))


class _TorchWithoutCuda(ModuleType):
    """torch, but that every device is the CPU, and CUDA's streams and waiting for it do nothing."""

    cuda = SimpleNamespace(synchronize=lambda *_: None, Stream=lambda *_: None)

    @staticmethod
    def device(_index: int) -> torch.device:
        return torch.device("cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


_STAND_INS: Mapping[str, Any] = {
    "_torch_device": lambda _index: "cpu",
    "safe_move_tensor": lambda tensor, *_where, **_how: tensor,
    "set_device_streams": lambda: None,
    "cuda_sync_active": lambda: None,
    "torch": _TorchWithoutCuda("torch"),
}
_CHANGED: Mapping[str, tuple[str, ...]] = {
    "device": ("_torch_device", "torch"),
    "module": ("_torch_device", "safe_move_tensor"),
    "model": ("_torch_device", "safe_move_tensor", "set_device_streams"),
    "linear": ("safe_move_tensor",),
    "ext": ("safe_move_tensor",),
    "attn_params": ("safe_move_tensor",),
    "stloader": ("torch",),
    "generator.dynamic": ("cuda_sync_active",),
}
"""What of each of its modules is changed."""


def _extension_module() -> ModuleType:
    module = ModuleType(EXTENSION)
    module.__spec__ = ModuleSpec(EXTENSION, None)
    extension = FakeExtension()
    vars(module).update(
        {name: getattr(extension, name) for name in dir(extension) if not name.startswith("_")}
    )
    return module


# ---- the extension


@dataclass(slots=True)
class _Matrix:
    """A quantised matrix [in, out], its rows in the file's order; `order` says where each one's input is."""

    dense: Tensor
    order: Tensor | None
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).float()
        out = (flat if self.order is None else flat[:, self.order]) @ self.dense
        return out if self.bias is None else out + self.bias.float()


@dataclass(slots=True)
class _Block:
    """A fused attention or MLP block: its norm and matrices, and the LoRAs of each by id. Of Qwen3 also the
    norms of query and key heads.
    """

    norm: Tensor
    epsilon: float
    matrices: tuple[_Matrix, ...]
    head_norms: tuple[Tensor, ...] = ()
    loras: list[tuple[dict[int, Tensor], dict[int, Tensor]]] = field(default_factory=list)

    def apply(self, index: int, x: Tensor, ids: list[int]) -> Tensor:
        out = self.matrices[index](x).half().float()
        if self.loras:
            downs, ups = self.loras[index]
            for one in ids:
                if one in downs:
                    out += x.reshape(-1, x.shape[-1]).float() @ downs[one].float() @ ups[one].float()
        return out.half()

    def normed(self, x: Tensor) -> Tensor:
        return _rms_norm(x.reshape(-1, x.shape[-1]), self.norm, self.epsilon)


class FakeExtension:
    """`exllamav2_ext` of 0.3.2, as much of it as loading and the dynamic generator call."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}

    def _keep(self, thing: Any) -> int:
        self._objects[len(self._objects) + 1] = thing
        return len(self._objects)

    # -- plain

    def stloader_read(self, path: str, start: int, size: int, target: Tensor) -> None:
        with Path(path).open("rb") as file:
            file.seek(start)
            raw = torch.frombuffer(bytearray(file.read(size)), dtype=torch.uint8)
        target.view(-1).view(torch.uint8).copy_(raw)

    def rms_norm(self, x: Tensor, weight: Tensor, out: Tensor, epsilon: float) -> None:
        out.copy_(_rms_norm(x, weight, epsilon))

    def head_norm(
        self, x: Tensor, weight: Tensor, _bias: Tensor, out: Tensor, epsilon: float, _rms: bool
    ) -> None:
        out.copy_(_rms_norm(x, weight, epsilon))

    def rope_(
        self,
        x: Tensor,
        sin: Tensor,
        cos: Tensor,
        past: int,
        heads: int,
        head_dim: int,
        offsets: Tensor,
        neox: bool,
    ) -> None:
        assert neox
        rows = x.view(x.shape[0], -1, heads, head_dim)
        steps = torch.arange(rows.shape[1]) + past
        places = steps[None] if offsets.is_meta else steps[None] + offsets.long()[:, None]
        angle = (cos.view(-1, head_dim)[places], sin.view(-1, head_dim)[places])
        c, s = (part[:, :, None].float() for part in angle)
        first, second = rows.float().chunk(2, -1)
        rows.copy_(rows.float() * c + torch.cat((-second, first), -1) * s)

    def count_match(self, a: Tensor, b: Tensor, most: int) -> int:
        most = min(most, b.shape[1])
        different = (a[0, :most] != b[0, :most]).nonzero()
        return int(different[0]) if len(different) else most

    def cache_rotate(self, pages: Tensor, order: Tensor, _buffer: Tensor) -> None:
        ring = order.tolist()
        pages[ring] = pages[ring[1:] + ring[:1]].clone()

    # -- quantised matrices

    def make_group_map(self, groups: Tensor, _rows: int) -> Tensor:
        return torch.zeros(2 * len(groups), dtype=torch.short)

    def make_q_matrix(self, weight: Tensor, order: Tensor, *rest: Any) -> int:
        found, bias = (None if given.is_meta else given for given in (order, rest[8]))
        dense = weight.view(torch.float32)
        return self._keep(_Matrix(dense, None if found is None else found.long(), bias))

    def free_q_matrix(self, handle: int) -> None:
        del self._objects[handle]

    def tensor_remap(self, weight: Tensor, order: Tensor) -> None:
        weight.copy_(weight[:, order.long()])

    def tensor_remap_4bit(self, _scales: Tensor, _order: Tensor) -> None:
        """The fake has no scales."""

    def gemm_half_q_half(self, x: Tensor, handle: int, out: Tensor, _force: bool) -> None:
        out.copy_(self._objects[handle](x))

    # -- fused blocks

    def make_q_attn(self, norm: Tensor, *rest: Any) -> int:
        epsilon, handles = rest[3], rest[4:8]
        matrices = tuple(self._objects[handle] for handle in handles)
        return self._keep(_Block(norm, epsilon, matrices, rest[19:21]))

    def q_attn_set_loras(self, handle: int, *maps: dict[int, Tensor]) -> int:
        return self._set_loras(handle, maps)

    def q_attn_forward_1(
        self,
        handle: int,
        x: Tensor,
        _rows: int,
        _count: int,
        past: int,
        offsets: Tensor,
        *rest: Any,
    ) -> None:
        (q, k, v, sin, cos, ids, _temporary), block = rest, self._objects[handle]
        for index, out in enumerate((q, k, v)):
            out.copy_(block.apply(index, block.normed(x), ids).view(out.shape))
        for out, norm in zip((q, k), block.head_norms, strict=True):
            if not norm.is_meta:
                out.copy_(_rms_norm(out, norm, block.epsilon))
            self.rope_(out, sin, cos, past, out.shape[2], out.shape[3], offsets, True)

    def q_attn_forward_2(
        self, handle: int, x: Tensor, attended: Tensor, _rows: int, _count: int, ids: list[int], _temp: Tensor
    ) -> None:
        x += self._objects[handle].apply(3, attended, ids).view(x.shape)

    def make_q_mlp(self, norm: Tensor, *rest: Any) -> int:
        return self._keep(_Block(norm, rest[2], tuple(self._objects[handle] for handle in rest[3:6])))

    def q_mlp_set_loras(self, handle: int, *maps: dict[int, Tensor]) -> int:
        return self._set_loras(handle, maps)

    def q_mlp_forward_(self, handle: int, x: Tensor, ids: list[int], _temporary: Tensor) -> None:
        block = self._objects[handle]
        normed = block.normed(x)
        gate, up = block.apply(0, normed, ids), block.apply(1, normed, ids)
        x += block.apply(2, F.silu(gate) * up, ids).view(x.shape)

    def _set_loras(self, handle: int, maps: tuple[dict[int, Tensor], ...]) -> int:
        self._objects[handle].loras = list(zip(maps[::2], maps[1::2], strict=True))
        return max((a.shape[1] for downs in maps[::2] for a in downs.values()), default=0)


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * weight.float()).half()


# ---- an artefact


def write_fake_artefact(base: BaseModel, cache_dir: Path, *, quantised: bool = True) -> Artefact:
    """An artefact of `base` that `import_on_cpu` can load; not `quantised`, its weights are plain fp16."""
    directory = cache_dir / "artefacts" / ".work-fake"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(library_config(base))
    weights = {name: torch.from_numpy(array).half() for name, array in base.weights().arrays()}
    if quantised:
        generator = torch.Generator().manual_seed(0)
        for key in [*linear_keys(base.architecture), "lm_head"]:
            weight = weights.pop(f"{key}.weight", weights["model.embed_tokens.weight"])
            weights |= _quantised(key, weight, generator)
    save_file(weights, directory / "output.safetensors")
    return publish_artefact(directory, cache_dir, base.id, "fake" if quantised else "fp16")


def _quantised(key: str, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """[out, in] under EXL2's names: rows of the transpose in some order, floats in the place of codes."""
    weight = F.pad(weight, (0, 0, 0, -len(weight) % 32))
    outputs, inputs = weight.shape
    order = torch.randperm(inputs, generator=generator)
    return {
        f"{key}.q_weight": weight.float().t()[order].contiguous().view(torch.int32),
        f"{key}.q_invperm": torch.argsort(order).int(),
        f"{key}.q_scale": torch.zeros(1, outputs // 8, dtype=torch.int32),
        f"{key}.q_scale_max": torch.ones(outputs, dtype=torch.half),
        f"{key}.q_groups": torch.zeros(2, dtype=torch.short),
    }
