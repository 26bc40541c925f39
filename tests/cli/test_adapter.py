"""`adapter check`: a stranger's file judged as a worker would, without touching anything."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.models.tiny import build_tiny


@pytest.fixture
def base(lore, tmp_path: Path):
    return build_tiny(tmp_path / "cache")


@pytest.fixture
def adapter(base, tmp_path: Path) -> Path:
    path = tmp_path / "adapter_model.safetensors"
    write_fake_adapter(path, base.architecture, rank=4)
    return path


def test_a_good_file_is_described(lore, adapter: Path) -> None:
    found = json.loads(lore("adapter", "check", str(adapter), "--base", "tiny", "--json").stdout)
    assert found["rank"] == 4
    assert found["bytes"] == adapter.stat().st_size
    assert lore("adapter", "check", str(adapter.parent), "--base", "tiny").exit_code == 0


def test_a_truncated_file(lore, adapter: Path) -> None:
    adapter.write_bytes(adapter.read_bytes()[:-7])
    assert_refused(lore, adapter, "")


def test_a_pickle(lore, adapter: Path) -> None:
    adapter.write_bytes(pickle.dumps({"lora_A": [1.0] * 1000}))
    assert_refused(lore, adapter, "pickle")


def test_a_folder_with_a_pickle(lore, base, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert_refused(lore, tmp_path, "adapter_model.bin is a pickle, which can run code; save the adapter as")


def test_a_file_without_lora_tensors(lore, base) -> None:
    assert_refused(lore, base.directory / "model.safetensors", "it is no LoRA adapter")


def test_an_adapter_for_another_base(lore, adapter: Path, tmp_path: Path) -> None:
    other = build_tiny(tmp_path / "cache", changes={"hidden_size": 96})
    failed = lore("adapter", "check", str(adapter), "--base", other.id)
    assert failed.exit_code == 1
    assert "made for another base" in failed.stderr


def test_a_missing_file_and_a_missing_base(lore, adapter: Path) -> None:
    missing = lore("adapter", "check", "/nowhere.safetensors", "--base", "tiny")
    assert (
        missing.stderr == "error: cannot read the adapter /nowhere.safetensors: No such file or directory\n"
    )
    baseless = lore("adapter", "check", str(adapter))
    assert baseless.stderr.startswith("error: no base 'starter' on this machine; run `commonlore base add")


def assert_refused(lore, path: Path, complaint: str) -> None:
    failed = lore("adapter", "check", str(path), "--base", "tiny")
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {'the adapter ' if path.is_file() else ''}{path}")
    assert complaint in failed.stderr
    assert failed.stderr.count("\n") == 1
