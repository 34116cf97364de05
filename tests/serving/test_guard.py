"""What the head of a request must have."""

import pytest

from m3jax.serving import guard

TOKEN = "correct-horse-battery"


def scope(path="/mcp", method="POST", **headers):
    headers = {"host": "127.0.0.1:8000"} | headers
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return {"path": path, "method": method, "headers": pairs}


def status(rules, *args, **headers):
    fault = rules.fault(scope(*args, **headers))
    return 200 if fault is None else fault[0]


@pytest.fixture
def rules():
    names = guard.names_of("127.0.0.1", ["Camera.local."])
    return guard.Rules(frozenset(["/mcp"]), 1000, None, names)


@pytest.mark.parametrize("path", ["/mcp", "/arrays/x", "/encode/sign", "/"])
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", 200), ("127.0.0.1:80", 200), ("LOCALHOST:9", 200)),
        *(("localhost.", 200), ("[::1]:8000", 200), ("camera.LOCAL", 200)),
        *(("evil.example", 421), ("127.0.0.1.nip.io:80", 421), ("", 421)),
        *(("localhost@evil", 421), ("localhost:80:80", 421), ("::1", 421)),
        *(("localhost/x", 421), ("local host", 421), ("127.0.0.1:x", 421)),
        *(([], 421), (["localhost", "localhost"], 421)),
    ],
)
def test_hosts_are_checked_on_every_path(rules, path, host, expected):
    assert status(rules, path, host=host) == expected


@pytest.mark.parametrize("path", ["/mcp", "/arrays/x", "/encode/sign"])
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        *(("http://127.0.0.1:3000", 200), ("https://LocalHost", 200)),
        *(("http://evil.example", 403), ("null", 403), ("", 403)),
        *(("file://localhost", 403), ("http://localhost@evil.example", 403)),
        *((["http://localhost", "http://evil.example"], 403), ("http://[", 403)),
    ],
)
def test_origins_are_checked_on_every_path(rules, path, origin, expected):
    assert status(rules, path, origin=origin) == expected


def test_beyond_this_machine_only_the_same_origin_may_call():
    rules = guard.Rules(frozenset(), 1000, None, guard.names_of("0.0.0.0"))
    assert status(rules, host="any.name:1") == 200
    assert status(rules, host="any.name:1", origin="https://Any.name:1") == 200
    assert status(rules, host="any.name:1", origin="https://any.name:2") == 403
    named = guard.Rules(frozenset(), 1000, None, guard.names_of("0.0.0.0", ["edge"]))
    assert status(named, host="edge:1") == 200
    assert status(named, host="localhost:1") == 421


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200), (f"BEARER {TOKEN}", 200)),
        (f"bEaReR   {TOKEN} ", 200),
        *((f"Basic {TOKEN}", 401), (TOKEN, 401), (f"Bearer{TOKEN}", 401), ("", 401)),
        *((f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN.upper()}", 401), ("Bearer", 401)),
        *((f"Bearer {TOKEN} x", 401), ("Bearer \xe4", 401), ([], 401)),
        ([f"Bearer {TOKEN}"] * 2, 401),
    ],
)
def test_the_scheme_may_be_in_any_case_the_token_not(given, expected):
    rules = guard.Rules(frozenset(), 1000, TOKEN)
    assert status(rules, authorization=given) == expected


def test_names_of_headers_may_be_in_any_case():
    rules = guard.Rules(frozenset(), 1000, TOKEN)
    assert status(rules, AUTHORIZATION=f"Bearer {TOKEN}") == 200
    assert status(rules, Authorization=f"Bearer {TOKEN}", ORIGIN="http://x") == 403


@pytest.mark.parametrize(
    ("length", "expected"),
    [("1000", 200), ("1001", 413), ("9" * 5000, 413), ("-1", 413), ("\xb2", 413)],
)
def test_lengths_are_believed_only_within_the_limit(rules, length, expected):
    assert status(rules, content_length=length) == expected


def test_only_post_where_anything_else_would_wait(rules):
    assert status(rules, "/mcp", "GET") == 405
    assert status(rules, "/arrays/x", "GET") == 200
