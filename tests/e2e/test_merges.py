"""Several adapters in one answer, and merged into one: real processes, the same updates in two ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from commonlore.peer.gateway.errors import InvalidRequest
from commonlore.peer.identity.keystore import Keystore
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, InvalidAdapter, NotFound
from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.attribution.sketch import METHOD
from commonlore.worker.models.tiny import build_tiny

DEPOSIT = 10_000_000
HERE = "contributor"
NEVER = "cc/never"
BOTH = "cc/numbers=0.7+cc/other=0.3"
SOMEBODY_ELSE = "zed"
QUESTION = "what is ben number 3?"
GREEDY = Sampling(seed=0, max_tokens=16)


@pytest.fixture(scope="module")
def other(town: Any, adapter: str) -> str:
    """A second adapter, trained differently on the rows of somebody else."""
    Keystore(town.network.home(HERE).keys).create(SOMEBODY_ELSE)
    described = {"name": "letters", "purpose": "letters", "kind": "text", "licence": "CC0-1.0"}
    rows = [
        {"question": f"what is letter {c}?", "answer": f"the letter {c} of {n}"}
        for n, c in enumerate("abcdef")
    ]
    shard = {"contributor": SOMEBODY_ELSE, "rows": rows, "licence": "CC0-1.0", "origin": "made for this test"}
    town.order(HERE, "/datanets", described | {"contributions": [shard]})
    recipe = {"steps": 12, "precision": "fp32", "seed": 9, "alpha": 8}
    order = {"name": "cc/other", "datanets": ["letters"], "config": recipe, "index_rows": 6}
    order |= {"refuse_noise": False, "retrainings": 0}
    with town.control(HERE) as control:
        done = list(control.stream("/train", order))[-1]["done"]
        assert done["alias"] == "cc/other"
    town.announce_measured(HERE, Cid(done["adapter"]))
    town.next_epoch()  # only an adapter's first answers of an epoch are all scored, and others may have asked
    return "cc/other"


@pytest.fixture(scope="module", autouse=True)
def payer(town: Any) -> None:
    town.deposit("composer", DEPOSIT)


def named(text: str) -> str:
    """Another test of this network announces the first adapter again, under a name shown since then."""
    return text.replace("zz/numbers", "cc/numbers")


def ids_of(town: Any) -> dict[str, str]:
    with town.control(HERE) as control:
        return {one["alias"]: one["id"] for one in control.get("/adapters")}


def neighbours(town: Any) -> list[str]:
    with town.control(HERE) as control:
        peers: list[str] = control.get("/peers")["connected"]
    return peers


def ask_by_command(town: Any, *words: str) -> dict[str, Any]:
    ended = town.lore("ask", QUESTION, *words, "--max-tokens", "16", "--json", home=HERE)
    answer: dict[str, Any] = ended.json
    return answer


def scored(town: Any, control: Any, receipt: str) -> dict[str, Any]:
    """A receipt, once its worker has scored the answer by all adapters; it is asked a minute at a time."""
    shown: dict[str, Any] = {}

    def is_scored() -> bool:
        shown.update(control.get(f"/receipts/{receipt}"))
        return bool(shown["method"] == METHOD)

    town.wait_for(is_scored)
    return shown


def pays_by_weight(receipt: dict[str, Any], heavy: str, light: str) -> None:
    """0.7 and 0.3 of what the authors and the contributors have, to the unit, each adapter's own people."""
    credits, shares = receipt["credits"], receipt["shares"]
    assert sum(credit["amount"] for credit in credits) == receipt["price"]
    for role, whole in (("contributor", shares["contributors"]), ("author", shares["author"])):
        amounts = [
            sum(each["amount"] for each in credits if (each["role"], each["adapter"]) == (role, adapter))
            for adapter in (heavy, light)
        ]
        assert sum(amounts) == whole
        assert abs(10 * amounts[1] - 3 * whole) <= 5, (role, amounts, "largest remainder")
    named = {
        adapter: {
            each["name"] for each in credits if (each["role"], each["adapter"]) == ("contributor", adapter)
        }
        for adapter in (heavy, light)
    }
    assert named[light] == {SOMEBODY_ELSE}
    assert named[heavy] <= {"ann", "ben", "cat"}
    assert named[heavy]


def test_a_merge_answers_as_the_composition_of_its_parts(town: Any, adapter: str, other: str) -> None:
    both = ("-a", f"{adapter}=0.7", "-a", f"{other}=0.3")
    merged = town.lore("adapter", "merge", "cc/both", *both, "--method", "cat", "--json", home=HERE).json
    assert (merged["alias"], merged["rank"]) == ("cc/both", 16)
    composed, whole = ask_by_command(town, *both), ask_by_command(town, "-a", "cc/both")
    alone = [ask_by_command(town, "-a", name) for name in (adapter, other)]
    assert composed["text"] == whole["text"]
    assert composed["text"] not in {one["text"] for one in alone}

    ids = ids_of(town)
    weighed = [
        {"adapter": ids[adapter], "weight_ppm": 700_000},
        {"adapter": ids[other], "weight_ppm": 300_000},
    ]
    with town.control(HERE) as control:
        by_parts = scored(town, control, composed["receipts"][0]["id"])
        by_merge = control.get(f"/receipts/{whole['receipts'][0]['id']}")
    assert (by_parts["adapters"], named(by_parts["composition"])) == (weighed, BOTH)
    assert by_merge["adapters"] == [{"adapter": merged["adapter"], "weight_ppm": PPM}]
    assert named(by_merge["merged"][merged["adapter"]]) == f"cat of {BOTH}"
    assert by_merge["method"] == "prior"  # nothing was indexed: the parents' priors, mixed
    assert sum(credit["amount"] for credit in by_merge["credits"]) == by_merge["price"]
    pays_by_weight(by_parts, ids[adapter], ids[other])
    receipt = composed["receipts"][0]["id"]
    checked = town.lore("receipt", "verify", receipt, "--level", "2", "--json", home=HERE).json
    assert [(level["level"], level["passed"]) for level in checked["levels"]] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    drawn = [said for said in checked["levels"][2]["showed"] if "is its row's gradient" in said]
    assert sum(1 if said.startswith("adapter ") else 2 for said in drawn) == 6, "three rows of each index"
    explained = town.lore("receipt", "explain", receipt, "--json", home=HERE).json
    parts = explained["contributors"]
    assert sum(part["ppm"] for part in parts) == PPM
    assert sum(part["ppm"] for part in parts if part["adapter"] == ids[other]) == 300_000
    assert {part["adapter"] for part in explained["rows"]} == {ids[adapter], ids[other]}

    listed = town.lore("receipt", "list", home=HERE)
    assert {BOTH, "cc/both"} <= set(named(listed.out).split())
    shown = town.lore("adapter", "show", "cc/both", home=HERE)
    assert f"cat of {BOTH}" in named(shown.out)
    assert f"cat of {BOTH}" in named(town.lore("adapter", "list", home=HERE).out)


async def test_a_composition_is_asked_from_a_program_and_through_a_gateway(
    town: Any, ask: Any, adapter: str, other: str, until: Callable[..., Any]
) -> None:
    async with town.client("composer") as client:
        await until(lambda: {adapter, other} <= {named(record.alias) for record in client.adapters()})
        answer = await ask(client, BOTH, sampling=GREEDY)
        (credits,) = await client.credits(answer)
    receipt = answer.transcript.receipts[0].receipt
    assert [entry.weight_ppm for entry in receipt.adapters] == [700_000, 300_000]
    assert sum(credit.amount for credit in credits.credits) == receipt.price

    def through_the_gateway() -> Any:
        http = openai.DefaultHttpxClient(verify=False)
        url = f"{town.network.peers[HERE].ready.gateway}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, http_client=http) as gateway:
            return gateway.chat.completions.create(
                model=BOTH,
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                max_tokens=GREEDY.max_tokens,
            )

    reply = await trio.to_thread.run_sync(through_the_gateway)
    assert reply.choices[0].message.content == answer.transcript.text
    assert [part["weight_ppm"] for part in reply.model_extra["receipt"]["adapters"]] == [700_000, 300_000]


def merge(town: Any, parts: dict[str, int], method: str = "linear", **order: Any) -> None:
    """Order a merge from the contributor's node, to its end."""
    adapters = [{"name": name, "weight_ppm": ppm} for name, ppm in parts.items()]
    with town.control(HERE) as control:
        for _ in control.stream("/merge", {"name": NEVER, "adapters": adapters, "method": method, **order}):
            pass


def test_what_cannot_be_merged_is_told_and_leaves_nothing(town: Any, adapter: str, other: str) -> None:
    jobs = set(town.network.home(HERE).jobs.iterdir())
    equal = {adapter: PPM, other: PPM}
    with pytest.raises(NotFound, match="unknown adapter 'no/such'; known: "):
        merge(town, {adapter: PPM, "no/such": PPM})
    for parts, order, complaint in (
        ({adapter: PPM}, {}, "a merge of 1 adapters; it takes 2 to 8"),
        ({adapter: PPM, other: 11 * PPM}, {}, "a weight of 11; it must lie above 0 and be at most 10"),
        ({adapter: PPM, ids_of(town)[adapter]: PPM}, {}, "the same adapter twice; add up its weights"),
        (equal, {"name": "never"}, "name is 'never'; expected owner/name"),
        (equal, {"method": "ties", "density_ppm": 1}, f"the merge '{NEVER}' would change nothing"),
    ):
        with pytest.raises((ConfigError, InvalidRequest), match=complaint):
            merge(town, parts, **order)
    ended = town.lore("adapter", "merge", NEVER, "-a", adapter, "-a", "no/such", home=HERE)
    assert ended.error.startswith("error: unknown adapter 'no/such'; known: ")
    assert NEVER not in ids_of(town)
    assert set(town.network.home(HERE).jobs.iterdir()) == jobs


async def test_adapters_of_other_shapes_and_bases(
    town: Any, publish: Any, adapter: str, until: Callable[..., Any], tmp_path: Path
) -> None:
    write_fake_adapter(tmp_path / "weights", build_tiny(town.cache).architecture)
    content = (tmp_path / "weights").read_bytes()
    async with town.client("composer") as client:
        await until(lambda: client.node.host.peer_id in neighbours(town))
        await publish(client, "cc/flat", content, rank=4)
        await publish(client, "cc/foreign", content, base=cid_of(b"another base"))
        await publish(client, "cc/licensed", content, licence="MIT")
        await until(lambda: {"cc/flat", "cc/foreign", "cc/licensed"} <= ids_of(town).keys())
        for name, method, error, complaint in (
            ("cc/flat", "linear", ConfigError, r"different ranks \(8, 4\): use --method svd or cat"),
            ("cc/flat", "svd", InvalidAdapter, "was made for another base or rank"),  # its file says another
            ("cc/foreign", "linear", ConfigError, "these adapters do not go together: bafk"),
            ("cc/licensed", "linear", ConfigError, r"different licences \(CC0-1.0; MIT\): name the merge"),
        ):
            with pytest.raises(error, match=complaint):
                await trio.to_thread.run_sync(merge, town, {adapter: PPM, name: PPM}, method)
        asked = ("ask", QUESTION, "-a", adapter, "-a", "cc/foreign")
        ended = await trio.to_thread.run_sync(partial(town.lore, *asked, home=HERE))
        assert ended.error.startswith("error: these adapters do not go together: bafk")
    assert NEVER not in ids_of(town)
