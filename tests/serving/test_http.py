"""Streamable HTTP on loopback, at ports that are free."""

import asyncio
import json
import socket

import numpy as np
import pytest

from m3jax.serving import (
    async_registry,
    codec,
    endpoints,
    guard,
    over_http,
    plain,
    server,
    web,
)

mcp = pytest.importorskip("mcp")
httpx2 = pytest.importorskip("httpx2")

TOKEN = "correct-horse-battery"


def serving(served, work, **how):
    """``await work(url)`` while the server runs."""

    async def run():
        async with over_http.running(served, **how) as (url, _):
            return await work(url)

    return asyncio.run(run())


async def reply(url, images, token=None, **how):
    """The one expert's reply, or why there is none."""
    where = [endpoints.Http(url, token)]
    async with async_registry.AsyncRegistry(where, connect_s=10.0) as registry:
        if registry.problems:
            return registry.problems[url]
        (answer,) = (await registry.encode(images, **how)).values()
        return answer


@pytest.fixture
def served(dummies):
    return server.make_server([dummies.Dummy("chart", dummies.LARGE)])


def test_the_sdk_client_gets_exact_tokens(dummies, images):
    expert = dummies.Dummy("sign")

    async def work(url):
        text = codec.to_text(codec.encode(images))
        results = []
        for mode in ("auto", "legacy"):
            async with mcp.Client(url, mode=mode) as client:
                results.append(await client.call_tool("encode", {"image": text}))
        return results

    for result in serving(server.make_server([expert]), work):
        tokens = codec.decode(codec.from_text(result.content[1].resource.blob))
        np.testing.assert_array_equal(tokens, expert.encode(images))


@pytest.fixture
def without(monkeypatch):
    """``without("encode")``: a server without that path; what else was asked."""
    asked = []
    ask = plain.Plain._ask

    def leave_out(*names):
        async def watch(self, method, path, *args):
            if path.split("/")[1] in names:
                return 404, b""
            asked.append(path)
            return await ask(self, method, path, *args)

        monkeypatch.setattr(plain.Plain, "_ask", watch)
        return asked

    return leave_out


@pytest.mark.parametrize(
    ("missing", "first"),
    [((), "/encode/chart"), (("encode",), "/arrays/"), (("encode", "arrays"), None)],
)
def test_large_answers_come_by_the_shortest_way_there_is(
    served, dummies, images, without, missing, first
):
    asked = without(*missing)
    answer = serving(served, lambda url: reply(url, images))
    expected = dummies.Dummy("chart", dummies.LARGE).encode(images)
    np.testing.assert_array_equal(answer.tokens, expected)
    assert len(asked) == (first is not None)
    assert all(path.startswith(first) for path in asked)


def test_plain_calls_keep_precision_and_tell_errors(dummies, images, without):
    def fail(batch):
        if len(batch) == 2:
            raise RuntimeError("the password is x")

    asked = without()
    served = server.make_server([dummies.Dummy("sign", before=fail)])

    async def work(url):
        return [await reply(url, images[:n], precision="int8_rows") for n in (2, 3)]

    failed, answer = serving(served, work)
    assert failed.failure == "refused"
    assert failed.reason.startswith("expert sign failed (RuntimeError)")
    expected = codec.encode(dummies.Dummy("sign").encode(images), "int8_rows")
    np.testing.assert_array_equal(answer.tokens, codec.decode(expected))
    assert asked == ["/encode/sign?precision=int8_rows"] * 2


@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN[:-1], TOKEN + "x"])
def test_a_wrong_token_is_refused(served, dummies, images, given):
    told = serving(served, lambda url: reply(url, images, given), token=TOKEN)
    assert "callers need a bearer token; it is missing or wrong" in told


def test_the_right_token_is_accepted(served, images):
    answer = serving(served, lambda url: reply(url, images, TOKEN), token=TOKEN)
    assert answer.ok


def test_no_path_is_open_without_the_token(served):
    handle = served.store.put(b"tokens")

    async def work(url):
        base = url.removesuffix(web.PATH)
        found = {}
        async with httpx2.AsyncClient(trust_env=False) as http:
            for path in ("/mcp", "/arrays/" + handle, "/", "/other"):
                for token in (None, TOKEN):
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    got = await http.get(base + path, headers=headers)
                    found[path, token] = got.status_code
                    if token is None:
                        assert got.headers["www-authenticate"] == "Bearer"
                        assert "traceback" not in got.text.lower()
        return found

    found = serving(served, work, token=TOKEN)
    assert {code for (_, token), code in found.items() if token is None} == {401}
    assert found["/arrays/" + handle, TOKEN] == 200
    assert found["/mcp", TOKEN] == 405, "a stream that would never say anything"


def test_beyond_loopback_a_token_is_required(served, images):
    with pytest.raises(ValueError, match="'0.0.0.0' is reached from beyond .*token"):
        over_http.serve(served, "0.0.0.0", port=0)

    async def work(url):
        port = url.rpartition(":")[2]
        local = f"http://127.0.0.1:{port}"
        return await reply(local, images), await reply(local, images, TOKEN)

    refused, answer = serving(served, work, host="0.0.0.0", token=TOKEN, insecure=True)
    assert "callers need a bearer token" in refused
    assert answer.ok


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.0.2", False), ("", False)),
        *(("localhost.example.com", False), ("127.0.0.1.nip.io", False)),
    ],
)
def test_only_loopback_is_loopback(host, local):
    assert guard.is_loopback(host) == local
    guard.check_exposure(host, TOKEN, encrypted=True)
    guard.check_exposure(host, TOKEN, encrypted=False, insecure=True)
    if local:
        guard.check_exposure(host, None, encrypted=False)
        return
    with pytest.raises(ValueError, match="callers need a token"):
        guard.check_exposure(host, None, encrypted=True)
    with pytest.raises(ValueError, match="need TLS: give --tls_cert and --tls_key"):
        guard.check_exposure(host, TOKEN, encrypted=False)


@pytest.mark.parametrize(
    "value", [None, "", "short", "with\nnewline" + "x" * 16, "ä" * 20]
)
def test_a_token_comes_from_the_environment(monkeypatch, value):
    monkeypatch.setenv("EXPERT_TOKEN", TOKEN)
    assert guard.read_token("EXPERT_TOKEN") == TOKEN
    monkeypatch.delenv("EXPERT_TOKEN")
    if value is not None:
        monkeypatch.setenv("EXPERT_TOKEN", value)
    with pytest.raises(ValueError, match=r"\$EXPERT_TOKEN holds no token; set it"):
        guard.read_token("EXPERT_TOKEN")


def test_a_token_is_not_shown():
    assert TOKEN not in repr(endpoints.Http("http://127.0.0.1:1/mcp", TOKEN))


def test_a_body_over_the_limit_is_not_taken(served):
    size = served.max_request_bytes + 1

    async def chunks():
        for _ in range(size // 65_536 + 1):
            yield b" " * 65_536

    async def work(url):
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        async with httpx2.AsyncClient(trust_env=False) as http:
            told = await http.post(url, content=b" " * size, headers=headers)
            untold = await http.post(url, content=chunks(), headers=headers)
        return told, untold

    told, untold = serving(served, work)
    assert told.status_code == untold.status_code == 413
    assert "send fewer images in a call" in json.loads(told.text)["error"]["message"]


@pytest.mark.parametrize("length", ["9" * 19, "9" * 30, "-1", "x"])
def test_a_lie_about_the_length_ends_the_connection(served, length):
    async def work(url):
        host, port = url.removeprefix("http://").removesuffix(web.PATH).split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    status = serving(served, work).split()[1]
    assert status in (b"400", b"413")


def test_too_many_images_are_refused_in_words(served):
    images = np.zeros((200, 64, 64, 3), np.uint8)
    answer = serving(served, lambda url: reply(url, images))
    assert answer.failure == "refused"
    assert "send fewer images in a call" in answer.reason


def test_a_page_under_another_name_gets_nothing(served):
    async def work(url):
        async with httpx2.AsyncClient(trust_env=False) as http:
            return await http.post(
                url,
                json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
                headers={"Host": "evil.example", "Accept": "application/json"},
            )

    assert serving(served, work).status_code == 421


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"[" * 5000, b'{"jsonrpc": "2.0"}', b"\x80\x05."],
)
def test_garbage_is_answered_and_survived(served, images, body):
    async def work(url):
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
        }
        async with httpx2.AsyncClient(trust_env=False) as http:
            bad = await http.post(url, content=body, headers=headers)
        return bad, await reply(url, images)

    bad, answer = serving(served, work)
    assert 400 <= bad.status_code < 500
    assert "Traceback" not in bad.text
    assert answer.ok


def test_a_taken_port_is_named(served):
    async def work(url):
        port = int(url.split(":")[2].removesuffix(web.PATH))
        async with over_http.running(served, port=port):
            pass

    with pytest.raises(OSError, match="cannot listen at 127.0.0.1, port"):
        serving(served, work)


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://x/mcp", "http:///mcp"])
def test_only_http_urls_are_taken(url):
    with pytest.raises(ValueError, match="give one such as http://127.0.0.1:8000/mcp"):
        endpoints.Http(url)


def test_answers_are_sent_without_waiting_for_more():
    with over_http.listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
