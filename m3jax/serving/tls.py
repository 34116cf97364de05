"""Certificates: contexts of TLS for servers and clients, from files.

A faulty file is told in one line, before anything is loaded that takes time.
"""

import os
import pathlib
import ssl


def server_context(
    certificate: str | os.PathLike[str], key: str | os.PathLike[str]
) -> ssl.SSLContext:
    """The context of a server.

    Args:
      certificate: PEM file of its certificate, those that signed it after it.
      key: PEM file of its private key, not encrypted.

    Raises:
      ValueError: a file cannot be read, holds no such thing, or key and certificate do
        not belong together.
    """
    _check_readable("certificate", certificate)
    _check_readable("key", key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _check_certificate(certificate)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except _Encrypted:
        raise ValueError(
            f"key {key}: it is encrypted, and a server cannot ask for a passphrase;"
            f" write it plain, with `openssl pkey -in {key}`"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            told = f"is not the key of certificate {certificate}; give the pair"
        else:
            told = "is no private key in PEM; its first line is -----BEGIN ..."
        raise ValueError(f"key {key} {told}") from error
    return context


def client_context(ca_file: str | os.PathLike[str]) -> ssl.SSLContext:
    """The context of a client that trusts the authorities of a file, and no others.

    Args:
      ca_file: PEM file of certificates; that of the server itself, if it signed it.

    Raises:
      ValueError: the file cannot be read, or holds no certificate.
    """
    _check_readable("ca_file", ca_file)
    _check_certificate(ca_file)
    return ssl.create_default_context(cafile=os.fspath(ca_file))


class _Encrypted(Exception):
    """The key asks for a passphrase."""


def _refuse_password() -> bytes:
    raise _Encrypted


def _check_readable(name: str, path: str | os.PathLike[str]) -> None:
    try:
        with pathlib.Path(path).open("rb"):
            pass
    except OSError as error:
        raise ValueError(
            f"{name} {path} cannot be read: {error.strerror}; give a PEM file"
        ) from error


def _check_certificate(path: str | os.PathLike[str]) -> None:
    try:
        ssl.create_default_context(cafile=os.fspath(path))
    except ssl.SSLError as error:
        raise ValueError(
            f"{path} holds no certificate in PEM; its first line is"
            " -----BEGIN CERTIFICATE-----"
        ) from error
