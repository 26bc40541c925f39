"""The attribution process, for real: an index built, an answer scored, killed, and scored again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.errors import AttributionFailed, InvalidModel, NotFound, RemoteProtocolError
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import ChatMessage, Prompt
from commonlore.worker.attribution.index import build_index, check_index
from commonlore.worker.attribution.process import AttributionConfig, open_attribution
from commonlore.worker.attribution.serve import Server
from commonlore.worker.attribution.wire import CallFailed, Done, ForgetSubject

TURNS = (ChatMessage("user", "Tell me of the perch."),)
SAID = "The perch: it swims in cold rivers."


def test_a_process_indexes_scores_and_is_replaced_when_it_dies(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    mine = build_index(world.subject, world.rows, tmp_path / "build", compute)
    config = AttributionConfig(world.base.directory, tmp_path / "work", threads=1)
    told, sums, rows = list[int](), tmp_path / "fetched", tmp_path / "rows"
    by_hash = {row_hash(each.row): at for at, each in enumerate(world.rows)}

    async def main() -> None:
        with trio.fail_after(240):
            async with open_attribution(config) as attribution:
                with pytest.raises(NotFound):
                    await attribution.score(world.adapter, TURNS, SAID)
                await attribution.load(world.subject)
                built = await attribution.build_index(
                    world.adapter, world.rows, lambda done, _total: told.append(done)
                )
                check_index(built.manifest, built.rows, built.sums)
                assert built.manifest.row_hashes == mine.manifest.row_hashes
                sums.write_bytes(built.sums)
                await attribution.use_index(built.manifest, sums)
                first = await attribution.score(world.adapter, TURNS, SAID)
                assert first.weights is not None
                assert max(first.weights, key=lambda w: w.ppm).payee == world.payee("fish")
                rows.write_bytes(built.rows)
                await attribution.check_index(world.adapter, rows)
                row = world.rows[by_hash[built.manifest.row_hashes[1]]].row
                assert await attribution.recheck_row(world.adapter, rows, 1, row)
                assert not await attribution.recheck_row(world.adapter, rows, 2, row)
                with pytest.raises(RemoteProtocolError, match="12288 bytes"):
                    await attribution.recheck_row(world.adapter, sums, 1, row)

                other = replace(world.subject, adapter=cid_of(b"soon gone"), early=tmp_path / "early")
                other.early.write_bytes(world.subject.early.read_bytes())
                await attribution.load(other)
                other.early.unlink()

                attribution._child.process.kill()
                with pytest.raises(AttributionFailed, match="killed by signal 9"):
                    await attribution.score(world.adapter, TURNS, SAID)
                assert await attribution.score(world.adapter, TURNS, SAID) == first
                with pytest.raises(NotFound, match="not loaded"):
                    await attribution.losses(other.adapter, Prompt(bytes(32), TURNS), bytes(32), (1,))

    trio.run(main)
    assert told == [0, 4, 8, 9]


def test_a_defect_that_a_stranger_brings_out_ends_no_process(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(world.base)
    with monkeypatch.context() as patched:
        patched.setattr(server, "_forget", lambda command: command.call // 0)
        reply = server.answer(ForgetSubject(1, world.adapter))
    assert isinstance(reply, CallFailed)
    assert "ZeroDivisionError" in reply.failure.message
    assert "Traceback" in capsys.readouterr().err
    assert isinstance(server.answer(ForgetSubject(2, world.adapter)), Done)


def test_a_base_that_is_none_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with trio.fail_after(240), pytest.raises(InvalidModel, match="not an imported base"):
            async with open_attribution(AttributionConfig(tmp_path, tmp_path / "work")):
                pass

    trio.run(main)
