"""A name that is not known here is asked for before anybody is told so."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from commonlore.peer.catalog import Catalog
from commonlore.peer.hearsay import LEARNING_S
from commonlore.protocol.content.manifests import DatanetManifest
from commonlore.protocol.errors import ConfigError, NotFound
from commonlore.protocol.gossip.adverts import DatanetRecord
from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.signing.envelope import Sealed

DATANET = cid_of(b"a Datanet")
LATE_S = 20.0


async def nobody_has_it(_cid: Cid, _most: int) -> bytes:
    raise NotFound("nobody has it")


class Asked:
    """A catalog whose neighbours answer late; `tell` is what they tell then."""

    def __init__(self, *tell: str, learns_after_s: float = 0) -> None:
        self.catalog = Catalog(nobody_has_it)
        self.catalog.ask_around = self.ask
        self.rounds = 0
        self.tell, self.learns_after_s = tell, learns_after_s

    async def ask(self) -> None:
        self.rounds += 1
        await trio.sleep(LATE_S)
        if self.learns_after_s == 0:
            self.learn()

    def learn(self) -> None:
        for name in self.tell:
            record = DatanetRecord(name, 1, DATANET, 1, 0)
            self.catalog.learn(Sealed(record, b"k" * 32, "peer", b""))  # type: ignore[arg-type]

    async def datanet(self, name: str) -> Cid:
        return (await self.catalog.patiently(lambda: self.catalog.datanet_record(name))).datanet


def run(asked: Asked, name: str) -> tuple[Cid, float]:
    """What is found, and how many seconds later."""

    async def main() -> tuple[Cid, float]:
        async with trio.open_nursery() as nursery:
            if asked.learns_after_s:
                nursery.start_soon(learn_later)
            began = trio.current_time()
            found = await asked.datanet(name)
            nursery.cancel_scope.cancel()
        return found, trio.current_time() - began

    async def learn_later() -> None:
        await trio.sleep(asked.learns_after_s)
        asked.learn()

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_what_is_known_is_found_without_asking() -> None:
    asked = Asked("numbers")
    asked.learn()
    assert run(asked, "numbers") == (DATANET, 0)
    assert asked.rounds == 0


@pytest.mark.parametrize("learns_after_s", [0, LATE_S / 2, LATE_S + LEARNING_S / 2])
def test_what_others_tell_is_found_however_late_they_are(learns_after_s: float) -> None:
    asked = Asked("numbers", learns_after_s=learns_after_s)
    found, seconds = run(asked, "numbers")
    assert found == DATANET
    assert seconds == pytest.approx(learns_after_s or LATE_S, abs=0.1)
    assert asked.rounds == 1


def test_what_nobody_knows_is_said_when_all_were_asked() -> None:
    asked = Asked("others")

    async def main() -> float:
        began = trio.current_time()
        with pytest.raises(NotFound, match="unknown Datanet 'numbers'; known: others"):
            await asked.datanet("numbers")
        return trio.current_time() - began

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == pytest.approx(
        LATE_S + LEARNING_S, abs=0.1
    )


async def test_other_errors_are_told_at_once() -> None:
    asked = Asked()

    def refuse() -> DatanetManifest:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        await asked.catalog.patiently(refuse)
    assert asked.rounds == 0


async def test_a_home_whose_node_does_not_run_asks_nobody() -> None:
    catalog = Catalog(nobody_has_it)
    with pytest.raises(NotFound):
        await catalog.patiently(lambda: catalog.datanet_record("numbers"))
