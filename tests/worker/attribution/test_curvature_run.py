from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.attribution.adapted import AdaptedModel
from commonlore.worker.attribution.attributor import Attributor, read_factors
from commonlore.worker.attribution.curvature import pack_curvature
from commonlore.worker.attribution.curvature_run import draw_labels, fit_curvature, spread
from commonlore.worker.attribution.factors import adapter_shapes
from commonlore.worker.attribution.index import build_index
from commonlore.worker.factory.examples import Encoder
from commonlore.worker.factory.job import Pair
from commonlore.worker.models.architecture import LINEARS


@pytest.fixture(scope="module")
def whitened(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world's subject with curvature factors, fitted twice to see that they are the same."""
    encoder = Encoder(world.base)
    rows = [encoder.pair(Pair(owned.row.question, owned.row.answer)) for owned in world.rows]
    factors = read_factors(world.subject.early, adapter_shapes(world.base.architecture, 8, LINEARS), 2.0)
    model = AdaptedModel(world.base)
    told: list[tuple[int, int]] = []
    packed = [
        pack_curvature(fit_curvature(model, factors, rows, b"seed", lambda *at: told.append(at)))
        for _ in range(2)
    ]
    assert packed[0] == packed[1]
    assert told[8:11] == [(9, 18), (10, 18), (11, 18)]
    path = tmp_path_factory.mktemp("factors") / "factors.safetensors"
    path.write_bytes(packed[0])
    return dataclasses.replace(world.subject, curvature=path)


def test_whitened_the_owner_of_what_was_said_still_gets_the_most(
    world: Any, whitened: Any, tmp_path: Path
) -> None:
    attributor = Attributor(world.base)
    attributor.load(whitened)
    built = build_index(whitened, world.rows, tmp_path / "b", attributor.row_vectors(world.adapter))
    assert built.manifest.method == "ekfac-sign/2"
    attributor.use_index(built.manifest, built.sums)
    turns = (ChatMessage("user", "Tell me of the ash."),)
    score = attributor.score(world.adapter, turns, "The ash: its leaves fall in October.")
    best = max(score.weights, key=lambda weight: weight.ppm)
    assert best.payee == world.payee("tree")
    assert best.ppm > 500_000
    with pytest.raises(RemoteProtocolError, match="another method"):
        attributor.use_index(dataclasses.replace(built.manifest, method="grad-sign/2"), built.sums)


def test_labels_follow_the_models_own_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(4000, 1)
    drawn = torch.bincount(draw_labels(logits, b"seed", 0), minlength=3) / 4000
    torch.testing.assert_close(drawn, logits[0].softmax(0), atol=0.03, rtol=0)
    assert not torch.equal(draw_labels(logits, b"seed", 0), draw_labels(logits, b"seed", 1))
    assert not torch.equal(draw_labels(logits, b"seed", 0), draw_labels(logits, b"other", 0))


def test_rows_are_taken_evenly() -> None:
    rows: Any = list(range(10))
    assert spread(rows, 20) == rows
    assert spread(rows, 4) == [0, 2, 5, 7]
