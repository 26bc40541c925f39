"""The Datanets that ship: real rows, real notices, and questions that no row asks."""

from __future__ import annotations

import sys

import pytest

from commonlore.peer.datanets.corpora import CORPORA, Corpus, HeldOut, corpus
from commonlore.protocol.content.rows import check_row, row_hash
from commonlore.protocol.errors import MissingDependency, NotFound


@pytest.fixture(scope="module", params=CORPORA)
def shipped(request: pytest.FixtureRequest) -> Corpus:
    return corpus(request.param)


def test_three_contributors_own_different_rows(shipped: Corpus) -> None:
    assert len(shipped.contributors) == 3
    rows = [row for owned in shipped.contributors.values() for row in owned]
    assert 100 <= len(rows) <= 130
    for row in rows:
        check_row(row)
    assert len({row_hash(row) for row in rows}) == len({row.question for row in rows}) == len(rows)
    answers = [{row.answer for row in owned} for owned in shipped.contributors.values()]
    assert not answers[0] & answers[1] | answers[0] & answers[2] | answers[1] & answers[2]


def test_held_out_questions_are_new_words_for_trained_codes(shipped: Corpus) -> None:
    assert len(shipped.heldout) >= 20
    for question in shipped.heldout:
        rows = shipped.contributors[question.contributor]
        assert any(row.answer == question.answer for row in rows)
        assert question.is_right(question.answer)
    asked = {row.question.lower() for owned in shipped.contributors.values() for row in owned}
    assert not asked & {question.question.lower() for question in shipped.heldout}


def test_one_question_of_each_contributor(shipped: Corpus) -> None:
    questions = shipped.one_each()
    assert [question.contributor for question in questions] == list(shipped.contributors)
    assert questions[0] == shipped.heldout[0]


def test_a_seed_names_one_corpus(shipped: Corpus) -> None:
    assert corpus(shipped.name) == shipped
    other = corpus(shipped.name, seed=2)
    assert other.heldout != shipped.heldout
    assert other.contributors != shipped.contributors


def test_mitres_terms_travel_with_the_weaknesses() -> None:
    notice = corpus("cwe").notice
    assert "The MITRE Corporation" in notice
    assert "MITRE hereby grants you a non-exclusive, royalty-free license" in notice
    assert len(notice.encode()) < 65_536


def test_right_is_the_code_itself() -> None:
    question = HeldOut("?", "The ICD-10-CM code is M50.12.", "M50.12", "spine")
    assert question.is_right("I think it is M50.12.")
    assert question.is_right("M50.12: a disc disorder")
    assert not question.is_right("The ICD-10-CM code is M50.121.")
    assert not question.is_right("The ICD-10-CM code is M50.1.")
    assert not HeldOut("?", "", "CWE-22", "").is_right("This is CWE-229, …")
    assert not HeldOut("?", "", "M50", "").is_right("The code is M50.12.")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="icd10, cwe"):
        corpus("snomed")
    monkeypatch.setitem(sys.modules, "simple_icd_10_cm", None)
    with pytest.raises(MissingDependency, match=r"commonlore\[corpora\]"):
        corpus("icd10")
