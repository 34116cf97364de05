"""Serves shipped specialists over the Model Context Protocol.

python launch/serve_expert.py --expert=sign
python launch/serve_expert.py --expert=sign,chart --transport=http --port=8000

Over stdio it serves the program that started it. Over HTTP it prints its URL and serves
this machine; to serve others, it needs --host and --token_env.
"""

import contextlib
import sys

import cli
import numpy as np
from absl import flags

from m3jax.serving import calls, codec, guard, handlers, server
from m3jax.systems.m3llm import experts as shipped
from m3jax.train import interrupts

_EXPERT = flags.DEFINE_list(
    "expert", None, "Names of shipped specialists, separated by commas.", required=True
)
_TRANSPORT = flags.DEFINE_enum("transport", "stdio", ["stdio", "http"], "The way in.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen at, for http.")
_PORT = flags.DEFINE_integer(
    "port", 8000, "Port to listen at, for http; 0 for a free one.", 0, 65535
)
_TOKEN_ENV = flags.DEFINE_string(
    "token_env", None, "Environment variable that holds the token callers must send."
)
_MAX_BATCH = flags.DEFINE_integer(
    "max_batch", calls.DEFAULTS.max_batch, "Most images of a call."
)
_MAX_PARALLEL = flags.DEFINE_integer(
    "max_parallel", calls.DEFAULTS.max_parallel, "Most calls worked on at once."
)
_MAX_INLINE_BYTES = flags.DEFINE_integer(
    "max_inline_bytes",
    calls.DEFAULTS.max_inline_bytes,
    "Answers above this size come by handle.",
)
_STORE_BYTES = flags.DEFINE_integer(
    "store_bytes", calls.DEFAULTS.store_bytes, "Bytes of answers kept to be fetched."
)
_STORE_SECONDS = flags.DEFINE_float(
    "store_seconds", calls.DEFAULTS.store_seconds, "How long an answer is kept."
)


def main() -> None:
    """Serves what the flags name."""
    token = guard.read_token(_TOKEN_ENV.value) if _TOKEN_ENV.value else None
    if _TRANSPORT.value == "http":
        guard.check_exposure(_HOST.value, token)
    limits = calls.Limits(
        max_batch=_MAX_BATCH.value,
        max_parallel=_MAX_PARALLEL.value,
        max_inline_bytes=_MAX_INLINE_BYTES.value,
        store_bytes=_STORE_BYTES.value,
        store_seconds=_STORE_SECONDS.value,
    )
    server.require_sdk()
    # Standard output is for callers, or for the URL.
    with contextlib.redirect_stdout(sys.stderr):
        experts = [shipped.load(name) for name in _EXPERT.value]
        for expert in experts:
            _warm_up(expert)
    served = server.make_server(experts, limits)
    with interrupts.handed_over():
        if _TRANSPORT.value == "stdio":
            server.serve_stdio(served)
        else:
            server.serve_http(served, _HOST.value, _PORT.value, token, _announce)


def _warm_up(expert) -> None:
    """Compiles the expert for one image, so that no caller has to wait for that."""
    descriptor = expert.descriptor
    dtype = codec.DTYPES[descriptor.input_dtype]
    handlers.tokens_of(expert, np.zeros((1, *descriptor.input_shape), dtype))


def _announce(url: str) -> None:
    print(url, flush=True)


if __name__ == "__main__":
    cli.run(main)
