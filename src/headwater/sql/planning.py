"""What a query reads: each place where it names a table becomes a scan of its own, with the columns, times and tags
that it asks for there. Knows no store.

A scan may give more than was asked for, never less: the query itself, with its conditions, runs over it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlglot import exp

from headwater.errors import BadRequest, TooLarge
from headwater.sql.conditions import Conditions, conditions_on

T = TypeVar("T")

SCHEMA = "scan"
"""Where the engine has the scans, under their numbers. Names of common table expressions cannot hide them there."""


@dataclass(frozen=True, slots=True)
class Scan(Generic[T]):
    """One place where a query names a table."""

    table: T
    columns: frozenset[str] | None
    """Those that the query names, in lower case; None when it may need all."""
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """A query over scans. `sql` is DuckDB's."""

    sql: str
    scans: tuple[Scan[T], ...]


def plan_query(tree: exp.Query, find_table: Callable[[str | None, str], T], now: datetime) -> Plan[T]:
    """The plan of a tree that `parse_query` made, which is changed.

    Args: `find_table` is given bucket (or None) and measurement, and raises BadRequest where there is no such table;
    `now` (in UTC) is what the query takes for the time all along.
    """
    tree = _at_one_time(tree, now)
    tables = [table for table in tree.find_all(exp.Table) if not _is_common(table)]
    has_star = _has_star(tree)
    named = _columns_by_qualifier(tree)
    aliases = {table.alias_or_name.lower() for table in tables}
    found, scans = [], []
    for table in tables:
        found.append(find_table(table.db or None, table.name))
        alias = table.alias_or_name.lower()
        columns = frozenset(named.get("", frozenset()) | named.get(alias, frozenset()))
        needs_all = has_star or bool(aliases & named.get("", frozenset())) or bool(table.alias_column_names)
        scans.append(Scan(found[-1], None if needs_all else columns, conditions_on(table)))
    _shorten_names(tree, {table.db.lower() for table in tables if table.db})
    for number, table in enumerate(tables):
        alias_node = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
        table.set("alias", alias_node)
        table.set("this", exp.to_identifier(str(number), quoted=True))
        table.set("db", exp.to_identifier(SCHEMA, quoted=True))
    try:
        return Plan(tree.sql(dialect="duckdb", identify=True, comments=False), tuple(scans))
    except RecursionError as error:
        raise TooLarge("the query is nested too deeply") from error


def _at_one_time(tree: exp.Query, now: datetime) -> exp.Query:
    """With the time itself where it asks for the time. Times have no zone here: they are UTC."""
    literal = exp.Literal.string(now.strftime("%Y-%m-%d %H:%M:%S.%f"))

    def fixed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.CurrentTimestamp) or (isinstance(node, exp.Anonymous) and node.name.lower() == "now"):
            return exp.cast(literal.copy(), exp.DType.TIMESTAMP_NS)
        if isinstance(node, exp.CurrentDate):
            return exp.cast(exp.cast(literal.copy(), exp.DType.TIMESTAMP), exp.DType.DATE)
        return node

    fixed_tree = tree.transform(fixed, copy=False)
    assert isinstance(fixed_tree, exp.Query)
    return fixed_tree


def _is_common(table: exp.Table) -> bool:
    """Whether it is a common table expression that can be seen from there, and no table."""
    if table.db:
        return False
    name = table.name.lower()
    path: list[exp.Expr] = [table]
    while (above := path[-1].parent) is not None:
        with_ = above.args.get("with_")
        if with_ is not None:
            commons = with_.expressions if path[-1] is not with_ else _seen_within(path)
            if any(common.alias.lower() == name for common in commons):
                return True
        path.append(above)
    return False


def _seen_within(path: list[exp.Expr]) -> list[exp.Expr]:
    """Of a WITH at the end of a path that leads into one of its expressions, those that can be seen from where the path
    begins: what stands before, and in the second part of a recursive one that itself. Of any other name the engine
    would find what it keeps for itself."""
    with_, common = path[-1], path[-2]
    body, part = path[-3], path[-4] if len(path) > 3 else None
    seen = list(with_.expressions[: with_.expressions.index(common)])
    if with_.args.get("recursive") and isinstance(body, exp.Union) and part is body.expression:
        seen.append(common)
    return seen


def _has_star(tree: exp.Expr) -> bool:
    return any(True for _ in tree.find_all(exp.Star)) or any(count.this is None for count in tree.find_all(exp.Count))


def _columns_by_qualifier(tree: exp.Expr) -> Mapping[str, frozenset[str]]:
    """The columns named with each qualifier, in lower case; without one under the empty name."""
    named: dict[str, set[str]] = {}
    for column in tree.find_all(exp.Column):
        named.setdefault(column.table.lower(), set()).add(column.name.lower())
    for join in tree.find_all(exp.Join):
        for column in join.args.get("using") or ():
            named.setdefault("", set()).add(column.name.lower())
    return {qualifier: frozenset(columns) for qualifier, columns in named.items()}


def _shorten_names(tree: exp.Expr, buckets: set[str]) -> None:
    """Of `bucket.measurement.column` the bucket is left out: the table has another name now."""
    for column in tree.find_all(exp.Column):
        if column.args.get("catalog") is not None:
            raise BadRequest(f"{column.sql(dialect='duckdb')} has too many parts: name the table and the column")
        if column.db and column.db.lower() in buckets:
            column.set("db", None)
