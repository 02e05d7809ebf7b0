"""The first line of a request, made fit for the parser where real devices send what is not quite HTTP. Pure.

Sketches put texts into the address of a GET as they are, with spaces: `GET /update?status=all is well HTTP/1.1`. And
some end lines with LF alone, which RFC 9112 (2.2) lets a server take. Those that drive a modem with AT commands send
`GET /update?field1=22`, or with a scheme and a host, and nothing more, as HTTP/0.9 was.
"""

from __future__ import annotations

METHODS = (b"GET /", b"GET http", b"POST /", b"PUT /", b"DELETE /", b"HEAD /")
"""How the lines begin that may be mended."""
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")


def may_begin(data: bytes) -> bool:
    """Whether what has come of a line may be the beginning of one that may be mended; often a byte comes alone."""
    return any(data.startswith(method[: len(data)]) for method in METHODS)


def completed(data: bytes) -> bytes | None:
    """What has come, made a whole request, where it is one line without a version, and empty ones perhaps; None where
    it is not."""
    line, feed, rest = data.lstrip(b"\r\n").partition(b"\n")
    line = line.rstrip(b"\r ")
    if not feed or not line.startswith(METHODS[:2]) or line.count(b" ") != 1 or rest.strip(b"\r\n"):
        return None
    return line + b" HTTP/1.0\r\n\r\n"


def mended(line: bytes) -> bytes:
    """A request line, without its line feed, whose address has no spaces and which ends with CR; any other line as it
    is."""
    rest, _, version = line.removesuffix(b"\r").rpartition(b" ")
    if version not in _VERSIONS or not rest.startswith(METHODS):
        return line
    method, _, target = rest.partition(b" ")
    return b"%b %b %b\r" % (method, target.rstrip(b" ").replace(b" ", b"%20"), version)
