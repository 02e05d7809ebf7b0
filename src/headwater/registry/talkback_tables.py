"""The tables of TalkBacks and their commands, and what their rows are read as. Knows no transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from headwater.registry.tables import AccountRow, Base, BucketRow


@dataclass(frozen=True, slots=True)
class TalkBack:
    """A queue of commands that a device asks for one by one."""

    id: int
    account_id: int
    name: str
    api_key: str
    """Opens this TalkBack and nothing else. 16 characters of 0-9A-Z."""
    log_channel_id: int | None
    """The channel that is told of each executed command."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a TalkBack: it waits at a position, or was executed."""

    id: int
    talkback_id: int
    command_string: str
    position: int | None
    """1 is the next; None once it was executed."""
    executed_at: datetime | None
    created_at: datetime


class TalkBackRow(Base):
    __tablename__ = "talkbacks"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    api_key: Mapped[str] = mapped_column(String(16), unique=True)
    log_bucket_id: Mapped[int | None] = mapped_column(ForeignKey(BucketRow.id, ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime]

    def entity(self) -> TalkBack:
        return TalkBack(self.id, self.account_id, self.name, self.api_key, self.log_bucket_id, self.created_at)


class CommandRow(Base):
    """Waiting commands are in the order of their places. These have gaps between them, so that a command comes, goes or
    moves without a change to the others; its position is how many places there are up to its own."""

    __tablename__ = "talkback_commands"
    __table_args__ = (
        Index("ix_talkback_commands_talkback_id_place", "talkback_id", "place"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    talkback_id: Mapped[int] = mapped_column(ForeignKey(TalkBackRow.id, ondelete="CASCADE"))
    command_string: Mapped[str] = mapped_column(String(255))
    place: Mapped[int | None] = mapped_column(BigInteger)
    """None once it was executed."""
    executed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    def entity(self, position: int | None) -> Command:
        return Command(self.id, self.talkback_id, self.command_string, position, self.executed_at, self.created_at)
