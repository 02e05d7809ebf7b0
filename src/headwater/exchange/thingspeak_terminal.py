"""The command `import thingspeak`: a channel of a ThingSpeak account, brought here with its entries."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from headwater.backup.sources import require_data
from headwater.control import ask_server
from headwater.errors import HeadwaterError
from headwater.exchange import import_terminal
from headwater.exchange.commands import IMPORT_TARGET
from headwater.exchange.thingspeak_client import Row, Upstream
from headwater.exchange.thingspeak_reading import FIRST_S, History, blocks_of
from headwater.exchange.thingspeak_target import Target, Targets, as_request, settings_of
from headwater.instance import running_pid
from headwater.progress import shown_progress
from headwater.settings import Settings


class Brought(NamedTuple):
    """What an import did."""

    entries: int
    points: int
    expired: int
    """Points that the channel does not keep for so long; they are not among the others."""
    channel: str
    """Where they are: an id, or what the command line said."""
    name: str
    is_new: bool
    """Whether the channel was made for them."""


def import_channel(settings: Settings, upstream: Upstream, *, into: str | None, account: str | None) -> Brought:
    """Store the entries of a channel elsewhere, by way of the server if one runs. `into`: the channel for them; without
    it the one of an earlier call, or a new one.

    Raises HeadwaterError and OSError; then what was read before is stored, and the same import goes on from there.
    """
    data = settings.data
    require_data(data)
    with closing(upstream), shown_progress(counts_bytes=False) as progress:
        progress.begin("asking", None)
        history = History(upstream.page)
        # Without the key, so that the import goes on with another one.
        fingerprint = repr(("thingspeak", upstream.url, upstream.channel_id))
        if into is None:
            target = _find_or_make(settings, fingerprint, history.channel, account)
            channel, name, is_new = str(target.channel_id), target.name, target.is_new
        else:
            channel, name, is_new = into, "", False
        progress.begin("importing", history.last_entry_id)

        def load(goal: import_terminal.Target) -> Brought:
            row = goal.resume_row
            entries = points = shown = 0
            for window in history.windows(None if row == 0 else _second_of(row)):
                end_row = max(row, _row_of(window.until_s))
                for block in blocks_of(window, row, end_row) if window.rows else ():
                    goal.store(block)
                    points += len(block)
                row = end_row
                entries += len(window.rows)
                newest = max((int(one.get("entry_id") or 0) for one in window.rows), default=shown)
                progress.advance(max(0, newest - shown))
                shown = max(newest, shown)
            goal.finish()
            return Brought(entries, points - goal.expired, goal.expired, channel, name, is_new)

        return import_terminal.load_into(settings, channel, fingerprint, load, goes_on_later=True)


def _find_or_make(settings: Settings, fingerprint: str, channel: Row, account: str | None) -> Target:
    wanted = settings_of(channel)
    if running_pid(settings.data) is None:
        return import_terminal.with_services(
            settings,
            lambda services, loop: Targets(services, settings.data, loop).find_or_make(fingerprint, wanted, account),
        )
    request = {"fingerprint": fingerprint, "settings": as_request(wanted), "account": account}
    with ask_server(settings.data, IMPORT_TARGET, **request) as answer:
        frame = next(iter(answer.frames()), None)
    if not isinstance(frame, dict):
        raise HeadwaterError("the server ended before it had answered")
    return Target(int(frame["channel_id"]), str(frame["name"]), bool(frame["is_new"]))


# What notes call a record's number is here the second up to which all is stored, counted so that it is above 0.


def _row_of(second: int) -> int:
    return second - FIRST_S + 1


def _second_of(row: int) -> int:
    return row + FIRST_S - 1
