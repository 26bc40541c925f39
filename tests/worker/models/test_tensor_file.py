from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from commonlore.worker.models.tensor_file import (
    Malformed,
    PendingTensor,
    open_tensor_file,
    write_tensor_file,
)


def raw_file(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


BAD = {
    "empty": (b"", "header of 0 bytes"),
    "pickle": (
        pickle.dumps({"a": 1}),
        "is a pickle file; only safetensors is accepted: re-save it with safetensors",
    ),
    "torch.save": (b"PK\x03\x04" + bytes(60), r"is a pickle file \(torch.save\); only safetensors"),
    "gguf": (b"GGUF" + bytes(60), "is a GGUF file"),
    "huge header": ((1 << 40).to_bytes(8, "little") + b"{}", "header of 1099511627776 bytes"),
    "cut header": ((100).to_bytes(8, "little") + b'{"a"', "truncated inside its header"),
}
BAD_HEADERS: dict[str, tuple[object, bytes, str]] = {
    "not JSON": (b"{nope}", b"", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not JSON"),
    "deep": (b'{"a":' * 4000 + b"1" + b"}" * 4000, b"", "not safetensors|describes"),
    "a list": ([1], b"", "names no tensors"),
    "no tensors": ({}, b"", "names no tensors"),
    "twice": (b'{"a":1,"a":2}', b"", "not JSON"),
    "NaN": (b'{"a":NaN}', b"", "not JSON"),
    "metadata": ({"__metadata__": {"a": 1}, "x": entry([1], 0, 4)}, bytes(4), "__metadata__"),
    "extra field": ({"x": entry([1], 0, 4) | {"more": 1}}, bytes(4), "wrongly"),
    "dtype": ({"x": entry([1], 0, 8, "I64")}, bytes(8), "as I64"),
    "boolean size": ({"x": entry([True], 0, 4)}, bytes(4), "impossible shape"),
    "negative size": ({"x": entry([-1], 0, 4)}, bytes(4), "impossible shape"),
    "empty tensor": ({"x": entry([0], 0, 0)}, b"", "impossible shape"),
    "size": ({"x": entry([2], 0, 4)}, bytes(4), "needs another number"),
    "overlap": ({"x": entry([1], 0, 4), "y": entry([1], 0, 4)}, bytes(4), "overlap"),
    "gap": ({"x": entry([1], 0, 4), "y": entry([1], 8, 12)}, bytes(12), "gap"),
    "offset": ({"x": entry([1], 4, 8)}, bytes(8), "gap"),
    "negative offset": ({"x": entry([1], -4, 0)}, bytes(8), "gap"),
    "truncated": ({"x": entry([4], 0, 16)}, bytes(15), "is truncated to "),
    "trailing": ({"x": entry([1], 0, 4)}, bytes(5), "1 bytes after its last tensor"),
}


@pytest.mark.parametrize(("content", "complaint"), BAD.values(), ids=BAD)
def test_other_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Malformed, match=complaint):
        open_tensor_file(tmp_path / "x")


@pytest.mark.parametrize(("header", "data", "complaint"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_headers_are_refused(tmp_path: Path, header: object, data: bytes, complaint: str) -> None:
    with pytest.raises(Malformed, match=complaint):
        open_tensor_file(raw_file(tmp_path / "x", header, data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_any_bytes_are_safetensors_or_malformed(tmp_path_factory: Any, body: bytes, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(length.to_bytes(8, "little") + body)
    with contextlib.suppress(Malformed):
        open_tensor_file(path)


def test_reads_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).to(torch.bfloat16),
        "c": torch.randn(2, 2, 2).to(torch.float16),
    }
    save_file(tensors, tmp_path / "x", {"format": "pt"})
    file = open_tensor_file(tmp_path / "x")
    assert file.metadata == {"format": "pt"}
    for name, array in file.arrays():
        assert torch.equal(torch.from_numpy(array).float(), tensors[name].float())
    assert np.array_equal(file.array("a"), tensors["a"].numpy())


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + bytes(4))
    assert open_tensor_file(tmp_path / "x").array("x").tolist() == [0.0]


def test_writes_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float32)}
    described = write_tensor_file(
        tmp_path / "x", [PendingTensor(n, "F32", t.shape, t.tobytes) for n, t in tensors.items()]
    )
    assert [tensor.name for tensor in described] == ["a", "b"]
    for name, tensor in load_file(tmp_path / "x").items():
        assert np.array_equal(tensor.numpy(), tensors[name])


def test_a_file_that_shrinks_meanwhile_is_malformed(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "x", {"x": entry([4], 0, 16)}, bytes(16))
    file = open_tensor_file(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Malformed, match="cut while it was read"):
        file.array("x")
