"""Who may call a server over HTTP: tokens, addresses, and what a head must have."""

import dataclasses
import hmac
import ipaddress
import os
import re
from collections.abc import Iterable
from typing import Any

MIN_TOKEN_LENGTH = 16

# A name or an address, those of IPv6 in brackets, and a port (RFC 9110, section 7.2).
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+?)\.?(?::[0-9]*)?")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def read_token(variable: str) -> str:
    """Reads a bearer token from the environment.

    Raises:
      ValueError: the variable is unset, or holds no token of at least 16 characters.
    """
    token = os.environ.get(variable, "")
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"${variable} holds no token; set it to at least {MIN_TOKEN_LENGTH} "
            "characters of printable ASCII, for example from `openssl rand -hex 32`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only; names other than localhost: no.

    Example:
      >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")]
      [True, True, True, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(
    host: str, token: str | None, encrypted: bool, insecure: bool = False
) -> None:
    """Refuses to serve beyond this machine without a token, or in the clear.

    Args:
      host: address to listen at.
      token: what callers must send.
      encrypted: whether TLS is spoken.
      insecure: serve in the clear all the same.

    Raises:
      ValueError: it would.
    """
    if is_loopback(host):
        return
    if not token:
        raise ValueError(
            f"{host!r} is reached from beyond this machine, so callers need a token: "
            "name its environment variable with --token_env, or listen at 127.0.0.1"
        )
    if not encrypted and not insecure:
        raise ValueError(
            f"{host!r} is reached from beyond this machine, so images and the token "
            "need TLS: give --tls_cert and --tls_key, or --insecure behind a proxy "
            "that speaks it"
        )


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the head of a request must have; told before its body is read.

    Attributes:
      post_only: paths at which anything but POST would wait for what never comes.
      max_body_bytes: largest body.
      token: what ``Authorization: Bearer`` must carry; None for no check.
      hosts: names under which the server may be called, in lower case; empty for any.
    """

    post_only: frozenset[str]
    max_body_bytes: int
    token: str | None = dataclasses.field(default=None, repr=False)
    hosts: frozenset[str] = frozenset()

    def fault(self, scope: Any) -> tuple[int, str] | None:
        """Status and words for a request of ASGI that is not passed on.

        Names of headers and the scheme of the authorization are compared without
        regard to case (RFC 9110, sections 5.1 and 11.1).
        """
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        return (
            self._place_fault(headers)
            or self._token_fault(headers)
            or self._form_fault(scope, headers)
        )

    def _place_fault(self, headers: dict) -> tuple[int, str] | None:
        """A web page must not reach the server, nor through a name of its own."""
        hosts = headers.get(b"host", [])
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None or (self.hosts and name not in self.hosts):
            return 421, "the request is for another host; Host must name this server"
        for origin in headers.get(b"origin", []):
            scheme, _, authority = origin.lower().partition("://")
            known = authority == hosts[0].lower() or _name(authority) in self.hosts
            if scheme not in ("http", "https") or not known:
                return 403, "pages of another origin may not call; Origin is foreign"
        return None

    def _token_fault(self, headers: dict) -> tuple[int, str] | None:
        if self.token is None:
            return None
        given = headers.get(b"authorization", [])
        scheme, _, credentials = (given[0] if len(given) == 1 else "").partition(" ")
        # In constant time, so that a token cannot be guessed letter by letter.
        right = hmac.compare_digest(
            credentials.strip(" ").encode("latin-1"), self.token.encode()
        )
        if scheme.lower() == "bearer" and right:
            return None
        return 401, "callers need a bearer token; it is missing or wrong"

    def _form_fault(self, scope: Any, headers: dict) -> tuple[int, str] | None:
        if scope["path"] in self.post_only and scope["method"] != "POST":
            return 405, "only POST is answered here"
        length = headers.get(b"content-length", ["0"])[0]
        digits = length.isascii() and length.isdigit()
        if not digits or int(length[:20]) > self.max_body_bytes:
            return too_large(self.max_body_bytes)
        return None


def too_large(max_body_bytes: int) -> tuple[int, str]:
    """Status and words for a body over the limit."""
    return 413, (
        f"the request is larger than {max_body_bytes} bytes; send fewer images in a "
        "call"
    )


def names_of(host: str, others: Iterable[str] = ()) -> frozenset[str]:
    """Names under which a server that listens at ``host`` may be called.

    Args:
      host: where it listens.
      others: further names.

    Returns:
      Beyond this machine only ``others``; empty for any name.

    Example:
      >>> sorted(names_of("::1", ["Camera"]))
      ['127.0.0.1', '[::1]', 'camera', 'localhost']
      >>> names_of("0.0.0.0")
      frozenset()
    """
    names = {name.lower().removesuffix(".") for name in others}
    if is_loopback(host):
        names |= {*_LOOPBACK, f"[{host}]" if ":" in host else host}
    return frozenset(names)


def _name(authority: str) -> str | None:
    """Host without port, in lower case; None if it is no such thing.

    Example:
      >>> _name("LocalHost:80"), _name("[::1]:80"), _name("a@b"), _name("")
      ('localhost', '[::1]', None, None)
    """
    found = _HOST.fullmatch(authority)
    return found[1].lower() if found else None
