"""`base`: importing into the cache, and what cannot be imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch


def test_a_base_is_imported_once_and_listed(lore, tmp_path: Path) -> None:
    assert lore("base", "list").stdout.startswith("no bases yet; import one with: commonlore base add")
    first = json.loads(lore("base", "add", "tiny", "--json").stdout)
    assert first["name"] == "tiny"
    assert Path(first["directory"]).is_relative_to(tmp_path / "cache")
    assert json.loads(lore("base", "add", "tiny", "--json").stdout) == first
    assert json.loads(lore("base", "list", "--json").stdout) == [first]


def test_a_base_from_its_own_folder_is_the_same_base(lore) -> None:
    first = json.loads(lore("base", "add", "tiny", "--json").stdout)
    assert json.loads(lore("base", "add", first["directory"], "--json").stdout) == first


def test_a_base_that_is_damaged_hides_no_other(lore) -> None:
    first = json.loads(lore("base", "add", "tiny", "--json").stdout)
    damaged = Path(first["directory"]).with_name("bafkreidamaged")
    damaged.mkdir()
    (damaged / "manifest.cbor").write_bytes(b"no manifest")
    listed = lore("base", "list", "--json")
    assert json.loads(listed.stdout) == [first]
    assert listed.stderr.startswith(f"left out: {damaged} is not an imported base: ")


@pytest.mark.parametrize("source", ["/nowhere", "no-such-thing"])
def test_an_unknown_source_is_one_line(lore, source: str) -> None:
    failed = lore("base", "add", source)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: no base '{source}': give 'starter', a model folder")
    assert failed.stderr.count("\n") == 1


def test_a_file_that_is_no_model_is_one_line(lore, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    failed = lore("base", "add", str(path))
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_quantising_says_in_one_line_why_it_cannot(lore) -> None:
    unknown = lore("base", "quantize", "tiny")
    assert unknown.stderr.startswith("error: no base 'tiny' on this machine")
    lore("base", "add", "tiny")
    beyond = lore("base", "quantize", "tiny", "--bpw", "9")
    assert beyond.stderr == "error: bits a weight are 9; EXL2 has 2 to 8\n"
    if not torch.cuda.is_available():
        failed = lore("base", "quantize", "tiny")
        assert failed.exit_code == 1
        assert failed.stderr.startswith("error: exllamav2 cannot run on this machine: ")
        assert failed.stderr.count("\n") == 1
