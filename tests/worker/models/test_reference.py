from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from commonlore.protocol.encoding.codec import record_cid
from commonlore.protocol.errors import InvalidModel
from commonlore.worker.models.cache import find_base, list_bases
from commonlore.worker.models.reference import BaseModel, artefact_for, load_base
from commonlore.worker.models.tiny import build_tiny


def test_the_tiny_base_is_the_same_everywhere(tiny: BaseModel, cache: Path) -> None:
    again = build_tiny(cache)
    assert again.id == tiny.id == record_cid(tiny.manifest) == again.directory.name
    assert (again.directory / "model.safetensors").read_bytes() == (
        tiny.directory / "model.safetensors"
    ).read_bytes()
    assert find_base(cache, "tiny") == find_base(cache, tiny.id) == again.directory


def test_another_seed_is_another_base(tiny: BaseModel, cache: Path) -> None:
    other = build_tiny(cache, seed=1)
    assert other.id != tiny.id
    assert build_tiny(cache, seed=1).id == other.id
    assert list_bases(cache) == [other.id]


def test_the_weights_are_ordinary_safetensors(tiny: BaseModel) -> None:
    tensors = load_file(tiny.directory / "model.safetensors")
    assert {tensor.name: tensor.shape for tensor in tiny.manifest.tensors} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }


def test_an_artefact_names_its_reference(tiny: BaseModel) -> None:
    ids = {record_cid(artefact_for(tiny, precision)) for precision in ("fp32", "bf16")}
    assert len(ids) == 2
    assert artefact_for(tiny, "bf16").reference == tiny.id
    with pytest.raises(InvalidModel, match="int3"):
        artefact_for(tiny, "int3")


def cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def change_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")


def change_template(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ 1 }}")


def lose_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def lose_template(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()


@pytest.mark.parametrize("harm", [cut, change_tokenizer, change_template, lose_weights, lose_template])
def test_a_damaged_base_is_named(cache: Path, harm: Callable[[Path], None]) -> None:
    base = build_tiny(cache)
    harm(base.directory)
    with pytest.raises(InvalidModel, match=r"is damaged: .*add the base again"):
        load_base(base.directory)


@pytest.mark.parametrize("content", [None, b"", b"\xa0", b"rubbish"])
def test_a_directory_without_a_manifest_is_no_base(cache: Path, content: bytes | None) -> None:
    base = build_tiny(cache)
    manifest = base.directory / "manifest.cbor"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    with pytest.raises(InvalidModel, match="not an imported base"):
        load_base(base.directory)


def test_a_deep_look_finds_one_changed_byte(cache: Path) -> None:
    base = build_tiny(cache)
    path = base.directory / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    load_base(base.directory)
    with pytest.raises(InvalidModel, match="is not what its manifest names"):
        load_base(base.directory, deep=True)
