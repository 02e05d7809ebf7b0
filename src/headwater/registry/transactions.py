"""What every part of the registry needs: transactions, and the checks that begin them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute, Session

from headwater.errors import Conflict, NotFound, StorageError
from headwater.registry.tables import AccountRow

MAX_ID = 2**31 - 1  # what an INTEGER column takes in every database; no greater id was ever given out


def utc_now() -> datetime:
    return datetime.now(UTC)


class Transactions:
    """One transaction at a time on one database; `now` dates what is added."""

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._now = now

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """Commits at the end, rolls back on any error. The database's errors become ours."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError as error:
            raise Conflict("a name or key like that exists already") from error
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or type(error).__name__
            raise StorageError(f"the registry's database failed: {reason}") from error

    def _account(self, session: Session, account_id: int) -> AccountRow:
        row = session.get(AccountRow, known_id(account_id, "account"))
        if row is None:
            raise not_found("account", account_id)
        return row


def not_found(thing: str, thing_id: int) -> NotFound:
    return NotFound(f"there is no {thing} {thing_id}")


def known_id(number: int, thing: str) -> int:
    """An id that the database can be asked for; a driver would fail on a greater one."""
    if not 0 < number <= MAX_ID:
        raise not_found(thing, number)
    return number


def leave_room(
    session: Session,
    owner: InstrumentedAttribute[int],
    account_id: int,
    most: int,
    things: str,
    *which: ColumnElement[bool],
) -> None:
    """Raise `Conflict` when the account has `most` of these already, as far as they are `which`."""
    count = session.scalar(select(func.count()).where(owner == account_id, *which)) or 0
    if count >= most:
        raise Conflict(f"an account may have at most {most} {things}")
