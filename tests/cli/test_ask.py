"""`ask`, `chat` and `receipt` through a node that runs in the home."""

from __future__ import annotations

import json

import pytest

from commonlore.peer.gateway.fake import Script
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import InsufficientEscrow, Refused


def test_an_answer_goes_to_stdout_and_its_receipt_to_stderr(lore, running) -> None:
    answered = lore("ask", "What is E11.9?", "--max-tokens", "8")
    assert (answered.exit_code, answered.stdout) == (0, "It is E11.9\n")
    (kept,) = running.node.store.ledger.stored
    receipt = f"receipt 0x{kept.receipt_id.hex()}: {kept.receipt.price} units for 12 + 3 tokens, verified\n"
    assert answered.stderr == receipt


def test_an_answer_whose_time_was_over_is_shown_with_its_receipt_and_says_so(lore, running) -> None:
    running.node.scripts.append(Script(finish="deadline"))
    answered = lore("ask", "What is E11.9?", "--deadline", "7")
    assert (answered.exit_code, answered.stdout) == (0, "It is E11.9\n")
    receipt, over = answered.stderr.splitlines()
    assert receipt.startswith("receipt 0x")
    assert over == "the 7 s were over, and the answer ends there; more with --deadline"


def test_every_option_reaches_the_node(lore, running) -> None:
    adapter = running.node.announce_adapter("alice/icd10")
    words = (
        "-a",
        "alice/icd10",
        "--max-tokens",
        "9",
        "--temperature",
        "0.5",
        "--seed",
        "3",
        "--stop",
        "\n\n",
    )
    assert lore("ask", "?", *words, "--max-price", "1000", "--deadline", "7").exit_code == 0
    (asked,) = running.node.asked
    assert asked.adapters == ((adapter, PPM),)
    assert (asked.sampling.max_tokens, asked.sampling.seed, asked.sampling.temperature_ppm) == (9, 3, 500_000)
    assert (asked.stop, asked.max_price, asked.deadline_s) == (("\n\n",), 1000, 7.0)


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (("-a", "alice/icd10=0.7", "-a", "bob/cwe=0.3"), (700_000, 300_000)),
        (("-a", "alice/icd10=0.25+bob/cwe=0.75"), (250_000, 750_000)),
        (("-a", "alice/icd10", "--adapter", "bob/cwe"), (500_000, 500_000)),
    ],
)
def test_several_adapters_answer_together_and_stand_on_the_receipt(
    lore, running, words: tuple[str, ...], weights: tuple[int, int]
) -> None:
    ids = [running.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
    done = json.loads(lore("ask", "?", *words, "--json").stdout)
    weighed = [{"adapter": adapter, "weight_ppm": ppm} for adapter, ppm in zip(ids, weights, strict=True)]
    assert done["adapters"] == weighed
    assert running.node.asked[0].adapters == tuple(zip(ids, weights, strict=True))
    written = f"alice/icd10={weights[0] / PPM:g}+bob/cwe={weights[1] / PPM:g}"
    assert written in lore("receipt", "list").stdout
    shown = lore("receipt", "show", done["receipts"][0]["id"]).stdout
    assert f"composition    {written}" in shown
    assert f"weight_ppm {weights[1]}" in shown


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-a", "a/b=0.7", "-a", "c/d=0.7"), "the weights of a/b and c/d add up to 1.4; they must make 1"),
        (("-a", "a/b=nan"), "the weight of 'a/b' is 'nan'; expected a positive number with at most six"),
        (("-a", "a/b=0.7", "-a", "c/d"), "the adapter 'c/d' has no weight and others have"),
    ],
)
def test_weights_that_make_no_composition(lore, running, words: tuple[str, ...], complaint: str) -> None:
    failed = lore("ask", "?", *words)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {complaint}")
    assert failed.stderr.count("\n") == 1
    assert running.node.asked == []


def test_a_program_gets_the_whole_answer(lore, running) -> None:
    done = json.loads(lore("ask", "?", "--json").stdout)
    assert (done["text"], done["finish"], done["output_tokens"]) == ("It is E11.9", "stop", 3)
    assert done["receipts"][0]["verified"] is True


def test_a_question_from_standard_input(lore, running) -> None:
    assert lore("ask", "-", input="What now?\nAnd then?\n").exit_code == 0
    assert running.node.asked[0].messages[0].content == "What now?\nAnd then?\n"


def test_a_conversation_keeps_its_turns(lore, running) -> None:
    running.node.scripts.extend((Script(("One.",)), Script(("Two.",))))
    talked = lore("chat", input="first\nsecond\n\n")
    assert (talked.exit_code, talked.stdout) == (0, "One.\nTwo.\n")
    turns = [(turn.role, turn.content) for turn in running.node.asked[1].messages]
    assert turns == [("user", "first"), ("assistant", "One."), ("user", "second")]


@pytest.mark.parametrize(
    "error",
    [
        InsufficientEscrow(
            "the escrow of 0xab covers 0 of 400 units; deposit more: commonlore deposit AMOUNT"
        ),
        Refused("price", "the cheapest worker asks up to 900 token units; raise the limit of 1"),
    ],
)
def test_what_ends_an_answer_is_one_line(lore, running, error: Exception) -> None:
    running.node.scripts.append(Script(("It is ",), error=error))
    failed = lore("ask", "?")
    assert failed.exit_code == 1
    assert failed.stdout == "It is \n"
    assert failed.stderr == f"error: {error}\n"


def test_an_unknown_adapter_is_named_with_those_that_are_known(lore, running) -> None:
    running.node.announce_adapter("alice/icd10")
    failed = lore("ask", "?", "-a", "alice-icd9")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: unknown model 'alice-icd9'; known: ")
    assert "alice/icd10" in failed.stderr


def test_without_a_node_and_without_an_address_there_is_nobody_to_ask(lore, home) -> None:
    failed = lore("ask", "?")
    assert failed.exit_code == 1
    assert failed.stderr == (
        f"error: no node runs in {home}; start a network with `commonlore up`, or join one with --bootstrap\n"
    )


def test_an_unreachable_bootstrap_peer_is_one_line(lore, home) -> None:
    lore("key", "show")
    address = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGeRitacbQkcWepQ2A9sVQLsavWfBZCXMAMR8qLgG1T64"
    failed = lore("ask", "?", "--bootstrap", address)
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: your peer did not start: cannot reach bootstrap peer 12D3KooWGe")
    assert failed.stderr.count("\n") == 1


def test_receipts_are_listed_and_shown_with_their_credits(lore, running) -> None:
    assert lore("receipt", "list").stdout == "no receipts yet; ask something: commonlore ask QUESTION\n"
    running.node.announce_adapter("alice/icd10")
    lore("ask", "?", "-a", "alice/icd10")
    (listed,) = json.loads(lore("receipt", "list", "--json").stdout)
    assert listed["id"] in lore("receipt", "list").stdout
    shown = json.loads(lore("receipt", "show", listed["id"], "--json").stdout)
    assert sum(credit["amount"] for credit in shown["credits"]) == shown["price"]
    assert "alice" in lore("receipt", "show", listed["id"]).stdout


def test_a_chat_takes_several_adapters(lore, running) -> None:
    ids = [running.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
    assert lore("chat", "-a", "alice/icd10", "-a", "bob/cwe", input="hello\n\n").exit_code == 0
    assert running.node.asked[0].adapters == ((ids[0], PPM // 2), (ids[1], PPM // 2))


def test_a_receipt_that_is_none(lore, running, home) -> None:
    failed = lore("receipt", "show", "four")
    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        "error: not a receipt's number, id or hash: 'four'; expected a number, or"
    )
    unknown = lore("receipt", "show", "4")
    assert unknown.stderr == f"error: no receipt 4 in {home}; list them with: commonlore receipt list\n"
