"""The control socket as commands use it: ControlClient against a fake node."""

import socket
import threading

import pytest
import trio

from commonlore.peer.asking.answers import Retrieval, Template
from commonlore.peer.gateway.control_client import ControlClient, is_running
from commonlore.peer.gateway.errors import Defect, InvalidRequest, UnknownModel
from commonlore.peer.gateway.fake import BASE, CONTRIBUTOR, RATES, Script
from commonlore.peer.home import Home
from commonlore.protocol.content.manifests import DatanetManifest, Shard, ShardHeader
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import (
    ConfigError,
    DeadlineExceeded,
    InsufficientEscrow,
    NotFound,
    Refused,
    TrainingFailed,
    Unreachable,
)
from commonlore.protocol.gossip.adverts import DatanetRecord
from commonlore.protocol.ids import checksummed, cid_of
from commonlore.protocol.requests.records import Disclosure
from commonlore.protocol.signing.envelope import Sealed

ROWS = [{"question": "What is E11.9?", "answer": "Type 2 diabetes mellitus without complications"}]
PUBLICATION = {
    "name": "icd10",
    "purpose": "medical coding",
    "kind": "question-answer",
    "licence": "CC0-1.0",
    "contributions": [
        {"contributor": "alice", "rows": ROWS, "licence": "CC0-1.0", "origin": "CMS", "notice": "public"}
    ],
}


async def ask(door, **body):
    """Every line of one ask."""
    return await door.control(lambda client: list(client.stream("/ask", {"prompt": "?", **body})))


# ---- asking


async def test_an_ask_streams_its_text_and_ends_with_the_whole_answer(opened) -> None:
    async with opened(roles=()) as door:
        adapter = door.node.announce_adapter("alice/icd10")
        *lines, last = await ask(door, adapter="alice/icd10")
        assert lines == [{"delta": "It is "}, {"delta": "E11"}, {"delta": ".9"}]
        (kept,) = door.node.store.ledger.stored
        assert last == {
            "done": {
                "text": "It is E11.9",
                "adapter": adapter,
                "adapters": [{"adapter": adapter, "weight_ppm": PPM}],
                "workers": [door.node.worker_peer],
                "artefacts": [],
                "receipts": [
                    {
                        "id": "0x" + kept.receipt_id.hex(),
                        "price": kept.receipt.price,
                        "prompt_tokens": 12,
                        "output_tokens": 3,
                        "verified": True,
                    }
                ],
                "price": kept.receipt.price,
                "prompt_tokens": 12,
                "output_tokens": 3,
                "finish": "stop",
                "citations": [],
            }
        }


async def test_an_ask_says_everything_that_ask_options_can(opened) -> None:
    async with opened(roles=()) as door:
        ids = [door.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
        await ask(
            door,
            prompt=None,
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}],
            adapters=[
                {"name": "alice/icd10", "weight_ppm": 700_000},
                {"name": ids[1], "weight_ppm": 300_000},
            ],
            max_tokens=9,
            temperature=0.5,
            seed=3,
            stop="END",
            max_price=1_000,
            deadline_s=7,
            disclosure="none",
            top_logprobs=2,
        )
        asked = door.node.asked[0]
        assert [turn.role for turn in asked.messages] == ["system", "user"]
        assert asked.adapters == ((ids[0], 700_000), (ids[1], 300_000))
        assert (asked.sampling.seed, asked.sampling.max_tokens, asked.sampling.temperature_ppm) == (
            3,
            9,
            PPM // 2,
        )
        assert (asked.stop, asked.max_price, asked.deadline_s) == (("END",), 1_000, 7.0)
        assert (asked.disclosure, asked.top_logprobs) == (Disclosure.NONE, 2)


async def test_an_ask_is_greedy_and_leaves_the_base_to_the_node_by_default(opened) -> None:
    async with opened(roles=()) as door:
        await ask(door)
        await ask(door, base="tiny-llama")
        first, second = door.node.asked
        assert (first.sampling.temperature_ppm, first.sampling.seed, first.base) == (0, 0, None)
        assert (second.base, second.adapters, second.deadline_s) == (BASE, (), 120.0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": None}, "prompt is missing"),
        ({"messages": [{"role": "user", "content": "?"}]}, "prompt and messages exclude each other"),
        ({"adapter": "a/b", "base": "tiny-llama"}, "adapter and base exclude each other"),
        ({"adapters": [{"name": "alice/icd10", "weight_ppm": 1}]}, "weigh 1 ppm together"),
        (
            {"adapters": [{"name": "tiny-llama", "weight_ppm": PPM}]},
            "'tiny-llama' is a base; only adapters answer",
        ),
        ({"deadline_s": 601}, "deadline_s is 601; expected a number from 1 to 600"),
        ({"disclosure": "all"}, 'disclosure is "all"; expected one of none, audit, audit\\+attribution'),
        ({"temprature": 1}, "temprature is not supported here"),
    ],
)
async def test_a_wrong_ask_names_its_field(opened, body, says: str) -> None:
    async with opened(roles=()) as door:
        door.node.announce_adapter("alice/icd10")
        with pytest.raises(InvalidRequest, match=says):
            await ask(door, **body)
        with pytest.raises(UnknownModel, match="known: tiny-llama, alice/icd10"):
            await ask(door, adapter="alice/other")
        assert door.node.asked == []


@pytest.mark.parametrize("pieces", [(), ("It ",)])
async def test_what_ends_an_ask_is_raised_as_its_own_type(opened, pieces) -> None:
    errors = [
        Refused("credit", "you owe too much", retryable=True),
        NotFound("nobody has it"),
        DeadlineExceeded("too late"),
        InsufficientEscrow("deposit first"),
    ]
    async with opened(roles=()) as door:
        for error in errors:
            door.node.scripts.append(Script(pieces, error=error))
            with pytest.raises(type(error)) as raised:
                await ask(door)
            assert (str(raised.value), raised.value.code) == (str(error), error.code)
            if isinstance(error, Refused):
                assert raised.value.retryable


async def test_closing_the_stream_cancels_the_ask(opened) -> None:
    async with opened(roles=()) as door:
        door.node.scripts.append(Script(("It ",), hold=True))

        def leave_after_one(client: ControlClient) -> None:
            lines = client.stream("/ask", {"prompt": "?"})
            assert next(lines) == {"delta": "It "}
            lines.close()

        await door.control(leave_after_one)
        await door.node.left.wait()


# ---- looking


async def test_receipts_are_listed_and_shown_with_their_credits(opened) -> None:
    async with opened(roles=()) as door:
        adapter = door.node.announce_adapter("alice/icd10")
        for _ in range(3):
            await ask(door, adapter="alice/icd10")
        listed = await door.control(lambda client: client.get("/receipts", limit=2))
        assert [receipt["number"] for receipt in listed] == [3, 2]
        older = await door.control(lambda client: client.get("/receipts", before=2))
        assert [receipt["number"] for receipt in older] == [1]
        for name in (listed[0]["id"], listed[0]["hash"].removeprefix("0x")):
            shown = await door.control(lambda client, name=name: client.get(f"/receipts/{name}"))
            assert shown["id"] == listed[0]["id"]
            assert shown["adapters"] == [{"adapter": adapter, "weight_ppm": PPM}]
            assert sum(shown["shares"].values()) == shown["price"]
            assert sum(entry["amount"] for entry in shown["credits"]) == shown["price"]
            alice = next(entry for entry in shown["credits"] if entry["role"] == "contributor")
            assert (alice["name"], alice["account"]) == ("alice", checksummed(CONTRIBUTOR))
            assert (shown["method"], shown["verified"], shown["state"]) == ("sketch/1", True, "vouchered")


async def test_a_receipt_is_named_by_its_number_or_a_beginning_and_tells_how_far_it_came(opened) -> None:
    async with opened(roles=()) as door:
        adapter = door.node.announce_adapter("alice/icd10")
        for _ in range(3):
            await ask(door, adapter=adapter)
        ids = [receipt["id"] for receipt in await door.control(lambda client: client.get("/receipts"))]
        for name in ("2", ids[1], ids[1][:9], ids[1][2:9].upper()):
            shown = await door.control(lambda client, name=name: client.get(f"/receipts/{name}"))
            assert (shown["id"], shown["number"]) == (ids[1], 2)
        with pytest.raises(NotFound, match=r"no receipt 4 in .*commonlore receipt list"):
            await door.control(lambda client: client.get("/receipts/4"))
        door.actions.reached[2] = "claimed"
        door.actions.names[door.node.lane] = "own"
        listed = await door.control(lambda client: client.get("/receipts"))
        assert [receipt["state"] for receipt in listed] == ["vouchered", "claimed", "vouchered"]
        shown = await door.control(lambda client: client.get("/receipts/2"))
        assert shown["state"] == "claimed"
        assert {entry["role"]: entry["name"] for entry in shown["credits"]} == {
            "worker": "own",
            "contributor": "alice",
        }


async def test_a_beginning_that_several_receipts_share_is_too_short(opened) -> None:
    async with opened(roles=()) as door:
        for _ in range(17):  # of sixteen first digits
            await ask(door)
        ids = [receipt["id"] for receipt in await door.control(lambda client: client.get("/receipts"))]
        digits = [one[2] for one in ids]
        shared = next(digit for digit in digits if digits.count(digit) > 1)
        with pytest.raises(InvalidRequest, match=f"several receipts begin with 0x{shared}: 0x.*more digits"):
            await door.control(lambda client: client.get(f"/receipts/0x{shared}"))


async def test_a_receipt_whose_credits_are_not_known_is_shown_without(opened) -> None:
    async with opened(roles=()) as door:
        lines = await ask(door)
        name = lines[-1]["done"]["receipts"][0]["id"]
        shown = await door.control(lambda client: client.get(f"/receipts/{name}"))
        assert (shown["id"], shown["credits"]) == (name, None)
        assert shown["note"] == "no statement on this receipt is known"


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("/receipts/0xzz", InvalidRequest, "up to 64 hexadecimal digits"),
        ("/receipts/" + "ab" * 32, NotFound, "no receipt abab"),
        ("/receipts?limit=0", InvalidRequest, "limit is 0"),
        ("/receipts?limit=x", InvalidRequest, 'limit is "x"'),
        ("/receipts?last=1", InvalidRequest, "last is not supported"),
        ("/nowhere", NotFound, "nothing at GET /nowhere"),
    ],
)
async def test_a_wrong_look_names_what_is_wrong(opened, path: str, kind, says: str) -> None:
    async with opened(roles=()) as door:
        with pytest.raises(kind, match=says):
            await door.control(lambda client: client.get(path))


async def test_what_is_announced_and_who_is_near(opened) -> None:
    async with opened(roles=()) as door:
        adapter = door.node.announce_adapter("alice/icd10")
        (shown,) = await door.control(lambda client: client.get("/adapters"))
        assert (shown["alias"], shown["id"], shown["base"]) == ("alice/icd10", adapter, BASE)
        assert (shown["heldout_loss_before"], shown["heldout_loss_after"]) == (4.6, 1.6)
        assert await door.control(lambda client: client.get("/datanets")) == []
        peers = await door.control(lambda client: client.get("/peers"))
        assert (peers["peer_id"], peers["connected"]) == (door.node.host.peer_id, [])
        (worker,) = peers["workers"]
        assert (worker["peer"], worker["base"]) == (door.node.worker_peer, BASE)
        assert worker["rates"]["output_per_1000"] == RATES.output_per_1000


async def test_datanets_are_listed_with_what_they_state(opened) -> None:
    async with opened(roles=()) as door:
        node = door.node

        def keep(record) -> object:
            cid = cid_of(encode(record))
            node.blobs[cid] = encode(record)
            return cid

        def header(name: str, count: int) -> ShardHeader:
            keys = (bytes(32), CONTRIBUTOR, "CC0-1.0", "CMS", "")
            return ShardHeader("icd10", name, *keys, count, bytes(32), cid_of(b"rows"))

        shards = tuple(keep(Shard(header(n, c), bytes(64), bytes(65))) for n, c in (("ben", 3), ("ann", 4)))
        manifest = DatanetManifest("icd10", "codes", "q", "CC0-1.0", bytes(32), 1, None, shards, bytes(32))
        for record in (
            DatanetRecord("icd10", 1, keep(manifest), 1, 1),
            DatanetRecord("lost", 2, cid_of(b"lost"), 1, 1),
        ):
            node.catalog.learn(Sealed(record, b"k" * 32, node.worker_peer, b""))
        known, lost = await door.control(lambda client: client.get("/datanets"))
        assert (known["rows"], known["contributors"], known["licence"]) == (7, ["ann", "ben"], "CC0-1.0")
        assert (lost["name"], lost["version"], lost["rows"], lost["licence"]) == ("lost", 2, None, None)


# ---- ordering


async def test_a_datanet_is_published_from_plain_rows(opened) -> None:
    async with opened(roles=()) as door:
        record = await door.control(lambda client: client.post("/datanets", PUBLICATION))
        assert (record["name"], record["version"], record["datanet"]) == ("icd10", 1, cid_of(b"icd10"))
        ((plan, (draft,)),) = door.actions.published
        assert (plan.purpose, plan.kind, plan.licence) == ("medical coding", "question-answer", "CC0-1.0")
        assert (draft.contributor, draft.origin, draft.notice) == ("alice", "CMS", "public")
        assert draft.rows == ((ROWS[0]["question"], ROWS[0]["answer"]),)


async def test_rows_are_taken_back(opened) -> None:
    async with opened(roles=()) as door:
        body = {"datanet": "icd10", "contributor": "alice", "reason": "a mistake"}
        done = await door.control(lambda client: client.post("/datanets/withdraw", body))
        (tainted,) = done["tainted"]
        assert (tainted["alias"], tainted["adapter"]) == ("alice/icd10", cid_of(b"tainted"))
        assert [each["rows"] for each in tainted["rows_taken"]] == [3]
        assert door.actions.withdrawn == [("icd10", "alice", "a mistake")]
        for wrong in ({}, {"datanet": "icd10"}, {**body, "shard": "x"}):
            with pytest.raises(InvalidRequest):
                await door.control(lambda client, wrong=wrong: client.post("/datanets/withdraw", wrong))


async def test_rows_are_wanted_before_a_question(opened) -> None:
    async with opened(roles=()) as door:
        await ask(door, retrieve={"datanet": "icd10", "rows": 9})
        await ask(door, retrieve={"datanet": "icd10"})
        assert [asked.retrieve for asked in door.node.asked] == [Retrieval("icd10", 9), Retrieval("icd10")]
        for wrong in (
            {},
            {"datanet": ""},
            {"datanet": "a", "rows": 0},
            {"datanet": "a", "rows": 65},
            "icd10",
        ):
            with pytest.raises(InvalidRequest):
                await ask(door, retrieve=wrong)


async def test_a_template_is_wanted_before_a_question(opened) -> None:
    async with opened(roles=()) as door:
        await ask(door, template={"datanet": "styles", "row": 2})
        await ask(door, template={"datanet": "styles"})
        assert [asked.template for asked in door.node.asked] == [Template("styles", 2), Template("styles")]
        for wrong in ({}, {"datanet": ""}, {"datanet": "a", "row": 0}, {"datanet": "a", "rows": 1}, "styles"):
            with pytest.raises(InvalidRequest):
                await ask(door, template=wrong)


async def test_a_row_that_is_not_text_is_named(opened) -> None:
    async with opened(roles=()) as door:
        for answer, says in (("\ud800", "is not valid text: lone surrogate"), (7, "is 7; expected text")):
            rows = [*ROWS, {"question": "?", "answer": answer}]
            body = {**PUBLICATION, "contributions": [{**PUBLICATION["contributions"][0], "rows": rows}]}
            with pytest.raises(InvalidRequest, match=rf"contributions\[0\]\.rows\[1\]\.answer {says}"):
                await door.control(lambda client, body=body: client.post("/datanets", body))
        assert door.actions.published == []


@pytest.mark.parametrize("name", ["a b/c", "A", "a/b", "ä"])
async def test_a_datanet_is_called_as_keys_are(opened, name: str) -> None:
    async with opened(roles=()) as door:
        with pytest.raises(InvalidRequest, match="name is"):
            await door.control(lambda client: client.post("/datanets", {**PUBLICATION, "name": name}))
        assert door.actions.published == []


@pytest.mark.parametrize("name", ["bob/x y", "Bob/x", "bob", "bob/", "a/b/c"])
async def test_an_adapter_is_called_owner_and_name(opened, name: str) -> None:
    async with opened(roles=()) as door:
        with pytest.raises(InvalidRequest, match=r"name is .*; expected owner/name, each up to 64 of a-z"):
            await door.control(lambda client: client.post("/train", {"name": name, "datanets": ["icd10"]}))
        merge = {"name": name, "adapters": [{"name": "a/b", "weight_ppm": 1}], "method": "linear"}
        with pytest.raises(InvalidRequest, match="name is"):
            await door.control(lambda client: client.post("/merge", merge))
        assert door.actions.trained == []


async def test_training_streams_its_progress(opened) -> None:
    async with opened(roles=()) as door:
        body = {
            "name": "alice/icd10",
            "datanets": ["icd10"],
            "licence": "CC0-1.0",
            "index_rows": 5,
            "heldout": ROWS,
            "config": {"steps": 2, "learning_rate": 0.001, "precision": "fp32"},
        }
        lines = await door.control(lambda client: list(client.stream("/train", body)))
        assert [line["progress"].get("loss") for line in lines[:2]] == [2.0, 1.0]
        done = lines[-1]["done"]
        assert (done["alias"], done["loss_before"]) == ("alice/icd10", 4.6)
        (order,) = door.actions.trained
        assert (order.datanets, order.licence, order.index_rows) == (("icd10",), "CC0-1.0", 5)
        assert (order.config.steps, order.config.learning_rate, order.config.rank) == (2, 0.001, 8)
        assert order.heldout[0].question == ROWS[0]["question"]


async def test_training_that_fails_in_the_middle_raises_its_error(opened) -> None:
    async with opened(roles=()) as door:
        door.actions.error = TrainingFailed("the trainer was killed; run it again")
        seen = []

        def train(client: ControlClient) -> None:
            seen.extend(client.stream("/train", {"name": "a/b", "datanets": ["icd10"]}))

        with pytest.raises(TrainingFailed, match="run it again"):
            await door.control(train)
        with pytest.raises(InvalidRequest, match=r"config\.step is not supported"):
            await door.control(
                lambda client: client.post(
                    "/train", {"name": "a/b", "datanets": ["x"], "config": {"step": 1}}
                )
            )


async def test_money_orders(opened) -> None:
    async with opened(roles=()) as door:
        assert await door.control(lambda client: client.post("/deposit", {"amount": 5})["balance"]) == 5
        assert await door.control(lambda client: client.post("/settle")) == {"redeemed": 0}
        assert await door.control(lambda client: client.post("/claim")) == []
        for amount in (0, -1, 1.5, "5", True, None):
            with pytest.raises(InvalidRequest, match="amount"):
                await door.control(lambda client, amount=amount: client.post("/deposit", {"amount": amount}))
        door.actions.error = ConfigError("this needs the chain: set chain_url and deployment")
        for path in ("/settle", "/claim"):
            with pytest.raises(ConfigError, match="set chain_url"):
                await door.control(lambda client, path=path: client.post(path))


async def test_connecting_names_the_peer(opened) -> None:
    async with opened(roles=()) as door:
        address = "/ip4/127.0.0.1/tcp/4001/p2p/12D3"
        told = await door.control(lambda client: client.post("/connect", {"address": address}))
        assert (told, door.node.host.dialled) == ({"peer": door.node.host.peer_id}, [address])
        with pytest.raises(ConfigError, match="not a multiaddr"):
            await door.control(lambda client: client.post("/connect", {"address": "somewhere"}))


async def test_shutdown_is_answered_before_it_happens(opened) -> None:
    async with opened(roles=()) as door:
        assert not door.doors.stopped.is_set()
        assert await door.control(lambda client: client.post("/shutdown")) == {"stopping": True}
        await door.doors.stopped.wait()


# ---- without a node, or with one that dies


async def test_whether_a_node_runs(opened, home: Home) -> None:
    assert not is_running(home)
    async with opened(roles=()):
        assert await trio.to_thread.run_sync(is_running, home)
    assert not is_running(home)


def test_without_a_node_the_error_says_how_to_start_one(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.control_socket))  # as a killed node leaves it
    with ControlClient(home) as client:
        with pytest.raises(Unreachable, match=r"no node runs in .*; start one with: commonlore up"):
            client.get("/status")
        with pytest.raises(Unreachable, match="no node runs"):
            list(client.stream("/ask", {"prompt": "?"}))


async def test_a_node_that_goes_away_in_mid_stream_is_unreachable(opened) -> None:
    async with opened(roles=()) as door:
        door.node.scripts.append(Script(("It ",), hold=True))
        seen = []

        def work() -> None:
            with ControlClient(door.node.home) as client, pytest.raises(Unreachable, match="went away"):
                seen.extend(client.stream("/ask", {"prompt": "?"}))
            seen.append("raised")

        thread = threading.Thread(target=work)
        thread.start()
        await door.node.held.wait()
    await trio.to_thread.run_sync(thread.join)
    assert seen == [{"delta": "It "}, "raised"]


def test_a_node_that_does_not_answer_in_time(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home.control_socket))
        silent.listen()
        with ControlClient(home, answer_s=0.05) as client, pytest.raises(DeadlineExceeded, match="in time"):
            client.get("/status")


def test_something_else_on_the_socket(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(home.control_socket))
        other.listen()

        def answer() -> None:
            for _ in range(2):  # it is asked whether it is there first
                connection, _ = other.accept()
                with connection:
                    if connection.recv(4096):
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with ControlClient(home, answer_s=5) as client, pytest.raises(Defect, match="did not answer in JSON"):
            client.get("/status")
        thread.join()
