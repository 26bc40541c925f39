"""`adapter faithfulness`: what it says of an author's figure, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from commonlore.peer.attribution import faithfulness_command
from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness, to_ppm
from commonlore.protocol.ids import cid_of

REACHED = Correlations(to_ppm(0.9), 100_000, to_ppm(0.3), to_ppm(0.0), 100_000)
ANNOUNCED = Faithfulness(cid_of(b"adapter"), cid_of(b"index"), "m/1", 6, 10, 24, 12, 4, REACHED)
Measure = Callable[..., None]


def measured(lds: float, subsets: int = 6) -> Faithfulness:
    return replace(ANNOUNCED, subsets=subsets, found=replace(REACHED, lds_ppm=to_ppm(lds)))


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """`measure(found, announced)`: what the next command finds, without training."""

    def pretend(found: Faithfulness, announced: Faithfulness | None) -> None:
        monkeypatch.setattr(faithfulness_command, "measure_here", lambda *_: (found, announced))

    return pretend


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        (measured(0.90), 0, "what its author announced, +0.90, is found again, to rounding"),
        (measured(0.75), 1, "what its author announced, +0.90, is NOT found again"),
        (measured(0.75, subsets=8), 0, "is found again, within both errors"),
        (measured(0.10, subsets=8), 1, "is NOT found again"),
    ],
)
def test_the_verdict_is_a_sentence_and_an_exit_status(lore, measure, found, status, says) -> None:
    measure(found, ANNOUNCED)
    ended = lore("adapter", "faithfulness", "a/b")
    assert ended.exit_code == status, ended.stderr
    assert says in ended.stdout
    told = json.loads(lore("adapter", "faithfulness", "a/b", "--json").stdout)
    assert told["agrees_with_author"] is (status == 0)
    assert told["pays_by"] == "its scores, by what its author announced"


def test_where_its_author_announces_nothing_there_is_no_verdict(lore, measure) -> None:
    measure(measured(0.9), None)
    ended = lore("adapter", "faithfulness", "a/b", "--json")
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told.get("verdict")) == (0, None)
    assert told["pays_by"] == "the priors, until its author announces a measurement"


def test_an_author_takes_his_figure_back_and_anybody_else_contradicts_it(lore, measure, running) -> None:
    measure(measured(0.1), ANNOUNCED)
    for by_author, status in ((True, 0), (False, 1)):
        running.actions.measures_own = by_author
        ended = lore("adapter", "faithfulness", "a/b", "--announce", "--json")
        assert (ended.exit_code, json.loads(ended.stdout)["by_author"]) == (status, by_author)
    assert running.actions.announced == [measured(0.1)] * 2
