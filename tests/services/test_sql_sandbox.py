"""Nothing that can be written as a query reads what is somebody else's, files or settings, or harms the process."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.services.sql import SqlLimits
from headwater.settings import QuerySettings
from headwater.store.cancellation import Cancellation
from headwater.store.sandbox import open_sandbox
from services.sql_house import SECRET, SqlHouse, open_sql_house

T = "weather.station"
DEEP = 3000

ATTACKS = [
    # other statements, several of them, and comments around them
    "",
    ";",
    "--",
    "/* */",
    "nonsense",
    "SELECT",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "PRAGMA version",
    "CALL pragma_version()",
    "SET threads = 64",
    "RESET memory_limit",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CHECKPOINT",
    "ATTACH '/tmp/x.duckdb' AS x",
    "DETACH memory",
    "USE memory",
    "BEGIN",
    "EXPORT DATABASE '/tmp/x'",
    "VACUUM",
    "COPY (SELECT 1) TO '/tmp/headwater-attack.csv'",
    f"COPY {T} TO '/tmp/headwater-attack.csv'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO t VALUES (1)",
    f"UPDATE {T} SET temperature = 0",
    f"DELETE FROM {T}",
    f"DROP VIEW {T}",
    "TRUNCATE t",
    "PREPARE p AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1;;DROP SCHEMA scan",
    "SELECT 1 /* ; */ ; COPY t TO 'x'",
    "SHOW TABLES",
    f"DESCRIBE {T}",
    f"SUMMARIZE {T}",
    "FROM duckdb_settings()",
    "VALUES (1)",
    f"SELECT * INTO t FROM {T}",
    f"SELECT * FROM {T} FOR UPDATE",
    "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x",
    'WITH x AS (DELETE FROM scan."0" RETURNING *) SELECT * FROM x',
    # what is not a table of ours
    "SELECT * FROM theirs.station",
    "SELECT * FROM channel_3.station",
    "SELECT * FROM series",
    "SELECT * FROM meta",
    "SELECT * FROM hot_float_1",
    "SELECT * FROM run_1.points",
    "SELECT * FROM points.main.series",
    "SELECT * FROM main.series",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM memory.information_schema.columns",
    'SELECT * FROM scan."0"',
    f"SELECT * FROM points_0, {T}",
    "SELECT * FROM tags_0",
    "SELECT * FROM temp.x",
    f"SELECT * FROM {T} WHERE EXISTS (SELECT * FROM theirs.station)",
    f"SELECT (SELECT note FROM theirs.station), * FROM {T}",
    f"SELECT * FROM {T} JOIN theirs.station USING (time)",
    f"SELECT * FROM {T} UNION ALL SELECT * FROM theirs.station",
    "WITH theirs AS (SELECT 1 AS station) SELECT * FROM theirs.station",
    "WITH a AS (SELECT * FROM theirs.station) SELECT * FROM a",
    f"SELECT * FROM {T} WHERE room IN (SELECT room FROM theirs.station)",
    'SELECT * FROM "theirs"".""station"',
    # files and the network
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'x.csv'",
    'SELECT * FROM "x.parquet"',
    "FROM 'https://example.org/x.csv'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/*')",
    "SELECT * FROM read_parquet('x')",
    "SELECT * FROM read_json('x')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sniff_csv('x')",
    "SELECT * FROM parquet_metadata('x')",
    "SELECT * FROM sqlite_scan('x', 'y')",
    "SELECT * FROM iceberg_scan('x')",
    "SELECT getenv('HOME')",
    "SELECT read_text('/etc/passwd')",
    f"SELECT * FROM {T} AT (VERSION => 1)",
    # tables by name, settings, and the engine's own tables
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('series')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_tables()",
    "SELECT * FROM pragma_table_info('x')",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('x', 's3')",
    "SELECT current_setting('threads')",
    "SELECT current_database()",
    "SELECT current_user",
    "SELECT version()",
    "SELECT txid_current()",
    "SELECT nextval('s')",
    "SELECT getvariable('x')",
    "SELECT $1",
    "SELECT ?",
    "SELECT :a",
    "SELECT error('x')",
    "SELECT sleep_ms(100000)",
    "SELECT json_execute_serialized_sql('x')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT in_search_path('a','b')",
    "SELECT write_log('x')",
    "SELECT parse_path('x')",
    "SELECT random()",
    "SELECT uuid()",
    "SELECT hash(1)",
    # what opens other ways to columns and rows
    f"SELECT COLUMNS('.*') FROM {T}",
    f"SELECT COLUMNS(*) FROM {T}",
    f"SELECT #1 FROM {T}",
    f"PIVOT {T} ON room USING count(*)",
    f"FROM {T} UNPIVOT (a FOR b IN (temperature, humidity))",
    f"SELECT * FROM {T} TABLESAMPLE 10%",
    f"SELECT * FROM {T} NATURAL JOIN {T} b",
    f"SELECT * FROM {T} POSITIONAL JOIN {T} b",
    f"SELECT * FROM {T}, LATERAL (SELECT * FROM theirs.station)",
    "SELECT unnest([1, 2])",
    "SELECT list_transform([1], lambda x: x)",
    "SELECT list_transform([1], x -> x)",
    "SELECT {'a': 1}",
    "SELECT MAP {'a': 1}",
    "SELECT [1][1]",
    "SELECT 'x'::BLOB",
    "SELECT 'x'::theirs.station",
    "SELECT '1'::INTEGER[]",
    "SELECT x'00'",
    # much from little
    "SELECT repeat('x', 1000000000000)",
    "SELECT * FROM range(1000000000000)",
    "SELECT range(10000000000)",
    "SELECT generate_series(1, 1000000000)",
    "SELECT * FROM generate_series(1, 1000000000000)",
    "SELECT lpad('x', 1000000000, 'y')",
    "SELECT rpad('x', 1000000000, 'y')",
    "SELECT format('{:1000000000d}', 1)",
    "SELECT printf('%1000000000d', 1)",
    "SELECT bar(1, 0, 1, 1000000000)",
    "SELECT list(1)",
    "SELECT regexp_replace('aaaa', 'a', 'bbbb', 'g')",
    "SELECT replace('aaaa', 'a', 'bbbb')",
    "SELECT string_split('a', '')",
    f"SELECT room LIKE room FROM {T}",
    f"SELECT room LIKE '%_%_%_%_%' FROM {T}",
    f"SELECT room LIKE '%a%b%c%' ESCAPE '!' FROM {T}",
    f"SELECT room GLOB '*a*b' FROM {T}",
    "SELECT 9::BIGNUM",
    "SELECT factorial(1000)",
    # too large or too deep
    "SELECT " + "(" * DEEP + "1" + ")" * DEEP,
    "SELECT " + "NOT " * DEEP + "true",
    "SELECT " + "- " * DEEP + "1",
    "SELECT " + "CASE WHEN 1 THEN " * DEEP,
    "SELECT 1" + " + 1" * DEEP,
    "SELECT " + "(SELECT " * 300 + "1" + ")" * 300,
    "SELECT 1" + " UNION ALL SELECT 1" * 500,
    "SELECT '" + "x" * 30_000 + "'",
    "SELECT " + "1, " * 9_000 + "1",
    f"SELECT 1 FROM {T} t0" + "".join(f", {T} t{n + 1}" for n in range(20)),
    "SELECT " + "[" * DEEP,
    "SELECT " + "CAST(" * DEEP,
    "WITH " * DEEP,
    "SELECT a" + ".a" * DEEP,
    "SELECT " + "NOT(" * DEEP,
    "(" * 10_000,
    "SELECT \x00",
    "SELECT 'a",
    'SELECT "a',
    "SELECT \ud800",
    "SELECT $$a",
    "SELECT e'\\",
    "\ufeffSELECT 1",
    "SELECT 1 \u2028; SELECT 2",
    *(
        f"WITH {recursive} {name} AS ({body}) SELECT a.*, t.room FROM {name} a, {T} t"
        for name in ("sqlite_master", "duckdb_tables", "points_0", "tags_0")
        for recursive, body in (
            ("", f"SELECT * FROM {name}"),
            ("RECURSIVE", f"SELECT * FROM {name}"),
            ("RECURSIVE", f"SELECT 1 UNION ALL (SELECT 1 FROM {name}) UNION ALL SELECT 1"),
            ("RECURSIVE", f"SELECT * FROM {name} UNION ALL SELECT * FROM {name}"),
            ("", f"WITH b AS (SELECT * FROM {name}) SELECT * FROM b"),
        )
    ),
    f"WITH a AS (SELECT * FROM points_0), points_0 AS (SELECT 1) SELECT a.*, t.room FROM a, {T} t",
]

HARMLESS = {"\ufeffSELECT 1", "WITH theirs AS (SELECT 1 AS station) SELECT * FROM theirs.station"}
"""Whether these are refused does not matter."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHouse]:
    limits = SqlLimits(memory_mb=256), QuerySettings(max_rows=100_000)
    with open_sql_house("duck", tmp_path_factory.mktemp("sql"), *limits) as house:
        yield house


def told(house: SqlHouse, text: str) -> tuple[bool, str]:
    """Whether a query was refused, and all that its answer says."""
    try:
        found = house.table(text, default_bucket="weather")
    except RequestError as error:
        return True, str(error)
    return False, str(found.to_pydict())


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_an_attack_is_refused(house: SqlHouse, attack: str) -> None:
    is_refused, text = told(house, attack)
    assert is_refused or attack in HARMLESS, text
    assert SECRET not in text


def test_nothing_was_written(house: SqlHouse) -> None:
    assert not Path("/tmp/headwater-attack.csv").exists()
    assert house.rows("SELECT count(*) FROM weather.station") == [(48,)]


DOUBLING = ", ".join(f"t{n + 1} AS (SELECT a || a AS a FROM t{n})" for n in range(30))
MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
CROSS = ", ".join(f"{T} t{n}" for n in range(8))


@pytest.mark.parametrize(
    "bomb",
    [
        "WITH RECURSIVE t(a) AS (SELECT 'xxxxxxxx' UNION ALL SELECT a || a FROM t) SELECT max(length(a)) FROM t",
        f"WITH t0 AS (SELECT room || '!' AS a FROM {T}), {DOUBLING} SELECT max(length(a)) FROM t30",
        f"{MANY} SELECT count(*) FROM n",
        f"{MANY} SELECT i FROM n",
        f"{MANY} SELECT count(DISTINCT i) FROM (SELECT * FROM n LIMIT 100000000)",
        f"{MANY} SELECT string_agg(i::VARCHAR, '') FROM n",
        f"SELECT count(*) FROM {CROSS} WHERE t0.temperature + t1.temperature + t7.temperature = -1",
        f"SELECT t0.time FROM {CROSS} ORDER BY t3.temperature",
        f"SELECT median(t0.temperature * t1.temperature * t2.temperature) FROM {CROSS}",
        f"SELECT string_agg(t0.room || t1.room, ',') FROM {CROSS}",
        f"SELECT sum(t0.temperature) OVER (ORDER BY t1.time) FROM {CROSS}",
    ],
)
def test_a_bomb_ends_at_a_limit(house: SqlHouse, bomb: str) -> None:
    stop = Cancellation()
    timer = threading.Timer(1.0, stop.cancel, ["its time is up"])
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.monotonic()
    timer.start()
    try:
        with pytest.raises(RequestError):
            house.table(bomb, stop=stop)
    finally:
        timer.cancel()
    assert time.monotonic() - began_s < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 700 * 1024


def test_the_engine_itself_refuses_what_the_check_would_let_through() -> None:
    for sql in (
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/headwater-attack.csv'",
        "SET enable_external_access = true",
        "ATTACH '/tmp/headwater-attack.duckdb'",
        "SELECT 1; SELECT 2",
        "INSTALL httpfs",
    ):
        with open_sandbox(memory_mb=64, threads=1) as sandbox, pytest.raises(RequestError):
            list(sandbox.batches(sql, max_rows=10, stop=Cancellation()))


NAMES = st.sampled_from(
    [
        "weather.station",
        "theirs.station",
        "plant.entry",
        "a",
        "b",
        "station",
        "series",
        'scan."0"',
        "points_0",
        "channel_3.station",
    ]
)
COLUMNS = st.sampled_from(
    ["time", "room", "temperature", "note", "a.room", "*", "b.*", "count(*)", "max(note)", "1", "a"]
)


def _selects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    source = NAMES | inner.map("({})".format)
    joined = st.builds(
        "{} {} {} {}".format,
        source,
        st.sampled_from(["", "AS a"]),
        st.sampled_from([",", "CROSS JOIN", "JOIN"]),
        source,
    )
    condition = st.one_of(
        st.just(""),
        inner.map("WHERE EXISTS ({})".format),
        inner.map("WHERE room IN ({})".format),
        st.just("WHERE time > now()"),
        st.just("WHERE room = 'attic'"),
    )
    select = st.builds("SELECT {} FROM {} {}".format, COLUMNS, source | joined, condition)
    return st.one_of(
        select,
        st.builds(
            "WITH {} AS ({}) {}".format, st.sampled_from(["a", "b", "theirs", "station", "series"]), inner, select
        ),
        st.builds("{} UNION ALL {}".format, select, select),
        st.builds("SELECT ({}), ({})".format, inner, select),
    )


QUERIES = st.recursive(st.builds("SELECT {} FROM {}".format, COLUMNS, NAMES), _selects, max_leaves=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=QUERIES)
def test_no_nesting_reaches_what_is_somebody_elses(house: SqlHouse, text: str) -> None:
    assert SECRET not in told(house, text)[1]


WORDS = "SELECT FROM WHERE ( ) , * 1 'a' \" weather.station time room AND CASE WHEN END ; -- /* */ $$ WITH AS OVER BY"
SALAD = st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | SALAD)
def test_any_text_is_answered_or_refused(house: SqlHouse, text: str) -> None:
    with suppress(RequestError):  # and nothing else
        house.table(text)
