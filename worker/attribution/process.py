"""The node's side of attribution: a child process that knows one base, some adapters and their indexes.

Rules of this file:
- The node never imports torch and never waits for a backward pass; calls queue, each short: an index is built
  a few rows a call, so that an answer waits seconds for its score, not the whole build.
- A process that dies fails the call it was at. The next call starts another and tells it what the last one
  knew; a build that was cut is begun again and goes on behind its last row.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from ...protocol.attribution.faithfulness import Correlations
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.encoding.codec import decode, decode_message, encode, encode_all, encode_message
from ...protocol.errors import AttributionFailed
from ...protocol.ids import Cid, digest_of
from ...protocol.requests.records import ChatMessage, Prompt
from ..child import Child, ChildDied, open_child
from ..engine.process.wire import error_of
from ..factory.job import write_whole
from .index import BuiltIndex, OwnedRow
from .measurement import Measurement
from .subject import Score, Subject
from .subject_wire import load_subject
from .wire import (
    GREETINGS,
    MAX_INDEX_BYTES,
    REPLIES,
    Advanced,
    AdvanceIndex,
    AdvanceMeasuring,
    BeginIndex,
    BeginMeasuring,
    Broken,
    CallFailed,
    CheckIndex,
    Command,
    Compared,
    Done,
    FinishIndex,
    FinishMeasuring,
    ForgetSubject,
    Measured,
    MeasureLosses,
    Rechecked,
    RecheckRow,
    Reply,
    ScoreAnswer,
    Scored,
    UseIndex,
)

LOG_FILE = "attribution.log"
ROWS_A_CALL = 4
R = TypeVar("R", bound=Reply)
Progress = Callable[[int, int], None]
"""Told rows done and all rows."""


@dataclass(frozen=True, slots=True)
class AttributionConfig:
    """`work_dir` holds what this and the child hand each other, and unfinished builds.

    `threads` 0 leaves it to torch.
    """

    base_dir: Path
    work_dir: Path
    threads: int = 0


class AttributionProcess:
    """A child process that scores answers; get one from `open_attribution`.

    Errors of calls arrive as the child's own.
    """

    def __init__(self, config: AttributionConfig) -> None:
        self._config = config
        self._lock = trio.Lock()
        self._stack = AsyncExitStack()
        self._child: Child | None = None
        self._calls = 0
        self._subjects: dict[Cid, Subject] = {}
        self._indexes: dict[Cid, tuple[Path, Path]] = {}

    async def load(self, subject: Subject) -> None:
        """Make an adapter known. Raises InvalidAdapter, AttributionFailed."""
        await self._call(lambda call: load_subject(call, subject), Done)
        self._subjects[subject.adapter] = subject

    async def forget(self, adapter: Cid) -> None:
        """Free an adapter and its index. Raises AttributionFailed."""
        self._subjects.pop(adapter, None)
        for path in self._indexes.pop(adapter, ()):
            path.unlink(missing_ok=True)
        await self._call(lambda call: ForgetSubject(call, adapter), Done)

    async def use_index(self, manifest: IndexManifest, sums: Path) -> None:
        """Score an adapter's answers against this index; `sums` is the file with the blob of that name in it,
        of which a copy is kept.

        Raises RemoteProtocolError where it does not fit, NotFound for an adapter that is not loaded,
        AttributionFailed.
        """
        paths = self._path(manifest.adapter, "index"), self._path(manifest.adapter, "sums")
        write_whole(paths[0], encode(manifest))
        await trio.to_thread.run_sync(shutil.copyfile, sums, paths[1])
        await self._call(lambda call: UseIndex(call, *map(str, paths)), Done)
        self._indexes[manifest.adapter] = paths

    async def build_index(
        self, adapter: Cid, rows: Sequence[OwnedRow], progress: Progress = lambda _done, _total: None
    ) -> BuiltIndex:
        """Index an adapter's rows: the manifest, ready to be sealed, and its blobs.

        What is done survives a kill: building the same index again goes on. Raises NotFound,
        AttributionFailed.
        """
        paths = {kind: self._path(adapter, kind) for kind in ("rows", "vectors", "index", "sums")}
        write_whole(paths["rows"], encode_all(rows))
        where = str(paths["rows"]), str(paths["vectors"])
        state = await self._call(lambda call: BeginIndex(call, adapter, *where), Advanced)
        progress(state.done, state.total)
        while state.done < state.total:
            state = await self._call(lambda call: AdvanceIndex(call, adapter, ROWS_A_CALL), Advanced)
            progress(state.done, state.total)
        into = str(paths["index"]), str(paths["sums"])
        await self._call(lambda call: FinishIndex(call, adapter, *into), Done)
        manifest = decode(IndexManifest, paths["index"].read_bytes(), MAX_INDEX_BYTES)
        blob = paths["vectors"].read_bytes()[-manifest.row_count * manifest.row_bytes :]
        paths["vectors"].unlink()
        return BuiltIndex(manifest, blob, paths["sums"].read_bytes())

    async def measure(
        self,
        index: IndexManifest,
        rows: bytes,
        measurement: Measurement,
        progress: Progress = lambda _done, _total: None,
    ) -> Correlations:
        """How faithful a loaded adapter's index is; `rows` is the blob of that name in it.

        What is done survives a kill. Raises NotFound, ConfigError, TrainingFailed, AttributionFailed.
        """
        paths = self._path(index.adapter, "measured"), self._path(index.adapter, "measured-rows")
        write_whole(paths[0], encode(index))
        write_whole(paths[1], rows)
        files = str(paths[0]), str(paths[1]), str(measurement.folder)
        drawn = measurement.places, measurement.subsets
        state = await self._call(lambda call: BeginMeasuring(call, index.adapter, *files, *drawn), Advanced)
        progress(state.done, state.total)
        while state.done < state.total:
            state = await self._call(lambda call: AdvanceMeasuring(call, index.adapter), Advanced)
            progress(state.done, state.total)
        found = await self._call(lambda call: FinishMeasuring(call, index.adapter), Compared)
        for path in paths:
            path.unlink()
        return found.found

    async def score(
        self, adapter: Cid, messages: Sequence[ChatMessage], output: Sequence[int] | str
    ) -> Score:
        """Who an answer is owed to, by its output tokens or, where only that is left, its text.

        Raises NotFound without adapter or index, AttributionFailed.
        """
        tokens, text = ((), output) if isinstance(output, str) else (tuple(output), "")
        turns = tuple(messages)
        scored = await self._call(lambda call: ScoreAnswer(call, adapter, turns, tokens, text), Scored)
        return Score(scored.query, scored.weights or None)

    async def losses(self, adapter: Cid, prompt: Prompt, seed: bytes, output: Sequence[int]) -> list[float]:
        """Nats of an answer's tokens after each variant of its prompt that `ablation` plans, and last after
        the whole prompt without the adapter. Raises NotFound, AttributionFailed.
        """
        tokens = tuple(output)
        found = await self._call(lambda call: MeasureLosses(call, adapter, prompt, seed, tokens), Measured)
        return [loss / 10**9 for loss in found.nano_nats]

    async def check_index(self, adapter: Cid, rows: Path) -> None:
        """Add up the rows of the index that is used; `rows` is the file with the blob of that name in it.

        Raises RemoteProtocolError where something in the index does not follow from them, AttributionFailed.
        """
        index, sums = map(str, self._indexes[adapter])
        await self._call(lambda call: CheckIndex(call, index, str(rows), sums), Done)

    async def recheck_row(self, adapter: Cid, rows: Path, position: int, row: Row) -> bool:
        """Whether a row of the index that is used is what computing it again gives, as level 2 judges it.

        Raises RemoteProtocolError, NotFound, AttributionFailed.
        """
        place = str(self._indexes[adapter][0]), str(rows), position
        found = await self._call(lambda call: RecheckRow(call, adapter, *place, row), Rechecked)
        return found.agrees

    async def close(self) -> None:
        """End the child."""
        self._child = None
        await self._stack.aclose()

    async def start(self) -> None:
        """Start the child and tell it what the last one knew. Raises InvalidModel, AttributionFailed."""
        async with self._lock:
            await self._running()

    # ---- one call at a time

    async def _call(self, command: Callable[[int], Command], wanted: type[R]) -> R:
        async with self._lock:
            child = await self._running()
            try:
                reply = await self._exchange(child, command)
            except ChildDied as died:
                await self.close()
                raise AttributionFailed(
                    f"the attribution process {died}; the next call starts another"
                ) from None
        return _expect(reply, wanted)

    async def _exchange(self, child: Child, command: Callable[[int], Command]) -> Reply:
        self._calls += 1
        with trio.CancelScope(shield=True):  # half a frame would be the end of the conversation
            await child.send(encode_message(command(self._calls)))
        while True:
            reply = decode_message(await child.receive(), REPLIES)
            if reply.call == self._calls:
                return reply

    async def _running(self) -> Child:
        if self._child is None:
            try:
                self._child = await self._start()
            except ChildDied as died:
                await self.close()
                raise AttributionFailed(f"the attribution process {died}") from None
        return self._child

    async def _start(self) -> Child:
        self._config.work_dir.mkdir(parents=True, exist_ok=True)
        environment = {"OMP_NUM_THREADS": str(self._config.threads)} if self._config.threads else {}
        opening = open_child(
            "commonlore.worker.attribution.serve",
            [str(self._config.base_dir)],
            self._config.work_dir / LOG_FILE,
            environment,
        )
        child = await self._stack.enter_async_context(opening)
        greeting = decode_message(await child.receive(), GREETINGS)
        if isinstance(greeting, Broken):
            await self.close()
            raise error_of(greeting.failure)
        for subject in list(self._subjects.values()):
            await self._tell_again(child, subject)
        return child

    async def _tell_again(self, child: Child, subject: Subject) -> None:
        """An adapter whose files are gone or changed is not known any more, and keeps no other from being."""
        replies = [await self._exchange(child, partial(load_subject, subject=subject))]
        if (paths := self._indexes.get(subject.adapter)) is not None:
            index, sums = map(str, paths)
            replies.append(await self._exchange(child, partial(UseIndex, index=index, sums=sums)))
        if not all(isinstance(reply, Done) for reply in replies):
            self._subjects.pop(subject.adapter, None)
            self._indexes.pop(subject.adapter, None)

    def _path(self, adapter: Cid, kind: str) -> Path:
        return self._config.work_dir / f"{digest_of(adapter).hex()}.{kind}"


def _expect(reply: Reply, wanted: type[R]) -> R:
    if isinstance(reply, CallFailed):
        raise error_of(reply.failure)
    if not isinstance(reply, wanted):
        raise AttributionFailed(f"the attribution process answered {type(reply).__name__}: restart the node")
    return reply


@asynccontextmanager
async def open_attribution(config: AttributionConfig) -> AsyncIterator[AttributionProcess]:
    """Start an attribution process. Raises InvalidModel, AttributionFailed."""
    attribution = AttributionProcess(config)
    try:
        await attribution.start()
        yield attribution
    finally:
        await attribution.close()
