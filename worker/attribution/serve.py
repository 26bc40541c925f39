"""The attribution process: `python -m commonlore.worker.attribution.serve BASE_DIR --socket FD`.

Rules of this file:
- One call after another, in one thread; an index is built a few rows a call, so that scores are answered
  between.
- A CommonloreError is the call's answer. Anything else is a defect: its traceback goes to the log, and that
  to the caller. It does not end the process: strangers' adapters and answers are read here, and one that
  brings a defect out must not cost others their scores.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import assert_never

from ...protocol.content.manifests import MAX_SHARD_BYTES, IndexManifest
from ...protocol.encoding.codec import decode, decode_all, decode_message, encode, encode_message
from ...protocol.errors import AttributionFailed, CommonloreError, NotFound
from ...protocol.ids import Cid
from ..child import ParentLink
from ..engine.process.wire import failure_of
from ..factory.job import write_whole
from ..models.reference import BaseModel, load_base
from .ablation import ablated
from .attributor import Attributor
from .faithfulness_run import FaithfulnessRun
from .index import IndexBuild, OwnedRow, check_index, map_file, recheck_row
from .subject_wire import subject_in
from .wire import (
    COMMANDS,
    MAX_INDEX_BYTES,
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
    LoadSubject,
    Measured,
    MeasureLosses,
    Ready,
    Rechecked,
    RecheckRow,
    Reply,
    ScoreAnswer,
    Scored,
    UseIndex,
)

NANO = 10**9


def main(arguments: list[str] | None = None) -> int:
    """Serve until the parent has gone. Returns the exit status where the base cannot be loaded."""
    parser = argparse.ArgumentParser(prog="commonlore.worker.attribution.serve")
    parser.add_argument("base_dir", type=Path)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args(arguments)
    link = ParentLink(options.socket)
    try:
        server = Server(load_base(options.base_dir))
    except CommonloreError as wrong:
        link.send(encode_message(Broken(failure_of(wrong))))
        return 1
    link.send(encode_message(Ready()))
    while True:
        link.send(encode_message(server.answer(decode_message(link.receive(), COMMANDS))))


class Server:
    """Answers calls on one attributor."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._attributor = Attributor(base)
        self._builds: dict[Cid, IndexBuild] = {}
        self._runs: dict[Cid, FaithfulnessRun] = {}

    def answer(self, command: Command) -> Reply:
        """The one answer to a call."""
        try:
            return self._answer(command)
        except CommonloreError as wrong:
            return CallFailed(command.call, failure_of(wrong))
        except Exception as defect:
            traceback.print_exc()
            told = f"attribution failed by a defect ({type(defect).__name__}): see its log"
            return CallFailed(command.call, failure_of(AttributionFailed(told)))

    def _answer(self, command: Command) -> Reply:
        match command:
            case LoadSubject():
                return self._load(command)
            case ForgetSubject():
                return self._forget(command)
            case UseIndex():
                return self._use_index(command)
            case BeginIndex():
                return self._begin(command)
            case AdvanceIndex():
                return self._advance(command)
            case FinishIndex():
                return self._finish(command)
            case ScoreAnswer():
                return self._score(command)
            case MeasureLosses():
                return self._losses(command)
            case CheckIndex():
                return self._check_index(command)
            case RecheckRow():
                return self._recheck_row(command)
            case BeginMeasuring():
                return self._begin_measuring(command)
            case AdvanceMeasuring():
                return self._advance_measuring(command)
            case FinishMeasuring():
                return self._finish_measuring(command)
        assert_never(command)

    # ---- adapters and their answers

    def _load(self, command: LoadSubject) -> Reply:
        self._attributor.load(subject_in(command))
        return Done(command.call)

    def _forget(self, command: ForgetSubject) -> Reply:
        self._attributor.forget(command.adapter)
        self._builds.pop(command.adapter, None)
        self._runs.pop(command.adapter, None)
        return Done(command.call)

    def _use_index(self, command: UseIndex) -> Reply:
        self._attributor.use_index(_index_in(command.index), map_file(Path(command.sums)))
        return Done(command.call)

    def _score(self, command: ScoreAnswer) -> Reply:
        output = command.output or command.text
        score = self._attributor.score(command.adapter, command.messages, output)
        return Scored(command.call, score.query, score.weights or ())

    def _losses(self, command: MeasureLosses) -> Reply:
        variants = ablated(command.prompt, command.seed)
        losses = self._attributor.losses(command.adapter, variants, command.output)
        return Measured(command.call, tuple(round(loss * NANO) for loss in losses))

    def _check_index(self, command: CheckIndex) -> Reply:
        check_index(_index_in(command.index), map_file(Path(command.rows)), map_file(Path(command.sums)))
        return Done(command.call)

    def _recheck_row(self, command: RecheckRow) -> Reply:
        index, blob = _index_in(command.index), map_file(Path(command.rows))
        project = self._attributor.project_row(command.adapter)
        return Rechecked(command.call, recheck_row(index, blob, command.position, command.row, project))

    # ---- indexes

    def _begin(self, command: BeginIndex) -> Reply:
        rows = decode_all(OwnedRow, Path(command.rows).read_bytes(), MAX_SHARD_BYTES)
        build = self._attributor.begin_index(command.adapter, rows, Path(command.partial))
        self._builds[command.adapter] = build
        return Advanced(command.call, build.done_rows, len(build.rows))

    def _advance(self, command: AdvanceIndex) -> Reply:
        build = self._build(command.adapter)
        build.advance(self._attributor.row_vectors(command.adapter), command.count)
        return Advanced(command.call, build.done_rows, len(build.rows))

    def _finish(self, command: FinishIndex) -> Reply:
        built = self._build(command.adapter).finish()
        write_whole(Path(command.index), encode(built.manifest))
        write_whole(Path(command.sums), built.sums)
        del self._builds[command.adapter]
        return Done(command.call)

    def _build(self, adapter: Cid) -> IndexBuild:
        if adapter not in self._builds:
            raise NotFound(f"no index of {adapter} is being built")
        return self._builds[adapter]

    # ---- faithfulness

    def _begin_measuring(self, command: BeginMeasuring) -> Reply:
        index = _index_in(command.index)
        measured = Path(command.folder), command.places, command.subsets
        rows = Path(command.rows).read_bytes()
        run = FaithfulnessRun(self._attributor, self._base, (index, rows), measured)
        self._runs[command.adapter] = run
        return Advanced(command.call, run.done_halves, run.halves)

    def _advance_measuring(self, command: AdvanceMeasuring) -> Reply:
        run = self._run(command.adapter)
        run.advance()
        return Advanced(command.call, run.done_halves, run.halves)

    def _finish_measuring(self, command: FinishMeasuring) -> Reply:
        found = self._run(command.adapter).finish()
        del self._runs[command.adapter]
        return Compared(command.call, found)

    def _run(self, adapter: Cid) -> FaithfulnessRun:
        if adapter not in self._runs:
            raise NotFound(f"the faithfulness of {adapter} is not being measured")
        return self._runs[adapter]


def _index_in(path: str) -> IndexManifest:
    return decode(IndexManifest, Path(path).read_bytes(), MAX_INDEX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
