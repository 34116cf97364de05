"""Work in threads: places, order, and whatever it raises."""

import asyncio
import threading

import pytest

from m3jax.serving import calls, workers


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_work_beyond_the_line_is_refused(gate):
    async def run():
        found = workers.Workers(2, 1, 100)
        tasks = [
            asyncio.create_task(found.run(lambda n=n: gate.wait(30) and n, 1))
            for n in range(3)
        ]
        await asyncio.sleep(0)
        assert found.num_calls == 3
        with pytest.raises(calls.Busy, match="busy: 3 calls are under way"):
            await found.run(lambda: 0, 1)
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [0, 1, 2]


def test_bytes_that_wait_are_bounded_but_one_call_always_fits(gate):
    async def run():
        found = workers.Workers(1, 9, 100)
        first = asyncio.create_task(found.run(lambda: gate.wait(30), 1000))
        await asyncio.sleep(0)
        with pytest.raises(calls.Busy):
            await found.run(lambda: 0, 1)
        gate.set()
        await first
        await until(lambda: found.num_calls == 0)
        return await found.run(lambda: 7, 1)

    assert asyncio.run(run()) == 7


def test_called_off_in_line_is_never_begun_and_in_a_thread_keeps_its_place(gate):
    begun = []

    def work(name):
        begun.append(name)
        gate.wait(30)

    async def run():
        found = workers.Workers(1, 1, 100)
        tasks = [
            asyncio.create_task(found.run(lambda n=n: work(n), 1)) for n in ("a", "b")
        ]
        await until(lambda: begun)
        for task, left in zip(reversed(tasks), (1, 1), strict=True):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task  # at once, though the thread goes on
            assert found.num_calls == left
        gate.set()
        await until(lambda: found.num_calls == 0)

    asyncio.run(run())
    assert begun == ["a"]


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    "kind",
    [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Odd]
    + [StopIteration, ValueError, MemoryError],
)
def test_no_exception_leaves_its_call(kind):
    def fail():
        raise kind("secret")

    async def run():
        found = workers.Workers(1, 1, 100)
        with pytest.raises(workers.Failed) as error:
            await found.run(fail, 1)
        assert type(error.value.__cause__) is kind
        threads = [t for t in threading.enumerate() if t.name.startswith("m3jax-exp")]
        assert threads, "the thread lives on"
        return await found.run(lambda: 1, 1)

    assert asyncio.run(run()) == 1


def test_refusals_of_the_work_are_for_the_caller():
    def refuse():
        raise calls.Refused("no")

    with pytest.raises(calls.Refused, match="no"):
        asyncio.run(workers.Workers(1, 1, 1).run(refuse, 1))
