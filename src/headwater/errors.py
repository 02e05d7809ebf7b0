"""The one error tree. Knows no protocol: an edge turns an error into a status, a reason code or a close.

HeadwaterError
├── ConfigurationError      the operator's: a setting, a certificate, a data directory that cannot be used
├── BadBackup               the operator's: a backup that is damaged, newer than this Headwater, or none
├── RequestError            the caller's: what was asked cannot be done as asked
│   ├── BadRequest          malformed or out of range
│   │   └── NotUtf8         bytes that should be text
│   ├── NotAuthenticated    no credentials, or wrong ones
│   ├── NotAuthorized       known, but without the right
│   ├── NotFound            no such thing, or not the caller's to see
│   ├── Conflict            clashes with what exists
│   ├── TooLarge            above a limit of size
│   ├── TooManyRequests     above a limit of rate; carries `retry_after_s`
│   └── Cancelled           broken off: its time was up, or nobody waits for it any more
├── ProtocolError           the peer's: bytes that break the protocol (mqtt/ refines it)
└── StorageError            ours: the store or the registry could not do its work
    └── Overloaded          ours, passing: try again later
"""

from __future__ import annotations


class HeadwaterError(Exception):
    """Every error Headwater raises on purpose. `str(error)` is fit to be shown to the caller: it says what
    is wrong and what to do, and never holds a secret."""


class ConfigurationError(HeadwaterError):
    """A setting, certificate or data directory cannot be used as it is."""


class BadBackup(HeadwaterError):
    """A backup cannot be restored: it is damaged, newer than this Headwater, or no backup."""


class RequestError(HeadwaterError):
    """What the caller asked for cannot be done as asked."""


class BadRequest(RequestError):
    """Malformed, or out of range."""


class NotUtf8(BadRequest):
    """Bytes that should be text in UTF-8, and are not."""


class NotAuthenticated(RequestError):
    """No credentials, or wrong ones."""


class NotAuthorized(RequestError):
    """The caller is known but lacks the right."""


class NotFound(RequestError):
    """No such thing, or not the caller's to see (the two look alike on purpose)."""


class Conflict(RequestError):
    """Clashes with something that exists."""


class TooLarge(RequestError):
    """Above a limit of size."""


class TooManyRequests(RequestError):
    """Above a limit of rate."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Cancelled(RequestError):
    """Broken off before it was done: its time was up, or nobody waits for it any more."""


class ProtocolError(HeadwaterError):
    """The peer sent bytes that break the protocol."""


class StorageError(HeadwaterError):
    """The store or the registry could not do its work; nothing was acknowledged."""


class Overloaded(StorageError):
    """More is waiting to be stored, or to be read, than may wait; try again later."""
