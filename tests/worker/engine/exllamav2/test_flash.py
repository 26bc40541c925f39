"""Paged attention without flash-attn, against attention written out."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

from commonlore.worker.engine.exllamav2 import flash

PAGE = 4


def plainly(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention of one row: q [count, heads, dim], keys and values [length, kv heads, dim]."""
    count, heads, dim = q.shape
    share = heads // keys.shape[1]
    out = torch.zeros_like(q)
    for i in range(count):
        seen = len(keys) - count + i + 1
        for head in range(heads):
            scores = keys[:seen, head // share] @ q[i, head] / math.sqrt(dim)
            out[i, head] = torch.softmax(scores, 0) @ values[:seen, head // share]
    return out


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("count", [1, 3])
def test_new_keys_are_written_behind_the_old_ones_and_all_are_attended(count: int) -> None:
    lengths, tables = [5, 0, 9], torch.tensor([[7, 2, 0], [4, 0, 0], [1, 9, 3]], dtype=torch.int32)
    pages = {name: draw(10, PAGE, 2, 8) * scale for name, scale in (("k", 1), ("v", 2))}
    q, k, v = draw(3, count, 4, 8), draw(3, count, 2, 8) * 3, draw(3, count, 2, 8) * 5
    expected = []
    for row, length in enumerate(lengths):
        old = {name: held[tables[row].long()].flatten(0, 1)[:length] for name, held in pages.items()}
        keys, values = torch.cat((old["k"], k[row])), torch.cat((old["v"], v[row]))
        expected.append(plainly(q[row], keys, values))
    said = flash.flash_attn_with_kvcache(
        q,
        pages["k"],
        pages["v"],
        k,
        v,
        cache_seqlens=torch.tensor(lengths, dtype=torch.int32),
        block_table=tables,
        causal=True,
        softmax_scale=1 / math.sqrt(8),
    )
    torch.testing.assert_close(said, torch.stack(expected))
    written = pages["k"][tables[2].long()].flatten(0, 1)[9 : 9 + count]
    torch.testing.assert_close(written, k[2])


def test_without_new_keys_the_length_is_what_is_there() -> None:
    tables, keys, values = torch.tensor([[1, 0]], dtype=torch.int32), draw(2, PAGE, 2, 8), draw(2, PAGE, 2, 8)
    q = draw(1, 2, 4, 8)
    said = flash.flash_attn_with_kvcache(
        q, keys, values, cache_seqlens=torch.tensor([6]), block_table=tables, softmax_scale=1 / math.sqrt(8)
    )
    in_order = torch.cat((keys[1], keys[0]))[:6], torch.cat((values[1], values[0]))[:6]
    torch.testing.assert_close(said[0], plainly(q[0], *in_order))


def test_attention_without_pages() -> None:
    q, k, v = draw(2, 3, 4, 8), draw(2, 5, 2, 8), draw(2, 5, 2, 8) * 2
    said = flash.flash_attn_func(q, k, v, causal=True)
    torch.testing.assert_close(said, torch.stack([plainly(*row) for row in zip(q, k, v, strict=True)]))


def test_what_it_cannot_do_is_said() -> None:
    one = torch.zeros(1, 1, 1, 8)
    with pytest.raises(NotImplementedError):
        flash.flash_attn_with_kvcache(
            one, one, one, cache_seqlens=torch.tensor([1]), block_table=torch.zeros(1, 1).int(), causal=False
        )
    with pytest.raises(NotImplementedError):
        flash.flash_attn_varlen_func(one, one, one)


def test_the_face_is_registered_where_flash_attention_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("flash_attn", "flash_attn_2_cuda"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    flash.register()
    import flash_attn

    assert flash_attn.flash_attn_with_kvcache is flash.flash_attn_with_kvcache
    assert [int(part) for part in flash_attn.__version__.split(".")] >= [2, 5, 7]
    there = sys.modules["flash_attn"]
    flash.register()
    assert sys.modules["flash_attn"] is there
    for name in ("flash_attn", "flash_attn_2_cuda"):
        monkeypatch.delitem(sys.modules, name)
