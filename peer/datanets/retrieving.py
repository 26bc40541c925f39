"""Rows of a Datanet that go with a question, and a prompt template, put before it and named in the receipt;
rows are cited with the answer.

Rules of this file: a Datanet version is pulled and checked before its rows are shown to anybody, and indexed
once, in a file of this home that may be deleted at any time; what is shown of a row is bounded, so that a few
long rows cannot fill a context. A template is the answer of a row that its contributor signed, whole or not
at all: who made it, and who is paid for what it does, are the shard's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from ...protocol.content.manifests import MAX_ROWS_PER_SHARD
from ...protocol.content.rows import row_hash
from ...protocol.errors import ConfigError, DeadlineExceeded, NotFound, RetrievalFailed
from ...protocol.ids import Address, Cid, to_cid
from ...protocol.requests.prompt_parts import show_rows
from ...protocol.signing.eip712 import Domain
from ...worker.retrieval.embedding import Embedder
from ...worker.retrieval.index import Found, IndexedRow, build_index, forget, search
from ..asking.answers import AskOptions, Citation, Retrieval, Template
from ..blobs.content import Content
from ..catalog import Catalog
from ..hearsay import once_met
from .meanings import Meanings, describe_embedder, indexes_in
from .shards import PulledDatanet, pull_datanet

log = logging.getLogger("commonlore.peer.datanets.retrieving")
HEADING = "Passages that may help with the answer:"
MAX_SHOWN = 1_000
"""Characters of a row that are shown."""
MAX_TEMPLATE = 4_000
"""Characters of a template."""


class Retriever:
    """The indexes of one home; with an embedder they are searched by meaning, too."""

    def __init__(
        self,
        content: Content,
        catalog: Catalog,
        domain: Domain,
        folder: Path,
        embedder: Embedder | None = None,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._domain = domain
        self._folder = folder
        self._lock = trio.Lock()
        self._meanings = Meanings(embedder, self._lock) if embedder is not None else None

    @property
    def described(self) -> str:
        """How rows are found, for people."""
        return describe_embedder(self._meanings.embedder if self._meanings is not None else None)

    async def run(self) -> None:
        """Make the indexes' vectors as long as the node runs; at once where it has no embedder."""
        if self._meanings is not None:
            await self._meanings.run(self._folder)

    async def prepare(self, options: AskOptions) -> AskOptions:
        """The question with the rows that were wanted before it; nothing else of it changes.

        Raises NotFound, Unreachable, InvalidShard, RetrievalFailed, DeadlineExceeded, ConfigError where no
        turn is the user's.
        """
        if options.retrieve is None and options.template is None:
            return options
        started = trio.current_time()
        try:
            with trio.fail_after(options.deadline_s):
                template = await self._template(options.template)
                citations, shown = await self._rows(options)
        except trio.TooSlowError:
            wanted = options.retrieve or options.template
            raise DeadlineExceeded(
                f"Datanet {wanted and wanted.datanet} was not here within {options.deadline_s:g} s; "
                "ask again later"
            ) from None
        messages, parts = show_rows(options.messages, HEADING, shown, template)
        left_s = max(0.1, options.deadline_s - (trio.current_time() - started))
        return replace(options, messages=messages, prompt_parts=parts, citations=citations, deadline_s=left_s)

    async def _rows(
        self, options: AskOptions
    ) -> tuple[tuple[Citation, ...], list[tuple[str, bytes, Address, Cid]]]:
        """The rows that go with the question: as they are cited, and as they are shown."""
        if options.retrieve is None:
            return (), []
        datanet = await self._named(options.retrieve.datanet)
        question = _question(options)
        found = await once_met(partial(self.find, datanet, question, options.retrieve.rows))
        citations = tuple(_cite(number, datanet, each) for number, each in enumerate(found, 1))
        rows = [each.row for each in found]
        return citations, [(_shown(row), row.hash, row.payee, row.shard) for row in rows]

    async def _template(self, wanted: Template | None) -> tuple[str, Address] | None:
        """A template's text and whose it is."""
        if wanted is None:
            return None
        datanet = await self._named(wanted.datanet)
        pulled = await once_met(partial(pull_datanet, self._content, self._catalog, self._domain, datanet))
        rows = list(indexed_rows(pulled))
        if not 0 < wanted.row <= len(rows):
            raise NotFound(f"Datanet {wanted.datanet} has {len(rows)} rows, and no row {wanted.row}")
        row = rows[wanted.row - 1]
        if not row.answer.strip():
            raise ConfigError(f"row {wanted.row} of {wanted.datanet} is no template: it answers nothing")
        if len(row.answer) > MAX_TEMPLATE:
            raise ConfigError(
                f"row {wanted.row} of {wanted.datanet} is no template: it has {len(row.answer)} characters, "
                f"and {MAX_TEMPLATE} may be"
            )
        return row.answer, row.payee

    async def _named(self, name: str) -> Cid:
        return await self._catalog.patiently(lambda: self.datanet_id(name))

    def datanet_id(self, name: str) -> Cid:
        """A Datanet by its name, or an id itself. Raises NotFound."""
        return to_cid(name) if name.startswith("bafk") else self._catalog.datanet_record(name).datanet

    async def embed(self, datanet: Cid) -> None:
        """Make the vectors of an index that is here, and wait for them. Raises NotFound, RetrievalFailed."""
        if self._meanings is not None:
            await self._meanings.make(self.path_of(datanet))

    async def find(self, datanet: Cid, question: str, count: int) -> tuple[Found, ...]:
        """The rows of a Datanet that go best with a question. Raises as `prepare`."""
        path = self.path_of(datanet)
        if not path.exists():  # else nobody waits for vectors being made
            async with self._lock:
                if not path.exists():
                    await self._build(datanet, path)
        embedder = self._meanings.embedder if self._meanings is not None else None
        return await trio.to_thread.run_sync(search, path, question, count, embedder, abandon_on_cancel=True)

    def path_of(self, datanet: Cid) -> Path:
        """Where the index of a Datanet version is, or will be."""
        return self._folder / f"{datanet}.sqlite3"

    async def _build(self, datanet: Cid, path: Path) -> None:
        pulled = await pull_datanet(self._content, self._catalog, self._domain, datanet)
        self._folder.mkdir(parents=True, exist_ok=True)
        await trio.to_thread.run_sync(partial(build_index, path, indexed_rows(pulled)))
        if self._meanings is not None:
            self._meanings.want(path)

    async def forget(self, shard: Cid) -> int:
        """Take a shard's rows out of every index of this home; how many they were. What cannot be read, or
        was never finished, is deleted: it may hold them too.
        """
        async with self._lock:
            for unfinished in self._folder.glob("*.part*"):
                unfinished.unlink(missing_ok=True)
            paths = indexes_in(self._folder)
            return sum([await trio.to_thread.run_sync(_forget_or_delete, path, shard) for path in paths])


def _forget_or_delete(path: Path, shard: Cid) -> int:
    """How many rows went one by one."""
    try:
        return forget(path, shard)
    except RetrievalFailed as damaged:
        log.warning("%s; deleted, for rows in it were withdrawn", damaged)
        path.unlink(missing_ok=True)
        return 0


def indexed_rows(pulled: PulledDatanet) -> Iterator[IndexedRow]:
    """A Datanet's rows and whose they are."""
    for shard in pulled.shards:
        name = shard.shard.header.contributor
        for row in shard.rows:
            yield IndexedRow(row_hash(row), shard.payee, shard.cid, name, row.question, row.answer)


def read_retrieval(text: str) -> Retrieval:
    """`NAME` or `NAME=ROWS`, as it is written on a command line. Raises ConfigError."""
    name, equals, count = text.partition("=")
    if not name or (equals and not (count.isascii() and count.isdigit() and 0 < int(count) <= 64)):
        raise ConfigError(f"--retrieve {text}: expected DATANET or DATANET=ROWS, 1 to 64 rows")
    return Retrieval(name, int(count)) if equals else Retrieval(name)


def read_template(text: str) -> Template:
    """`NAME` or `NAME=ROW`, as it is written on a command line. Raises ConfigError."""
    name, equals, row = text.partition("=")
    if not name or (equals and not (row.isascii() and row.isdigit() and 0 < int(row) <= MAX_ROWS_PER_SHARD)):
        raise ConfigError(f"--template {text}: expected DATANET or DATANET=ROW, rows counted from 1")
    return Template(name, int(row)) if equals else Template(name)


def _question(options: AskOptions) -> str:
    asked = [turn.content for turn in options.messages if turn.role == "user"]
    if not asked:
        raise ConfigError("rows are retrieved for the user's last turn, and there is none")
    return asked[-1]


def _shown(row: IndexedRow) -> str:
    text = f"{row.question} {row.answer}"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _cite(number: int, datanet: Cid, found: Found) -> Citation:
    row = found.row
    return Citation(
        number=number,
        datanet=datanet,
        shard=row.shard,
        contributor=row.contributor,
        payee=row.payee,
        row=row.hash,
        question=row.question,
        answer=row.answer,
        by_words=found.by_words,
        by_meaning=found.by_meaning,
    )
