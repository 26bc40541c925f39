from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonlore.protocol.content.manifests import AdapterManifest, Recipe, Split
from commonlore.protocol.errors import InvalidAdapter, NotFound
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.adapters.validate import check_adapter_file, check_manifest
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

Tensors = dict[str, torch.Tensor]
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def check(source: AdapterSource, base: BaseModel) -> None:
    check_adapter_file(Path(source.path), source, base.architecture)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_adapters_of_the_three_dtypes_are_good(
    source: AdapterSource, tiny: BaseModel, dtype: torch.dtype
) -> None:
    tensors = load_file(source.path)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, source.path, {"format": "pt"})
    check(source, tiny)


def test_a_subset_of_targets_is_good(tiny: BaseModel, tmp_path: Path) -> None:
    check(write_fake_adapter(tmp_path / "x", tiny.architecture, 2, ("v_proj", "down_proj")), tiny)


def missing(tensors: Tensors) -> None:
    del tensors[FIRST]


def extra(tensors: Tensors) -> None:
    tensors["base_model.model.lm_head.weight"] = torch.zeros(2)


def dora(tensors: Tensors) -> None:
    tensors[FIRST.replace("lora_A.weight", "lora_magnitude_vector")] = torch.zeros(64)


def renamed(tensors: Tensors) -> None:
    tensors[FIRST.replace("lora_A", "lora_A.default")] = tensors.pop(FIRST)


def other_rank(tensors: Tensors) -> None:
    tensors[FIRST] = torch.zeros(5, 64)


def not_a_number(tensors: Tensors) -> None:
    tensors[FIRST][1, 2] = float("nan")


def infinite(tensors: Tensors) -> None:
    tensors[FIRST][1, 2] = -float("inf")


def huge(tensors: Tensors) -> None:
    tensors[FIRST][1, 2] = 1e20


def loud(tensors: Tensors) -> None:
    for name in tensors:
        tensors[name] *= 400.0


def loud_in_one_place(tensors: Tensors) -> None:
    """Below the bound on a number and above that on an update: only the norms tell."""
    for side in "AB":
        tensors[FIRST.replace("lora_A", f"lora_{side}")].fill_(900.0)


HARMS: list[tuple[Callable[[Tensors], None], str]] = [
    (missing, "lacks the tensor .*q_proj.lora_A.weight'.*another base or other targets"),
    (extra, "unexpected tensor 'base_model.model.lm_head.weight'"),
    (dora, "unexpected tensor .*lora_magnitude_vector"),
    (renamed, "unexpected tensor .*lora_A.default"),
    (other_rank, r"another base or rank: .*shape \(5, 64\); here it must be \(4, 64\)"),
    (not_a_number, "infinite numbers or NaN"),
    (infinite, "infinite numbers or NaN"),
    (huge, r"a number of size 1e\+20"),
    (loud, "beyond all measure"),
    (loud_in_one_place, "changes '.*layers.0.self_attn.q_proj' beyond all measure"),
]


@pytest.mark.parametrize(("harm", "complaint"), HARMS, ids=[harm.__name__ for harm, _ in HARMS])
def test_bad_tensors_are_named(
    source: AdapterSource, tiny: BaseModel, harm: Callable[[Tensors], None], complaint: str
) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(source.path).items()}
    harm(tensors)
    save_file(tensors, source.path)
    with pytest.raises(InvalidAdapter, match=complaint) as invalid:
        check(source, tiny)
    assert source.adapter in str(invalid.value)


def test_pickle_is_never_read(source: AdapterSource, tiny: BaseModel) -> None:
    for content in (pickle.dumps(print), b"PK\x03\x04" + bytes(100)):
        Path(source.path).write_bytes(content)
        with pytest.raises(
            InvalidAdapter, match=r"pickle file.*; only safetensors is accepted: re-save it with"
        ):
            check(source, tiny)


def test_every_truncation_is_refused(source: AdapterSource, tiny: BaseModel) -> None:
    whole = Path(source.path).read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        Path(source.path).write_bytes(whole[:size])
        with pytest.raises(InvalidAdapter, match=r"header of|truncated"):
            check(source, tiny)


def test_a_header_above_a_mebibyte_is_refused(source: AdapterSource, tiny: BaseModel) -> None:
    Path(source.path).write_bytes(((1 << 20) + 1).to_bytes(8, "little") + b"{" * 2_000_000)
    with pytest.raises(InvalidAdapter, match="header of 1048577 bytes"):
        check(source, tiny)


def test_a_file_that_is_not_there_is_not_the_adapters_fault(source: AdapterSource, tiny: BaseModel) -> None:
    Path(source.path).unlink()
    with pytest.raises(NotFound, match="No such file"):
        check(source, tiny)


def test_an_adapter_of_another_base_is_named(tiny: BaseModel, source: AdapterSource, tmp_path: Path) -> None:
    wider = build_tiny(tmp_path, changes={"intermediate_size": 192})
    deeper = build_tiny(tmp_path, changes={"num_hidden_layers": 4})
    with pytest.raises(InvalidAdapter, match="made for another base or rank"):
        check(source, wider)
    with pytest.raises(InvalidAdapter, match="made for another base or other targets"):
        check(source, deeper)


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        (("q_proj", "lm_head"), "unknown targets lm_head"),
        (("q_proj", "q_proj"), "repeated targets"),
        ((), "missing or repeated"),
    ],
)
def test_targets_are_those_of_a_layer(
    source: AdapterSource, tiny: BaseModel, targets: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InvalidAdapter, match=complaint):
        check(replace(source, targets=targets), tiny)


def test_a_rank_of_nothing_or_too_much_is_refused(source: AdapterSource, tiny: BaseModel) -> None:
    for rank in (0, 257):
        with pytest.raises(InvalidAdapter, match=f"has rank {rank}"):
            check(replace(source, rank=rank), tiny)


def manifest_for(base: Cid) -> AdapterManifest:
    anything = cid_of(b"anything")
    return AdapterManifest(
        name="icd",
        base=base,
        weights=anything,
        weights_size=1,
        rank=8,
        alpha=16,
        targets=("q_proj",),
        template=bytes(32),
        datanets=(anything,),
        recipe=Recipe("peft", 1, 1, 1, 8, 16, 0, 0, "bf16", "{question}"),
        early_checkpoint=None,
        factors=None,
        split=Split(500, 3000, 1500, 1000, 4000),
        priors=(),
        licence="x",
        author=bytes(32),
        author_payee=Address(bytes(20)),
    )


def test_a_manifest_must_name_this_base(tiny: BaseModel) -> None:
    check_manifest(manifest_for(tiny.id), (tiny.id, cid_of(b"artefact")))
    check_manifest(manifest_for(cid_of(b"artefact")), (tiny.id, cid_of(b"artefact")))
    with pytest.raises(
        InvalidAdapter, match=f"'icd' was made for the base {cid_of(b'other')}, not for {tiny.id}"
    ):
        check_manifest(manifest_for(cid_of(b"other")), (tiny.id,))
    with pytest.raises(InvalidAdapter, match="has rank 8; 1 to 4"):
        check_manifest(manifest_for(tiny.id), (tiny.id,), max_rank=4)
    with pytest.raises(InvalidAdapter, match="unknown targets"):
        check_manifest(replace(manifest_for(tiny.id), targets=("embed_tokens",)), (tiny.id,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "number", [float("nan"), -float("nan"), float("inf"), -float("inf"), 1010.0, -2000.0]
)
def test_bad_numbers_are_found_in_every_dtype(
    source: AdapterSource, tiny: BaseModel, dtype: torch.dtype, number: float
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(source.path).items()}
    tensors[FIRST][-1, -1] = number
    save_file(tensors, source.path)
    with pytest.raises(InvalidAdapter, match=f"(infinite numbers or NaN|a number of size .*) in '{FIRST}'"):
        check(source, tiny)


def test_one_large_number_is_no_harm(source: AdapterSource, tiny: BaseModel) -> None:
    """Where the largest number alone cannot tell, the norms acquit."""
    tensors = load_file(source.path)
    tensors[FIRST][0, 0] = 999.0
    save_file(tensors, source.path)
    check(source, tiny)
