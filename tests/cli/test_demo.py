"""The demo's screen and its JSON; that Ctrl-C ends every process. The whole run is in tests/e2e."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from commonlore.cli.demo_screen import Screen, as_json
from commonlore.peer.demo.events import (
    Advanced,
    Answered,
    Asked,
    Began,
    CreditLine,
    Fetch,
    Finished,
    Paid,
    Said,
    Told,
    Trained,
)
from commonlore.peer.settling.books import Books, Line, PaidAnswer
from commonlore.protocol.ids import Address, cid_of

WORKER, ALICE = Address(b"w" * 20), Address(b"a" * 20)
ADAPTER = cid_of(b"adapter")
ANSWER = Answered(
    adapter="demo/icd10",
    question="What is the code?",
    text="It is A00.",
    expected="A00",
    right=True,
    worker="worker-a",
    receipt_ids=("0x12",),
    verified=True,
    price=100,
    shares={"platform": 0, "worker": 60, "contributors": 40},
    credits=(CreditLine("worker-a", "worker", WORKER, 60), CreditLine("alice", "contributor", ALICE, 40)),
    method="grad-sketch/1",
    fetch=Fetch(ADAPTER, "worker-a", 4_900_000, 310),
)
BOOKS = Books(
    answers=(PaidAnswer(100, {WORKER: 60, ALICE: 40}),),
    lines=(Line(WORKER, (60,), 60, 60), Line(ALICE, (40,), 40, 40)),
    minted=1_000,
    escrow=900,
    deposits=900,
    settlement=0,
    pots=100,
    claimed=100,
)
TRAINED = Trained("demo/icd10", ADAPTER, 4.6, 1.6, 4_900_000)
END = Finished(
    answers=(ANSWER,),
    trained=(TRAINED,),
    epoch_transactions=("0xab", "0xcd"),
    claims=(Paid("worker-a", WORKER, 60), Paid("alice", ALICE, 40)),
    names={WORKER: "worker-a", ALICE: "alice"},
    books=BOOKS,
    seconds=12.34,
)
EVENTS = (
    Began("A chain"),
    Told("chain", "1 at http://127.0.0.1"),
    Advanced("training demo/icd10", 1, 2, "loss 3.00"),
    Advanced("training demo/icd10", 2, 2, "loss 2.00"),
    TRAINED,
    Asked("What is the code?", "demo/icd10"),
    Said("It is \x1b[31m"),
    Said("A00."),
    ANSWER,
    Paid("alice", ALICE, 40),
    END,
)


def test_events_read_like_a_story(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        for event in EVENTS:
            screen.show(event)
    shown = capsys.readouterr().out
    assert "1  A chain" in shown
    assert re.search(r"training demo/icd10: \d+\.\d s, loss 2\.00", shown)
    assert "held-out loss 4.60 before, 1.60 after" in shown
    assert "It is \N{REPLACEMENT CHARACTER}[31mA00.\n" in shown  # a model moves no cursor
    assert "A00: right" in shown
    assert "fetched by content id over libp2p, 4,900,000 bytes in 0.3 s" in shown
    assert "100 = worker 60 + contributors 40" in shown
    assert "alice 40 (by grad-sketch/1)" in shown
    assert "yes, to the last unit: 1,000 minted = escrow 900 + pots 0 + bonds 0 + balances 100" in shown


def test_the_outcome_for_programs() -> None:
    told = json.loads(json.dumps(as_json(END)))
    assert {"answers", "adapter_fetches", "heldout_loss_before", "heldout_loss_after"} <= set(told)
    assert {"epoch_tx", "claims", "conserved", "seconds"} <= set(told)
    (answer,) = told["answers"]
    assert {"adapter", "text", "receipt_id", "verified", "price", "credits"} <= set(answer)
    assert sum(credit["amount"] for credit in answer["credits"]) == answer["price"]
    assert told["epoch_tx"] == "0xab"
    assert told["conserved"] is True


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets have names short enough for the system, however deep the tests' own are."""
    with tempfile.TemporaryDirectory(prefix="demo") as folder:
        yield Path(folder)


def test_ctrl_c_ends_everything_and_leaves_nothing(short_path: Path) -> None:
    command = [sys.executable, "-m", "commonlore.cli.main", "demo", "--base", "tiny"]
    environment = {
        **os.environ,
        "TMPDIR": str(short_path),
        "COMMONLORE_CACHE": str(short_path / "cache"),
        "COMMONLORE_NATIVE": "0",  # or the workers compile kernels into the new cache
    }
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as demo:
        assert demo.stdout is not None
        assert any("starting processes" in line or "Five peers" in line for line in demo.stdout)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=150)
    assert (demo.returncode, said) == (130, "")
    assert [path.name for path in short_path.iterdir()] == ["cache"]
    assert not [pid for pid in _processes() if str(short_path) in pid]


def _processes() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return found


def test_a_mistyped_base_leaves_no_folder_behind(
    lore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    failed = lore("demo", "--base", "nope")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: no base 'nope'")
    assert list((tmp_path / "temporary").iterdir()) == []
