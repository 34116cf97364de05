"""Several experts at once: in this process, over HTTP, in processes of their own."""

import asyncio
import threading
import time

import numpy as np
import pytest

from m3jax.serving import (
    async_registry,
    calls,
    descriptors,
    endpoints,
    over_http,
    server,
    web,
)

mcp = pytest.importorskip("mcp")


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(condition)


def test_experts_of_all_endpoints_are_found_and_called(dummies, images, command):
    near, far = dummies.Dummy("near"), dummies.Dummy("far", dummies.LARGE)

    async def work(found):
        replies = await found.encode(images)
        one = await found.encode(images[0], ["far", "near"])
        return found.descriptors, found.alive, replies, one

    described, alive, replies, one = dummies.run(
        work,
        dummies.local(near),
        endpoints.Stdio(command("stdio", "sign", "chart")),
        dummies.local(far),
    )
    assert list(described) == ["near", "sign", "chart", "far"] == list(replies)
    assert described["far"] == far.descriptor
    assert all(alive.values())
    for name, reply in replies.items():
        assert reply.ok and reply.expert == name and reply.seconds > 0.0
        expert = far if name == "far" else dummies.Dummy(name)
        np.testing.assert_array_equal(reply.tokens, expert.encode(images))
        assert reply.tokens.dtype == np.float32
    assert list(one) == ["far", "near"]
    np.testing.assert_array_equal(one["far"].tokens, far.encode(images[:1]))


def test_calls_overlap_on_one_server_and_over_several(dummies, images):
    """Every expert waits until all four are at work; one after the other would fail."""
    barrier = threading.Barrier(4)

    def meet(_):
        barrier.wait(timeout=20)

    experts = [dummies.Dummy(name, before=meet) for name in "abcd"]
    replies = dummies.run(
        lambda found: found.encode(images[0]),
        dummies.local(*experts[:3]),
        dummies.local(experts[3]),
    )
    assert dummies.failures(replies) == dict.fromkeys("abcd")


def test_an_expert_killed_in_mid_call_leaves_the_others_be(
    images, command, dummies, start
):
    where = [
        endpoints.Stdio(command("stdio", "dying", "beside")),
        endpoints.Http(start("well")[0]),
        dummies.local(dummies.Dummy("near")),
    ]

    async def work(found):
        replies = await found.encode(images, ["dying", "well", "near"])
        before = found.alive, found.problems
        return replies, *before, await found.encode(images, ["beside"]), found.problems

    replies, alive, problems, anew, after = dummies.run(work, *where, retry_s=0.0)
    assert dummies.failures(replies) == {"dying": "dead", "well": None, "near": None}
    assert "the connection closed in mid-call" in replies["dying"].reason
    for name in ("well", "near"):
        np.testing.assert_array_equal(
            replies[name].tokens, dummies.Dummy(name).encode(images)
        )
    assert alive == {"dying": False, "beside": False, "well": True, "near": True}
    assert list(problems) == [str(where[0])]
    assert dummies.failures(anew) == {"beside": None}, "the process was started anew"
    assert after == {}


def test_a_server_killed_over_http_is_dead_and_then_started_anew(
    images, dummies, start
):
    url, process = start("dying", "beside")

    async def work(found):
        first = await found.encode(images)
        at_once = await found.encode(images, ["beside"])
        process.wait()
        served = server.make_server([dummies.Dummy("beside")])
        port = int(url.split(":")[2].removesuffix(web.PATH))
        async with over_http.running(served, port=port):
            await asyncio.sleep(1.0)
            again = await found.encode(images)
        return first, at_once, again

    first, at_once, again = dummies.run(work, endpoints.Http(url), retry_s=1.0)
    assert dummies.failures(first)["dying"] == "dead"
    assert dummies.failures(at_once) == {"beside": "dead"}
    assert "to be tried again in" in at_once["beside"].reason
    assert dummies.failures(again) == {"dying": "dead", "beside": None}
    assert "expert dying is not there any more" in again["dying"].reason


def test_a_late_expert_is_left_behind_in_time(dummies, images, gate):
    slow = dummies.Dummy("slow", before=lambda _: gate.wait(30))
    where = [dummies.local(slow), dummies.local(dummies.Dummy("quick"))]

    async def work(found):
        start = time.monotonic()
        replies = await found.encode(images[0], timeout_s=2.0)
        took = time.monotonic() - start
        gate.set()
        return replies, took, await found.encode(images[0])

    replies, took, after = dummies.run(work, *where)
    assert dummies.failures(replies) == {"slow": "timeout", "quick": None}
    assert replies["slow"].reason == "no answer within 2 s"
    assert replies["quick"].seconds < 2.0 <= took < 6.0
    assert dummies.failures(after) == {"slow": None, "quick": None}


def test_a_call_off_reaches_the_server_before_the_expert(dummies, images, gate):
    """Over HTTP: one call is worked on, one waits; that one is cancelled."""
    expert = dummies.Dummy("slow", before=lambda _: gate.wait(30))
    served = server.make_server([expert], calls.Limits(max_parallel=1))

    async def work(found):
        first = asyncio.create_task(found.encode(images[0]))
        await until(lambda: len(expert.calls) == 1)
        second = asyncio.create_task(found.encode(images[:2]))
        await until(lambda: served.answers.workers.num_calls == 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await until(lambda: served.answers.workers.num_calls == 1)
        gate.set()
        return await first, await found.encode(images)

    async def body():
        async with over_http.running(served) as (url, _):
            where = [endpoints.Http(url)]
            async with async_registry.AsyncRegistry(where) as found:
                return await work(found)

    for replies in asyncio.run(body()):
        assert dummies.failures(replies) == {"slow": None}
    batches = [shape[0] for shape in expert.calls]
    assert batches == [1, 3], "the cancelled call of 2 was never worked on"


def test_enough_answers_call_the_others_off(dummies, images, gate):
    slow = dummies.Dummy("slow", before=lambda _: gate.wait(30))
    quick = [dummies.Dummy(name) for name in "ab"]

    async def work(found):
        replies = await found.encode(images[0], enough=2)
        gate.set()
        return replies

    replies = dummies.run(work, dummies.local(slow), dummies.local(*quick))
    assert dummies.failures(replies) == {"slow": "cancelled", "a": None, "b": None}
    assert replies["slow"].reason == "called off, since 2 had answered"


def test_a_second_server_stands_in_for_a_dead_one(images, command, dummies):
    spare = dummies.Dummy("sign")
    where = [endpoints.Stdio(command("stdio", "dying", "sign")), dummies.local(spare)]

    async def work(found):
        before = await found.encode(images[0], ["sign"])
        assert before["sign"].ok and not spare.calls
        await found.encode(images[0], ["dying"])
        return await found.encode(images[0], ["sign"])

    assert dummies.run(work, *where)["sign"].ok
    assert len(spare.calls) == 1


def test_descriptors_are_kept_until_discovery(dummies):
    expert = dummies.Dummy("sign")
    old = expert.descriptor
    fields = {"description": "d", "skills": (), "output_shape": dummies.SMALL}
    new = descriptors.Descriptor(
        "sign", link=descriptors.LinkStatistics(mean_snr_db=3.0), **fields
    )

    async def work(found):
        expert.descriptor = new
        before = found.descriptors
        return before, await found.discover(), found.descriptors

    before, told, after = dummies.run(work, dummies.local(expert))
    assert before == {"sign": old}
    assert told == after == {"sign": new}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"experts": ["nobody"]}, r"\['nobody'\]; give a list of some of \['sign'\]"),
        ({"experts": "sign"}, "give a list"),
        ({"experts": []}, "give a list"),
        ({"precision": "int4"}, "precision is 'int4'; choose one of"),
        ({"images": np.zeros((64, 64, 3))}, "uint8, not float64"),
        ({"images": np.zeros((64, 64), np.uint8)}, r"shape \(64, 64, 3\)"),
        ({"images": np.zeros((0, 64, 64, 3), np.uint8)}, r"\(64, 64, 3\)"),
    ],
)
def test_a_bad_call_is_refused_before_anything_is_sent(dummies, asked, told):
    expert = dummies.Dummy("sign")
    asked = {"images": np.zeros((64, 64, 3), np.uint8)} | asked

    async def work(found):
        with pytest.raises(ValueError, match=told):
            await found.encode(**asked)

    dummies.run(work, dummies.local(expert))
    assert not expert.calls
