"""TLS: the operator's certificate, or an own CA and a server certificate that are made on the first start and
renewed in time. Knows no listener and no protocol.

Below `<data>/certificates`: `ca.crt` (give this one to clients), `ca.key`, `server.crt`, `server.key`. The CA
is kept for its ten years and is never replaced behind the operator's back; the server certificate is made anew
whenever it would no longer serve: soon to expire, other names, another CA, damaged. `ca.key` may be taken
away and kept elsewhere; it is needed again only for that.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headwater.errors import ConfigurationError
from headwater.files import write_atomically
from headwater.setting_kinds import is_host_name, is_ip_address
from headwater.settings import ClientCertificates, Settings, TlsSettings

DIRECTORY = "certificates"
CA_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=820)
"""Apple's systems refuse server certificates of private CAs that are valid for more than 825 days."""
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(days=1)
"""Devices with a clock that is a little slow accept a fresh certificate too."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the TLS listeners show to clients."""

    certificate: Path
    key: Path
    ca_certificate: Path | None
    """Our own CA's certificate, for clients to trust; None when the operator brought a certificate."""


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def prepare_identity(settings: Settings, *, machine_names: Iterable[str], now: datetime) -> Identity:
    """The operator's certificate where one is set; else our own, made or renewed as needed.

    Raises `ConfigurationError` when a file is missing, unreadable or does not fit the others.
    """
    identity = identity_of_operator(settings)
    if identity is None:
        identity = own_identity(settings)
        try:
            _prepare_own(identity, _wanted_names(settings, machine_names), now)
        except OSError as error:
            raise ConfigurationError(
                f"certificates cannot be kept in {identity.certificate.parent}: {error.strerror}"
            ) from error
    server_context(identity)
    return identity


def must_be_made(settings: Settings, *, machine_names: Iterable[str], now: datetime) -> bool:
    """Whether `prepare_identity` would make or renew a certificate. Raises `ConfigurationError`."""
    if identity_of_operator(settings) is not None:
        return False
    identity = own_identity(settings)
    directory = identity.certificate.parent
    ca_certificate, current = _read_certificate(directory / "ca.crt"), _read_server_pair(identity)
    if ca_certificate is None or current is None:
        return True
    # Without its key, the CA cannot be renewed: it is used to its end.
    if not _lasts(ca_certificate, now) and (directory / "ca.key").exists():
        return True
    return not _still_serves(current.certificate, ca_certificate, _wanted_names(settings, machine_names), now)


def identity_of_operator(settings: Settings) -> Identity | None:
    """The certificate that the settings name, if they do."""
    if settings.tls.certificate is None or settings.tls.key is None:
        return None
    return Identity(settings.tls.certificate, settings.tls.key, None)


def own_identity(settings: Settings) -> Identity:
    """Where our own certificates are; they need not exist."""
    directory = settings.data / DIRECTORY
    return Identity(directory / "server.crt", directory / "server.key", directory / "ca.crt")


def find_machine_names() -> tuple[str, ...]:
    """How clients in the local network may call this machine: its host name, that name as multicast DNS tells
    it, and the addresses it would use towards other networks."""
    name = socket.gethostname()
    names = [name] if "." in name else [name, f"{name}.local"]
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            # Connecting a datagram socket sends nothing; it only makes the kernel choose a source address.
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                names.append(probe.getsockname()[0])
        except OSError:  # no route in that family
            continue
    return tuple(names)


def server_context(identity: Identity, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """TLS 1.2 and newer with this certificate. Raises `ConfigurationError` when it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs the server much and an attacker little
    if alpn:
        context.set_alpn_protocols(list(alpn))
    _load_chain(context, identity)
    return context


def ask_for_client_certificates(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Have clients show certificates, if the settings say so. Raises `ConfigurationError` when the file with their CAs
    cannot be used."""
    if tls.client_certificates is ClientCertificates.OFF or tls.client_ca is None:
        return
    try:
        context.load_verify_locations(tls.client_ca)
    except (ssl.SSLError, OSError) as error:
        reason = (
            "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        )
        raise ConfigurationError(f"tls.client_ca: {tls.client_ca} {reason}") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate CA may be all that is trusted
    is_required = tls.client_certificates is ClientCertificates.REQUIRED
    context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL


def common_name(peer_certificate: Mapping[str, Any] | None) -> str | None:
    """Whom a client's certificate names, from what a transport knows as `peercert`. None without a certificate, and
    when its subject has no common name, an empty one or several: then it is not certain who is meant."""
    subject = (peer_certificate or {}).get("subject", ())
    names = [value for attributes in subject for name, value in attributes if name == "commonName"]
    return names[0] if len(names) == 1 and names[0] else None


def certificate_end(path: Path) -> datetime:
    """When a file's first certificate expires. Raises `ConfigurationError` when it cannot be read."""
    certificate = _read_certificate(path)
    if certificate is None:
        raise ConfigurationError(f"{path} does not exist")
    return certificate.not_valid_after_utc


def certificate_names(path: Path) -> tuple[str, ...]:
    """The names and addresses in a certificate file's first certificate."""
    certificate = _read_certificate(path)
    return () if certificate is None else tuple(sorted(_names_of(certificate)))


def _load_chain(context: ssl.SSLContext, identity: Identity) -> None:
    def refuse_passphrase() -> str:
        raise ConfigurationError(f"{identity.key} is encrypted; Headwater needs a key without a passphrase")

    for path in (identity.certificate, identity.key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(identity.certificate, identity.key, password=refuse_passphrase)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        raise ConfigurationError(
            f"{identity.certificate} and {identity.key} are no usable certificate and key: {reason}"
        ) from error


def _wanted_names(settings: Settings, machine_names: Iterable[str]) -> frozenset[str]:
    names = {"localhost", "127.0.0.1", "::1", *settings.tls.host_names}
    hosts = [address.host for address in (*settings.listen.https, *settings.listen.mqtts)]
    on_all_addresses = any(is_ip_address(host) and ipaddress.ip_address(host).is_unspecified for host in hosts)
    # An address of the machine belongs in the certificate only when something listens there.
    names.update(name for name in machine_names if on_all_addresses or not is_ip_address(name))
    names.update(hosts)
    return frozenset(name for name in map(_canonical_name, names) if name)


def _canonical_name(name: str) -> str:
    """A name as it stands in a certificate; empty for what cannot stand there, as odd machine names."""
    if is_ip_address(name):
        address = ipaddress.ip_address(name.partition("%")[0])
        return "" if address.is_unspecified else str(address)
    return name.lower().rstrip(".") if is_host_name(name.removeprefix("*.")) else ""


def _prepare_own(identity: Identity, names: frozenset[str], now: datetime) -> None:
    directory = identity.certificate.parent
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    ca_certificate = _prepare_ca(directory, now)
    current = _read_server_pair(identity)
    if current is not None and _still_serves(current.certificate, ca_certificate, names, now):
        return
    ca_key = _read_key(directory / "ca.key")
    if ca_key is None:
        raise ConfigurationError(
            f"the server certificate must be renewed, and {directory / 'ca.key'} does not exist: put it back, "
            f"or remove {directory} to start with a new CA that every client must be given"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign_server(key, names, _Pair(ca_certificate, ca_key), now)
    # The key first: after a crash in between, the two do not fit and are made again.
    _write_key(identity.key, key)
    write_atomically(identity.certificate, certificate.public_bytes(Encoding.PEM), 0o644)


def _prepare_ca(directory: Path, now: datetime) -> x509.Certificate:
    certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
    certificate, key = _read_certificate(certificate_path), _read_key(key_path)
    if certificate is not None:
        if key is not None and _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
            raise ConfigurationError(f"{key_path} is not the key of {certificate_path}: put the right one back")
        if _lasts(certificate, now) or key is None:
            return certificate
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(key_path, key)
    # With the old key and name where there are any, so that certificates signed before stay good.
    certificate = _sign_ca(key, certificate.subject if certificate else _ca_name(key), now)
    write_atomically(certificate_path, certificate.public_bytes(Encoding.PEM), 0o644)
    return certificate


def _still_serves(certificate: x509.Certificate, ca: x509.Certificate, names: frozenset[str], now: datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    in_time = certificate.not_valid_before_utc <= now and _lasts(certificate, now)
    return in_time and _names_of(certificate) == names


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    return now < certificate.not_valid_after_utc - RENEW_BEFORE


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(
        [
            *extension.value.get_values_for_type(x509.DNSName),
            *map(str, extension.value.get_values_for_type(x509.IPAddress)),
        ]
    )


def _ca_name(key: ec.EllipticCurvePrivateKey) -> x509.Name:
    """A name of its own for each CA: trust stores confuse two CAs that are called alike."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Headwater"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Headwater CA {digest[:8]}"),
        ]
    )


def _sign_ca(key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign_server(key: ec.EllipticCurvePrivateKey, names: frozenset[str], ca: _Pair, now: datetime) -> x509.Certificate:
    ca_identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(name)) if is_ip_address(name) else x509.DNSName(name)
        for name in sorted(names)
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Headwater server")]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now - BACKDATED + SERVER_LIFETIME, ca.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
        .sign(ca.key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _read_certificate(path: Path) -> x509.Certificate | None:
    """None when there is no such file."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a PEM certificate: put the right one back") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """None when there is no such file."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is not a PEM key without passphrase: put the right one back") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is not an elliptic curve key: put the right one back")
    return key


def _read_server_pair(identity: Identity) -> _Pair | None:
    """None when there is none that can be used: it is made again."""
    try:
        certificate, key = _read_certificate(identity.certificate), _read_key(identity.key)
    except ConfigurationError:
        return None
    if certificate is None or key is None:
        return None
    fits = _public_bytes(key.public_key()) == _public_bytes(certificate.public_key())
    return _Pair(certificate, key) if fits else None


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
