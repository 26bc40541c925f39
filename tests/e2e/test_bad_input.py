"""Bad input, as a person meets it: one line that names the thing and the remedy, an exit status, nothing lost
or half-written, and nobody else held up.
"""

from __future__ import annotations

import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from commonlore.peer.client import Client
from commonlore.peer.datanets.shards import DatanetPlan, publish_datanet, record_of
from commonlore.peer.home import Home
from commonlore.peer.identity.keystore import Identity, Keystore
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import Row, Shard, ShardHeader
from commonlore.protocol.content.rows import encode_rows, rows_root, sign_shard
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.models.tiny import build_tiny

NOWHERE = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw"
HERE = "contributor"
"""The peer whose home most commands of this file are for."""
LONG = Sampling(seed=3, max_tokens=200, temperature_ppm=800_000)


class Malice:
    """What runs a command wherever it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter file for another base."""
    folder = tmp_path_factory.mktemp("foreign")
    path = folder / "adapter.safetensors"
    write_fake_adapter(path, build_tiny(folder, changes={"hidden_size": 96}).architecture)
    return path


def run_all(town: Any, commands: dict[str, tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """Run commands, a few at once: by name, how they ended. A command is its words and its home."""

    def run(command: tuple[tuple[Any, ...], Any]) -> Any:
        words, home = command
        return town.lore(*words, home=home)

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(commands, pool.map(run, commands.values()), strict=True))


def test_adapter_files_are_judged_where_they_lie(
    town: Any, adapter: str, foreign: Path, tmp_path: Path
) -> None:
    weights = trained_weights(town)
    files = {
        "whole": weights,
        "cut": weights[:-100],
        "other": b"not an adapter",
        "foreign": foreign.read_bytes(),
    }
    files["pickle"] = pickle.dumps(Malice(tmp_path / "ran"))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    ended = run_all(
        town, {name: (("adapter", "check", tmp_path / name, "--json"), HERE) for name in [*files, "missing"]}
    )
    assert ended["whole"].json["bytes"] == len(weights)
    complaints = {
        "cut": f"is truncated to {len(weights) - 100} bytes of {len(weights)}: copy it again",
        "other": "bytes; 2 to 67108864 are accepted: is it safetensors?",
        "foreign": "was made for another base or rank: ",
        "pickle": "is a pickle file; only safetensors is accepted: re-save it with safetensors",
        "missing": "cannot read the adapter",
    }
    for name, complaint in complaints.items():
        assert str(tmp_path / name) in ended[name].error
        assert complaint in ended[name].error
    assert not (tmp_path / "ran").exists()


def trained_weights(town: Any) -> bytes:
    """The trained adapter's file: the first of those that tests of other files may have trained since."""
    files = town.network.home(HERE).jobs.glob("train-*/adapter_model.safetensors")
    return bytes(min(files, key=lambda file: file.stat().st_mtime_ns).read_bytes())


async def test_a_bad_adapter_fails_those_who_ask_for_it_and_nobody_else(
    town: Any, adapter: str, ask: Any, publish: Any, until: Any, foreign: Path, tmp_path: Path
) -> None:
    town.deposit("carol", 10_000_000)
    weights, strange = trained_weights(town), await trio.Path(foreign).read_bytes()
    bad = {
        "mallory/pickle": (pickle.dumps(Malice(tmp_path / "ran")), "is a pickle file; only safetensors is"),
        "mallory/cut": (weights[:-100], "is truncated"),
        "mallory/foreign": (strange, "was made for another base or rank"),
    }
    elsewhere = build_tiny(tmp_path, seed=9).id
    async with town.client("mallory") as mallory, town.client("carol") as carol:
        await publish(mallory, "mallory/elsewhere", weights, base=elsewhere)
        ids = {alias: await publish(mallory, alias, data) for alias, (data, _) in bad.items()}
        await until(lambda: announced(town, "/adapters", "alias") >= {"mallory/elsewhere", *bad})
        before = await ask(carol, adapter, sampling=LONG)
        ended: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            for alias in ("mallory/elsewhere", *bad):
                nursery.start_soon(ask_by_command, town, alias, ended)
            for _ in range(3):
                during = await ask(carol, adapter, sampling=LONG)
                assert during.transcript.text == before.transcript.text
        for alias, (_, complaint) in bad.items():
            assert ended[alias].error.startswith(f"error: the adapter {ids[alias]} {complaint}")
        assert ended["mallory/elsewhere"].error.endswith(
            f"no worker of base {elsewhere} is known; start one, or connect to a peer that knows one"
        )
        assert not (tmp_path / "ran").exists()


async def ask_by_command(town: Any, alias: str, ended: dict[str, Any]) -> None:
    command = partial(town.lore, "ask", "what?", "--adapter", alias, home=HERE)
    ended[alias] = await trio.to_thread.run_sync(command)


# ---- shards

ROWS = (Row("what is one?", "it is 1", b"1" * 32), Row("what is two?", "it is 2", b"2" * 32))
LONG_ROW = Row("what is long?", "x" * 20_000, b"3" * 32)


def broken_shards(domain: Any, who: Identity) -> dict[str, tuple[Shard, bytes, str]]:
    """By Datanet: a shard that no honest program makes, the bytes of its rows, and what is to be said of
    it.
    """
    data, long = encode_rows(ROWS), encode_rows((LONG_ROW,))
    garbled = data.replace(b"what is two?", b"what is \xff\xfe??")

    def make(name: str, held: tuple[Row, ...] = ROWS, **lies: Any) -> Shard:
        header = ShardHeader(
            datanet=name,
            contributor=who.name,
            ed25519_key=who.peer.public,
            payee=who.payee.address,
            licence="CC0-1.0",
            origin="",
            notice="",
            row_count=len(held),
            rows_root=rows_root(held),
            rows=describe_blob([encode_rows(held)])[0],
        )
        return sign_shard(domain, replace(header, **lies), who.peer, who.payee)

    forged = replace(make("forged"), ed25519_signature=b"\x01" * 64)
    unpaid = replace(make("unpaid"), payee_signature=make("other").payee_signature)
    return {
        "forged": (forged, data, "not signed by Ed25519 key"),
        "unpaid": (unpaid, data, "is not signed by 0x"),
        "swapped": (make("swapped", rows_root=bytes(32)), data, "not those that its root commits"),
        "crowded": (make("crowded", row_count=100_001), data, "100001 rows; 1 to 100000 are allowed"),
        "long": (make("long", (LONG_ROW,)), long, "at most 16384 are allowed: split it"),
        "garbled": (make("garbled", rows=describe_blob([garbled])[0]), garbled, "the rows cannot be read"),
    }


async def publish_shard(client: Client, name: str, shard: Shard, rows: bytes) -> None:
    """A Datanet of one shard, announced."""
    node = client.node
    await node.content.put(rows)
    plan = DatanetPlan(name, "", "text", "CC0-1.0")
    kept = (await node.content.put(encode(shard)), shard)
    datanet, manifest = await publish_datanet(node.content, node.keys.peer, plan, [kept])
    await node.announce(record_of(datanet, manifest, await node.next_seq(), node.clock.now_ms()))


async def test_a_broken_shard_is_not_trained_on(town: Any, adapter: str, until: Any) -> None:
    who = Keystore(Home(town.folder / "mallory").create().keys).create("mallory")
    async with town.client("mallory") as mallory:
        broken = broken_shards(mallory.node.domain, who)
        for name, (shard, rows, _) in broken.items():
            await publish_shard(mallory, name, shard, rows)
        await until(lambda: announced(town, "/datanets", "name") >= broken.keys())
        adapters = announced(town, "/adapters", "alias")
        jobs = set(town.network.home(HERE).jobs.iterdir())
        orders = {name: (("train", f"cc/{name}", "--datanet", name), HERE) for name in broken}
        ended = await trio.to_thread.run_sync(run_all, town, orders)
    for name, (_, _, complaint) in broken.items():
        assert ended[name].error.startswith(f"error: Datanet '{name}', shard of 'mallory'"), ended[name].err
        assert complaint in ended[name].error
    assert set(town.network.home(HERE).jobs.iterdir()) == jobs
    assert announced(town, "/adapters", "alias") == adapters


def announced(town: Any, path: str, name: str) -> set[str]:
    """What the contributor's node has heard of."""
    with town.control(HERE) as control:
        return {each[name] for each in control.get(path)}


def test_rows_that_are_no_text_are_not_published(town: Any, adapter: str, tmp_path: Path) -> None:
    known = announced(town, "/datanets", "name")
    good, bad = tmp_path / "ann.jsonl", tmp_path / "ben.jsonl"
    row = json.dumps({"question": "a", "answer": "b"}).encode() + b"\n"
    good.write_bytes(row)
    bad.write_bytes(row + b'{"question": "\xff\xfe", "answer": "b"}\n')
    words = ("datanet", "add", "texts", "--licence", "CC0-1.0")
    rows = ("--rows", f"ann={good}", "--rows", f"ben={bad}")
    ended = run_all(
        town,
        {"bad": ((*words, *rows), HERE), "stranger": ((*words, "--rows", f"zoe={good}"), HERE)},
    )
    assert ended["bad"].error == f"error: {bad}, line 2 is not UTF-8; save the file as UTF-8"
    assert ended["stranger"].error == "error: no key named 'zoe'; make it with: commonlore key new zoe"
    assert announced(town, "/datanets", "name") == known


# ---- names, places and money


def test_a_body_that_is_nested_too_deep_fails_only_itself(town: Any, adapter: str) -> None:
    gateway = town.network.peers[HERE].ready.gateway
    with httpx.Client(base_url=gateway, trust_env=False, verify=False, timeout=town.patience_s) as http:
        for depth in (500, 99_000, 900_000):
            headers = {"content-type": "application/json"}
            reply = http.post("/v1/chat/completions", content=b"[" * depth, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert town.network.peers[HERE].alive


def test_what_is_unknown_unreachable_or_taken_is_one_line(town: Any, adapter: str, tmp_path: Path) -> None:
    bootstrap = town.bootstrap()
    gateway = town.network.peers[HERE].ready.gateway
    port, listening = gateway.rpartition(":")[2], bootstrap.partition("/p2p/")[0]
    ask = ("ask", "what?")
    chain = ("--chain-url", town.network.chain.url, "--deployment", town.network.deployment_file)
    commands: dict[str, Any] = {
        "adapter": ((*ask, "--adapter", "no/such"), HERE),
        "datanet": (("train", "cc/x", "--datanet", "nothing"), HERE),
        "lost": ((*ask, "--bootstrap", NOWHERE), tmp_path / "lost"),
        "lost node": (("node", "--bootstrap", NOWHERE), tmp_path / "lost-node"),
        "alone": (ask, tmp_path / "alone"),
        "port": (("node", "--listen", listening), tmp_path / "port"),
        "gateway": (("node", "--role", "gateway", "--set", f"gateway_port={port}"), tmp_path / "gateway"),
        "two": (("worker",), "worker-1"),
        "poor": ((*ask, "--bootstrap", bootstrap, *chain), tmp_path / "poor"),
        "chainless": ((*ask, "--bootstrap", bootstrap), tmp_path / "chainless"),
        "bad name": (("train", "bob/x y", "--datanet", "numbers"), HERE),
        "no deployment": (
            ("node", "--chain-url", "http://127.0.0.1:9", "--deployment", "/none"),
            tmp_path / "undeployed",
        ),
    }
    ended = run_all(town, commands)
    while ended["poor"].status == 0:  # the chain took long to answer, so the worker lent a little
        ended |= run_all(town, {"poor": commands["poor"]})
    said = {
        "adapter": r"unknown model 'no/such'; known: tiny, .*cc/numbers",
        "datanet": r"unknown Datanet 'nothing'; known: ",
        "lost": r"your peer did not start: cannot reach bootstrap peer \w+ at /ip4/127.0.0.1/tcp/9: "
        r"connection refused; check the address or that it is running",
        "lost node": r"cannot reach bootstrap peer \w+ at /ip4/127.0.0.1/tcp/9: connection refused; check",
        "alone": r"no node runs in \S+/alone; start a network with `commonlore up`, or join one with ",
        "port": rf"cannot listen on {listening}: port \d+: address already in use; choose another",
        "gateway": rf"the gateway cannot listen on 127.0.0.1:{port}: Address already in use; choose another",
        "two": r"another node \(process \d+\) uses \S+/worker-1; stop it, or give this one its own ",
        "poor": r"this ask may cost \d+ token units and its payer's escrow covers 0: deposit more ",
        "chainless": r"your peer did not start: peer \w+ belongs to another network \(chain id \d+, "
        r"escrow 0x\w+\); give its deployment: --deployment FILE",
        "bad name": r"name is 'bob/x y'; expected owner/name, each up to 64 of a-z 0-9 . _ -",
        "no deployment": r"no deployment in /none: No such file or directory; give the JSON that ",
    }
    for name, line in said.items():
        assert re.match(f"error: {line}", ended[name].error), ended[name].err
