"""Merged adapters against peft's own `add_weighted_adapter`, and what a mask of DARE is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.utils import merge_utils
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, InvalidAdapter, NotFound
from commonlore.protocol.inference.sampler import key_of, philox
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.factory.job import ADAPTER_FILE
from commonlore.worker.factory.merge import kept, run_merge
from commonlore.worker.factory.merge_job import (
    MERGED_FILE,
    MergeJob,
    MergePart,
    MergePlan,
    MergeResult,
    make_plan,
    write_merge,
)
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.reference import BaseModel

# peft 0.21 asks transformers 5.23 for the attribute under its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

WEIGHTS = (700_000, 300_000)
DENSITY = 600_000


def part(
    folder: Path, tiny: BaseModel, seed: int, rank: int = 8, targets: Sequence[str] = LINEARS
) -> MergePart:
    path = folder / f"{seed}.safetensors"
    source = write_fake_adapter(path, tiny.architecture, rank, targets, seed)
    return MergePart(source.adapter, path, PPM, rank, 3 * rank if seed else rank, source.targets)


@pytest.fixture(scope="module")
def alike(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[MergePart]:
    """Three adapters of one shape; their scales differ."""
    folder = tmp_path_factory.mktemp("alike")
    return [part(folder, tiny, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def different(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[MergePart]:
    """Two adapters of different ranks and targets."""
    folder = tmp_path_factory.mktemp("different")
    return [part(folder, tiny, 0, 8, ("q_proj", "down_proj")), part(folder, tiny, 1, 4, ("q_proj", "o_proj"))]


Merge = Callable[..., tuple[MergeResult, dict[str, Tensor]]]


@pytest.fixture
def merge(tiny: BaseModel, tmp_path: Path) -> Merge:
    """`merge(parts, plan)`: what comes of it, and the tensors of its file."""

    def run(
        parts: Sequence[MergePart], plan: MergePlan, weights: Sequence[int] = WEIGHTS, folder: str = "job"
    ) -> tuple[MergeResult, dict[str, Tensor]]:
        weighted = tuple(
            MergePart(p.adapter, p.path, ppm, p.rank, p.alpha, p.targets)
            for p, ppm in zip(parts, weights, strict=False)
        )
        write_merge(tmp_path / folder, MergeJob("ann/both", tiny.directory, weighted, plan))
        result = run_merge(tmp_path / folder, lambda _progress: None)
        return result, load_file(tmp_path / folder / ADAPTER_FILE)

    return run


def peft_of(tiny: BaseModel, parts: Sequence[MergePart], folder: Path) -> Any:
    """The parts under peft, named by their number."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny.directory, dtype=torch.float32)
    for number, one in enumerate(parts):
        place = folder / f"peft{number}"
        place.mkdir()
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": one.rank, "lora_alpha": one.alpha}
        (place / "adapter_config.json").write_text(json.dumps(config | {"target_modules": list(one.targets)}))
        (place / "adapter_model.safetensors").write_bytes(one.path.read_bytes())
        if number:
            model.load_adapter(place, adapter_name=str(number))
        else:
            model = PeftModel.from_pretrained(model, place, adapter_name="0")
    return model


def updates_of(model: Any) -> dict[str, Tensor]:
    """B A of every linear that peft merged, by the name that our files have for it."""
    found = {}
    for name, module in model.named_modules():
        if "merged" in getattr(module, "lora_A", {}):
            found[name] = module.get_delta_weight("merged").detach()
    return found


def updates_in(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    downs = {
        name.removesuffix(".lora_A.weight"): down for name, down in tensors.items() if ".lora_A." in name
    }
    return {name: tensors[f"{name}.lora_B.weight"].float() @ down.float() for name, down in downs.items()}


def check_like_peft(
    tiny: BaseModel, parts: Sequence[MergePart], merged: dict[str, Tensor], folder: Path, **options: Any
) -> None:
    model = peft_of(tiny, parts, folder)
    weights = [ppm / PPM for ppm in WEIGHTS]
    names = [str(n) for n in range(len(parts))]
    model.add_weighted_adapter(names, weights, "merged", **options)
    wanted, ours = updates_of(model), updates_in(merged)
    assert wanted.keys() == ours.keys()
    for name, update in wanted.items():
        assert float(update.abs().max()) > 0.01
        torch.testing.assert_close(ours[name], update, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["linear", "cat", "svd", "ties", "ties_svd"])
def test_adapters_alike_merge_as_peft_merges_them(
    tiny: BaseModel, alike: list[MergePart], merge: Merge, tmp_path: Path, method: str
) -> None:
    plan = make_plan(method, density_ppm=DENSITY if "ties" in method else None)
    result, merged = merge(alike[:2], plan)
    assert (result.rank, result.precision) == (16 if method == "cat" else 8, "fp32")
    options = {"combination_type": method, "density": DENSITY / PPM}
    check_like_peft(tiny, alike[:2], merged, tmp_path, **options)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_dare_is_peft_s_but_for_what_is_dropped(
    tiny: BaseModel,
    alike: list[MergePart],
    merge: Merge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """peft's DARE, told to drop what the PRF drops: of each linear A (or the update) of all parts, then B."""
    before = torch.get_rng_state()
    _, merged = merge(alike[:2], make_plan(method, density_ppm=DENSITY, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    kinds = ["update"] if method.endswith("svd") else ["lora_A", "lora_B"]
    linears = [name.removesuffix(".lora_A.weight") for name in merged if ".lora_A." in name]
    model = peft_of(tiny, alike[:2], tmp_path)
    order = [name for name, module in model.named_modules() if name in linears and hasattr(module, "lora_A")]
    names = iter(f"{p.adapter}/{linear}.{kind}" for linear in order for kind in kinds for p in alike[:2])

    def prune(tensor: Tensor, density: float, rescale: bool) -> Tensor:
        return tensor * kept(7, next(names), tuple(tensor.shape), DENSITY) / density

    monkeypatch.setattr(merge_utils, "random_pruning", prune)
    model.add_weighted_adapter(
        ["0", "1"], [0.7, 0.3], "merged", combination_type=method, density=DENSITY / PPM
    )
    ours = updates_in(merged)
    for name, update in updates_of(model).items():
        torch.testing.assert_close(ours[name], update, rtol=1e-4, atol=1e-5)
    assert next(names, None) is None


@pytest.mark.parametrize("method", ["cat", "svd", "ties_svd"])
def test_adapters_of_different_shapes(
    tiny: BaseModel, different: list[MergePart], merge: Merge, tmp_path: Path, method: str
) -> None:
    plan = make_plan(method, density_ppm=DENSITY if "ties" in method else None)
    result, merged = merge(different, plan)
    assert (result.rank, result.targets) == (12 if method == "cat" else 8, ("q_proj", "o_proj", "down_proj"))
    assert {len(t) for name, t in merged.items() if ".lora_A." in name} == {result.rank}
    check_like_peft(tiny, different, merged, tmp_path, combination_type=method, density=DENSITY / PPM)


def test_svd_keeps_the_rank_that_is_asked_for(alike: list[MergePart], merge: Merge) -> None:
    _, whole = merge(alike[:2], make_plan("cat"))
    lost = []
    for rank in (2, 8, 16, 40):
        result, merged = merge(alike[:2], make_plan("svd", rank=rank))
        assert result.rank == rank
        exact, ours = updates_in(whole), updates_in(merged)
        lost.append(sum(float((exact[name] - ours[name]).norm()) for name in exact))
    assert lost[0] > lost[1] > 100 * lost[2]
    assert lost[3] == pytest.approx(0, abs=1e-2)


def test_the_same_merge_gives_the_same_bytes(alike: list[MergePart], merge: Merge, tmp_path: Path) -> None:
    plan = make_plan("dare_ties", seed=7)
    for folder in ("once", "again"):
        torch.manual_seed(len(folder))
        merge(alike, plan, (1 * PPM, 2 * PPM, PPM // 2), folder)
    once, again = ((tmp_path / folder / ADAPTER_FILE).read_bytes() for folder in ("once", "again"))
    assert once == again
    merge(alike, make_plan("dare_ties", seed=8), (1 * PPM, 2 * PPM, PPM // 2), "other")
    assert (tmp_path / "other" / ADAPTER_FILE).read_bytes() != once


def test_a_merge_is_stored_as_its_parts_are(
    tiny: BaseModel, alike: list[MergePart], merge: Merge, tmp_path: Path
) -> None:
    halves = []
    for one in alike[:2]:
        path = tmp_path / one.path.name
        save_file({name: tensor.bfloat16() for name, tensor in load_file(one.path).items()}, path)
        halves.append(MergePart(one.adapter, path, PPM, one.rank, one.alpha, one.targets))
    result, merged = merge(halves, make_plan("linear"))
    assert (result.precision, {t.dtype for t in merged.values()}) == ("bf16", {torch.bfloat16})
    result, merged = merge([halves[0], alike[1]], make_plan("linear"))
    assert (result.precision, {t.dtype for t in merged.values()}) == ("fp32", {torch.float32})


def test_a_mask_is_what_its_words_say() -> None:
    mask = kept(7, "an adapter/a linear.lora_A", (5, 3), 400_000).reshape(-1)
    import hashlib

    stream = np.frombuffer(hashlib.sha256(b"an adapter/a linear.lora_A").digest()[:8], "<u4")
    for element in range(15):
        counter = (np.array([element // 4], np.uint32), np.zeros(1, np.uint32), stream[:1], stream[1:])
        word = int(philox(counter, key_of(7))[element % 4][0])
        assert bool(mask[element]) == (word * PPM < 400_000 << 32)
    large = kept(7, "large", (1 << 11, 1 << 10), 400_000)
    assert float(large.float().mean()) == pytest.approx(0.4, abs=0.002)
    assert torch.equal(kept(7, "large", (1 << 12, 1 << 9), 400_000).reshape(-1), large.reshape(-1))
    assert bool(kept(7, "large", (64, 64), PPM).all())


def test_a_bad_part_fails_the_merge_and_leaves_no_result(
    tiny: BaseModel, alike: list[MergePart], merge: Merge, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(alike[0].path.read_bytes()[:-8])
    bad = MergePart(alike[0].adapter, cut, PPM, 8, 8, alike[0].targets)
    with pytest.raises(InvalidAdapter, match="is truncated"):
        merge([bad, alike[1]], make_plan("linear"))
    cut.unlink()
    with pytest.raises(NotFound, match="cannot be read"):
        merge([bad, alike[1]], make_plan("linear"))
    with pytest.raises(ConfigError, match="would change nothing: give it a higher density"):
        merge(alike[:2], make_plan("ties", density_ppm=1))
    assert not (tmp_path / "job" / MERGED_FILE).exists()
    assert not (tmp_path / "job" / ADAPTER_FILE).exists()
