"""Certificates: made, kept, renewed, refused; and real handshakes against them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from headwater.certificates import (
    Identity,
    certificate_names,
    common_name,
    find_machine_names,
    must_be_made,
    own_identity,
    prepare_identity,
    server_context,
)
from headwater.checkup import check_certificates
from headwater.errors import ConfigurationError
from headwater.reload import ListenerTls, ReloadableContext
from headwater.setting_kinds import Address
from headwater.settings import ClientCertificates, ListenSettings, Settings, TlsSettings, load_settings

NOW = datetime.now(UTC).replace(microsecond=0)
MACHINE = ("porch", "porch.local", "192.168.1.7", "odd name")


def settings_at(data: Path, *, listen: str = "127.0.0.1:0", host_names: tuple[str, ...] = ()) -> Settings:
    address = Address.parse(listen)
    return Settings(
        data=data, listen=ListenSettings(https=(address,), mqtts=(address,)), tls=TlsSettings(host_names=host_names)
    )


def prepare(settings: Settings, now: datetime = NOW) -> Identity:
    return prepare_identity(settings, machine_names=MACHINE, now=now)


def served(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes())


def trusting(ca: Path | None) -> ssl.SSLContext:
    """A client as strict as Python can be."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str | None, str | None]:
    """One handshake over a real socket pair: the versions of TLS and of the protocol inside that were agreed on.
    What the client finds wrong is raised."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except OSError:  # the client refused us, which is for the client to tell
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as connection:
            connection.send(b"x")
            return connection.version(), connection.selected_alpn_protocol()
    finally:
        ours.close()
        thread.join(timeout=10)


def test_the_first_start_makes_a_ca_and_a_certificate(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    assert identity == own_identity(settings_at(tmp_path))
    directory = tmp_path / "certificates"
    assert {path.name for path in directory.iterdir()} == {"ca.crt", "ca.key", "server.crt", "server.key"}
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    certificate = served(identity)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=825)
    assert certificate_names(directory / "server.crt") == ("127.0.0.1", "::1", "localhost", "porch", "porch.local")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "porch", "porch.local", "iot.example.org"])
def test_clients_that_trust_the_ca_accept_every_name(tmp_path: Path, name: str) -> None:
    identity = prepare(settings_at(tmp_path, host_names=("iot.example.org",)))
    assert shake_hands(server_context(identity), trusting(identity.ca_certificate), name) == ("TLSv1.3", None)


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.2", "192.168.1.7"])
def test_clients_refuse_any_other_name(tmp_path: Path, name: str) -> None:
    identity = prepare(settings_at(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        shake_hands(server_context(identity), trusting(identity.ca_certificate), name)


def test_clients_that_do_not_trust_the_ca_refuse(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path / "ours"))
    other = prepare(settings_at(tmp_path / "other"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(identity), trusting(other.ca_certificate), "localhost")


def test_tls_1_2_is_the_oldest(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    client = trusting(identity.ca_certificate)
    assert server_context(identity).minimum_version is ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(server_context(identity), client, "localhost") == ("TLSv1.2", None)


def test_the_protocol_is_negotiated(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    client = trusting(identity.ca_certificate)
    client.set_alpn_protocols(["h2", "http/1.1"])
    server = server_context(identity, alpn=["http/1.1"])
    assert shake_hands(server, client, "localhost") == ("TLSv1.3", "http/1.1")


def test_openssl_finds_the_chain_in_order(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is not installed, and CI needs it")
        pytest.skip("openssl is not installed")
    identity = prepare(settings_at(tmp_path))
    assert identity.ca_certificate is not None
    verify = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(identity.ca_certificate)]
    for extra in (["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
        result = subprocess.run(
            [*verify, *extra, str(identity.certificate)], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    wrong = [*verify, "-verify_hostname", "evil.example", str(identity.certificate)]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode != 0


def test_a_later_start_keeps_everything(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "certificates").iterdir()}
    prepare(settings_at(tmp_path), NOW + timedelta(days=780))
    assert {path: path.read_bytes() for path in (tmp_path / "certificates").iterdir()} == before
    assert served(identity).not_valid_before_utc < NOW


@pytest.mark.parametrize("later", [timedelta(days=800), timedelta(days=2000), timedelta(days=-10)])
def test_a_certificate_that_is_not_valid_long_enough_is_renewed(tmp_path: Path, later: timedelta) -> None:
    identity = prepare(settings_at(tmp_path))
    serial, ca = served(identity).serial_number, (tmp_path / "certificates" / "ca.crt").read_bytes()
    prepare(settings_at(tmp_path), NOW + later)
    assert served(identity).serial_number != serial
    assert served(identity).not_valid_after_utc > NOW + later + timedelta(days=700)
    assert (tmp_path / "certificates" / "ca.crt").read_bytes() == ca


def test_a_certificate_never_outlives_its_ca(tmp_path: Path) -> None:
    prepare(settings_at(tmp_path))
    identity = prepare(settings_at(tmp_path), NOW + timedelta(days=3500))
    ca = x509.load_pem_x509_certificate((tmp_path / "certificates" / "ca.crt").read_bytes())
    assert served(identity).not_valid_after_utc == ca.not_valid_after_utc


def test_a_ca_at_its_end_is_renewed_with_its_key_and_name(tmp_path: Path) -> None:
    old_identity = prepare(settings_at(tmp_path))
    old_certificate = served(old_identity)
    path = tmp_path / "certificates" / "ca.crt"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    prepare(settings_at(tmp_path), NOW + timedelta(days=3640))
    new = x509.load_pem_x509_certificate(path.read_bytes())
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert (new.subject, new.public_key()) == (old.subject, old.public_key())
    old_certificate.verify_directly_issued_by(new)


def test_other_names_give_another_certificate(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path, host_names=("a.example", "*.b.example")))
    assert {"a.example", "*.b.example"} <= set(certificate_names(identity.certificate))
    prepare(settings_at(tmp_path))
    assert "a.example" not in certificate_names(identity.certificate)


def test_the_addresses_of_the_listeners_are_in_the_certificate(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path, listen="10.0.0.5:8883"))
    assert "10.0.0.5" in certificate_names(identity.certificate)
    assert "192.168.1.7" not in certificate_names(identity.certificate)


@pytest.mark.parametrize("listen", ["0.0.0.0:8883", "[::]:8883"])
def test_listening_everywhere_puts_the_addresses_of_the_machine_in(tmp_path: Path, listen: str) -> None:
    names = certificate_names(prepare(settings_at(tmp_path, listen=listen)).certificate)
    assert "192.168.1.7" in names
    assert not {"0.0.0.0", "::", "odd name"} & set(names)


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_server_certificate_is_made_again(tmp_path: Path, name: str, damage: bytes | None) -> None:
    identity = prepare(settings_at(tmp_path))
    path = tmp_path / "certificates" / name
    path.unlink() if damage is None else path.write_bytes(damage)
    prepare(settings_at(tmp_path))
    shake_hands(server_context(identity), trusting(identity.ca_certificate), "localhost")


def test_a_key_and_a_certificate_that_do_not_fit_are_made_again(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path / "a"))
    other = prepare(settings_at(tmp_path / "b"))
    shutil.copy(other.key, identity.key)  # as after a crash between the two writes
    prepare(settings_at(tmp_path / "a"))
    shake_hands(server_context(identity), trusting(identity.ca_certificate), "localhost")


def test_another_ca_gives_another_certificate(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path / "a"))
    prepare(settings_at(tmp_path / "b"))
    for name in ("ca.crt", "ca.key"):
        shutil.copy(tmp_path / "b" / "certificates" / name, tmp_path / "a" / "certificates" / name)
    prepare(settings_at(tmp_path / "a"))
    shake_hands(server_context(identity), trusting(identity.ca_certificate), "localhost")


def test_a_ca_certificate_that_is_lost_is_made_again_from_its_key(tmp_path: Path) -> None:
    prepare(settings_at(tmp_path))
    (tmp_path / "certificates" / "ca.crt").unlink()
    identity = prepare(settings_at(tmp_path))
    shake_hands(server_context(identity), trusting(identity.ca_certificate), "localhost")


@pytest.mark.parametrize(("name", "reason"), [("ca.crt", "not a PEM certificate"), ("ca.key", "no PEM key|not a PEM")])
def test_a_damaged_ca_is_never_replaced(tmp_path: Path, name: str, reason: str) -> None:
    prepare(settings_at(tmp_path))
    path = tmp_path / "certificates" / name
    path.write_bytes(b"garbage")
    with pytest.raises(ConfigurationError, match=reason):
        prepare(settings_at(tmp_path))
    assert path.read_bytes() == b"garbage"


def test_the_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    prepare(settings_at(tmp_path / "a"))
    prepare(settings_at(tmp_path / "b"))
    shutil.copy(tmp_path / "b" / "certificates" / "ca.key", tmp_path / "a" / "certificates" / "ca.key")
    with pytest.raises(ConfigurationError, match="is not the key of"):
        prepare(settings_at(tmp_path / "a"))


def test_the_ca_key_may_be_kept_elsewhere_until_it_is_needed(tmp_path: Path) -> None:
    prepare(settings_at(tmp_path))
    (tmp_path / "certificates" / "ca.key").unlink()
    prepare(settings_at(tmp_path))
    with pytest.raises(ConfigurationError, match=r"ca\.key does not exist"):
        prepare(settings_at(tmp_path, host_names=("a.example",)))


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "certificates").write_text("in the way")
    with pytest.raises(ConfigurationError, match="certificates"):
        prepare(settings_at(tmp_path))


def test_no_temporary_files_stay(tmp_path: Path) -> None:
    prepare(settings_at(tmp_path))
    prepare(settings_at(tmp_path, host_names=("a.example",)))
    assert not [path for path in (tmp_path / "certificates").iterdir() if path.name.startswith(".")]


def test_the_certificate_of_the_operator_is_served(tmp_path: Path) -> None:
    theirs = prepare(settings_at(tmp_path / "theirs"))
    settings = Settings(data=tmp_path / "ours", tls=TlsSettings(certificate=theirs.certificate, key=theirs.key))
    identity = prepare(settings)
    assert identity == Identity(theirs.certificate, theirs.key, None)
    assert not (tmp_path / "ours").exists()
    shake_hands(server_context(identity), trusting(theirs.ca_certificate), "localhost")


def test_what_is_wrong_with_the_certificate_of_the_operator(tmp_path: Path) -> None:
    good = prepare(settings_at(tmp_path / "a"))
    other = prepare(settings_at(tmp_path / "b"))
    encrypted, text = tmp_path / "encrypted.key", tmp_path / "text"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
        )
    )
    text.write_text("hello")
    for certificate, key, reason in (
        (tmp_path / "none", good.key, "none cannot be read: No such file"),
        (good.certificate, tmp_path / "none", "none cannot be read: No such file"),
        (good.certificate, tmp_path, "cannot be read"),
        (good.certificate, other.key, "no usable certificate and key"),
        (good.certificate, text, "no usable certificate and key"),
        (text, good.key, "no usable certificate and key"),
        (good.certificate, encrypted, "is encrypted"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            prepare(Settings(data=tmp_path, tls=TlsSettings(certificate=certificate, key=key)))


def test_a_running_server_takes_up_new_files(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    server = ReloadableContext.of(server_context(identity))
    prepare(settings_at(tmp_path, host_names=("new.example",)))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, trusting(identity.ca_certificate), "new.example")
    server.use(server_context(identity))
    shake_hands(server, trusting(identity.ca_certificate), "new.example")


def test_a_running_server_keeps_what_it_has_when_new_files_are_no_good(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    tls = ListenerTls(settings)
    server = tls.context("mqtts")
    assert server is not None
    identity = own_identity(settings)
    identity.key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ConfigurationError):
        tls.use(settings, identity)
    shake_hands(server, trusting(identity.ca_certificate), "localhost")


def test_two_installations_have_cas_of_different_names(tmp_path: Path) -> None:
    names = set()
    for data in (tmp_path / "a", tmp_path / "b"):
        prepare(settings_at(data))
        names.add(x509.load_pem_x509_certificate((data / "certificates" / "ca.crt").read_bytes()).subject)
    assert len(names) == 2


def test_keys_are_fresh_on_each_renewal(tmp_path: Path) -> None:
    identity = prepare(settings_at(tmp_path))
    first = load_pem_private_key(identity.key.read_bytes(), None)
    prepare(settings_at(tmp_path, host_names=("a.example",)))
    second = load_pem_private_key(identity.key.read_bytes(), None)
    assert first.public_key() != second.public_key()


def test_the_names_of_this_machine_begin_with_its_host_name() -> None:
    assert find_machine_names()[0] == socket.gethostname()


def test_a_certificate_must_be_made_when_there_is_none_and_when_it_ends_soon(data: Path) -> None:
    settings = settings_at(data)

    def is_due(now: datetime, machine: tuple[str, ...] = MACHINE) -> bool:
        return must_be_made(settings, machine_names=machine, now=now)

    assert is_due(NOW)
    identity = prepare(settings)
    assert not is_due(NOW)
    assert is_due(NOW, ("shed",))
    end = served(identity).not_valid_after_utc
    assert not is_due(end - timedelta(days=31))
    assert is_due(end - timedelta(days=29))
    prepare(settings, end - timedelta(days=29))
    assert not is_due(end - timedelta(days=29))


def test_the_operator_s_certificate_is_the_operator_s_to_renew(data: Path) -> None:
    settings = Settings(data=data, tls=TlsSettings(certificate=data / "none.crt", key=data / "none.key"))
    assert not must_be_made(settings, machine_names=MACHINE, now=NOW)


class ClientCa:
    """A CA that signs clients' certificates, kept in files."""

    def __init__(self, directory: Path, name: str = "Clients") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = directory / "ca.crt"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.path.write_bytes(self._sign(self._name, self._key, basic).public_bytes(Encoding.PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, basic: x509.BasicConstraints, days: int = 30
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=60))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(basic, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def client(self, server_ca: Path | None, name: str = "porch", days: int = 30) -> ssl.SSLContext:
        """A client with a certificate of this CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None), days)
        path = self._directory / "client.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        context = trusting(server_ca)
        context.load_cert_chain(path)
        return context


def settings_with_client_ca(data: Path, ca: Path | None, mode: ClientCertificates) -> Settings:
    plain = settings_at(data)
    return dataclasses.replace(plain, tls=TlsSettings(client_ca=ca, client_certificates=mode))


def shown_name(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """Whom the server takes the client for. What either side finds wrong is raised: by TLS 1.3, a client has shaken
    hands before the server has judged its certificate."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    with ThreadPoolExecutor(1) as pool, ours, theirs:

        def connect() -> None:
            with suppress(OSError), client.wrap_socket(ours, server_hostname="localhost") as connection:
                connection.recv(1)

        done = pool.submit(connect)
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                return common_name(connection.getpeercert())
        finally:
            ours.close()
            done.result()


class TestClientCertificates:
    @pytest.mark.parametrize("mode", [ClientCertificates.OPTIONAL, ClientCertificates.REQUIRED])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_who_judges_whom(self, tmp_path: Path, mode: ClientCertificates, version: ssl.TLSVersion) -> None:
        ca, other = ClientCa(tmp_path / "clients"), ClientCa(tmp_path / "others")
        tls = ListenerTls(settings_with_client_ca(tmp_path / "data", ca.path, mode))
        mqtts = tls.context("mqtts")
        assert mqtts is not None
        known, foreign = ca.client(tls.ca_certificate), other.client(tls.ca_certificate)
        expired, bare = ca.client(tls.ca_certificate, days=-1), trusting(tls.ca_certificate)
        for client in (known, foreign, expired, bare):
            client.maximum_version = client.minimum_version = version
        assert shown_name(mqtts, known) == "porch"
        for client in (foreign, expired):
            with pytest.raises(ssl.SSLCertVerificationError):
                shown_name(mqtts, client)
        if mode is ClientCertificates.OPTIONAL:
            assert shown_name(mqtts, bare) is None
        else:
            with pytest.raises(ssl.SSLError):
                shown_name(mqtts, bare)

    def test_browsers_are_not_asked(self, tmp_path: Path) -> None:
        settings = settings_with_client_ca(
            tmp_path / "data", ClientCa(tmp_path / "c").path, ClientCertificates.REQUIRED
        )
        tls = ListenerTls(settings)
        https = tls.context("https")
        assert https is not None
        assert shown_name(https, trusting(tls.ca_certificate)) is None

    def test_off_asks_nobody(self, tmp_path: Path) -> None:
        ca = ClientCa(tmp_path / "clients")
        tls = ListenerTls(settings_with_client_ca(tmp_path / "data", ca.path, ClientCertificates.OFF))
        mqtts = tls.context("mqtts")
        assert mqtts is not None
        assert shown_name(mqtts, ca.client(tls.ca_certificate)) is None

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_ca_that_is_taken_away_counts_no_more(self, tmp_path: Path, version: ssl.TLSVersion) -> None:
        old, new = ClientCa(tmp_path / "old"), ClientCa(tmp_path / "new")
        settings = settings_with_client_ca(tmp_path / "data", old.path, ClientCertificates.REQUIRED)
        tls = ListenerTls(settings)
        mqtts = tls.context("mqtts")
        assert mqtts is not None
        client = old.client(tls.ca_certificate)
        client.maximum_version = version
        assert shown_name(mqtts, client) == "porch"
        shutil.copy(new.path, old.path)
        tls.use(settings, tls.prepare(settings))
        with pytest.raises(ssl.SSLCertVerificationError):
            shown_name(mqtts, client)
        assert shown_name(mqtts, new.client(tls.ca_certificate, "cellar")) == "cellar"

    def test_a_bad_file_changes_nothing(self, tmp_path: Path) -> None:
        ca = ClientCa(tmp_path / "clients")
        settings = settings_with_client_ca(tmp_path / "data", ca.path, ClientCertificates.REQUIRED)
        tls = ListenerTls(settings)
        mqtts = tls.context("mqtts")
        assert mqtts is not None
        ca.path.write_text("no certificate")
        with pytest.raises(ConfigurationError, match=r"tls\.client_ca"):
            tls.use(settings, tls.prepare(settings))
        assert shown_name(mqtts, ca.client(tls.ca_certificate)) == "porch"

    @pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read: No such file"), ("", "PEM"), ("x", "PEM")])
    def test_a_file_that_cannot_be_used_is_named(self, tmp_path: Path, content: str | None, reason: str) -> None:
        path = tmp_path / "clients.pem"
        if content is not None:
            path.write_text(content)
        settings = settings_with_client_ca(tmp_path / "data", path, ClientCertificates.OPTIONAL)
        with pytest.raises(ConfigurationError, match=reason):
            ListenerTls(settings)
        with pytest.raises(ConfigurationError, match=reason):
            check_certificates(settings)

    def test_the_check_says_what_clients_have_to_show(self, tmp_path: Path) -> None:
        ca = ClientCa(tmp_path / "clients")
        settings = settings_with_client_ca(tmp_path / "data", ca.path, ClientCertificates.REQUIRED)
        ListenerTls(settings)
        assert check_certificates(settings).endswith(f"MQTT clients show theirs (required), signed by {ca.path}")

    def test_a_certificate_without_a_ca_is_a_mistake(self) -> None:
        with pytest.raises(ConfigurationError, match=r"tls\.client_ca is not set"):
            load_settings({}, {}, 'tls.client_certificates = "required"')

    @pytest.mark.parametrize(
        ("subject", "name"),
        [
            ((), None),
            (((("commonName", "porch"),),), "porch"),
            (((("organizationName", "x"),), (("commonName", "porch"),)), "porch"),
            (((("organizationName", "x"), ("commonName", "porch")),), "porch"),
            (((("commonName", ""),),), None),
            (((("commonName", "a"),), (("commonName", "b"),)), None),
        ],
    )
    def test_a_common_name_is_a_name_only_if_it_is_the_only_one(self, subject: Any, name: str | None) -> None:
        assert common_name({"subject": subject}) == name
        assert common_name(None) is None
        assert common_name({}) is None
