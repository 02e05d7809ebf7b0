"""Whatever a query asks for, reading only what its conditions need gives the same answer as reading everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.sql.conditions import Conditions
from headwater.store.cancellation import Cancellation
from services.sql_house import MINE, SqlHouse, open_sql_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHouse]:
    with open_sql_house("memory", tmp_path_factory.mktemp("sql")) as house:
        yield house


TIMES = st.sampled_from(
    [
        "now()",
        "now() - INTERVAL 3 HOURS",
        "TIMESTAMP '2026-01-10 05:00'",
        "'2026-01-09T20:00:00'",
        "DATE '2026-01-10'",
        "b.time",
    ]
)
COMPARISONS = st.sampled_from(["<", "<=", "=", ">", ">=", "<>"])
COLUMN_NAMES = st.sampled_from(["a.time", "b.time"])
ROOMS = st.sampled_from(["a.room", "b.room"])
ATOMS = st.one_of(
    st.builds("{} {} {}".format, COLUMN_NAMES, COMPARISONS, TIMES),
    st.builds("{} {} {}".format, TIMES, COMPARISONS, COLUMN_NAMES),
    st.builds("{} BETWEEN {} AND {}".format, COLUMN_NAMES, TIMES, TIMES),
    st.builds("{} = 'attic'".format, ROOMS),
    st.builds("{} IN ('attic', 'roof')".format, ROOMS),
    st.builds("{} IS NULL".format, ROOMS),
    st.just("a.temperature > 12"),
)
WHERE = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=4,
)
JOINS = st.sampled_from(
    [
        "JOIN weather.station b USING (time)",
        "LEFT JOIN weather.station b ON a.time = b.time AND a.room <> b.room",
        "RIGHT JOIN weather.station b ON a.time = b.time AND b.room = 'attic'",
        "FULL JOIN weather.station b ON a.time = b.time AND a.room = 'attic' AND b.room = 'cellar'",
        "ASOF JOIN weather.station b ON a.room = b.room AND a.time > b.time",
        "JOIN (SELECT time, room FROM weather.station WHERE time > now() - INTERVAL 5 HOURS) b ON a.room = b.room",
    ]
)
COLUMNS = "a.time, a.room, a.temperature, b.time, b.room"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(join=JOINS, where=WHERE, ending=st.sampled_from(["", " LIMIT 1000", " QUALIFY count(*) OVER () > 1"]))
def test_bounds_change_no_answer(house: SqlHouse, join: str, where: str, ending: str) -> None:
    plan = house.sql.plan(MINE, f"SELECT {COLUMNS} FROM weather.station a {join} WHERE {where}{ending}")
    everything = replace(plan, scans=tuple(replace(scan, conditions=Conditions()) for scan in plan.scans))
    answers = []
    for one in (plan, everything):
        try:
            batches = list(house.sql.batches(one, Cancellation()))
        except RequestError as error:
            answers.append([str(error)])
        else:
            answers.append(sorted(str(row) for batch in batches for row in zip(*batch.columns, strict=True)))
    assert answers[0] == answers[1]
