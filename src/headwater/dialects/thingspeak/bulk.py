"""Bulk writes: many entries in one request, as JSON or CSV. Pure; knows no channel.

Entries have times of their own, or seconds since the entry before. A chain of those that follows no time ends now: a
device sends what it has gathered until the moment of sending.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import NamedTuple, TypeVar

import msgspec

from headwater.dialects.thingspeak.field_names import STANDARD, FieldNames
from headwater.dialects.thingspeak.parameters import MAX_PARAMETERS, find_key, is_encodable, parse_form
from headwater.dialects.thingspeak.parse import OTHER_NAMES, WriteLimits, parse_update
from headwater.dialects.thingspeak.times import free_time_ns, parse_any_time_ns
from headwater.errors import BadRequest, NotUtf8, TooLarge
from headwater.model.entry import FIELD_NUMBERS, EntryUpdate

_CSV_COLUMNS = (*(f"field{number}" for number in FIELD_NUMBERS), "latitude", "longitude", "elevation", "status")
"""Whatever fields the channel has: who sends more than eight puts the location behind the eighth all the same."""
_UPDATES = b"updates="
_MAX_OTHERS_BYTES = 65_536
_TIME_FORMATS = ("absolute", "relative")
T = TypeVar("T")
_MAX_DELTA_S = 10**9
"""31 years; an entry of longer ago has a time of its own."""


class BulkUpdate(NamedTuple):
    """One entry of a bulk write, as texts: `created_at` or `delta_t`, and what `/update` takes."""

    parameters: Mapping[str, str]
    created_at: str | None
    delta_t: str | None


class BulkMessage(NamedTuple):
    """A bulk write and the key that came in it."""

    write_api_key: str
    read_updates: Callable[[int, FieldNames], Sequence[BulkUpdate]]
    """Takes how many may be read, and what the channel's fields are called. Raises TooLarge for more, and BadRequest. A
    body may take many times its bytes of memory: not for somebody whose key is not known."""


_NULL = msgspec.Raw(b"null")
_NO_MEMBER = re.compile(r'["\\\x00-\x1f]')
"""What a member of a `msgspec.Struct` may not have in its name; a field of a channel may."""
_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class _JsonForm:
    """An entry as JSON in a channel whose fields are called so. Members of other names are passed over where they
    stand, and take no memory."""

    def __init__(self, names: FieldNames) -> None:
        self._names = (*names, *OTHER_NAMES, "delta_t")
        self.type: type = msgspec.Raw
        if any(_NO_MEMBER.search(name) for name in self._names):
            return  # entries are taken apart one by one
        members = [f"member{number}" for number in range(len(self._names))]
        self.type = msgspec.defstruct(
            "_JsonUpdate",
            [(member, msgspec.Raw, _NULL) for member in members],
            rename=dict(zip(members, self._names, strict=True)),
        )

    def update(self, entry: msgspec.Struct | msgspec.Raw) -> BulkUpdate:
        raws = msgspec.structs.astuple(entry) if isinstance(entry, msgspec.Struct) else self._raws(bytes(entry))
        given = [(name, raw) for name, raw in zip(self._names, raws, strict=True) if raw is not _NULL]
        texts = {name: text for name, raw in given if (text := _text_of(bytes(raw))) is not None}
        return BulkUpdate(texts, texts.pop("created_at", None), texts.pop("delta_t", None))

    def _raws(self, entry: bytes) -> Sequence[msgspec.Raw]:
        if entry.count(b":") > MAX_PARAMETERS and _JSON_STRING.sub(b"", entry).count(b":") > MAX_PARAMETERS:
            raise TooLarge(f"An update may have at most {MAX_PARAMETERS} members.")
        members = msgspec.json.decode(entry, type=dict[str, msgspec.Raw])
        return [_NULL if raw is None else raw for raw in map(members.get, self._names)]


_STANDARD_FORM = _JsonForm(STANDARD)


class _JsonMessage(msgspec.Struct):
    write_api_key: str = ""
    updates: msgspec.Raw = msgspec.Raw(b"[]")


def parse_bulk_json(body: bytes) -> BulkMessage:
    """The body of `bulk_update.json`. Raises BadRequest."""
    message = _decode_json(body, _JsonMessage)

    def read_updates(most: int, names: FieldNames) -> list[BulkUpdate]:
        _check_objects(bytes(message.updates), most)
        form = _STANDARD_FORM if names is STANDARD else _JsonForm(names)
        updates: list[msgspec.Struct | msgspec.Raw] = _decode_json(message.updates, list[form.type])  # type: ignore[name-defined]
        _check_count(len(updates), most)
        try:
            return [form.update(one) for one in updates]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _no_bulk_json(error) from None

    return BulkMessage(message.write_api_key, read_updates)


def _decode_json(body: bytes | msgspec.Raw, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_bulk_json(error) from None


def _no_bulk_json(error: Exception) -> BadRequest:
    if isinstance(error, UnicodeDecodeError):
        return NotUtf8("The body is not UTF-8 text.")
    return BadRequest(
        'The body must be JSON of the form {"write_api_key":"...","updates":[{"created_at":"...","field1":1}]}; '
        f"{error}."
    )


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise TooLarge(f"There are {count} updates; at most {most} are taken at once.")


def _check_objects(updates: bytes, most: int) -> None:
    """Refuse, before anything is made of them, what are certainly too many, even if half of the objects are values of
    others: three bytes are an entry of some hundred."""
    if updates.count(b"{") > 2 * most:  # of which some may stand in texts
        _check_count(_JSON_STRING.sub(b"", updates).count(b"{") // 2, most)


def _text_of(raw: bytes) -> str | None:
    """A value as text: numbers with the digits that were sent."""
    if raw[:1] == b'"':
        text: str = msgspec.json.decode(raw, type=str)
        if not is_encodable(text):
            raise NotUtf8("A text holds a lone surrogate.")
        return text
    return None if raw == b"null" or raw[:1] in b"{[" else raw.decode()


def parse_bulk_csv(query: Mapping[str, str], body: bytes) -> BulkMessage:
    """The form of `bulk_update.csv`, some of which may stand in the query. Raises BadRequest and TooLarge."""
    parts = body.split(b"&", MAX_PARAMETERS)
    encoded = b"&".join(part for part in parts if part.startswith(_UPDATES))
    others = b"&".join(part for part in parts if not part.startswith(_UPDATES))
    if len(others) > _MAX_OTHERS_BYTES:
        raise TooLarge(f"All parameters but updates may have {_MAX_OTHERS_BYTES} bytes together.")
    parameters = {**query, **parse_form(others)}
    time_format = parameters.get("time_format", "").strip().lower()
    if time_format not in _TIME_FORMATS:
        raise BadRequest("time_format must be absolute or relative.")

    def read_updates(most: int, _: FieldNames) -> list[BulkUpdate]:
        updates = {**query, **parse_form(encoded)}.get("updates", "").strip().removesuffix("|")
        _check_count(updates.count("|") + 1, most)
        is_relative = time_format == "relative"
        return [_csv_update(line.strip(), is_relative=is_relative) for line in updates.split("|") if line.strip()]

    return BulkMessage(parameters.get("write_api_key") or find_key(parameters, ()) or "", read_updates)


def _csv_update(line: str, *, is_relative: bool) -> BulkUpdate:
    at, *cells = line.split(",", len(_CSV_COLUMNS))
    texts = {name: cell.strip() for name, cell in zip(_CSV_COLUMNS, cells, strict=False) if cell.strip()}
    return BulkUpdate(texts, None if is_relative else at, at if is_relative else None)


def entry_updates(
    message: BulkMessage, now_ns: int, limits: WriteLimits, most: int, names: FieldNames = STANDARD
) -> list[EntryUpdate]:
    """The entries with their times, in the order in which they were sent. `names` are those of the channel's fields.

    Raises TooLarge for too many or too long ones, and BadRequest, which names the entry, for one without a time.
    """
    updates = message.read_updates(most, names)
    if not updates:
        raise BadRequest("There are no updates.")
    found = []
    for number, (update, at_ns) in enumerate(zip(updates, _times(updates, now_ns), strict=True), 1):
        try:
            found.append(parse_update(update.parameters, limits, names)._replace(created_at_ns=at_ns))
        except TooLarge as error:
            raise TooLarge(f"Update {number}: {error}.") from None
    return found


def _times(updates: Sequence[BulkUpdate], now_ns: int) -> list[int]:
    """When each entry was. Those that follow no time are counted back from now."""
    deltas_ns: list[int] = []
    times: list[int] = []
    for number, update in enumerate(updates, 1):
        if update.created_at is not None:
            at_ns = parse_any_time_ns(update.created_at, UTC)
            if at_ns is None:
                raise BadRequest(f"Update {number}: created_at is no time: send ISO 8601 or seconds since 1970.")
            times.append(at_ns)
        elif update.delta_t is not None:
            delta_ns = _delta_ns(update.delta_t)
            if delta_ns is None:
                raise BadRequest(f"Update {number}: delta_t must be seconds since the entry before.")
            if times:
                times.append(times[-1] + delta_ns)
            else:
                deltas_ns.append(delta_ns)
        else:
            raise BadRequest(f"Update {number}: created_at or delta_t is missing.")
    leading, at_ns = [], now_ns
    for delta_ns in reversed(deltas_ns):
        leading.append(at_ns)
        at_ns -= delta_ns
    return _apart([*reversed(leading), *times])


def _apart(times: Sequence[int]) -> list[int]:
    """The same, but where several are equal a nanosecond apart: a channel has one entry of each time. Sent again, they
    get the same times again."""
    next_free: dict[int, int] = {}
    return [free_time_ns(at_ns, next_free) for at_ns in times]


def _delta_ns(text: str) -> int | None:
    try:
        delta_s = float(text)
    except ValueError:
        return None
    return round(delta_s * 1_000_000_000) if 0 <= delta_s <= _MAX_DELTA_S else None
