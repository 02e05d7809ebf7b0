"""Which times and tags a query asks for where it names a table, as far as that can be seen at a glance.

Only what stands in the WHERE of the same SELECT, joined by AND, counts: a row for which such a comparison is not true
is in no result, whatever else the query does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

TIME = "time"
_MIRRORED: Mapping[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.EQ: exp.EQ,
}


@dataclass(slots=True)
class Conditions:
    """Constant expressions, as DuckDB's SQL, that times are not before or not after, and values that columns have."""

    not_before: list[str] = field(default_factory=list)
    not_after: list[str] = field(default_factory=list)
    values: dict[str, frozenset[str]] = field(default_factory=dict)
    """By the column's name in lower case. Whether it is a tag is not known here."""


def conditions_on(table: exp.Table) -> Conditions:
    """What the SELECT that names a table there asks of it."""
    found = Conditions()
    select = table.parent_select
    if not isinstance(select, exp.Select) or table.alias_column_names:
        return found
    where = select.args.get("where")
    joins = select.args.get("joins") or []
    # The nearest row before another one is a different one among fewer.
    if where is None or any(join.args.get("method") for join in select.find_all(exp.Join)):
        return found
    if not isinstance(table.parent, exp.From | exp.Join) or table.parent.parent is not select:
        return found
    alias = table.alias_or_name.lower()
    for condition in _conjuncts(where.this):
        _take(condition, alias, may_be_bare=not joins and not table.args.get("joins"), found=found)
    return found


def _conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    left = [condition]
    while left:
        match left.pop():
            case exp.And(this=this, expression=expression):
                left += (this, expression)
            case exp.Paren(this=this):
                left.append(this)
            case one:
                yield one


def _take(condition: exp.Expr, alias: str, *, may_be_bare: bool, found: Conditions) -> None:
    def name_of(node: exp.Expr) -> str | None:
        """The column of this table that a node is."""
        if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
            return None
        qualifier = node.table.lower()
        return node.name.lower() if qualifier == alias or (not qualifier and may_be_bare) else None

    match condition:
        case exp.Between(this=this, args=args) if name_of(this) == TIME and not args.get("symmetric"):
            _bound(found.not_before, args["low"])
            _bound(found.not_after, args["high"])
        case exp.In(this=this, args=args) if not args.get("query") and not args.get("unnest"):
            _one_of(found, name_of(this), args.get("expressions") or [])
        case exp.GT() | exp.GTE() | exp.LT() | exp.LTE() | exp.EQ():
            kind: type[exp.Expr] = type(condition)
            this, other = condition.this, condition.expression
            if name_of(this) is None:
                this, other, kind = other, this, _MIRRORED[kind]
            if name_of(this) == TIME:
                if kind is not exp.LT and kind is not exp.LTE:
                    _bound(found.not_before, other)
                if kind is not exp.GT and kind is not exp.GTE:
                    _bound(found.not_after, other)
            elif kind is exp.EQ:
                _one_of(found, name_of(this), [other])
        case _:
            pass


def _bound(bounds: list[str], expression: exp.Expr) -> None:
    if not any(expression.find_all(exp.Column, exp.Query, exp.AggFunc, exp.Window)):
        bounds.append(expression.sql(dialect="duckdb", identify=True, comments=False))


def _one_of(found: Conditions, name: str | None, literals: list[exp.Expr]) -> None:
    if name is None or not all(isinstance(one, exp.Literal) and one.is_string for one in literals):
        return
    values = frozenset(one.name for one in literals)
    found.values[name] = found.values[name] & values if name in found.values else values
