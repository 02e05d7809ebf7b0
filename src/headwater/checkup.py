"""What `headwater check` looks at beyond the settings themselves: the data directory, the certificates and the
limit of open files, as they are. Changes nothing; each check answers with one line, or raises `ConfigurationError`
with what to do."""

from __future__ import annotations

import os
import shutil
import ssl
from datetime import UTC, datetime

from headwater.certificates import (
    ask_for_client_certificates,
    certificate_end,
    certificate_names,
    identity_of_operator,
    own_identity,
    server_context,
)
from headwater.errors import ConfigurationError
from headwater.file_limit import connections_wanted, granted_files, what_is_short
from headwater.instance import running_pid
from headwater.settings import ClientCertificates, Settings

MIN_FREE_BYTES = 100 * 1024 * 1024


def check_data(settings: Settings) -> str:
    """Whether the data directory can be used, and whether a server uses it."""
    data = settings.data
    if not data.exists():
        parent = next(path for path in data.absolute().parents if path.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{data} does not exist and {parent} is not writable")
        return f"{data} does not exist yet and will be made"
    if not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"{data} is not a directory in which this user may read and write")
    free_bytes = shutil.disk_usage(data).free
    if free_bytes < MIN_FREE_BYTES:
        raise ConfigurationError(f"{data} has only {free_bytes // 2**20} MB left on its disk: make room")
    pid = running_pid(data)
    state = "no server runs on it" if pid is None else f"process {pid} serves it"
    return f"good: {data}, {state}, {free_bytes / 2**30:.1f} GB free"


def check_certificates(settings: Settings, *, now: datetime | None = None) -> str:
    """Whether the certificate that would be served can be, until when, and whether those of clients can be judged."""
    ask_for_client_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings.tls)
    return f"{_check_own_certificate(settings, now)}{_clients_part(settings)}"


def _clients_part(settings: Settings) -> str:
    tls = settings.tls
    if tls.client_certificates is ClientCertificates.OFF:
        return ""
    return f"; MQTT clients show theirs ({tls.client_certificates}), signed by {tls.client_ca}"


def _check_own_certificate(settings: Settings, now: datetime | None) -> str:
    identity = identity_of_operator(settings) or own_identity(settings)
    if identity.ca_certificate is not None and not identity.ca_certificate.exists():
        return f"{identity.ca_certificate.parent} is empty: a CA and a server certificate will be made"
    server_context(identity)
    end = certificate_end(identity.certificate)
    if end <= (now or datetime.now(UTC)):
        if identity.ca_certificate is None:
            raise ConfigurationError(f"{identity.certificate} expired on {end:%Y-%m-%d}: renew it")
        return f"expired on {end:%Y-%m-%d}, will be renewed at the next start"
    names = ", ".join(certificate_names(identity.certificate)) or "no name"
    return f"good until {end:%Y-%m-%d}: {identity.certificate} for {names}"


def check_file_limit(settings: Settings) -> str:
    """Whether the system grants a server that is started like this command as many connections as are allowed."""
    granted = granted_files()
    if short := what_is_short(granted, settings):
        return f"few: {short}"
    return f"good: {granted} for at most {connections_wanted(settings)} connections"
