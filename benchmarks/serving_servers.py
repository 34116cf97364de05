"""The two servers of the benchmark of serving, each a program of its own.

python -m benchmarks.serving_servers m3jax|fastapi

prints its URL. Neither computes anything: an image comes in, and tokens that are there
already go out, so what is measured is the way there and back.
"""

import sys

import numpy as np

from m3jax.serving import calls, codec, descriptors, over_http, server

IMAGE_SHAPE = (64, 64, 3)
TOKENS_SHAPE = (16, 96)
"""What a shipped expert says of an image, float32."""
ECHO_PATH = "/echo"


def tokens() -> np.ndarray:
    """``[1, L, D]``, the same in both programs."""
    return np.random.default_rng(0).normal(size=(1, *TOKENS_SHAPE)).astype(np.float32)


class Still:
    """An expert that has its answer already."""

    descriptor = descriptors.Descriptor(
        name="still",
        description="Answers without looking.",
        skills=(),
        output_shape=TOKENS_SHAPE,
        input_shape=IMAGE_SHAPE,
    )

    def __init__(self):
        self._tokens = tokens()

    def encode(self, image: np.ndarray) -> np.ndarray:
        """The tokens of any one image."""
        del image
        return self._tokens


def serve_m3jax() -> None:
    """Ours, with the defaults of ``launch/serve_expert.py``."""
    served = server.make_server([Still()], calls.DEFAULTS)
    over_http.serve(served, port=0, started=lambda url: print(url, flush=True))


def serve_fastapi() -> None:
    """A plain FastAPI program under uvicorn: takes bytes, gives bytes."""
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()
    answer = codec.encode(tokens())

    @app.post(ECHO_PATH)
    async def echo(request: fastapi.Request) -> fastapi.Response:
        await request.body()
        return fastapi.Response(answer, media_type=codec.MIME_TYPE)

    with over_http.listen("127.0.0.1", 0) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    {"m3jax": serve_m3jax, "fastapi": serve_fastapi}[sys.argv[1]]()
