"""Reads a query and refuses what is not one, or is made of anything that is not allowed. Runs nothing."""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp
from sqlglot.dialects import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from headwater.errors import BadRequest, TooLarge
from headwater.sql.allowed import FUNCTIONS, JOIN_METHODS, NODES, TYPES

_BEGINNINGS = {TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN}
_OPENING = {TokenType.L_PAREN, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.END}
_MAX_WILDCARDS = 2
"""Of a pattern with `_`: DuckDB tries each way to match it, one after the other."""


class TextLimits(NamedTuple):
    """How large a query may be. The parser calls itself for what stands within something else."""

    max_bytes: int = 20_000
    max_nodes: int = 4_000
    max_depth: int = 200
    max_tables: int = 16


def parse_query(text: str, limits: TextLimits) -> exp.Query:
    """The tree of a query that may run. Raises BadRequest, and TooLarge for what is beyond a limit."""
    try:
        if len(text.encode()) > limits.max_bytes:
            raise TooLarge(f"a query has at most {limits.max_bytes} bytes")
        tokens = DuckDB().tokenize(text)
        while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
            tokens.pop()
        _check_tokens(tokens, limits)
        tree = next(iter(DuckDB().parser().parse(tokens, text)), None)
    except SqlglotError as error:
        raise BadRequest(f"this is no SQL query: {_words_of(error)}") from error
    except UnicodeEncodeError as error:
        raise BadRequest("this is no SQL query: it is not Unicode text") from error
    except RecursionError as error:
        raise _too_deep(limits) from error
    if not isinstance(tree, exp.Query):
        raise _not_a_query()
    _check_size(tree, limits)
    for node in tree.walk():
        _check_node(node)
    return tree


def _check_tokens(tokens: list[Token], limits: TextLimits) -> None:
    """Before anything is parsed: what else it might be is not even looked at."""
    if not tokens or tokens[0].token_type not in _BEGINNINGS:
        raise _not_a_query()
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        raise BadRequest("only one statement at a time: leave out what follows the semicolon")
    depth = 0
    for token in tokens:
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        if depth > limits.max_depth:
            raise _too_deep(limits)


def _check_size(tree: exp.Expr, limits: TextLimits) -> None:
    """Row by row, for what is too deep cannot be walked otherwise."""
    row, depth, count = [tree], 0, 0
    while row:
        depth += 1
        count += len(row)
        if depth > limits.max_depth:
            raise _too_deep(limits)
        if count > limits.max_nodes:
            raise TooLarge("the query is too long: leave something out")
        row = [child for node in row for child in node.iter_expressions()]
    if sum(1 for _ in tree.find_all(exp.Table)) > limits.max_tables:
        raise TooLarge(f"a query names at most {limits.max_tables} tables")


def _check_node(node: exp.Expr) -> None:
    match node:
        case exp.Anonymous():
            if not isinstance(node.this, str) or node.this.lower() not in FUNCTIONS:
                raise BadRequest(f"the function {node.name} cannot be used in queries")
        case _ if type(node) not in NODES:
            raise BadRequest(f"{_name_of(node)} cannot be used in queries")
        case exp.DataType():
            if node.this not in TYPES:
                raise BadRequest(f"the type {node.sql(dialect='duckdb')} cannot be used in queries")
        case exp.Table():
            _check_table(node)
        case exp.Join():
            method = str(node.args.get("method") or "").upper()
            if method not in JOIN_METHODS:
                raise BadRequest(f"a {method} join cannot be used: name the columns with ON or USING")
        case exp.Like() | exp.ILike():
            _check_pattern(node.expression, is_escaped=isinstance(node.parent, exp.Escape))
        case exp.Select() if node.args.get("kind") or not node.expressions:
            raise BadRequest("only plain rows can be selected")
        case _:
            pass


def _check_table(table: exp.Table) -> None:
    if not isinstance(table.this, exp.Identifier):
        raise BadRequest('functions cannot be used as tables: name a table as "bucket"."measurement"')
    if table.args.get("catalog") is not None:
        raise BadRequest('a table is named "bucket"."measurement", and no more')
    others = {name for name, value in table.args.items() if value} - {"this", "db", "alias", "joins"}
    if others:
        raise BadRequest(f"a table cannot be used with {', '.join(sorted(others))}")


def _check_pattern(pattern: exp.Expr, *, is_escaped: bool) -> None:
    """A pattern that is compared step by step could take for ever, and cannot be broken off meanwhile."""
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise BadRequest("LIKE needs a pattern in quotes; regexp_matches takes other ones")
    if (is_escaped or "_" in pattern.name) and pattern.name.count("%") > _MAX_WILDCARDS:
        raise BadRequest(f"a LIKE pattern with _ or ESCAPE has at most {_MAX_WILDCARDS} %: use regexp_matches")


def _name_of(node: exp.Expr) -> str:
    return node.sql_name() if isinstance(node, exp.Func) else node.key.upper()


def _words_of(error: SqlglotError) -> str:
    return " ".join(str(error).replace("\x1b[4m", "").replace("\x1b[0m", "").split())[:200]


def _not_a_query() -> BadRequest:
    return BadRequest("only queries can be run here: SELECT ... or WITH ... SELECT ...")


def _too_deep(limits: TextLimits) -> TooLarge:
    return TooLarge(f"the query is nested too deeply (more than {limits.max_depth} levels)")
