"""Kinds of settings: how a number, a switch, an address or a list is read from TOML and from text, what is
allowed, and how a value is shown. Knows no setting by name, no file and no environment."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
E = TypeVar("E", bound=enum.StrEnum)

OFF = "off"
"""Written in place of a list of addresses: listen nowhere."""

ANY_ORIGIN = "*"
"""Stands for every web site."""

MAX_LIST_ITEMS = 64
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?", re.ASCII)
_MAIL_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Kind(Protocol[T_co]):
    """How one kind of value is read. Both readers raise `ValueError` with a text that says what is wrong;
    `allowed` says what would be right."""

    @property
    def allowed(self) -> str: ...

    def from_text(self, text: str) -> T_co: ...

    def from_toml(self, value: object) -> T_co: ...


def is_host_name(text: str) -> bool:
    """Whether this may be a DNS name (underscores are let pass: many machines are called so)."""
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None


def is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_mail_address(text: str) -> bool:
    """Whether this may be somebody's mail address: plain ASCII, no quoting, no display name, no comment."""
    name, at, host = text.rpartition("@")
    return bool(at) and len(text) <= 254 and _MAIL_NAME.fullmatch(name) is not None and is_host_name(host)


class Address(NamedTuple):
    """Where a listener is bound. `str()` gives HOST:PORT, with brackets around an IPv6 address."""

    host: str
    port: int
    """0 picks a free port."""

    @classmethod
    def parse(cls, text: str) -> Address:
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed:
            host = host[1:-1]
        if not colon or not host or (":" in host) is not bracketed:
            raise ValueError(f"{text!r} is not an address")
        if not (is_ip_address(host) or is_host_name(host)):
            raise ValueError(f"{host!r} is neither an IP address nor a host name")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
            raise ValueError(f"{port!r} is not a port from 0 to 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within a range."""

    minimum: int
    maximum: int
    unit: str = ""

    @property
    def allowed(self) -> str:
        return f"{self.minimum} to {self.maximum} {self.unit}".rstrip()

    def from_text(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{_short(text)} is not a whole number") from None
        return self._check(number)

    def from_toml(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{_short(value)} is not a whole number")
        return self._check(value)

    def _check(self, number: int) -> int:
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{_short(number)} is out of range")
        return number


@dataclass(frozen=True, slots=True)
class Number:
    """A number, with a fraction or without, within a range."""

    minimum: float
    maximum: float
    unit: str = ""

    @property
    def allowed(self) -> str:
        return f"{self.minimum:g} to {self.maximum:g} {self.unit}".rstrip()

    def from_text(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{_short(text)} is not a number") from None
        return self._check(number)

    def from_toml(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{_short(value)} is not a number")
        return self._check(value)

    def _check(self, number: float) -> float:
        if not self.minimum <= number <= self.maximum:  # false for NaN too
            raise ValueError(f"{_short(number)} is out of range")
        return float(number)


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    allowed: str = "true or false"

    def from_text(self, text: str) -> bool:
        word = text.strip().lower()
        if word not in _TRUE + _FALSE:
            raise ValueError(f"{_short(text)} is neither true nor false")
        return word in _TRUE

    def from_toml(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{_short(value)} is neither true nor false")
        return value


@dataclass(frozen=True, slots=True)
class OneOf(Generic[E]):
    """One word out of a few."""

    choices: type[E]

    @property
    def allowed(self) -> str:
        return " | ".join(self.choices)

    def from_text(self, text: str) -> E:
        try:
            return self.choices(text.strip().lower())
        except ValueError:
            raise ValueError(f"{_short(text)} is not one of the choices") from None

    def from_toml(self, value: object) -> E:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, which need not exist. A relative one counts from the working directory."""

    allowed: str = "a path"

    def from_text(self, text: str) -> Path:
        if not text.strip() or "\0" in text:
            raise ValueError("is empty or holds a zero character")
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError("begins with ~ and a user who has no home directory") from None

    def from_toml(self, value: object) -> Path:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class OptionalFile:
    """A file, or none."""

    allowed: str = "a path, or empty for none"

    def from_text(self, text: str) -> Path | None:
        return Directory().from_text(text) if text else None

    def from_toml(self, value: object) -> Path | None:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class Secret:
    """A token that somebody chose, or none. What is wrong with one is said without repeating it."""

    allowed: str = "16 to 256 printable ASCII characters without blanks, or empty"

    def from_text(self, text: str) -> str:
        if text and not re.fullmatch(r"[!-~]{16,256}", text):
            raise ValueError("is not a token")
        return text

    def from_toml(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")
        return self.from_text(value)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, or nothing."""

    allowed: str = "up to 256 characters, or empty"

    def from_text(self, text: str) -> str:
        if len(text) > 256 or not text.isprintable():
            raise ValueError(f"{_short(text)} is too long or holds control characters")
        return text

    def from_toml(self, value: object) -> str:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class ForeignPassword(Secret):
    """A password that another service chose, or none. What is wrong with one is said without repeating it."""

    allowed: str = "up to 256 characters, or empty"

    def from_text(self, text: str) -> str:
        if len(text) > 256 or not text.isprintable():
            raise ValueError("is no password")
        return text


@dataclass(frozen=True, slots=True)
class MailAddress:
    """One mail address without a display name, or nothing."""

    allowed: str = "NAME@HOST, or empty"

    def from_text(self, text: str) -> str:
        address = text.strip()
        if address and not is_mail_address(address):
            raise ValueError(f"{_short(text)} is not a mail address")
        return address

    def from_toml(self, value: object) -> str:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class HostName:
    """A host name or an IP address, or nothing."""

    allowed: str = "a host name or an IP address, or empty"

    def from_text(self, text: str) -> str:
        host = text.strip()
        if host and not (is_host_name(host) or is_ip_address(host)):
            raise ValueError(f"{_short(text)} is neither an IP address nor a host name")
        return host

    def from_toml(self, value: object) -> str:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class WebAddress:
    """Scheme, host and optional port of a web site, or nothing; kept without the slash at the end."""

    allowed: str = "http://HOST[:PORT] or https://HOST[:PORT] without a path, or empty"

    def from_text(self, text: str) -> str:
        url = text.strip().rstrip("/")
        if not url:
            return ""
        parts = urlsplit(url)
        try:
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme not in ("http", "https") or not bare or not (is_host_name(host) or is_ip_address(host)):
            raise ValueError(f"{_short(text)} is not such an address")
        return url

    def from_toml(self, value: object) -> str:
        return self.from_text(_text(value))


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """Several of one kind: a TOML list, or text (in TOML too) with commas between the items."""

    allowed: str
    parse: Callable[[str], T]
    off_word: str = ""
    """A word that stands for the empty list, if any."""

    def from_text(self, text: str) -> tuple[T, ...]:
        return self._items([part.strip() for part in text.split(",")] if text.strip() else [])

    def from_toml(self, value: object) -> tuple[T, ...]:
        if isinstance(value, str):
            return self.from_text(value)
        if not isinstance(value, list):
            raise ValueError(f"{_short(value)} is not a list")
        return self._items([_text(item) for item in value])

    def _items(self, texts: list[str]) -> tuple[T, ...]:
        if self.off_word and texts == [self.off_word]:
            return ()
        if len(texts) > MAX_LIST_ITEMS:
            raise ValueError(f"has {len(texts)} items, more than {MAX_LIST_ITEMS}")
        return tuple(dict.fromkeys(self.parse(text) for text in texts))


def parse_certificate_name(text: str) -> str:
    """A name or an address to be put into a certificate; `*.` may stand for the first level of a name."""
    if is_ip_address(text):
        return str(ipaddress.ip_address(text))
    if not is_host_name(text.removeprefix("*.")):
        raise ValueError(f"{_short(text)} is neither an IP address nor a host name")
    return text.lower().rstrip(".")


def parse_host_or_network(text: str) -> str:
    """A host name in lower case, or a network: an address alone is the network of that one address."""
    if is_host_name(text) and not re.fullmatch(r"[0-9.]+", text):
        return text.lower().rstrip(".")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(f"{_short(text)} is no host name, IP address or network such as 192.168.1.0/24") from None


def parse_origin(text: str) -> str:
    """A web site as a browser writes it into `Origin`: in lower case, without the port that its scheme implies."""
    if text in (ANY_ORIGIN, "null"):
        return text
    origin = WebAddress().from_text(text).lower()
    if not origin:
        raise ValueError("an origin is empty")
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


ADDRESSES = ListOf(f"a list of HOST:PORT, IPv6 as [::1]:8080, port 0 = any free one, or {OFF}", Address.parse, OFF)
ORIGINS = ListOf(
    f"a list of http://HOST[:PORT] and https://HOST[:PORT], {ANY_ORIGIN} = every one, or {OFF}", parse_origin, OFF
)
HOST_NAMES = ListOf("a list of host names and IP addresses", parse_certificate_name)
HOSTS_AND_NETWORKS = ListOf(
    "a list of host names, IP addresses and networks such as 192.168.1.0/24", parse_host_or_network
)


def render_value(value: object) -> str:
    """A value as it is written in TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case Path() | str():
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        case float():
            return f"{value:g}"
        case Address():
            return f'"{value}"'
        case tuple():
            return "[" + ", ".join(map(render_value, value)) + "]"
        case None:
            return '""'
        case _:
            return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is not text in quotes")
    return value


def _short(value: object) -> str:
    """What was given, cut and with control characters escaped, for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
