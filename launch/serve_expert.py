"""Serves shipped specialists over the Model Context Protocol.

python launch/serve_expert.py --expert=sign
python launch/serve_expert.py --expert=sign,chart --transport=http --port=8000

Over stdio it serves the program that started it. Over HTTP it prints its URL and serves
this machine; to serve others, it needs --host, --token_env, --tls_cert and --tls_key.
SIGTERM and Ctrl-C end it: calls under way have --grace_s to end.
"""

import contextlib
import logging
import os
import ssl
import sys

import cli
from absl import flags

from m3jax.serving import batches, calls, guard, over_http, server, tls, wire
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
_TLS_CERT = flags.DEFINE_string(
    "tls_cert", None, "PEM file of the server's certificate; with it, https is spoken."
)
_TLS_KEY = flags.DEFINE_string("tls_key", None, "PEM file of its private key.")
_INSECURE = flags.DEFINE_bool(
    "insecure", False, "Serve others without TLS, behind a proxy that speaks it."
)
_ALLOW_HOST = flags.DEFINE_list(
    "allow_host",
    [],
    "Names under which callers reach the server; any others are refused.",
)


def _define_limits() -> None:
    """A flag for each limit, by the name and the default that it has."""
    told = {
        "max_batch": "Most images of a call.",
        "max_parallel": "Most calls worked on at once.",
        "max_waiting": "Most calls that wait for that.",
        "max_inline_bytes": "Answers above this size come by handle.",
        "store_bytes": "Bytes of answers kept to be fetched.",
        "store_seconds": "How long an answer is kept.",
        "max_connections": "Most connections at once.",
        "max_per_address": "Most of them from one address.",
        "head_s": "Seconds for the head of a request.",
        "body_s": "Seconds for its body.",
        "grace_s": "Seconds for calls under way when the server is told to end.",
    }
    defaults = vars(calls.DEFAULTS) | vars(wire.DEFAULTS)
    for name, words in told.items():
        whole = isinstance(defaults[name], int)
        define = flags.DEFINE_integer if whole else flags.DEFINE_float
        define(name, defaults[name], words)


_define_limits()


def main() -> None:
    """Serves what the flags name."""
    token = guard.read_token(_TOKEN_ENV.value) if _TOKEN_ENV.value else None
    context = _tls_context()
    if _TRANSPORT.value == "http":
        guard.check_exposure(_HOST.value, token, context is not None, _INSECURE.value)
    limits = _from_flags(calls.Limits)
    connections = _from_flags(wire.Wire)
    server.require_sdk()
    # Standard output is for callers, or for the URL.
    with contextlib.redirect_stdout(sys.stderr):
        experts = [
            batches.Padded(shipped.load(name), limits.max_batch)
            for name in _EXPERT.value
        ]
        for expert in experts:
            expert.warm_up()
    served = server.make_server(experts, limits)
    with interrupts.handed_over():
        if _TRANSPORT.value == "stdio":
            server.serve_stdio(served)
            return
        ended = over_http.serve(
            served,
            _HOST.value,
            _PORT.value,
            token,
            _announce,
            tls=context,
            insecure=_INSECURE.value,
            hosts=_ALLOW_HOST.value,
            limits=connections,
        )
    if ended.received is not None:
        _leave(ended)


def _tls_context() -> ssl.SSLContext | None:
    """The context of the files that the flags name; they are looked at before all."""
    files = _TLS_CERT.value, _TLS_KEY.value
    if files == (None, None):
        return None
    if None in files:
        raise ValueError("--tls_cert and --tls_key go together; give both")
    if _TRANSPORT.value != "http":
        raise ValueError(
            "--tls_cert is for --transport=http; over stdio none is needed"
        )
    return tls.server_context(*files)


def _from_flags(kind: type) -> calls.Limits | wire.Wire:
    """Limits as the flags have them."""
    values = flags.FLAGS.flag_values_dict()
    return kind(**{n: values[n] for n in vars(kind()) if n in values})


def _announce(url: str) -> None:
    print(url, flush=True)


def _leave(ended: over_http.Ended) -> None:
    """Ends the process after a signal, with one line."""
    told = "calls under way have ended"
    if ended.cut_off:
        told = f"{ended.cut_off} calls were cut off; --grace_s gives them longer"
    print(f"stopped by {ended.received.name}: {told}", file=sys.stderr)
    code = 128 + ended.received
    if not ended.abandoned:
        sys.exit(code)
    # Threads of experts that do not end would be waited for.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    cli.run(main)
