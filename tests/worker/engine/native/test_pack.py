"""Packing by the library against packing by torch, of real files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.adapters.validate import check_adapter_file
from commonlore.worker.engine.native.lora_layout import NativeLoraLayout
from commonlore.worker.engine.native.structures import TARGETS
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.reference import BaseModel


def written(tiny: BaseModel, path: Path, rank: int, targets: tuple[str, ...], alpha: int) -> AdapterSource:
    """A file in bf16."""
    source = write_fake_adapter(path, tiny.architecture, rank, targets, seed=rank)
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    return AdapterSource(source.adapter, source.path, rank, alpha, targets)


@pytest.mark.parametrize("rank", [1, 2, 3, 8, 12, 13, 16, 64])
@pytest.mark.parametrize("targets", [TARGETS, ("v_proj", "up_proj")])
@pytest.mark.parametrize("alpha", [16, 24])
def test_both_ways_give_the_same_numbers(
    tiny: BaseModel, tmp_path: Path, rank: int, targets: tuple[str, ...], alpha: int
) -> None:
    source = written(tiny, tmp_path / "a.safetensors", rank, targets, alpha)
    layout = NativeLoraLayout(tiny.architecture)
    file = check_adapter_file(Path(source.path), source, tiny.architecture)
    packed = layout.pack(file, source)
    assert packed.shape == (layout.size(layout.bucket_of(source)),)
    assert packed.any()
    assert torch.equal(packed, layout.pack_any(file, source))
