"""Certificates: made for the test, used, and found faulty."""

import asyncio
import datetime
import ipaddress
import ssl

import numpy as np
import pytest

from m3jax.serving import async_registry, endpoints, over_http, server, tls, web, wire

mcp = pytest.importorskip("mcp")
x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

TOKEN = "correct-horse-battery"
PEM = serialization.Encoding.PEM
KEY = serialization.PrivateFormat.PKCS8


def write_pair(folder, name, password=None):
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = serialization.NoEncryption()
    if password:
        secret = serialization.BestAvailableEncryption(password)
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(PEM))
    key_file.write_bytes(key.private_bytes(PEM, KEY, secret))
    return str(cert_file), str(key_file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def pair(folder):
    return write_pair(folder, "edge")


@pytest.fixture(scope="module")
def other(folder):
    return write_pair(folder, "other")


def serving(dummies, pair, work, **how):
    served = server.make_server([dummies.Dummy("sign"), dummies.Dummy("chart")])

    async def run():
        context = tls.server_context(*pair)
        async with over_http.running(served, tls=context, **how) as (url, _):
            return await work(url)

    return asyncio.run(run())


async def ask(url, images, *access):
    where = [endpoints.Http(url, *access)]
    async with async_registry.AsyncRegistry(where, connect_s=10.0) as found:
        if found.problems:
            return found.problems[url]
        return (await found.encode(images, ["sign"]))["sign"]


def test_a_client_with_the_certificate_is_served(dummies, images, pair):
    async def work(url):
        assert url.startswith("https://127.0.0.1:")
        return await ask(url, images, TOKEN, pair[0])

    reply = serving(dummies, pair, work, token=TOKEN)
    expected = dummies.Dummy("sign").encode(images)
    np.testing.assert_array_equal(reply.tokens, expected)


def test_a_server_that_cannot_prove_itself_is_not_called(dummies, images, pair, other):
    async def work(url):
        plain = url.replace("https", "http")
        return (
            await ask(url, images, TOKEN, other[0]),
            await ask(url, images, TOKEN),
            await ask(plain, images, TOKEN),
        )

    strange, unknown, plain = serving(dummies, pair, work, token=TOKEN)
    assert "certificate verify failed" in strange.lower()
    assert "certificate verify failed" in unknown.lower()
    assert isinstance(plain, str), "it does not speak plain HTTP"


def test_beyond_this_machine_tls_is_enough(dummies, images, pair):
    async def work(url):
        return await ask(url.replace("0.0.0.0", "127.0.0.1"), images, TOKEN, pair[0])

    assert serving(dummies, pair, work, host="0.0.0.0", token=TOKEN).ok


def test_handshakes_that_never_end_have_a_deadline(dummies, images, pair):
    limits = wire.Wire(head_s=0.2, max_connections=20, max_per_address=20)

    async def work(url):
        port = int(url.split(":")[2].removesuffix(web.PATH))
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        reply = await ask(url, images, TOKEN, pair[0])
        ends = [reader.read() for reader, _ in idle]
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), 5)
        for _, writer in idle:
            writer.close()
        return reply

    assert serving(dummies, pair, work, token=TOKEN, limits=limits).ok


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read: No such file"), (b"hello", "in PEM"), (b"", "in PEM")],
)
def test_faulty_files_are_named_in_one_line(folder, pair, which, content, told):
    path = folder / "faulty.pem"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    files = [*pair]
    files[which] = str(path)
    with pytest.raises(ValueError, match=f"faulty.pem.*{told}") as error:
        tls.server_context(*files)
    assert "\n" not in str(error.value)


def test_a_key_of_another_certificate_is_told(pair, other):
    with pytest.raises(ValueError, match="other.key is not the key of certificate"):
        tls.server_context(pair[0], other[1])


def test_an_encrypted_key_is_told_and_nobody_asked(folder, pair):
    _, locked = write_pair(folder, "locked", password=b"secret")
    with pytest.raises(ValueError, match="locked.key: it is encrypted.*openssl pkey"):
        tls.server_context(pair[0], locked)


def test_clients_trust_the_file_and_nothing_else(pair, folder):
    context = tls.client_context(pair[0])
    assert context.cert_store_stats()["x509"] == 1
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    with pytest.raises(ValueError, match="ca_file .*nobody.pem cannot be read"):
        endpoints.Http("https://127.0.0.1/mcp", ca_file=str(folder / "nobody.pem"))
    with pytest.raises(ValueError, match="ca_file is for https"):
        endpoints.Http("http://127.0.0.1/mcp", ca_file=pair[0])
