"""The server, asked by the SDK's own client."""

import asyncio
import logging
import threading

import numpy as np
import pytest

from m3jax.serving import calls, codec, descriptors, handlers, server

mcp = pytest.importorskip("mcp")


def ask(served, work, **options):
    """``await work(client)`` with a client of the SDK, in this process."""

    async def run():
        async with mcp.Client(served.protocol, **options) as client:
            return await work(client)

    return asyncio.run(run())


def message(images):
    return codec.to_text(codec.encode(images))


def call(served, **arguments):
    return ask(served, lambda client: client.call_tool("encode", arguments))


@pytest.fixture
def experts(dummies):
    return [dummies.Dummy("sign"), dummies.Dummy("chart", dummies.LARGE)]


def test_an_expert_is_found_described_and_called(experts, images):
    async def work(client):
        listed = (await client.list_resources()).resources
        texts = [
            (await client.read_resource(item.uri)).contents[0].text for item in listed
        ]
        (tool,) = (await client.list_tools()).tools
        arguments = {"expert": "sign", "image": message(images)}
        return texts, tool, await client.call_tool(tool.name, arguments)

    for mode in ("auto", "legacy"):  # both revisions of the protocol
        texts, tool, result = ask(server.make_server(experts), work, mode=mode)
        assert [descriptors.from_json(text) for text in texts] == [
            expert.descriptor for expert in experts
        ]
        schema = tool.input_schema
        assert schema["properties"]["expert"]["enum"] == ["chart", "sign"]
        assert schema["required"] == ["expert", "image"]
        assert not result.is_error
        facts = result.structured_content
        assert facts == {"expert": "sign", "shape": [3, 4, 8], "num_bytes": 64 + 384}
        _, part = result.content
        tokens = codec.decode(codec.from_text(part.resource.blob))
        assert part.resource.mime_type == codec.MIME_TYPE
        np.testing.assert_array_equal(tokens, experts[0].encode(images))


def test_a_large_answer_comes_by_handle(experts, images):
    async def work(client):
        arguments = {"expert": "chart", "image": message(images)}
        result = await client.call_tool("encode", arguments)
        _, link = result.content
        contents = (await client.read_resource(link.uri)).contents
        templates = await client.list_resource_templates()
        return result, link, contents[0], templates.resource_templates[0]

    served = server.make_server(experts)
    result, link, content, template = ask(served, work)
    expected = experts[1].encode(images)
    np.testing.assert_array_equal(codec.decode(codec.from_text(content.blob)), expected)
    assert link.size == served.store.num_bytes == codec.HEADER_BYTES + expected.nbytes
    assert result.structured_content["uri"] == link.uri
    assert link.uri.startswith(template.uri_template.removesuffix("{handle}"))
    said = result.model_dump_json()
    assert len(said) < 1000, "the answer itself does not hold the tokens"


@pytest.mark.parametrize(("precision", "size"), [("int8_rows", 36), ("float16", 64)])
def test_tokens_come_in_the_precision_asked_for(experts, images, precision, size):
    result = call(
        server.make_server(experts),
        expert="sign",
        image=message(images[0]),
        precision=precision,
    )
    data = codec.from_text(result.content[1].resource.blob)
    expected = experts[0].encode(images[:1])
    assert len(data) == codec.HEADER_BYTES + (48 if precision == "int8_rows" else size)
    assert data == codec.encode(expected, precision)


def test_a_single_expert_need_not_be_named(dummies, images):
    result = call(server.make_server([dummies.Dummy("sign")]), image=message(images[0]))
    assert result.structured_content["shape"] == [1, 4, 8]


def test_expired_and_foreign_resources_are_not_there(experts, images):
    served = server.make_server(experts, calls.Limits(store_items=1))

    async def work(client):
        arguments = {"expert": "chart", "image": message(images[0])}
        links = [
            (await client.call_tool("encode", arguments)).content[1] for _ in range(2)
        ]
        assert (await client.read_resource(links[1].uri)).contents
        told = []
        for uri in (
            *(links[0].uri, handlers.ARRAYS, handlers.ARRAYS + "inline"),
            *(descriptors.EXPERTS, descriptors.uri("nobody"), "file:///etc/passwd"),
        ):
            with pytest.raises(mcp.MCPError) as error:
                await client.read_resource(uri)
            told.append((error.value.code, error.value.message))
        return told

    for code, words in ask(served, work):
        assert code == mcp.types.INVALID_PARAMS
        assert words.startswith("there is no resource")


GOOD = np.zeros((64, 64, 3), np.uint8)


def changed(place, value):
    data = bytearray(codec.encode(GOOD))
    data[place] = value
    return codec.to_text(bytes(data))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"image": message(GOOD)}, "no expert None; there are chart, sign"),
        ({"expert": "nobody", "image": message(GOOD)}, "no expert 'nobody'"),
        ({"expert": ["sign"], "image": message(GOOD)}, "no expert"),
        ({"expert": "sign"}, "image is missing"),
        ({"expert": "sign", "image": 3}, "base64 text expected, got int"),
        ({"expert": "sign", "image": "%%%%"}, "text is no base64"),
        ({"expert": "sign", "image": ""}, "array is torn: 0 bytes"),
        ({"expert": "sign", "image": message(GOOD)[:4000]}, "array is torn"),
        ({"expert": "sign", "image": changed(0, 0)}, "not an array"),
        ({"expert": "sign", "image": changed(4, 9)}, "array of version 9"),
        ({"expert": "sign", "image": changed(8, ord("o"))}, "unknown encoding"),
        ({"expert": "sign", "image": changed(31, 255)}, "declares shape"),
        ({"expert": "sign", "image": changed(99, 1)}, "damaged"),
        (
            {"expert": "sign", "image": message(GOOD.astype(np.float32)[:9])},
            "takes images of uint8, not float32",
        ),
        ({"expert": "sign", "image": message(GOOD[1:])}, "takes images of shape"),
        ({"expert": "sign", "image": message(GOOD[None, None])}, "takes images of"),
        (
            {"expert": "sign", "image": message(np.repeat(GOOD[None], 5, axis=0))},
            "base64 text of .* characters; at most",
        ),
        (
            {"expert": "sign", "image": message(GOOD), "precision": "int4"},
            "precision is 'int4'; choose one of",
        ),
        ({"expert": "sign", "image": message(GOOD), "code": "x"}, "unknown arguments"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(experts, arguments, told):
    served = server.make_server(experts, calls.Limits(max_batch=4))
    result = call(served, **arguments)
    assert result.is_error
    (part,) = result.content
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(part.text)
    assert len(part.text) < 500
    assert not experts[0].calls, "the expert has not seen it"
    assert not call(served, expert="sign", image=message(GOOD)).is_error


def test_a_batch_over_the_limit_is_refused(dummies):
    """A larger expert beside it raises the limit on bytes, not that on images."""
    tiny, big = dummies.Dummy("tiny"), dummies.Dummy("big")
    fields = {"description": "d", "skills": (), "output_shape": (1, 1)}
    tiny.descriptor = descriptors.Descriptor("tiny", input_shape=(2, 2, 3), **fields)
    served = server.make_server([tiny, big], calls.Limits(max_batch=4))
    result = call(served, expert="tiny", image=message(np.zeros((5, 2, 2, 3), "u1")))
    assert result.content[0].text == "5 images in one call; at most 4 are taken"


def test_a_failing_expert_tells_no_secrets(dummies, caplog):
    def fail(_):
        raise RuntimeError("the password is x")

    served = server.make_server([dummies.Dummy("sign", before=fail)])
    with caplog.at_level(logging.WARNING):
        result = call(served, image=message(GOOD))
    assert result.is_error
    assert result.content[0].text.startswith("expert sign failed (RuntimeError)")
    assert "password" in caplog.text and "password" not in result.model_dump_json()


def test_an_expert_that_breaks_its_word_is_not_believed(dummies):
    expert = dummies.Dummy("sign")
    expert.encode = lambda images: np.zeros((1, 4, 9))
    result = call(server.make_server([expert]), image=message(GOOD))
    assert result.is_error and "failed (ValueError)" in result.content[0].text
    with pytest.raises(ValueError, match=r"\(1, 4, 9\); its descriptor says \(1, 4, 8"):
        handlers.tokens_of(expert, GOOD[None])


@pytest.mark.parametrize(
    ("tokens", "precision", "told"),
    [(1e6, "float16", "cannot hold"), (np.nan, "int8_rows", "finite")],
)
def test_tokens_that_a_precision_cannot_hold_are_refused(
    dummies, tokens, precision, told
):
    expert = dummies.Dummy("sign")
    expert.encode = lambda images: np.full((len(images), 4, 8), tokens)
    served = server.make_server([expert])
    result = call(served, image=message(GOOD), precision=precision)
    assert result.is_error and told in result.content[0].text


def test_an_answer_larger_than_the_store_is_refused(experts, images):
    served = server.make_server(experts, calls.Limits(store_bytes=50_000))
    result = call(served, expert="chart", image=message(images))
    assert result.is_error and "ask for fewer images" in result.content[0].text
    assert not call(served, expert="chart", image=message(images[0])).is_error


def test_calls_beyond_the_queue_are_told_so(dummies):
    release = threading.Event()
    expert = dummies.Dummy("sign", before=lambda _: release.wait(30))
    served = server.make_server([expert], calls.Limits(max_parallel=2, max_waiting=1))

    async def work(client):
        tasks = [
            asyncio.create_task(client.call_tool("encode", {"image": message(GOOD)}))
            for _ in range(5)
        ]
        _, waiting = await asyncio.wait(
            tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED
        )
        while sum(task.done() for task in tasks) < 2:
            await asyncio.sleep(0.01)
        release.set()
        return await asyncio.gather(*tasks)

    results = ask(served, work)
    refused = [r for r in results if r.is_error]
    assert len(refused) == 2 and len(expert.calls) == 3
    assert refused[0].content[0].text == "busy: 3 calls are under way; try again later"


def test_an_unknown_tool_is_an_error_of_the_protocol(experts):
    async def work(client):
        with pytest.raises(mcp.MCPError, match="there is no tool 'run'; there is"):
            await client.call_tool("run", {})

    ask(server.make_server(experts), work)


def test_descriptors_are_read_when_asked(dummies):
    expert = dummies.Dummy("sign")
    served = server.make_server([expert])
    link = descriptors.LinkStatistics(mean_snr_db=7.0)
    fields = {"description": "d", "skills": (), "output_shape": dummies.SMALL}
    expert.descriptor = descriptors.Descriptor("sign", link=link, **fields)

    async def work(client):
        return (await client.read_resource(descriptors.uri("sign"))).contents[0].text

    assert descriptors.from_json(ask(served, work)).link == link


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_an_expert_that_cannot_be_described_leaves_the_others_be(dummies, kind):
    class Nameless(dummies.Dummy):
        broken = False

        @property
        def descriptor(self):
            if self.broken:
                raise kind
            return self.kept

        @descriptor.setter
        def descriptor(self, value):
            self.kept = value

    experts = [Nameless("chart"), dummies.Dummy("sign")]
    served = server.make_server(experts)
    experts[0].broken = True
    result = call(served, expert="chart", image=message(GOOD))
    assert result.content[0].text.startswith("no expert 'chart'; there are sign")
    assert not call(served, expert="sign", image=message(GOOD)).is_error


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_experts_need_unlike_names(dummies, names):
    with pytest.raises(ValueError, match="at least one, of unlike names"):
        server.make_server([dummies.Dummy(name) for name in names])


@pytest.mark.parametrize(
    "limit",
    [
        {"max_batch": 0},
        {"max_parallel": 1.5},
        {"store_bytes": 1 << 50},
        {"max_waiting": -1},
        {"store_seconds": float("nan")},
    ],
)
def test_impossible_limits_are_named(limit):
    with pytest.raises(ValueError, match=next(iter(limit))):
        calls.Limits(**limit)


def test_a_missing_sdk_is_named(monkeypatch, experts):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install 'm3jax\[mcp\]'"):
        server.make_server(experts)
