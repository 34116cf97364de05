"""Endpoints where nobody is, or somebody who is no server of experts."""

import asyncio
import sys

import numpy as np
import pytest

from m3jax.serving import codec, connections, descriptors, endpoints, server

mcp = pytest.importorskip("mcp")

PYTHON = (sys.executable, "-S")


def test_endpoints_without_a_server_are_told_with_the_reason(dummies, tmp_path):
    script = tmp_path / "bad.py"
    script.write_text("import sys; sys.exit('error: no specialist of that name')")
    where = [
        endpoints.Http("http://127.0.0.1:9/mcp"),
        endpoints.Stdio(("no-such-program",)),
        endpoints.Stdio((*PYTHON, str(script))),
        endpoints.Stdio((*PYTHON, "-c", "import sys; sys.stdin.read()")),
        dummies.local(dummies.Dummy("sign")),
    ]

    async def work(found):
        return found.problems, await found.encode(np.zeros((64, 64, 3), np.uint8))

    problems, replies = dummies.run(work, *where, connect_s=2.0)
    told = [problems[str(endpoint)] for endpoint in where[:4]]
    for words, part in zip(
        told,
        [
            "connection",
            "No such file",
            "error: no specialist of that name",
            "within 2 s",
        ],
        strict=True,
    ):
        assert part in words
    assert dummies.failures(replies) == {"sign": None}


def test_where_nobody_answers_no_expert_is_known(dummies):
    async def work(found):
        with pytest.raises(
            RuntimeError, match="no expert is known: http://127.0.0.1:9"
        ):
            await found.encode(np.zeros((64, 64, 3), np.uint8))

    dummies.run(work, endpoints.Http("http://127.0.0.1:9/mcp"))


def fake(result=None, text=None, tool="encode", uri="m3jax://experts/sign"):
    """A server that answers what it was told to."""
    described = descriptors.Descriptor("sign", "d", (), (4, 8))

    async def list_tools(*_):
        schema = {"type": "object"}
        return mcp.types.ListToolsResult(
            tools=[mcp.types.Tool(name=tool, input_schema=schema)]
        )

    async def list_resources(*_):
        return mcp.types.ListResourcesResult(
            resources=[mcp.types.Resource(uri=uri, name="x")]
        )

    async def read_resource(*_):
        words = descriptors.to_json(described) if text is None else text
        content = mcp.types.TextResourceContents(uri=uri, text=words)
        return mcp.types.ReadResourceResult(contents=[content])

    async def call_tool(*_):
        return mcp.types.CallToolResult(content=result)

    from mcp import server as sdk

    protocol = sdk.Server(
        "fake",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )
    return endpoints.InProcess(server.Served(protocol, None, 0))


def blob(data):
    contents = mcp.types.BlobResourceContents(uri="x://y", blob=codec.to_text(data))
    return mcp.types.EmbeddedResource(type="resource", resource=contents)


def link(uri):
    return mcp.types.ResourceLink(type="resource_link", uri=uri, name="x")


TOKENS = codec.encode(np.ones((1, 4, 8), np.float32))


def test_an_honest_fake_is_believed(dummies):
    replies = dummies.run(
        lambda found: found.encode(np.zeros((64, 64, 3), np.uint8)),
        fake([blob(TOKENS)]),
    )
    assert np.all(replies["sign"].tokens == 1.0)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ([], "a result without tokens"),
        ([blob(TOKENS[:-1])], "torn"),
        ([blob(b"\x80\x05K\x01.")], "torn"),
        ([blob(codec.encode(np.ones((1, 8, 4))))], "sent float64 of shape"),
        ([blob(codec.encode(np.ones((1, 4, 8), np.int32)))], "sent int32"),
        ([blob(codec.encode(np.ones((99, 4, 8))))], "characters; at most"),
        ([link("file:///etc/passwd")], "a link to 'file:///etc/passwd', which is no"),
        ([link("m3jax://arrays/../../x")], "which is no array"),
        ([link("m3jax://arrays/abc")], "base64 text expected, got NoneType"),
    ],
)
def test_a_server_that_answers_nonsense_is_not_believed(dummies, result, told):
    replies = dummies.run(
        lambda found: found.encode(np.zeros((64, 64, 3), np.uint8)),
        fake(result),
        dummies.local(dummies.Dummy("near")),
    )
    assert dummies.failures(replies) == {"sign": "invalid", "near": None}
    assert told in replies["sign"].reason


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"tool": "run"}, "no tool 'encode' there"),
        ({"text": "{"}, "not whole JSON"),
        ({"uri": "m3jax://experts/chart"}, "describes an expert of name 'sign'"),
    ],
)
def test_a_server_of_something_else_is_left_out(dummies, how, told):
    async def work(found):
        return found.descriptors, found.problems

    known, problems = dummies.run(
        work, fake(**how), dummies.local(dummies.Dummy("near"))
    )
    assert list(known) == ["near"]
    (words,) = problems.values()
    assert told in words


def test_many_callers_share_one_opening(dummies, images):
    """Ten calls find the endpoint closed and wait for the same opening."""
    expert = dummies.Dummy("sign")
    opened = []

    async def body():
        endpoint = dummies.local(expert)
        connection = connections.Connection(endpoint, 10.0, 0.0)
        connection.descriptors = {"sign": expert.descriptor}
        hold = connection._hold

        def count(*args):
            opened.append(1)
            return hold(*args)

        connection._hold = count
        message = codec.encode(images)
        tokens = await asyncio.gather(
            *(connection.encode("sign", message, 3, None) for _ in range(10))
        )
        await connection.close()
        return tokens

    for tokens in asyncio.run(body()):
        np.testing.assert_array_equal(tokens, expert.encode(images))
    assert opened == [1]


@pytest.mark.parametrize("command", [(), "python serve.py"])
def test_a_command_is_a_tuple_of_words(command):
    with pytest.raises(ValueError, match="give a tuple of words"):
        endpoints.Stdio(command)
