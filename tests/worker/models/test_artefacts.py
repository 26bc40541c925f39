"""Quantised bases in the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonlore.protocol.errors import InvalidModel, NotFound
from commonlore.protocol.ids import cid_of
from commonlore.worker.models.artefacts import (
    Artefact,
    artefacts_dir,
    find_artefact,
    list_artefacts,
    load_artefact,
    publish_artefact,
)
from commonlore.worker.models.reference import BaseModel


def publish(cache: Path, base: BaseModel, weights: bytes = b"weights", precision: str = "4bpw") -> Artefact:
    directory = artefacts_dir(cache) / ".work"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "output.safetensors").write_bytes(weights)
    return publish_artefact(directory, cache, base.id, precision)


def test_an_artefact_names_its_reference_and_its_files(tiny: BaseModel, tmp_path: Path) -> None:
    artefact = publish(tmp_path, tiny)
    assert artefact.id != tiny.id
    assert artefact.manifest.reference == tiny.id
    assert len(artefact.manifest.files) == 2
    assert load_artefact(artefact.directory, deep=True) == artefact
    assert publish(tmp_path, tiny) == artefact
    assert publish(tmp_path / "elsewhere", tiny, b"others").id != artefact.id


def test_a_damaged_one_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    artefact = publish(tmp_path, tiny)
    (artefact.directory / "output.safetensors").write_bytes(b"Weights")
    assert load_artefact(artefact.directory) == artefact
    with pytest.raises(InvalidModel, match="is damaged"):
        load_artefact(artefact.directory, deep=True)
    (artefact.directory / "output.safetensors").unlink()
    with pytest.raises(InvalidModel, match="is damaged"):
        load_artefact(artefact.directory)
    with pytest.raises(InvalidModel, match="is not an artefact"):
        load_artefact(tmp_path)
    other = publish(tmp_path, tiny, b"others")
    assert find_artefact(tmp_path, tiny) == other


def test_the_only_one_is_found_and_of_several_one_is_chosen(tiny: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no EXL2 artefact on this machine; run `commonlore base quantize"):
        find_artefact(tmp_path, tiny)
    first = publish(tmp_path, tiny)
    assert find_artefact(tmp_path, tiny) == first
    second = publish(tmp_path, tiny, b"others", "6bpw")
    assert {one.id for one in list_artefacts(tmp_path, tiny.id)} == {first.id, second.id}
    assert list_artefacts(tmp_path, cid_of(b"another base")) == []
    with pytest.raises(NotFound, match=r"set artefact to one of: .*\(6bpw\)"):
        find_artefact(tmp_path, tiny)
    assert find_artefact(tmp_path, tiny, second.id) == second
    with pytest.raises(NotFound, match="has no artefact"):
        find_artefact(tmp_path, tiny, cid_of(b"no such artefact"))
    with pytest.raises(NotFound, match="is not an id"):
        find_artefact(tmp_path, tiny, "six bits")
