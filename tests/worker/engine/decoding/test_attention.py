"""The paged kernel's call against gathering, with a plain kernel that does what torch says of its own."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from commonlore.worker.engine.decoding import attention
from commonlore.worker.engine.decoding.attention import (
    Paged,
    Span,
    choose_attention,
    plan_gathered,
    plan_paged,
    rehearse,
    varlen_kernel,
)
from commonlore.worker.engine.decoding.cache import KvCache
from commonlore.worker.engine.memory.devices import CPU
from commonlore.worker.models.reference import BaseModel

META = torch.device("meta")
GPU = torch.device("cuda", 0)


def plain_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor,
    block_table: Tensor,
) -> Tensor:
    """varlen_attn's documentation, a query at a time; causal is aligned at the last key."""
    tables = (cu_seq_q, cu_seq_k, seqused_k, block_table)
    assert all(table is not None and table.dtype == torch.int32 for table in tables)
    assert enable_gqa
    assert int((cu_seq_q[1:] - cu_seq_q[:-1]).max()) == max_q
    assert int(seqused_k.max()) == max_k
    out = torch.empty_like(query)
    group = query.shape[1] // key.shape[2]
    for sequence, (first, end) in enumerate(zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True)):
        length = int(seqused_k[sequence])
        keys, values = (part[block_table[sequence].long()].flatten(0, 1)[:length] for part in (key, value))
        for row in range(first, end):
            seen = length - (end - 1 - row) if window_size == (-1, 0) else length
            for head in range(query.shape[1]):
                scores = keys[:seen, head // group] @ query[row, head] / math.sqrt(query.shape[2])
                out[row, head] = scores.softmax(0) @ values[:seen, head // group]
    return out


def filled_cache(base: BaseModel, page_size: int) -> KvCache:
    cache = KvCache(base.architecture, 24, page_size, torch.float32)
    torch.manual_seed(5)
    cache.keys.normal_()
    cache.values.normal_()
    return cache


@pytest.mark.parametrize(
    "spans",
    [
        [Span((7, 3, 9), 9, 1)],
        [Span((7, 3, 9), 9, 1), Span((2,), 0, 1), Span((4, 1), 4, 1)],
        [Span((7, 3, 9), 9, 1), Span((2, 5), 0, 7), Span((4, 1, 8), 3, 6)],
        [Span((6, 11), 0, 8)],
    ],
    ids=["one", "decoding", "mixed", "a prompt"],
)
def test_the_paged_call_means_the_same_as_gathering(tiny: BaseModel, spans: list[Span]) -> None:
    a = tiny.architecture
    cache = filled_cache(tiny, 4)
    queries = torch.randn(sum(span.count for span in spans), a.heads, a.head_dim)
    for layer in range(a.layers):
        wanted = plan_gathered(spans, 4).attend(layer, queries, cache)
        found = plan_paged(plain_kernel, spans, 4, CPU).attend(layer, queries, cache)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_torchs_own_kernel_accepts_the_call(tiny: BaseModel) -> None:
    """On the meta device it checks its arguments and computes shapes."""
    kernel = varlen_kernel()
    if kernel is None:
        pytest.skip(f"torch {torch.__version__} has no paged varlen_attn")
    a = tiny.architecture
    cache = KvCache(a, 8, 256, torch.bfloat16, META)
    queries = torch.empty(6, a.heads, a.head_dim, dtype=torch.bfloat16, device=META)
    spans = [Span((1, 2), 300, 1), Span((3,), 0, 5)]
    found = plan_paged(kernel, spans, 256, META).attend(0, queries, cache)
    assert found.shape == (6, a.query_size)


def test_the_rehearsal_finds_a_kernel_right_or_wrong(tiny: BaseModel) -> None:
    def unmasked(*arguments: Any, **named: Any) -> Tensor:
        return plain_kernel(*arguments, **(named | {"window_size": (-1, -1)}))

    def failing(*arguments: Any, **named: Any) -> Tensor:
        raise RuntimeError("Paged KV cache block size must be divisible by 256")

    check = partial(rehearse, architecture=tiny.architecture, dtype=torch.float32, page_size=8, device=CPU)
    torch.manual_seed(3)
    assert check(plain_kernel) is None
    assert "wrong by" in str(check(unmasked))
    assert "fails: Paged KV" in str(check(failing))


def test_a_kernel_is_known_by_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.attention.varlen as varlen

    def without_pages(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return query

    monkeypatch.setattr(varlen, "varlen_attn", without_pages)
    assert varlen_kernel() is None
    monkeypatch.setattr(varlen, "varlen_attn", plain_kernel)
    assert varlen_kernel() is plain_kernel


class TestChoice:
    @pytest.fixture(autouse=True)
    def kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A torch with the kernel, on a machine where it works."""
        monkeypatch.setattr(attention, "varlen_kernel", lambda: plain_kernel)
        monkeypatch.setattr(attention, "rehearse", lambda *_: None)

    def test_the_paged_kernel_on_a_gpu(self, tiny: BaseModel) -> None:
        plan = choose_attention(tiny.architecture, torch.bfloat16, 512, GPU)
        assert isinstance(plan([Span((1,), 0, 3)], 512, CPU), Paged)

    @pytest.mark.parametrize(
        ("dtype", "page_size", "device"),
        [
            (torch.bfloat16, 256, CPU),
            (torch.float32, 256, GPU),
            (torch.bfloat16, 16, GPU),
        ],
    )
    def test_gathering_elsewhere(
        self, tiny: BaseModel, dtype: torch.dtype, page_size: int, device: torch.device
    ) -> None:
        assert choose_attention(tiny.architecture, dtype, page_size, device) is plan_gathered

    def test_gathering_where_torch_has_no_kernel(
        self, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(attention, "varlen_kernel", lambda: None)
        assert choose_attention(tiny.architecture, torch.bfloat16, 256, GPU) is plan_gathered
        assert "has no paged varlen_attn" in caplog.text

    def test_gathering_where_the_rehearsal_fails(
        self, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(attention, "rehearse", lambda *_: "the paged kernel is wrong by 1.0")
        assert choose_attention(tiny.architecture, torch.bfloat16, 256, GPU) is plan_gathered
        assert "wrong by 1.0" in caplog.text
