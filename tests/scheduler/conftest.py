"""Builders of workers and asks for the scheduler's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.gossip.adverts import Rates, WorkerAd
from commonlore.protocol.ids import Address, PeerId, cid_of
from commonlore.protocol.signing.bindings import PeerBinding, SignedBinding
from commonlore.scheduler.events import AskSpec
from commonlore.scheduler.view import WorkerView, worker_view

BASE = cid_of(b"base")
NOW_MS = 1_700_000_000_000


def build_ad(number: int, **changes: Any) -> WorkerAd:
    binding = PeerBinding(
        Address(bytes(20)), Address(number.to_bytes(20, "big")), bytes(32), 0, 2_000_000_000
    )
    ad = WorkerAd(
        binding=SignedBinding(binding, bytes(65), bytes(65), bytes(64)),
        base=BASE,
        artefact=BASE,
        rates=Rates(1000, 2000, 10),
        base_split=BASE_SPLIT,
        max_context=2048,
        max_batch=4,
        queue_depth=0,
        running=0,
        free_pages=100,
        resident=(),
        resident_count=0,
        max_rank=16,
        addresses=(),
        seq=1,
        issued_ms=NOW_MS,
    )
    return replace(ad, **changes)


def build_worker(number: int, *, seen_ms: int = NOW_MS, **changes: Any) -> WorkerView:
    changes.setdefault("issued_ms", seen_ms)
    changes.setdefault("resident_count", len(changes.get("resident", ())))
    return worker_view(PeerId(f"12D3Koo{number:04d}"), build_ad(number, **changes), seen_ms)


def build_ask(ask_id: int, **changes: Any) -> AskSpec:
    spec = AskSpec(
        ask_id=ask_id,
        base=BASE,
        adapters=(),
        prompt_tokens=100,
        max_tokens=50,
        max_price=10_000,
        deadline_ms=NOW_MS + 60_000,
    )
    return replace(spec, **changes)


@pytest.fixture
def worker() -> Callable[..., WorkerView]:
    return build_worker


@pytest.fixture
def ask() -> Callable[..., AskSpec]:
    return build_ask


@pytest.fixture
def now_ms() -> int:
    return NOW_MS
