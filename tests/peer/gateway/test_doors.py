"""The gateway's edges: who gets in, what is too much, who leaves, how it ends."""

import json
import socket
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from commonlore.peer.asking.answers import ask_options
from commonlore.peer.config import Config
from commonlore.peer.gateway.asks import Asks
from commonlore.peer.gateway.bodies import MAX_BODY
from commonlore.peer.gateway.doors import open_doors
from commonlore.peer.gateway.fake import FakeNode, Script
from commonlore.peer.gateway.fake_actions import FakeActions
from commonlore.peer.gateway.guard import check_exposure
from commonlore.peer.home import Home
from commonlore.protocol.errors import ConfigError, Refused, Unreachable

CHAT = "/v1/chat/completions"
ASKED = {"model": "tiny-llama", "messages": [{"role": "user", "content": "hi"}]}
KEY = "a-key-of-this-gateway"


def address_of(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    return parsed.host, parsed.port


async def raw(url: str, data: bytes) -> trio.SocketStream:
    """A connection on which these bytes were sent."""
    stream = await trio.open_tcp_stream(*address_of(url))
    await stream.send_all(data)
    return stream


def post(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "host: localhost", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


# ---- who gets in


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.5", "node.example", "::ffff:127.0.0.1"])
def test_a_gateway_beyond_loopback_needs_keys(host: str) -> None:
    with pytest.raises(ConfigError, match="api_keys"):
        check_exposure(Config(gateway_host=host))
    check_exposure(Config(gateway_host=host, api_keys=(KEY,)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_a_gateway_on_loopback_needs_none(host: str) -> None:
    check_exposure(Config(gateway_host=host))


async def test_a_gateway_that_is_not_safe_does_not_start(home: Home) -> None:
    node = FakeNode(home, Config(roles=("gateway",), gateway_host="0.0.0.0", gateway_port=0))
    with pytest.raises(ConfigError, match="without API keys"):
        async with open_doors(node, FakeActions(node)):
            pass
    assert not home.control_socket.exists()


async def test_a_port_in_use_is_one_clear_error(home: Home, opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use; choose another"):
            async with opened(gateway_port=port):
                pass
    assert not home.control_socket.exists()


async def test_a_node_without_the_role_has_no_gateway(opened) -> None:
    async with opened(roles=()) as door:
        assert door.doors.gateway_url is None
        status = await door.control(lambda client: client.get("/status"))
        assert status["peer_id"] == door.node.host.peer_id
        assert (status["epoch"], status["owner"]) == (3, "0x6363636363636363636363636363636363636363")


async def test_keys_guard_everything_but_health(opened) -> None:
    async with opened(api_keys=(KEY,)) as door:
        for path, status in (("/v1/models", 401), ("/metrics", 401), ("/healthz", 200), ("/readyz", 200)):
            assert (await door.request("GET", path)).status_code == status
        for value in ("", "Bearer", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe4"):
            answer = await door.request(
                "GET", "/v1/models", headers={"authorization": value.encode("latin1")}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = await door.request("GET", "/metrics", headers={"authorization": f"bearer {KEY}"})
        assert answer.status_code == 200


async def test_without_keys_only_this_machines_names_are_answered(opened) -> None:
    async with opened() as door:
        port = address_of(door.url)[1]
        for host, status in (("evil.example", 401), (f"localhost:{port}", 200), (f"[::1]:{port}", 200)):
            answer = await door.request("GET", "/v1/models", headers={"host": host})
            assert answer.status_code == status


async def test_a_body_that_a_web_page_could_send_unasked_is_refused(opened) -> None:
    async with opened() as door:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = await door.request(
                "POST", CHAT, content=json.dumps(ASKED), headers={"content-type": kind}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert door.node.asked == []


# ---- what is wrong or too much


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "send a JSON object"),
        (b'{"model": NaN}', "NaN is no JSON number"),
        (b'{"model": "a", "model": "b"}', "occurs twice"),
        (b"\xff", "not UTF-8: byte 0"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "nested deeper than 16"),
        (b"[" * 200_000, "nested deeper than 16"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(opened, body: bytes, says: str) -> None:
    async with opened() as door:
        answer = await door.request("POST", CHAT, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("factor", [2, 20])
async def test_a_body_that_is_too_large_is_refused_and_the_next_one_served(opened, factor: int) -> None:
    async with opened() as door:
        huge = b"x" * (MAX_BODY * factor)
        stream = await raw(door.url, post(b"")[: -len(b"0\r\n\r\n")] + f"{len(huge)}\r\n\r\n".encode())
        async with stream, trio.open_nursery() as nursery:

            async def send() -> None:
                try:
                    await stream.send_all(huge)
                except trio.BrokenResourceError:
                    assert factor == 20  # the gateway does not read on for ever

            nursery.start_soon(send)
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 413")
            nursery.cancel_scope.cancel()
        assert (await door.request("POST", CHAT, json=ASKED)).status_code == 200


async def test_an_unread_body_does_not_hold_up_the_refusal(opened) -> None:
    async with opened(api_keys=(KEY,)) as door:
        body = b"x" * (4 * MAX_BODY)  # more pieces than the server's queue holds
        answer = await door.request("POST", CHAT, content=body)
        assert answer.status_code == 401
        answer = await door.request(
            "POST", "/nowhere", content=body, headers={"authorization": f"Bearer {KEY}"}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert (await door.request("DELETE", "/healthz")).json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "data", [b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM"]
)
async def test_a_connection_that_is_no_http_fails_alone(opened, data: bytes) -> None:
    async with opened() as door:
        async with await raw(door.url, data) as stream:
            await stream.send_eof()
            while await stream.receive_some(4096):
                pass
        assert (await door.request("GET", "/healthz")).status_code == 200


async def test_a_defect_is_an_envelope_and_not_the_end(opened, caplog) -> None:
    async with opened() as door:
        door.node.asker = None
        answer = await door.request("GET", "/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        assert (await door.request("GET", "/healthz")).status_code == 200
    assert "AttributeError" in caplog.text


async def test_asks_are_bounded_in_number(home: Home) -> None:
    node = FakeNode(home)
    asks = Asks(node, high=1)
    options = ask_options("?")
    async with asks.open("openai", options):
        with pytest.raises(Refused, match="1 asks are under way") as raised:
            async with asks.open("openai", options):
                pass
        assert (raised.value.code, raised.value.retryable) == ("busy", True)
    async with asks.open("openai", options) as answer:
        assert [delta.text async for delta in answer] == ["It is ", "E11", ".9"]


# ---- who leaves, and how it ends


@pytest.mark.parametrize("stream", [True, False])
async def test_whoever_closes_the_connection_cancels_the_answer(opened, stream: bool) -> None:
    async with opened() as door:
        door.node.scripts.append(Script(("It ",), hold=True))
        connection = await raw(door.url, post(json.dumps({**ASKED, "stream": stream}).encode()))
        await door.node.held.wait()
        assert not door.node.left.is_set()
        await connection.aclose()
        await door.node.left.wait()
        figures = (await door.request("GET", "/metrics")).text
        assert 'commonlore_asks_total{door="openai",outcome="left"} 1.0' in figures


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(opened, until) -> None:
    async with opened() as door:
        door.node.scripts.append(Script(("x" * 100_000,) * 200, hold=True))
        stalled = await raw(door.url, post(json.dumps({**ASKED, "stream": True}).encode()))
        await until(lambda: bool(door.node.asked))
        await trio.testing.wait_all_tasks_blocked(0.05)  # the buffers are full
        assert not door.node.held.is_set()
    await stalled.aclose()


async def test_an_idle_connection_does_not_hold_up_the_end(opened) -> None:
    async with opened() as door:
        idle = await raw(door.url, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200" in await idle.receive_some(4096)
    await idle.aclose()


# ---- health and figures


async def test_readiness_is_a_known_worker(opened) -> None:
    async with opened() as door:
        ready = await door.request("GET", "/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "workers": 1, "peers": 0})
        door.node.asker.known = ()
        assert (await door.request("GET", "/readyz")).status_code == 503
        assert (await door.request("GET", "/healthz")).json() == {"alive": True}
        answer = await door.request("POST", CHAT, json=ASKED)
        assert "no worker is known" in answer.json()["error"]["message"]


async def test_figures_count_what_passed(opened) -> None:
    async with opened() as door:
        door.node.adapter_fetches = 2
        door.node.scripts.extend([Script(), Script(("a",), error=Unreachable("gone"))])
        for _ in range(2):
            await door.request("POST", CHAT, json=ASKED)
        answer = await door.request("GET", "/metrics")
        figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
        price = door.node.store.ledger.stored[0].receipt.price
        assert answer.headers["content-type"].startswith("text/plain")
        assert figures['commonlore_asks_total{door="openai",outcome="ok"}'] == "1.0"
        assert figures['commonlore_asks_total{door="openai",outcome="unreachable"}'] == "1.0"
        assert figures['commonlore_tokens_total{kind="output"}'] == "4.0"
        assert (figures["commonlore_receipts_total"], figures["commonlore_price_total"]) == (
            "1.0",
            f"{price}.0",
        )
        assert (figures["commonlore_ttft_seconds_count"], figures["commonlore_asks_in_flight"]) == (
            "2.0",
            "0.0",
        )
        assert (figures["commonlore_workers_known"], figures["commonlore_connected_peers"]) == ("1.0", "0.0")
        assert figures["commonlore_adapter_fetches_total"] == "2.0"
        assert "process_resident_memory_bytes" in figures


def test_the_control_socket_is_private(home: Home) -> None:
    node = FakeNode(home)

    async def main() -> None:
        async with open_doors(node, FakeActions(node)):
            assert home.control_socket.stat().st_mode & 0o777 == 0o600

    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(home.control_socket))  # as a killed node leaves it
    left_behind.close()
    trio.run(main)
    assert not Path(home.control_socket).exists()
