"""Names that a shell completes, from a store that a node has left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.home import Home
from commonlore.peer.store.node_store import open_store
from commonlore.protocol.gossip.adverts import AdapterRecord, DatanetRecord
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

KINDS = (AdapterRecord, DatanetRecord)


@pytest.fixture
def heard(home: Path) -> Path:
    """A home that has heard of two adapters and a Datanet."""
    base, key = cid_of(b"base"), PeerKey.generate(b"k" * 32)
    records = [
        *(AdapterRecord(name, base, base, None, None, 0, 0, 1, 1) for name in ("alice/icd10", "alice/cwe")),
        DatanetRecord("icd10", 1, base, 1, 1),
    ]

    async def keep() -> None:
        async with open_aio() as aio, open_store(Home(home).create().store, aio) as store:
            for record in records:
                await store.records.put(open_sealed(seal(key, record), KINDS))

    trio.run(keep)
    return home


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ask ? -a alice/", {"alice/icd10", "alice/cwe"}),
        ("ask ? --adapter alice/icd10+alice/c", {"alice/icd10+alice/cwe"}),
        ("adapter show alice/i", {"alice/icd10"}),
        ("train me/x --datanet ic", {"icd10"}),
        ("train me/x --datanet x", set()),
    ],
)
def test_names_are_completed(heard: Path, words: str, offered: set[str]) -> None:
    assert completed(words) == offered


def test_a_broken_store_completes_nothing_and_says_nothing(heard: Path) -> None:
    Home(heard).store.write_bytes(b"no database")
    assert completed("ask ? -a alice/") == set()


def test_without_a_home_nothing_is_made(home: Path) -> None:
    assert completed("ask ? -a alice/") == set()
    assert not home.exists()


def completed(words: str) -> set[str]:
    """What a shell would offer for the last of these words."""
    line = f"commonlore {words}"
    asked = {
        "_COMMONLORE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    script = Path(sys.executable).with_name("commonlore")
    done = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())
