"""The arms by name: which engine, at which precision, in which environment, set up how."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..child import ROOT, Launch, Message
from .material import RANK, STARTER_PACKAGE, Material, prepare_gguf, prepare_gguf_adapter

PEERS_VENV = ROOT / ".venv-peers"
FIRST = 8
"""Adapters that an arm has ready from its start where it must: as many as the widest mixed row needs."""


class Missing(Exception):
    """This arm cannot run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class ArmName:
    """An arm: `engine` is ours, vllm, peft or llama; `precision` the weights' form."""

    name: str
    engine: str
    precision: str
    base_only: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.engine == "ours"


ARMS = (
    ArmName("ours-bf16", "ours", "bf16"),
    ArmName("ours-int4", "ours", "int4"),
    ArmName("ours-fp32", "ours", "fp32"),
    ArmName("vllm-bf16", "vllm", "bf16"),
    ArmName("vllm-base-bf16", "vllm", "bf16", base_only=True),
    ArmName("peft-bf16", "peft", "bf16"),
    ArmName("peft-fp32", "peft", "fp32"),
    ArmName("llama-bf16", "llama", "bf16"),
    ArmName("llama-q8_0", "llama", "q8_0"),
    ArmName("llama-q4_1", "llama", "q4_1"),
    ArmName("llama-q4_0", "llama", "q4_0"),
)
BY_NAME = {arm.name: arm for arm in ARMS}
DEFAULT = tuple(arm.name for arm in ARMS if arm.name not in ("ours-fp32", "peft-bf16", "llama-q8_0"))
_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
_MODULES = {"ours": "ours", "vllm": "vllm_cpu", "peft": "hf_peft", "llama": "llama_cpp"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How an arm is set up: requests at once, adapters in use at once, adapters kept in memory."""

    batch: int
    slots: int
    kept: int


def module_of(arm: ArmName) -> str:
    """What its process runs."""
    return f"arms.{_MODULES[arm.engine]}"


def launch_of(arm: ArmName, material: Material) -> Launch:
    """In which environment. Raises Missing."""
    if arm.ours:
        return Launch(sys.executable)
    python = PEERS_VENV / "bin" / "python"
    if not python.exists():
        raise Missing("the peers are not installed: make bench-peers")
    compiled = {
        "VLLM_CACHE_ROOT": str(material.folder / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(material.folder / "inductor"),
    }
    return Launch(str(python), compiled)


def settings_of(arm: ArmName, material: Material, sizes: Sizes) -> Message:
    """The first order of its process. Raises Missing."""
    settings: Message = {
        "base_dir": str(material.base.directory),
        "adapters": str(material.adapters),
        "rank": RANK,
        "batch": sizes.batch,
        "slots": sizes.slots,
        "kept": sizes.kept,
    }
    match arm.engine:
        case "ours":
            pages = 64 * sizes.batch
            return settings | {"precision": arm.precision, "pages": pages, "queue": 4 * sizes.batch + 256}
        case "vllm":
            return settings | {"dtype": _DTYPES[arm.precision], "lora": not arm.base_only}
        case "peft":
            return settings | {"dtype": _DTYPES[arm.precision]}
        case _:
            return settings | _llama_files(arm, material)


def _llama_files(arm: ArmName, material: Material) -> Message:
    source = next(PEERS_VENV.glob(f"lib/python*/site-packages/{STARTER_PACKAGE}"), None)
    if source is None or material.base.label.name != "SmolLM2-135M-Instruct":
        raise Missing("there is a GGUF form of the starter base only")
    return {
        "gguf": str(prepare_gguf(material, Path(source), arm.precision)),
        "gguf_adapters": [str(prepare_gguf_adapter(material, adapter)) for adapter in range(FIRST)],
    }
