"""Conversations kept as data: the bytes of requests, and the bytes that must answer them.

`#` begins a comment. `channel NAME=VALUE&...` makes the channel that the requests are about. Lines with `>` are a
request, those with `<` its answer; each request has a connection of its own. After the sign and a space stands the
line: in a head it ends with CR and LF, or with LF alone where it ends with `\\n`; in a body with LF, and the last one
with nothing.

`$name` stands for a value. `$id`, `$write_key`, `$read_key` (of the channel) and `$user_key` are known; in a head
`$length` is the number of bytes of the body, and `$every` alone the headers that every answer has. Any other is taken
from the answer where it stands first, must have the form that its last word tells (`$made_time`, `$new_key`), and is
known from then on.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from server import ADMIN_TOKEN, Server

FOLDER = Path(__file__).parent.parent / "vectors" / "thingspeak"

_EVERY = (
    "Access-Control-Allow-Origin: *",
    "Access-Control-Allow-Methods: GET, POST, PUT, OPTIONS, DELETE, PATCH",
    "Access-Control-Allow-Headers: origin, content-type, X-Requested-With",
    "Access-Control-Max-Age: 1800",
    "X-Content-Type-Options: nosniff",
    "Date: $sent_date",
    "Connection: close",
)
_FORMS = {
    "id": r"[1-9][0-9]*",
    "key": r"[0-9A-Z]{16}",
    "time": r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})",
    "date": r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} 20[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
    "age": r"[0-9]{1,3}",
    "details": r"[^\"<>]+",
}
_NAME = re.compile(r"\$([a-z]+(?:_[a-z]+)*)")


class Exchange(NamedTuple):
    request: list[str]
    answer: list[str]


class Conversation:
    def __init__(self, server: Server, text: str) -> None:
        self._server = server
        self._values = {"user_key": ADMIN_TOKEN}
        self.exchanges: list[Exchange] = []
        for line in text.splitlines():
            sign, rest = line[:1], line[2:]
            if sign == ">":
                if not self.exchanges or self.exchanges[-1].answer:
                    self.exchanges.append(Exchange([], []))
                self.exchanges[-1].request.append(rest)
            elif sign == "<":
                self.exchanges[-1].answer.append(rest)
            elif line.startswith("channel"):
                self._make_channel(line.partition(" ")[2])
            else:
                assert not line or sign == "#", line

    def _make_channel(self, form: str) -> None:
        made = self._server.create_channel(**dict(urllib.parse.parse_qsl(form, keep_blank_values=True)))
        self._values |= {"id": str(made.id), "write_key": made.write_key, "read_key": made.read_key}

    def hold(self) -> None:
        """Say everything, and compare what is answered."""
        for request, answer in self.exchanges:
            sent = self._request_bytes(request)
            got = self._server.raw_call(sent).decode()
            match = re.fullmatch(self._pattern(answer), got)
            assert match is not None, f"{sent.decode()}\n\nis answered\n\n{got}\n\nand not\n\n" + "\n".join(answer)
            self._values |= {
                name: text for name, text in match.groupdict().items() if name not in ("length", "sent_date")
            }
            if "length" in match.groupdict():
                assert int(match["length"]) == len(got.partition("\r\n\r\n")[2].encode())

    def _request_bytes(self, lines: list[str]) -> bytes:
        head, body = _split(lines)
        known = self._values | {"length": str(len(self._filled(body).encode()))}
        return (_NAME.sub(lambda name: known[name[1]], head) + self._filled(body)).encode()

    def _filled(self, text: str) -> str:
        return _NAME.sub(lambda name: self._values[name[1]], text)

    def _pattern(self, lines: list[str]) -> str:
        head, body = _split([part for line in lines for part in (_EVERY if line == "$every" else (line,))])
        return "".join(self._pattern_parts(head + body))

    def _pattern_parts(self, text: str) -> Iterator[str]:
        seen: set[str] = set()
        end = 0
        for found in _NAME.finditer(text):
            yield re.escape(text[end : found.start()])
            name, end = found[1], found.end()
            if name in self._values:
                yield re.escape(self._values[name])
            elif name in seen:
                yield f"(?P={name})"
            else:
                form = "[0-9]+" if name == "length" else _FORMS[name.rpartition("_")[2]]
                yield f"(?P<{name}>{form})"
            seen.add(name)
        yield re.escape(text[end:])


def _split(lines: list[str]) -> tuple[str, str]:
    """The head with its empty line, and the body."""
    head = ""
    for number, line in enumerate(lines):
        text, is_bare, _ = line.partition("\\n")
        head += f"{text}\n" if is_bare else f"{text}\r\n"
        if not text:
            return head, "\n".join(lines[number + 1 :])
    return head, ""
