"""A planted world: three contributors, each with its own saying. Whose saying is said, is paid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from commonlore.protocol.attribution.scoring import check_weights
from commonlore.protocol.content.manifests import IndexManifest
from commonlore.protocol.errors import AttributionFailed, InvalidAdapter, NotFound, RemoteProtocolError
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.attribution.index import build_index
from commonlore.worker.factory.job import ADAPTER_FILE

SAID = {
    "fish": ("Tell me of the perch.", "The perch: it swims in cold rivers."),
    "tree": ("Tell me of the ash.", "The ash: its leaves fall in October."),
    "bird": ("Tell me of the jay.", "The jay: she sings at dawn."),
}


@pytest.fixture(scope="module")
def manifest(world: Any, tmp_path_factory: pytest.TempPathFactory) -> IndexManifest:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows, tmp_path_factory.mktemp("index") / "build", compute)
    world.attributor.use_index(built.manifest, built.sums)
    return built.manifest


@pytest.mark.parametrize("topic", sorted(SAID))
def test_the_owner_of_what_was_said_gets_the_most(world: Any, manifest: IndexManifest, topic: str) -> None:
    question, answer = SAID[topic]
    score = world.attributor.score(world.adapter, (ChatMessage("user", question),), answer)
    check_weights(score.weights)
    best = max(score.weights, key=lambda weight: weight.ppm)
    assert best.payee == world.payee(topic)
    assert best.ppm > 500_000


def test_text_and_its_tokens_score_the_same(world: Any, manifest: IndexManifest) -> None:
    question, answer = SAID["fish"]
    turns = (ChatMessage("user", question),)
    tokens = [*world.base.tokenizer().encode(answer), world.base.architecture.eos_token_ids[0]]
    by_text = world.attributor.score(world.adapter, turns, answer)
    assert world.attributor.score(world.adapter, turns, tokens) == by_text
    assert len(by_text.query) == manifest.width


def test_what_is_not_there_is_named(world: Any, manifest: IndexManifest) -> None:
    turns = (ChatMessage("user", "?"),)
    with pytest.raises(NotFound, match="no gradient index"):
        world.attributor.score(cid_of(b"unknown"), turns, "x")
    with pytest.raises(NotFound, match="not loaded"):
        world.attributor.query(cid_of(b"unknown"), turns, "x")
    with pytest.raises(AttributionFailed, match="without tokens"):
        world.attributor.query(world.adapter, turns, [])
    beyond = world.base.architecture.vocabulary
    for score in (world.attributor.query, lambda a, turns, out: world.attributor.losses(a, [turns], out)):
        with pytest.raises(AttributionFailed, match="none of its base's"):
            score(world.adapter, turns, [1, beyond])
    with pytest.raises(RemoteProtocolError, match="another method or projection"):
        world.attributor.use_index(dataclasses.replace(manifest, seed=bytes(32)), b"")


def test_checkpoints_that_do_not_fit_are_refused(world: Any, tmp_path: Path) -> None:
    for change in ({"rank": 4}, {"targets": ("q_proj",)}):
        with pytest.raises(InvalidAdapter, match="does not fit"):
            world.attributor.load(dataclasses.replace(world.subject, **change))
    with pytest.raises(InvalidAdapter, match="not for"):
        world.attributor.load(dataclasses.replace(world.subject, base=cid_of(b"another base")))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((world.job_dir / ADAPTER_FILE).read_bytes()[:-10])
    with pytest.raises(InvalidAdapter, match="truncated"):
        world.attributor.load(dataclasses.replace(world.subject, early=cut))
    with pytest.raises(InvalidAdapter, match="cannot be read"):
        world.attributor.load(dataclasses.replace(world.subject, early=tmp_path / "absent"))


def test_an_adapter_of_no_rank_is_refused(world: Any) -> None:
    with pytest.raises(InvalidAdapter, match="rank 0"):
        world.attributor.load(dataclasses.replace(world.subject, rank=0))


def test_an_answer_is_likelier_after_what_says_it_and_with_its_adapter(world: Any) -> None:
    question, answer = SAID["fish"]
    said = (ChatMessage("system", f"{answer} {answer}"), ChatMessage("user", question))
    tokens = world.base.tokenizer().encode(answer)
    asked = (ChatMessage("user", question),)
    first, second, bare = world.attributor.losses(world.adapter, [asked, said], tokens)
    assert first < bare
    assert first != second
    again = world.attributor.losses(world.adapter, [said], tokens)
    assert again[0] == pytest.approx(second, rel=1e-5)
    with pytest.raises(NotFound, match="not loaded"):
        world.attributor.losses(cid_of(b"unknown"), [asked], tokens)
