"""The registry's rules and what they have done: one transaction each, in the manner of `registry.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headwater.registry.rule_entities import RuleState, StoredRule, StoredRun
from headwater.registry.tables import AccountRow, Base, BucketRow
from headwater.registry.transactions import Transactions, known_id, leave_room, not_found


class RuleRow(Base):
    __tablename__ = "rules"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    is_enabled: Mapped[bool]
    # A rule whose channel goes is kept: it holds its owner's work, and says what it lacks.
    bucket_id: Mapped[int | None] = mapped_column(ForeignKey(BucketRow.id, ondelete="SET NULL"), index=True)
    trigger: Mapped[bytes]
    actions: Mapped[bytes]
    created_at: Mapped[datetime]
    is_met: Mapped[bool]
    last_due_ns: Mapped[int] = mapped_column(BigInteger)
    last_run_ns: Mapped[int] = mapped_column(BigInteger)
    runs: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(BigInteger)

    def remember(self, state: RuleState) -> None:
        self.is_met = state.is_met
        self.last_due_ns = state.last_due_ns
        self.last_run_ns = state.last_run_ns
        self.runs = state.runs
        self.failures = state.failures

    def entity(self) -> StoredRule:
        return StoredRule(
            id=self.id,
            account_id=self.account_id,
            kind=self.kind,
            name=self.name,
            is_enabled=self.is_enabled,
            bucket_id=self.bucket_id,
            trigger=self.trigger,
            actions=self.actions,
            created_at=self.created_at,
            state=RuleState(self.is_met, self.last_due_ns, self.last_run_ns, self.runs, self.failures),
        )


class RuleRunRow(Base):
    __tablename__ = "rule_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey(RuleRow.id, ondelete="CASCADE"), index=True)
    at_ns: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(1000))
    entry_id: Mapped[int | None] = mapped_column(BigInteger)
    is_test: Mapped[bool]
    outcome: Mapped[str] = mapped_column(String(16))
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    results: Mapped[bytes]

    def entity(self) -> StoredRun:
        return StoredRun(
            rule_id=self.rule_id,
            at_ns=self.at_ns,
            reason=self.reason,
            entry_id=self.entry_id,
            is_test=self.is_test,
            outcome=self.outcome,
            duration_ms=self.duration_ms,
            results=self.results,
        )


class RuleRegistry(Transactions):
    """The part of `Registry` that keeps rules."""

    def all_rules(self) -> tuple[StoredRule, ...]:
        """Every rule of every account."""
        with self._transaction() as session:
            return tuple(row.entity() for row in session.scalars(select(RuleRow).order_by(RuleRow.id)))

    def add_rule(
        self, account_id: int, *, kind: str, name: str, bucket_id: int | None, trigger: bytes, actions: bytes, most: int
    ) -> StoredRule:
        """`Conflict` when the account has `most` already."""
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, RuleRow.account_id, account_id, most, "rules")
            row = RuleRow(account_id=account_id, kind=kind, is_enabled=True, created_at=self._now())
            row.remember(RuleState())
            _put(session, row, name, bucket_id, trigger, actions)
            session.add(row)
            session.flush()
            return row.entity()

    def update_rule(
        self, account_id: int, rule_id: int, *, name: str, bucket_id: int | None, trigger: bytes, actions: bytes
    ) -> StoredRule:
        with self._transaction() as session:
            row = self._rule(session, account_id, rule_id)
            _put(session, row, name, bucket_id, trigger, actions)
            return row.entity()

    def set_rule_enabled(self, account_id: int, rule_id: int, is_enabled: bool) -> StoredRule:
        with self._transaction() as session:
            row = self._rule(session, account_id, rule_id)
            row.is_enabled = is_enabled
            return row.entity()

    def remove_rule(self, account_id: int, rule_id: int) -> StoredRule:
        """Remove a rule with its history. Returns it as it was."""
        with self._transaction() as session:
            row = self._rule(session, account_id, rule_id)
            session.delete(row)
            return row.entity()

    def note_runs(self, states: Mapping[int, RuleState], runs: Sequence[StoredRun], *, keep: int) -> None:
        """Take over states by rule id, and add to the histories, of which the last `keep` runs are kept. Rules that are
        gone are passed over."""
        with self._transaction() as session:
            wanted = states.keys() | {run.rule_id for run in runs}
            rows = {row.id: row for row in session.scalars(select(RuleRow).where(RuleRow.id.in_(wanted)))}
            for rule_id, state in states.items():
                if rule_id in rows:
                    rows[rule_id].remember(state)
            session.add_all(_run_row(run) for run in runs if run.rule_id in rows)
            session.flush()
            for rule_id in {run.rule_id for run in runs} & rows.keys():
                of_rule = select(RuleRunRow.id).where(RuleRunRow.rule_id == rule_id)
                oldest = session.scalar(of_rule.order_by(RuleRunRow.id.desc()).offset(keep - 1).limit(1))
                if oldest is not None:
                    session.execute(delete(RuleRunRow).where(RuleRunRow.rule_id == rule_id, RuleRunRow.id < oldest))

    def runs_of(self, account_id: int, rule_id: int) -> tuple[StoredRun, ...]:
        """The history of a rule, the latest run first."""
        with self._transaction() as session:
            self._rule(session, account_id, rule_id)
            rows = select(RuleRunRow).where(RuleRunRow.rule_id == rule_id).order_by(RuleRunRow.id.desc())
            return tuple(row.entity() for row in session.scalars(rows))

    def _rule(self, session: Session, account_id: int, rule_id: int) -> RuleRow:
        row = session.get(RuleRow, known_id(rule_id, "rule"))
        if row is None or row.account_id != account_id:
            raise not_found("rule", rule_id)
        return row


def _put(session: Session, row: RuleRow, name: str, bucket_id: int | None, trigger: bytes, actions: bytes) -> None:
    if bucket_id is not None:
        bucket = session.get(BucketRow, known_id(bucket_id, "channel"))
        if bucket is None or bucket.account_id != row.account_id:
            raise not_found("channel", bucket_id)
    row.name = name
    row.bucket_id = bucket_id
    row.trigger = trigger
    row.actions = actions


def _run_row(run: StoredRun) -> RuleRunRow:
    return RuleRunRow(
        rule_id=run.rule_id,
        at_ns=run.at_ns,
        reason=run.reason,
        entry_id=run.entry_id,
        is_test=run.is_test,
        outcome=run.outcome,
        duration_ms=run.duration_ms,
        results=run.results,
    )
