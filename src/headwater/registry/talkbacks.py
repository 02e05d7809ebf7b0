"""The registry's TalkBacks and their commands: one transaction each, in the manner of `registry.py`."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.orm import Session

from headwater.errors import Conflict
from headwater.registry.tables import CHANNEL_KIND, BucketRow
from headwater.registry.talkback_tables import Command, CommandRow, TalkBack, TalkBackRow
from headwater.registry.transactions import Transactions, known_id, leave_room, not_found

GAP = 2**32
"""Between the places of neighbours: 32 commands in a row fit between the same two before places are made anew."""


class Queue(NamedTuple):
    """The commands of a TalkBack."""

    waiting: list[Command]
    """The next one first."""
    executed: list[Command]
    """The last one first."""


class TalkBackRegistry(Transactions):
    """The part of `Registry` that keeps TalkBacks. Commands are asked for by the TalkBack's id: whose it is, the caller
    has found out, and that may have changed meanwhile only by its removal."""

    def add_talkback(
        self, account_id: int, *, name: str, api_key: str, log_channel_id: int | None, most: int
    ) -> TalkBack:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, TalkBackRow.account_id, account_id, most, "TalkBacks")
            _check_channel(session, account_id, log_channel_id)
            row = TalkBackRow(
                account_id=account_id, name=name, api_key=api_key, log_bucket_id=log_channel_id, created_at=self._now()
            )
            session.add(row)
            session.flush()
            return row.entity()

    def update_talkback(self, account_id: int, talkback_id: int, *, name: str, log_channel_id: int | None) -> TalkBack:
        with self._transaction() as session:
            row = _talkback(session, account_id, talkback_id)
            _check_channel(session, account_id, log_channel_id)
            row.name, row.log_bucket_id = name, log_channel_id
            return row.entity()

    def set_talkback_key(self, account_id: int, talkback_id: int, api_key: str) -> TalkBack:
        with self._transaction() as session:
            row = _talkback(session, account_id, talkback_id)
            row.api_key = api_key
            return row.entity()

    def remove_talkback(self, account_id: int, talkback_id: int) -> TalkBack:
        """Remove a TalkBack and its commands. Returns it as it was."""
        with self._transaction() as session:
            row = _talkback(session, account_id, talkback_id)
            session.delete(row)
            return row.entity()

    # Commands

    def commands(self, talkback_id: int) -> Queue:
        with self._transaction() as session:
            # Columns, not rows that the session would watch: of 8000 it makes 30 ms out of 180.
            waiting = session.execute(_waiting(talkback_id).order_by(CommandRow.place).with_only_columns(*_SHOWN))
            executed = session.scalars(_executed(talkback_id))
            return Queue(
                [
                    Command(id_, talkback_id, text, position, None, created_at)
                    for position, (id_, text, created_at) in enumerate(waiting, 1)
                ],
                [row.entity(None) for row in executed],
            )

    def waiting_counts(self, account_id: int) -> dict[int, int]:
        """How many commands wait in each of an account's TalkBacks that has any."""
        counted = (
            select(CommandRow.talkback_id, func.count())
            .join(TalkBackRow, TalkBackRow.id == CommandRow.talkback_id)
            .where(TalkBackRow.account_id == account_id, _WAITS)
            .group_by(CommandRow.talkback_id)
        )
        with self._transaction() as session:
            return {row[0]: row[1] for row in session.execute(counted)}

    def last_command(self, talkback_id: int) -> Command | None:
        """The one that was executed last."""
        with self._transaction() as session:
            row = session.scalar(_executed(talkback_id).limit(1))
            return None if row is None else row.entity(None)

    def command(self, talkback_id: int, command_id: int) -> Command:
        with self._transaction() as session:
            row = _command(session, talkback_id, command_id)
            return row.entity(_position(session, row))

    def add_command(self, talkback_id: int, text: str, *, position: int | None, most: int) -> Command:
        """Behind all others, or before the one that is at the position. `Conflict` when `most` wait."""
        with self._transaction() as session:
            if session.get(TalkBackRow, talkback_id) is None:
                raise not_found("TalkBack", talkback_id)
            waiting = session.scalar(select(func.count()).where(CommandRow.talkback_id == talkback_id, _WAITS)) or 0
            if waiting >= most:
                raise Conflict(
                    f"a TalkBack may have at most {most} waiting commands: have some executed or remove some"
                )
            place = _place_at(session, talkback_id, position)
            row = CommandRow(talkback_id=talkback_id, command_string=text, place=place, created_at=self._now())
            session.add(row)
            session.flush()
            return row.entity(waiting + 1 if position is None else _position(session, row))

    def change_command(self, talkback_id: int, command_id: int, *, text: str | None, position: int | None) -> Command:
        """Change what is given. `Conflict` when the command was executed already."""
        with self._transaction() as session:
            row = _command(session, talkback_id, command_id)
            if row.place is None:
                raise Conflict("the command was executed already: add a new one")
            if text is not None:
                row.command_string = text
            if position is not None and position != _position(session, row):
                row.place = None  # not between the others while its new place is looked for
                session.flush()
                row.place = _place_at(session, talkback_id, position)
            session.flush()
            return row.entity(_position(session, row))

    def remove_command(self, talkback_id: int, command_id: int) -> Command:
        """Waiting or executed. Returns it as it was."""
        with self._transaction() as session:
            row = _command(session, talkback_id, command_id)
            command = row.entity(_position(session, row))
            session.delete(row)
            return command

    def clear_commands(self, talkback_id: int) -> None:
        """Remove all, the executed ones too."""
        with self._transaction() as session:
            session.execute(delete(CommandRow).where(CommandRow.talkback_id == talkback_id))

    def execute_command(self, talkback_id: int, *, keep: int) -> Command | None:
        """Take the next one from the queue; None when nothing waits. `keep`: how many executed ones are kept."""
        with self._transaction() as session:
            row = session.scalar(_waiting(talkback_id).order_by(CommandRow.place).limit(1))
            if row is None:
                return None
            row.place, row.executed_at = None, self._now()
            session.flush()
            too_old = _executed(talkback_id).offset(keep).with_only_columns(CommandRow.id)
            session.execute(delete(CommandRow).where(CommandRow.id.in_(session.scalars(too_old).all())))
            return row.entity(None)


def all_talkbacks(session: Session) -> tuple[TalkBack, ...]:
    """Every TalkBack there is."""
    return tuple(row.entity() for row in session.scalars(select(TalkBackRow).order_by(TalkBackRow.id)))


_SHOWN = (CommandRow.id, CommandRow.command_string, CommandRow.created_at)
_WAITS: ColumnElement[bool] = CommandRow.place.is_not(None)


def _waiting(talkback_id: int) -> Select[CommandRow]:
    return select(CommandRow).where(CommandRow.talkback_id == talkback_id, _WAITS)


def _executed(talkback_id: int) -> Select[CommandRow]:
    """The last one first."""
    which = select(CommandRow).where(CommandRow.talkback_id == talkback_id, CommandRow.place.is_(None))
    return which.order_by(CommandRow.executed_at.desc(), CommandRow.id.desc())


def _talkback(session: Session, account_id: int, talkback_id: int) -> TalkBackRow:
    row = session.get(TalkBackRow, known_id(talkback_id, "TalkBack"))
    if row is None or row.account_id != account_id:
        raise not_found("TalkBack", talkback_id)
    return row


def _command(session: Session, talkback_id: int, command_id: int) -> CommandRow:
    row = session.get(CommandRow, known_id(command_id, "command"))
    if row is None or row.talkback_id != talkback_id:
        raise not_found("command", command_id)
    return row


def _check_channel(session: Session, account_id: int, channel_id: int | None) -> None:
    if channel_id is None:
        return
    row = session.get(BucketRow, known_id(channel_id, "channel"))
    if row is None or row.account_id != account_id or row.kind != CHANNEL_KIND:
        raise not_found("channel", channel_id)


def _position(session: Session, row: CommandRow) -> int | None:
    if row.place is None:
        return None
    before = select(func.count()).where(CommandRow.talkback_id == row.talkback_id, CommandRow.place <= row.place)
    return session.scalar(before)


def _place_at(session: Session, talkback_id: int, position: int | None) -> int:
    """A free place that makes whatever stands there the one at this position, or the last one."""
    if position is None:
        last = session.scalar(select(func.max(CommandRow.place)).where(CommandRow.talkback_id == talkback_id))
        return 0 if last is None else last + GAP
    places = select(CommandRow.place).where(CommandRow.talkback_id == talkback_id, _WAITS).order_by(CommandRow.place)
    if position == 1:
        first = session.scalar(places.limit(1))
        return 0 if first is None else first - GAP
    neighbours = [place for place in session.scalars(places.offset(position - 2).limit(2)) if place is not None]
    if len(neighbours) < 2:
        return _place_at(session, talkback_id, None)
    before, after = neighbours
    if after - before < 2:
        _spread(session, talkback_id)
        return _place_at(session, talkback_id, position)
    return (before + after) // 2


def _spread(session: Session, talkback_id: int) -> None:
    """Make all places anew, with gaps between them."""
    ids = select(CommandRow.id).where(CommandRow.talkback_id == talkback_id, _WAITS).order_by(CommandRow.place)
    places = [{"id": id_, "place": number * GAP} for number, id_ in enumerate(session.scalars(ids))]
    session.execute(update(CommandRow), places)
