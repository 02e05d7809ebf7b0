"""How many files, and so connections, the system lets the process have open at the same time."""

from __future__ import annotations

import resource

from headwater.settings import Settings


def raise_file_limit() -> int:
    """Take all that the system grants this process without asking; answers how many that are.

    The usual soft limit of 1024 is for programs that use `select`, which Headwater does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS calls its hard limit infinite and then grants less
        return soft
    return granted_files()


def granted_files() -> int:
    """The hard limit, up to which `raise_file_limit` goes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**63 - 1 if hard == resource.RLIM_INFINITY else hard


def connections_wanted(settings: Settings) -> int:
    """Connections that the settings allow; each takes one open file."""
    return settings.mqtt.max_connections + settings.web.max_connections


def what_is_short(granted: int, settings: Settings) -> str | None:
    """What to tell the operator when the limit does not allow all those connections."""
    wanted = connections_wanted(settings)
    if granted >= wanted:
        return None
    return (
        f"the system lets Headwater open {granted} files, and the settings allow {wanted} connections: raise the "
        f"limit (ulimit -Hn, or LimitNOFILE in systemd), or lower mqtt.max_connections and web.max_connections"
    )
