"""The first line of a request, made fit for the parser where real devices send what is not quite HTTP. Pure.

Sketches put texts into the address of a GET as they are, with spaces: `GET /update?status=all is well HTTP/1.1`. And
some end lines with LF alone, which RFC 9112 (2.2) lets a server take.
"""

from __future__ import annotations

import re

METHODS = (b"GET /", b"POST /", b"PUT /", b"DELETE /", b"HEAD /")
"""How the lines begin that may be mended."""
_LINE = re.compile(rb"([A-Z]+) +(/.*?) +(HTTP/1\.[01])\r?", re.DOTALL)


def mended(line: bytes) -> bytes:
    """A request line, without its line feed, whose address has no spaces and which ends with CR; any other line as it
    is."""
    found = _LINE.fullmatch(line) if line.startswith(METHODS) else None
    if found is None:
        return line
    method, target, version = found.groups()
    return b"%b %b %b\r" % (method, target.replace(b" ", b"%20"), version)
