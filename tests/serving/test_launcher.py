"""``launch/serve_expert.py`` as a user starts it, with experts made for the test."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from m3jax.serving import endpoints, registry

pytest.importorskip("mcp")

SCRIPT = str(pathlib.Path(__file__).with_name("launch_dummies.py"))
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def refusal():
    """What the launcher says last, for each list of flags."""
    tokens = {"SHORT_TOKEN": "x", "GOOD_TOKEN": TOKEN}
    env = os.environ | tokens | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def ask(request):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        def run(*argv):
            script = "launch/serve_expert.py"
            return ask(ask({"script": script, "argv": argv, "environ": {}}))

        yield run
        process.stdin.close()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "--expert must have a value"),
        (["--expert=nobody"], "no specialist 'nobody'; there are sign, chart"),
        (["--expert=sign,sign"], "give at least one, of unlike names"),
        (["--expert=sign", "--transport=fax"], "value should be one of <stdio|http>"),
        (["--expert=sign", "--port=70000"], "--port=70000"),
        (["--expert=sign", "--max_batch=0"], "max_batch is 0"),
        (["--expert=sign", "--token_env=SHORT_TOKEN"], "$SHORT_TOKEN holds no token"),
        (["--expert=sign", "--transport=http", "--host=0.0.0.0"], "need a token: name"),
        (
            ["--expert=nobody", "--transport=http", "--host=0.0.0.0"]
            + ["--token_env=GOOD_TOKEN"],
            "need TLS: give --tls_cert and --tls_key",
        ),
        (
            ["--expert=nobody", "--transport=http", "--tls_cert=x.pem"],
            "--tls_cert and --tls_key go together",
        ),
        (
            ["--expert=nobody", "--transport=http", "--tls_cert=x.pem"]
            + ["--tls_key=x.key"],
            "certificate x.pem cannot be read: No such file",
        ),
        (
            ["--expert=nobody", "--tls_cert=x.pem", "--tls_key=x.key"],
            "--tls_cert is for --transport=http",
        ),
        (["--expert=nobody", "--head_s=0"], "head_s is 0.0; give seconds"),
        (["--expert=nobody", "--max_connections=9"], "max_per_address is 384; it"),
        (
            ["--expert=sign", "--transport=http", "--host=203.0.113.7", "--port=0"]
            + ["--token_env=SHORT_TOKEN"],
            "$SHORT_TOKEN holds no token",
        ),
    ],
)
def test_bad_flags_are_refused_in_one_line(refusal, argv, told):
    done = refusal(*argv)
    assert done["code"] == 1
    *before, line = done["err"].strip().splitlines()
    assert line.startswith("error: ") and told in line
    assert set(before) <= {"loading"}, "what an expert prints when it is loaded"


def test_it_serves_the_program_that_started_it(dummies, images):
    command = (sys.executable, SCRIPT, "--expert=sign,chart")
    with registry.Registry([endpoints.Stdio(command)]) as found:
        assert found.problems == {}
        replies = found.encode(images)
    for name in ("sign", "chart"):
        np.testing.assert_array_equal(
            replies[name].tokens, dummies.Dummy(name).encode(images)
        )


@pytest.mark.slow
def test_it_serves_strangers_that_have_the_token(dummies, images):
    flags = ["--expert=sign", "--transport=http", "--port=0", "--host=0.0.0.0"]
    with subprocess.Popen(
        [sys.executable, SCRIPT, *flags, "--token_env=EXPERT_TOKEN", "--insecure"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"EXPERT_TOKEN": TOKEN},
    ) as process:
        try:
            url = process.stdout.readline().strip()
            url = url.replace("0.0.0.0", "127.0.0.1")
            with registry.Registry([endpoints.Http(url, TOKEN)]) as found:
                tokens = found.encode(images)["sign"].tokens
            with registry.Registry([endpoints.Http(url, TOKEN[:-1])]) as found:
                assert "bearer token" in found.problems[url]
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    np.testing.assert_array_equal(tokens, dummies.Dummy("sign").encode(images))
    assert err.strip() == "loading\nstopped by SIGINT: calls under way have ended"
    assert process.returncode == 128 + signal.SIGINT
