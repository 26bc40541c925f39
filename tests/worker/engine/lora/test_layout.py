"""A packed adapter holds exactly its file's numbers, whatever rank, targets and dtype."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.adapters.validate import check_adapter_file
from commonlore.worker.engine.lora import layout as lora_layout
from commonlore.worker.engine.lora.layout import Blanks, rank_bucket
from commonlore.worker.engine.lora.torch_lora import TorchLoraLayout
from commonlore.worker.engine.memory.weights import FUSED
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.architecture import LINEARS, block_of, linear_shapes
from commonlore.worker.models.reference import BaseModel


def packed(source: AdapterSource, base: BaseModel, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    layout = TorchLoraLayout(base.architecture, dtype)
    return layout.pack(check_adapter_file(Path(source.path), source, base.architecture), source)


def update_of(
    numbers: torch.Tensor, source: AdapterSource, base: BaseModel, layer: int, linear: str
) -> torch.Tensor:
    """What the packed adapter adds to this linear's weight, [out, in]."""
    layout = TorchLoraLayout(base.architecture, numbers.dtype)
    shapes = linear_shapes(base.architecture)
    for fused, linears in FUSED.items():
        if linear in linears:
            down, up = layout.factors(numbers, layout.bucket_of(source))[fused]
            first = sum(shapes[one][0] for one in linears[: linears.index(linear)])
            return (up[layer].T.double() @ down[layer].double())[first : first + shapes[linear][0]]
    raise AssertionError(linear)


@pytest.mark.parametrize(
    ("rank", "bucket"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (33, 64), (64, 64), (65, 128)]
)
def test_a_rank_goes_to_the_next_bucket(rank: int, bucket: int) -> None:
    assert rank_bucket(rank) == bucket


@pytest.mark.parametrize("rank", [1, 3, 8, 16, 20, 64])
@pytest.mark.parametrize("targets", [LINEARS, ("q_proj", "v_proj"), ("up_proj",)])
def test_every_linear_gets_its_own_update(
    tiny: BaseModel, tmp_path: Path, rank: int, targets: tuple[str, ...]
) -> None:
    source = write_fake_adapter(tmp_path / "x", tiny.architecture, rank, targets)
    file, numbers = load_file(source.path), packed(source, tiny)
    for layer in range(tiny.architecture.layers):
        for linear in LINEARS:
            found = update_of(numbers, source, tiny, layer, linear)
            prefix = f"base_model.model.model.layers.{layer}.{block_of(linear)}.{linear}"
            if linear in targets:
                down, up = (file[f"{prefix}.lora_{side}.weight"].double() for side in "AB")
                torch.testing.assert_close(found, up @ down * (source.alpha / rank), atol=1e-6, rtol=1e-6)
            else:
                assert not found.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_files_dtype_does_not_matter(tiny: BaseModel, tmp_path: Path, dtype: torch.dtype) -> None:
    source = write_fake_adapter(tmp_path / "x", tiny.architecture, 4)
    rounded = {name: tensor.to(dtype) for name, tensor in load_file(source.path).items()}
    other = replace(source, path=str(tmp_path / "y"))
    save_file(rounded, other.path)
    save_file({name: tensor.float() for name, tensor in rounded.items()}, source.path)
    assert torch.equal(packed(other, tiny), packed(source, tiny))


def test_a_file_of_several_dtypes_is_read(tiny: BaseModel, tmp_path: Path) -> None:
    source = write_fake_adapter(tmp_path / "x", tiny.architecture, 4)
    whole = packed(source, tiny)
    mixed = {
        name: tensor.bfloat16() if ".3." in name or "q_proj" in name else tensor
        for name, tensor in load_file(source.path).items()
    }
    save_file(mixed, source.path)
    torch.testing.assert_close(packed(source, tiny), whole, atol=1e-2, rtol=1e-2)


def test_scale_is_multiplied_in_before_rounding(tiny: BaseModel, tmp_path: Path) -> None:
    source = replace(write_fake_adapter(tmp_path / "x", tiny.architecture, 3), alpha=7)
    assert torch.equal(packed(source, tiny, torch.bfloat16), packed(source, tiny).bfloat16())


def test_sizes_are_what_packing_gives(tiny: BaseModel, tmp_path: Path) -> None:
    layout = TorchLoraLayout(tiny.architecture, torch.bfloat16)
    sizes = layout.packed_sizes(64)
    assert [size.bucket for size in sizes] == [8, 16, 32, 64]
    for size in sizes:
        source = write_fake_adapter(tmp_path / f"{size.bucket}", tiny.architecture, size.bucket)
        assert packed(source, tiny, torch.bfloat16).nbytes == size.bytes == layout.bytes(source)


def test_blanks_are_zero_and_nobody_elses_found_ahead_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    finding: list[Future[None]] = []

    def find_late(tensor: torch.Tensor) -> Future[None]:
        finding.append(Future())
        return finding[-1]

    monkeypatch.setattr(lora_layout, "find_ahead", find_late)
    blanks = Blanks()
    taken = [blanks.take(1000, torch.float32)]
    blanks.find_next()
    taken.append(blanks.take(1000, torch.float32))  # not found yet
    finding[0].set_result(None)
    taken += [blanks.take(1000, torch.float32), blanks.take(1000, torch.bfloat16)]
    blanks.find_next()
    assert len(finding) == 3  # the first, and in place of those that were taken
    for number, blank in enumerate(taken, 1):
        assert blank.shape == (1000,)
        assert not blank.any()
        blank.fill_(number)
    assert [int(blank[0]) for blank in taken] == [1, 2, 3, 4]
