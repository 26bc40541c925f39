"""Datanets, training and money: what commands order from the node, and what files they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commonlore.protocol.ids import cid_of
from commonlore.worker.attribution.measurement import Effort
from commonlore.worker.factory.merge_job import make_plan

ROW = {"question": "What is the code for cholera?", "answer": "A00"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"extra": 1}) + "\n")
    return path


def test_rows_of_several_contributors_are_published(lore, running, rows: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('question,answer,source\n"What, then?",this,x\n')
    words = (
        "--rows",
        f"alice={rows}",
        "--rows",
        f"bob={table}",
        "--licence",
        "CC0-1.0",
        "--purpose",
        "codes",
    )
    added = lore("datanet", "add", "icd10", *words)
    assert added.exit_code == 0, added.stderr
    (plan, drafts) = running.actions.published[0]
    assert (plan.name, plan.purpose, plan.licence) == ("icd10", "codes", "CC0-1.0")
    assert [(draft.contributor, len(draft.rows)) for draft in drafts] == [("alice", 2), ("bob", 1)]
    assert drafts[1].rows[0] == ("What, then?", "this")


def test_an_identity_takes_its_rows_back(lore, running) -> None:
    done = lore("datanet", "withdraw", "icd10", "--identity", "alice", "--reason", "a mistake")
    assert done.exit_code == 0, done.stderr
    assert running.actions.withdrawn == [("icd10", "alice", "a mistake")]
    assert "version 2 is without them" in done.stdout
    assert "alice/icd10" in done.stdout
    assert f"3 rows of alice taken out; difference {cid_of(b'difference')}" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "a.jsonl",
            b'{"question": "a", "answer": "b"}\n{"question": "\xff"}\n',
            "line 2 is not UTF-8; save the",
        ),
        ("a.jsonl", b'{"question": "a", "answer": "b"}\n{"question": \n', "line 2 is not JSON: "),
        ("a.jsonl", b'{"question": "a"}\n', "line 1 lacks a question or an answer, as text"),
        ("a.jsonl", b'["a", "b"]\n', "line 1 lacks a question or an answer, as text"),
        ("a.jsonl", b'{"question": "a", "answer": " "}\n', "line 1 lacks a question or an answer, as text"),
        ("a.jsonl", b'{"question": "\\ud800", "answer": "b"}\n', "line 1 holds half of a surrogate pair"),
        (
            "a.jsonl",
            b'{"question": "a", "answer": "' + b"b" * 17_000 + b'"}\n',
            "line 1 has 17001 bytes of text;",
        ),
        ("a.jsonl", b"\n", " holds no rows; give a line with question and answer for each"),
        ("a.csv", b"q,a\n1,2\n", " has no columns named question and answer in its first line"),
        ("a.csv", b'question,answer\n"1,2\n', " is not CSV: "),
    ],
)
def test_a_file_that_holds_no_rows(
    lore, running, tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    failed = lore("datanet", "add", "x", "--rows", f"alice={path}", "--licence", "CC0-1.0")
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {path}")
    assert complaint in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not running.actions.published


def test_a_datanet_needs_rows_and_a_licence(lore, running, rows: Path) -> None:
    assert lore("datanet", "add", "x").exit_code == 2
    unlicensed = lore("datanet", "add", "x", "--rows", f"alice={rows}")
    assert unlicensed.exit_code == 2
    assert "--licence CC0-1.0" in unlicensed.stderr


def test_a_notice_that_is_no_text(lore, running, rows: Path, tmp_path: Path) -> None:
    notice = tmp_path / "n.bin"
    notice.write_bytes(b"\x00\xff\xfe")
    words = ("--rows", f"alice={rows}", "--licence", "CC0-1.0", "--notice", str(notice))
    failed = lore("datanet", "add", "x", *words)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {notice} is not text in UTF-8 (")
    assert failed.stderr.count("\n") == 1
    assert running.actions.published == []


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1", "1"])
def test_a_learning_rate_that_no_training_can_use(lore, running, rate: str) -> None:
    failed = lore("train", "me/icd", "--datanet", "icd10", "--learning-rate", rate)
    assert failed.exit_code == 2
    assert "does not lie between 0 and 1, such as 0.008" in failed.stderr
    assert running.actions.trained == []


def test_a_training_without_held_out_rows_says_so(lore, running) -> None:
    running.actions.losses = (None, None)
    trained = lore("train", "me/icd", "--datanet", "icd10")
    assert "held-out loss  not measured: the Datanet is too small" in trained.stdout
    running.actions.losses = (4.6, 1.6)
    assert "held-out loss  4.600 before, 1.600 after" in lore("train", "me/icd", "--datanet", "icd10").stdout


def test_a_training_order_reaches_the_node(lore, running) -> None:
    trained = lore("train", "me/icd", "--datanet", "icd10", "--steps", "3", "--rank", "4", "--json")
    assert trained.exit_code == 0, trained.stderr
    (order,) = running.actions.trained
    assert (order.name, order.datanets) == ("me/icd", ("icd10",))
    assert (order.config.steps, order.config.rank, order.config.alpha) == (3, 4, 8)
    assert json.loads(trained.stdout)["alias"] == "me/icd"
    assert order.retrainings == Effort().subsets


def test_faithfulness_is_measured_unless_somebody_does_not_want_it(lore, running) -> None:
    for words, retrainings, says in (
        ((), Effort().subsets, f"rank correlation with {Effort().subsets} retrainings"),
        (("--faithfulness", "12"), 12, "rank correlation with 12 retrainings"),
        (("--no-faithfulness",), 0, "no measurement is announced"),
    ):
        told = lore("train", "me/icd", "--datanet", "icd10", *words).stdout
        assert running.actions.trained[-1].retrainings == retrainings
        assert says in told
    assert lore("train", "me/icd", "--datanet", "icd10", "--faithfulness", "3").exit_code == 2


def test_adapters_and_datanets_are_listed(lore, running) -> None:
    assert "no adapters are announced yet" in lore("adapter", "list").stdout
    assert "no Datanets are announced yet" in lore("datanet", "list").stdout
    running.node.announce_adapter("alice/icd10")
    (adapter,) = json.loads(lore("adapter", "list", "--json").stdout)
    assert (adapter["alias"], adapter["heldout_loss_before"]) == ("alice/icd10", 4.6)
    assert "alice/icd10" in lore("adapter", "list").stdout


def test_a_merge_order_reaches_the_node(lore, running) -> None:
    words = ("-a", "alice/icd10=0.7", "-a", "bob/cwe=1.3", "--method", "dare_ties", "--density", "0.4")
    merged = lore("adapter", "merge", "me/both", *words, "--seed", "7", "--json")
    assert merged.exit_code == 0, merged.stderr
    (order,) = running.actions.merged
    assert (order.name, order.adapters) == ("me/both", (("alice/icd10", 700_000), ("bob/cwe", 1_300_000)))
    assert order.plan == make_plan("dare_ties", density_ppm=400_000, seed=7)
    assert json.loads(merged.stdout)["alias"] == "me/both"
    plain = lore("adapter", "merge", "me/half", "-a", "alice/icd10", "-a", "bob/cwe")
    assert "me/half" in plain.stdout
    assert running.actions.merged[1].plan == make_plan("linear")
    assert running.actions.merged[1].adapters == (("alice/icd10", 500_000), ("bob/cwe", 500_000))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--method", "slerp"), "no merging method 'slerp'; choose one of linear, cat, svd"),
        (("--method", "ties", "--density", "nan"), "the density is 'nan'; expected a positive number"),
        (("--method", "ties", "--density", "0"), "the density is '0'; expected a positive number"),
        (("--method", "ties", "--density", "1.5"), "a density of 1.5; it must lie above 0 and be at most 1"),
        (("--density", "0.5"), "a density means nothing to the method linear; it is for ties and dare"),
        (("--rank", "4"), "a rank means nothing to the method linear; it is for the svd methods"),
        (("--method", "svd", "--rank", "0"), "a rank of 0; 1 to 256 can be served"),
        (("-a", "c/d"), "the adapter 'c/d' has no weight and others have"),
    ],
)
def test_a_merge_that_makes_no_sense(lore, running, words: tuple[str, ...], complaint: str) -> None:
    failed = lore("adapter", "merge", "me/both", "-a", "alice/icd10=0.7", "-a", "bob/cwe=0.3", *words)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {complaint}")
    assert failed.stderr.count("\n") == 1
    assert running.actions.merged == []


@pytest.mark.parametrize("command", ["status", "settle", "claim"])
def test_without_a_node_there_is_nothing_to_order(lore, home: Path, command: str) -> None:
    failed = lore(command)
    assert failed.exit_code == 1
    assert failed.stderr == f"error: no node runs in {home}; start one with: commonlore up\n"


def test_a_deposit_reaches_the_node(lore, running) -> None:
    assert json.loads(lore("deposit", "500", "--json").stdout)["balance"] == 500
    assert running.actions.deposited == 500
    assert "escrow   1,000 units" in lore("deposit", "500").stdout
    assert lore("deposit", "0").exit_code == 2


def test_without_a_node_a_deposit_needs_a_chain(lore, home: Path) -> None:
    remedy = "name it with --chain-url URL --deployment FILE"
    failed = lore("deposit", "5")
    assert failed.stderr == f"error: no node runs in {home}, and no chain is configured: {remedy}\n"


def test_the_status_shows_what_the_owner_has(lore, running) -> None:
    assert "escrow" not in lore("status").stdout
    running.actions.chain, running.actions.deposited = "http://127.0.0.1:8545", 1_234_567
    shown = lore("status").stdout.splitlines()
    assert "escrow     1,234,567 units" in shown
    assert "account    70,000 units, 0.250000 ETH for gas" in shown


def test_the_chain_of_the_running_node_is_where_play_money_comes_from(lore, running) -> None:
    running.actions.chain = "http://127.0.0.1:1"
    silent = lore("faucet")
    assert silent.stderr.startswith(
        "error: commonlore_fund: chain endpoint http://127.0.0.1:1 does not answer"
    )


def test_play_money_comes_from_a_development_chain_only(lore, home: Path) -> None:
    assert lore("faucet").stderr == "error: no chain is configured; name it with --chain-url URL\n"
    silent = lore("faucet", "--chain-url", "http://127.0.0.1:1")
    assert silent.exit_code == 1
    assert silent.stderr.startswith(
        "error: commonlore_fund: chain endpoint http://127.0.0.1:1 does not answer;"
    )
    assert lore("faucet", "0x12", "--chain-url", "http://127.0.0.1:1").stderr.startswith(
        "error: not an account address: '0x12'"
    )
