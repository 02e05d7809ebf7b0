"""A rule and its runs as the registry keeps them. Values only; what trigger, actions and results say, `services/rules`
knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RuleState:
    """What a rule remembers from one moment to the next."""

    is_met: bool = False
    """Whether its condition was met the last time that could be told."""
    last_due_ns: int = 0
    """The latest time of its schedule that is dealt with."""
    last_run_ns: int = 0
    """0: never."""
    runs: int = 0
    failures: int = 0
    """Those of its runs of which something failed."""


@dataclass(frozen=True, slots=True)
class StoredRule:
    """One rule."""

    id: int
    account_id: int
    kind: str
    """Which app shows it."""
    name: str
    is_enabled: bool
    bucket_id: int | None
    """What it watches. None: nothing, or something that is gone."""
    trigger: bytes
    """JSON."""
    actions: bytes
    """Sealed."""
    created_at: datetime
    state: RuleState


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run of a rule."""

    rule_id: int
    at_ns: int
    reason: str
    entry_id: int | None
    is_test: bool
    outcome: str
    duration_ms: int
    results: bytes
    """JSON."""
