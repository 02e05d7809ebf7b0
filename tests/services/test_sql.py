"""SQL over the buckets of one account, on each store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gated_store import until
from headwater.errors import BadRequest, Cancelled, Overloaded, TooLarge
from headwater.model.series import SeriesKey, Unsigned, ValueType
from headwater.registry.entities import ChannelSettings, Rollup
from headwater.services.access import Access
from headwater.services.sql import SqlLimits, buckets_of
from headwater.services.sql_tables import Bucket
from headwater.settings import QuerySettings
from headwater.store import Batch, Columns
from headwater.store.cancellation import Cancellation
from headwater.store.duck import open_duck_store
from services.conftest import House
from services.sql_house import HOUR_NS, MINE, NOW_NS, SECOND_NS, SECRET, SqlHouse, open_sql_house

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(params=["memory", "duck"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def house_of_sql(engine: str, tmp_path: Path) -> Iterator[SqlHouse]:
    with open_sql_house(engine, tmp_path) as house:
        yield house


def test_a_table_has_time_tags_and_fields(house_of_sql: SqlHouse) -> None:
    found = house_of_sql.table('SELECT * FROM "weather"."station"')
    assert [(one.name, str(one.type)) for one in found.schema] == [
        ("time", "timestamp[ns]"),
        ("room", "string"),
        ("humidity", "int64"),
        ("temperature", "double"),
    ]
    assert found.num_rows == 48


def test_conditions_joins_windows_and_groups(house_of_sql: SqlHouse) -> None:
    rows = house_of_sql.rows
    assert rows(
        'SELECT time, room, temperature FROM "weather"."station" '
        "WHERE time >= now() - INTERVAL 2 HOURS AND room = 'attic' ORDER BY time"
    ) == [(NOW_NS - hour * HOUR_NS, "attic", 10.0 + hour) for hour in (2, 1, 0)]
    assert rows(
        "SELECT date_bin(INTERVAL '12 hours', time) AS at, room, count(*) FROM weather.station "
        "GROUP BY ALL ORDER BY ALL"
    ) == [
        (NOW_NS - 24 * HOUR_NS, "attic", 11),
        (NOW_NS - 24 * HOUR_NS, "cellar", 11),
        (NOW_NS - 12 * HOUR_NS, "attic", 12),
        (NOW_NS - 12 * HOUR_NS, "cellar", 12),
        (NOW_NS, "attic", 1),
        (NOW_NS, "cellar", 1),
    ]
    assert rows(
        "WITH a AS (SELECT * FROM weather.station WHERE room = 'attic'), c AS (SELECT * FROM weather.station WHERE "
        "room = 'cellar') SELECT sum(a.temperature - c.temperature), count(*) FROM a JOIN c USING (time)"
    ) == [(240.0, 24)]
    assert rows(
        "SELECT room, temperature - lag(temperature) OVER (PARTITION BY room ORDER BY time) AS change "
        "FROM weather.station QUALIFY change IS NOT NULL AND time > now() - INTERVAL 1 HOUR ORDER BY room"
    ) == [("attic", -1.0), ("cellar", -1.0)]
    assert rows("SELECT weather.station.room FROM weather.station ORDER BY time, room LIMIT 1") == [("attic",)]


def test_buckets_go_by_any_of_their_names_and_by_default(house_of_sql: SqlHouse) -> None:
    assert house_of_sql.rows("SELECT field1, status FROM plant.entry") == [(1.5, "ok")]
    assert house_of_sql.rows("SELECT e.field1 FROM CHANNEL_2.Entry AS e") == [(1.5,)]
    assert house_of_sql.rows("SELECT field1 FROM entry", default_bucket="plant") == [(1.5,)]
    with pytest.raises(BadRequest, match=r'name the bucket too, as "bucket"."entry"'):
        house_of_sql.rows("SELECT field1 FROM entry")


def test_what_there_is_not_is_told_with_what_there_is(house_of_sql: SqlHouse) -> None:
    with pytest.raises(BadRequest) as refused:
        house_of_sql.rows("SELECT * FROM theirs.station")
    assert str(refused.value) == (
        'there is no table "theirs"."station"; there are: "weather"."station", "plant"."entry"'
    )
    with pytest.raises(BadRequest, match=r'column "pressure" not found in FROM clause; perhaps "temperature"$'):
        house_of_sql.rows("SELECT pressure FROM weather.station")
    twins = [Bucket(1, ("a", "channel_1")), Bucket(2, ("a", "channel_2"))]
    with pytest.raises(BadRequest, match='several buckets are called "a": call them "channel_1" and "channel_2"'):
        house_of_sql.sql.plan(twins, "SELECT * FROM a.station")
    odd = [*twins, Bucket(2, ('the "big" one', "channel_3"), frozenset({"marks"}))]
    house_of_sql.write(SeriesKey(2, "marks"), 1, mark=1)
    with pytest.raises(BadRequest) as refused:
        house_of_sql.sql.plan(odd, 'SELECT * FROM "the ""big"" one".marks')
    assert str(refused.value) == (
        'there is no table "the ""big"" one"."marks"; there are: '
        '"channel_1"."station", "channel_2"."entry", "channel_2"."marks", "the ""big"" one"."entry"'
    )


def test_a_record_is_there_when_a_named_field_has_a_value(house_of_sql: SqlHouse) -> None:
    key = SeriesKey(2, "tank")
    house_of_sql.write(key, 1, level=1.0)
    house_of_sql.write(key, 2, valve=True)
    rows = house_of_sql.rows
    assert rows("SELECT level FROM plant.tank") == [(1.0,)]
    assert rows("SELECT level, valve FROM plant.tank ORDER BY time") == [(1.0, None), (None, True)]
    assert rows("SELECT count(*), max(level) FROM plant.tank") == [(2, 1.0)]
    assert rows("SELECT time FROM plant.tank ORDER BY time") == [(1,), (2,)]


def test_fields_of_several_types_and_names_that_are_taken(house_of_sql: SqlHouse) -> None:
    key = SeriesKey(2, "odd", (("Level", "x"), ("time", "noon")))
    for at_ns, value in enumerate((1, 2.5, Unsigned(2**63), "full", True)):
        house_of_sql.write(key, at_ns, level=value)
    assert house_of_sql.rows('SELECT * FROM plant.odd ORDER BY "time"') == [
        (0, "x", "noon", 1.0, None, None),
        (1, "x", "noon", 2.5, None, None),
        (2, "x", "noon", float(2**63), None, None),
        (3, "x", "noon", None, "full", None),
        (4, "x", "noon", None, None, True),
    ]
    assert house_of_sql.table("SELECT * FROM plant.odd").column_names == [
        *("time", "Level", "time_tag", "level_field", "level_string", "level_boolean")
    ]


def test_a_whole_row_may_be_taken_by_the_tables_name(house_of_sql: SqlHouse) -> None:
    ((row,),) = house_of_sql.rows("SELECT e FROM plant.entry e")
    assert row["status"] == "ok"


def test_any_text_can_be_a_name(house_of_sql: SqlHouse) -> None:
    name = 'x" ; DROP TABLE "y'
    house_of_sql.write(SeriesKey(2, name, ((name, "v"),)), 5, **{name + "2": 1.0})
    quoted = '"' + name.replace('"', '""') + '"'
    assert house_of_sql.rows(f"SELECT * FROM plant.{quoted}") == [(5, "v", 1.0)]


@pytest.mark.parametrize(
    "condition",
    [
        "time >= '2026-01-10T10:00:00'",
        "'2026-01-10 10:00' <= time AND temperature >= 0",
        "time BETWEEN now() - INTERVAL '2 hours' AND now() + INTERVAL 1 DAY",
        "time >= current_date + INTERVAL 10 HOUR AND (room = 'attic' OR true)",
        "time > TIMESTAMP '2026-01-10 09:59:59.999999'",
        "time IN (SELECT time FROM weather.station WHERE time >= '2026-01-10 10:00')",
    ],
)
def test_times_are_bounded_before_points_are_read(
    house_of_sql: SqlHouse, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    starts = []
    scan = house_of_sql.store.scan

    def watched(keys: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        starts.append(options["start_ns"])
        return scan(keys, **options)

    monkeypatch.setattr(house_of_sql.store, "scan", watched)
    found = house_of_sql.rows(f"SELECT time, room FROM weather.station WHERE {condition}")
    assert len(found) == 6
    first_ns = NOW_NS - 2 * HOUR_NS
    assert any(start_ns is not None and first_ns - 2 * SECOND_NS < start_ns < first_ns for start_ns in starts)


def test_tags_are_looked_at_before_points_are_read(house_of_sql: SqlHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    scan = house_of_sql.store.scan

    def watched(keys: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        asked.append(len(keys))
        return scan(keys, **options)

    monkeypatch.setattr(house_of_sql.store, "scan", watched)
    count = "SELECT count(*) FROM weather.station s WHERE"
    assert house_of_sql.rows(f"{count} room = 'attic' AND s.room IN ('attic', 'cellar')") == [(24,)]
    assert house_of_sql.rows(f"{count} room = 'roof'") == [(0,)]
    assert house_of_sql.rows(f"{count} room = 'attic' OR room = 'cellar'") == [(48,)]
    assert set(asked) == {0, 1, 2}


def test_the_nearest_row_before_is_not_sought_among_fewer(house_of_sql: SqlHouse) -> None:
    found = house_of_sql.rows(
        "SELECT a.time, b.time FROM weather.station a "
        "ASOF JOIN weather.station b ON a.room = b.room AND a.time >= b.time "
        "WHERE b.time < '2026-01-10 11:30' AND a.room = 'attic' AND a.time > now() - INTERVAL 90 MINUTES"
    )
    assert found == [(NOW_NS - HOUR_NS, NOW_NS - HOUR_NS)]


def test_a_limit_of_rows_of_time_and_of_memory(engine: str, tmp_path: Path) -> None:
    with open_sql_house(engine, tmp_path, SqlLimits(memory_mb=64), QuerySettings(max_rows=10)) as house:
        assert len(house.rows("SELECT * FROM weather.station LIMIT 10")) == 10
        with pytest.raises(TooLarge, match="more than 10 rows"):
            house.rows("SELECT * FROM weather.station")
        bomb = "SELECT string_agg(a.time || b.time || c.time || d.time) FROM " + ", ".join(
            f"weather.station {name}" for name in "abcd"
        )
        with pytest.raises(TooLarge, match="more than 64 MB"):
            house.rows(bomb)
        stop = Cancellation()
        stop.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            house.rows("SELECT * FROM weather.station", stop=stop)


async def collect(house: SqlHouse, text: str) -> int:
    async with house.sql.answer(MINE, text) as batches:
        return sum([batch.num_rows async for batch in batches])


async def test_answers_are_streamed_off_the_loop(engine: str, tmp_path: Path) -> None:
    limits = SqlLimits(at_once=1), QuerySettings(timeout_s=0.3, max_waiting=1)
    with open_sql_house(engine, tmp_path, *limits) as house:
        assert await collect(house, "SELECT * FROM weather.station") == 48
        with pytest.raises(BadRequest):
            await collect(house, "SELECT nothing FROM weather.station")
        with pytest.raises(Cancelled, match="longer than"):
            await collect(house, ENDLESS)
        assert await collect(house, "SELECT 1") == 1


async def test_who_waits_for_an_engine_has_the_limits_of_a_query(engine: str, tmp_path: Path) -> None:
    limits = SqlLimits(at_once=1), QuerySettings(timeout_s=0.3, max_waiting=1)
    with open_sql_house(engine, tmp_path, *limits) as house:
        async with house.sql.answer(MINE, "SELECT * FROM weather.station"):
            waiting = asyncio.create_task(collect(house, "SELECT 1"))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match=r"query\.max_waiting"):
                await collect(house, "SELECT 1")
            with pytest.raises(Cancelled, match=r"query\.timeout_s"):
                await waiting
        assert await collect(house, "SELECT 1") == 1


async def test_whoever_leaves_early_ends_the_query(engine: str, tmp_path: Path) -> None:
    with open_sql_house(engine, tmp_path, SqlLimits(at_once=1), QuerySettings(timeout_s=60)) as house:
        many = "SELECT a.time FROM weather.station a, weather.station b, weather.station c"
        async with house.sql.answer(MINE, many) as batches:
            assert (await anext(batches)).num_rows == 0
        running = asyncio.create_task(collect(house, ENDLESS))
        await until(house.readers._still_unfinished)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await collect(house, "SELECT 1") == 1


async def test_an_account_has_its_own_channels_only(house: House) -> None:
    ada, bob = await house.account("ada"), await house.account("bob")
    mine = await house.channels.create(ada.id, ChannelSettings(name="garden"))
    unnamed = await house.channels.create(ada.id, ChannelSettings())
    await house.channels.create(bob.id, ChannelSettings(name="garden"))
    access: Access = house.access
    own = frozenset({"entry.numbering"})
    assert buckets_of(access, ada.id) == [
        Bucket(mine.id, ("garden", f"channel_{mine.id}"), own),
        Bucket(unnamed.id, (f"channel_{unnamed.id}",), own),
    ]
    rule = Rollup(1, ada.id, mine.id, 99, 5400, ("count",), None, mine.created_at)
    rules = {mine.id: [rule, replace(rule, target_bucket_id=98, window_s=604_800)]}
    assert buckets_of(access, ada.id, lambda channel_id: rules.get(channel_id, []))[1:3] == [
        Bucket(99, ("garden_90m", f"channel_{mine.id}_90m"), frozenset({"rollup"})),
        Bucket(98, ("garden_7d", f"channel_{mine.id}_7d"), frozenset({"rollup"})),
    ]


def test_a_query_sees_what_is_moved_while_it_reads(tmp_path: Path) -> None:
    store = open_duck_store(tmp_path / "points", memory_limit_mb=256, hot_rows=20_000)
    house = SqlHouse(store)
    key = SeriesKey(2, "long")
    try:
        for start in range(0, 30_000, 10_000):
            _write_many(house, key, range(start, start + 10_000))
        batches = house.sql.batches(house.sql.plan(MINE, "SELECT value FROM plant.long"), Cancellation())
        rows = next(batches).num_rows + next(batches).num_rows
        while store.maintain():
            pass
        _write_many(house, key, range(30_000, 60_000))
        while store.maintain():
            pass
        assert rows + sum(batch.num_rows for batch in batches) == 30_000
    finally:
        house.readers.close()
        store.close()


def _write_many(house: SqlHouse, key: SeriesKey, times: range) -> None:
    series_id = house.catalogue.find(key, "value", float)
    batch = Batch()
    if series_id is None:
        series = house.catalogue.create(key, "value", ValueType.FLOAT)
        batch.new_series.append(series)
        series_id = series.id
    columns = batch.columns.setdefault(ValueType.FLOAT, Columns(ValueType.FLOAT))
    for at_ns in times:
        columns.append(series_id, at_ns, 1.0)
    house.store.append(batch)


def test_nobody_elses_values_are_among_the_names_that_are_told(house_of_sql: SqlHouse) -> None:
    with pytest.raises(BadRequest) as refused:
        house_of_sql.rows("SELECT * FROM nothing.there")
    assert SECRET not in str(refused.value)


EXAMPLES = re.findall(
    r"^```sql\n(.*?)^```", (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8"), re.M | re.S
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_page_give_rows(house_of_sql: SqlHouse, example: str) -> None:
    assert house_of_sql.rows(example)


def test_a_common_table_expression_may_be_called_like_the_table_that_it_reads(house_of_sql: SqlHouse) -> None:
    text = "WITH station AS (SELECT * FROM station) SELECT count(*) FROM station"
    assert house_of_sql.rows(text, default_bucket="weather") == house_of_sql.rows(
        "SELECT count(*) FROM weather.station"
    )


def test_times_at_the_edges_keep_no_query_from_the_others(house_of_sql: SqlHouse) -> None:
    key = SeriesKey(2, "edges")
    for at_ns in (-(2**63), -(2**63) + 1, -(2**63) + 2, 0, 2**63 - 2, 2**63 - 1):
        house_of_sql.write(key, at_ns, value=1.0)
    found = house_of_sql.rows("SELECT time FROM plant.edges ORDER BY time")
    assert found == [(-(2**63) + 2,), (0,), (2**63 - 2,)]
    assert house_of_sql.rows("SELECT count(*) FROM plant.edges WHERE date_trunc('hour', time) > '2000-01-01'") == [(1,)]
