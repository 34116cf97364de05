"""Experts whose tokens a test can tell without asking, and a program that serves them.

python dummies.py stdio|http NAME ...

prints the URL if it serves over HTTP. An expert named ``dying`` kills its process when
it is called.
"""

import asyncio
import os
import pathlib
import signal
import sys

import numpy as np

from m3jax.serving import (
    async_registry,
    calls,
    descriptors,
    endpoints,
    over_http,
    server,
)

ROOT = pathlib.Path(__file__).parents[2]

SMALL, LARGE = (4, 8), (64, 128)


class Dummy:
    """Tokens are numbers of the image, scaled by what the name gives.

    Attributes:
      descriptor: what it says about itself.
      calls: shapes of the batches that it has been given.
      before: called, with the batch, before it answers.
    """

    def __init__(self, name, output_shape=SMALL, before=None):
        self.descriptor = descriptors.Descriptor(
            name=name,
            description=f"Knows about {name}.",
            skills=(name,),
            questions=(f"What of {name}?",),
            output_shape=output_shape,
            device=descriptors.Device(name="test", flops_per_s=1e9),
        )
        self.calls = []
        self.before = before

    def encode(self, image):
        self.calls.append(image.shape)
        if self.before is not None:
            self.before(image)
        shape = self.descriptor.output_shape
        pixels = image.reshape(len(image), -1)[:, : shape[0] * shape[1]]
        scale = np.float32(1.0 / (3.0 + sum(map(ord, self.descriptor.name))))
        return pixels.astype(np.float32).reshape(len(image), *shape) * scale


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def local(*experts):
    """Where experts of this process are."""
    return endpoints.InProcess(server.make_server(experts))


def run(work, *where, **settings):
    """``await work(registry)`` with the endpoints."""

    async def body():
        async with async_registry.AsyncRegistry(where, **settings) as found:
            return await work(found)

    return asyncio.run(body())


def failures(replies):
    return {name: reply.failure for name, reply in replies.items()}


def main(transport, *names):
    experts = [Dummy(name, before=die if name == "dying" else None) for name in names]
    served = server.make_server(experts, calls.Limits(max_parallel=8))
    if transport == "stdio":
        server.serve_stdio(served)
    else:
        over_http.serve(served, port=0, started=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
