"""Choosing series: filters over the catalogue against plain Python, and what a bucket consists of."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest, Cancelled
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.services.catalogue import Catalogue
from headwater.services.grouping import Group, GroupBy, grouped
from headwater.services.selecting import (
    MAX_CONDITIONS,
    MAX_NESTING,
    MAX_REGEX_CHARS,
    AllOf,
    AnyOf,
    SeriesFilter,
    Tag,
    TagCondition,
    TextMatch,
    equal,
    one_of,
    regex,
)
from headwater.store.cancellation import Cancellation

NAMES = ["a", "b", "c"]
VALUES = ["", "x", "xy", "y"]
Oracle = Callable[[str], bool]

matches: st.SearchStrategy[tuple[TextMatch, Oracle]] = st.one_of(
    st.sampled_from(VALUES).map(lambda text: (equal(text), lambda value: value == text)),
    st.sets(st.sampled_from(VALUES)).map(lambda texts: (one_of(texts), lambda value: value in texts)),
    st.sampled_from(["x", "^x$", "^$", "y|^a", ".*"]).map(
        lambda pattern: (regex(pattern), lambda value: re.search(pattern, value) is not None)
    ),
).flatmap(lambda pair: st.sampled_from([pair, (~pair[0], lambda value: not pair[1](value))]))


def tagged(name: str, pair: tuple[TextMatch, Oracle]) -> tuple[TagCondition, Callable[[Series], bool]]:
    return Tag(name, pair[0]), lambda series: pair[1](dict(series.key.tags).get(name, ""))


conditions = st.recursive(
    st.builds(tagged, st.sampled_from(NAMES), matches),
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from(
            [
                (AllOf(tuple(one for one, _ in parts)), lambda series: all(oracle(series) for _, oracle in parts)),
                (AnyOf(tuple(one for one, _ in parts)), lambda series: any(oracle(series) for _, oracle in parts)),
            ]
        )
    ),
    max_leaves=5,
)
keys = st.builds(
    lambda bucket_id, measurement, tags: SeriesKey(bucket_id, measurement, tuple(sorted(tags.items()))),
    st.sampled_from([1, 2]),
    st.sampled_from(["x", "y"]),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES[1:]), max_size=3),
)
made = st.lists(
    st.tuples(keys, st.sampled_from(["x", "y"]), st.sampled_from([ValueType.FLOAT, ValueType.STRING])),
    max_size=20,
    unique=True,
)


@given(made, made, st.lists(conditions, max_size=2), st.none() | matches, st.none() | matches, st.booleans(), st.data())
def test_a_filter_finds_what_plain_python_finds(
    early: list[tuple[SeriesKey, str, ValueType]],
    late: list[tuple[SeriesKey, str, ValueType]],
    tags: list[tuple[TagCondition, Callable[[Series], bool]]],
    measurement: tuple[TextMatch, Oracle] | None,
    field: tuple[TextMatch, Oracle] | None,
    only_floats: bool,
    data: st.DataObject,
) -> None:
    catalogue = Catalogue()
    wanted = SeriesFilter(
        1,
        measurement and measurement[0],
        field and field[0],
        tuple(condition for condition, _ in tags),
        frozenset({ValueType.FLOAT}) if only_floats else None,
    )

    def is_wanted(series: Series) -> bool:
        return (
            series.key.bucket_id == 1
            and (measurement is None or measurement[1](series.key.measurement))
            and (field is None or field[1](series.field))
            and (not only_floats or series.type is ValueType.FLOAT)
            and all(oracle(series) for _, oracle in tags)
        )

    def check() -> None:
        chosen = [series for series in everything if is_wanted(series)]
        assert sorted(catalogue.select(wanted)) == sorted(chosen)
        assert catalogue.measurements(wanted) == sorted({one.key.measurement for one in chosen})
        types_of: dict[str, set[ValueType]] = {}
        for one in chosen:
            types_of.setdefault(one.field, set()).add(one.type)
        assert catalogue.fields(wanted) == {name: tuple(sorted(types)) for name, types in types_of.items()}
        assert catalogue.tag_keys(wanted) == sorted({name for one in chosen for name, _ in one.key.tags})
        for name in NAMES:
            values = {value for one in chosen for tag, value in one.key.tags if tag == name}
            assert catalogue.tag_values(wanted, name) == sorted(values)

    everything = [catalogue.create(*one) for one in early]
    check()
    everything += [catalogue.create(*one) for one in late if one not in early]  # columns of tags are carried on
    check()
    gone = set(data.draw(st.lists(st.sampled_from(everything)))) if everything else set()
    catalogue.forget(gone)
    everything = [series for series in everything if series not in gone]
    check()
    for bucket_id in (1, 2):
        of_bucket = [series for series in everything if series.key.bucket_id == bucket_id]
        assert sorted(catalogue.of_bucket(bucket_id)) == sorted(of_bucket)
        assert (bucket_id in catalogue.bucket_ids()) is bool(of_bucket)


@pytest.mark.parametrize("pattern", ["(", "a{2000}", "(?=a)", "a" * (MAX_REGEX_CHARS + 1), "\ud800"])
def test_a_regular_expression_that_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest):
        regex(pattern)


def test_a_regular_expression_made_to_be_slow_is_not() -> None:
    assert regex("(a*)*b").among(["a" * 100_000]) == []


def test_conditions_are_limited_in_number_and_nesting() -> None:
    many = Tag("a", equal("x")), AnyOf((Tag("a", equal("x")),) * (MAX_CONDITIONS - 1))
    nested: TagCondition = Tag("a", equal("x"))
    for _ in range(MAX_NESTING):
        nested = AllOf((nested,))
    for conditions in (many, (nested,)):
        with pytest.raises(BadRequest, match="1000 conditions on tags, nested 50 deep"):
            SeriesFilter(1, tags=conditions)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(BadRequest, match="Unicode"):
        equal("\ud800")


def test_choosing_can_be_broken_off() -> None:
    catalogue = Catalogue()
    catalogue.create(SeriesKey(1, "m", (("a", "x"),)), "f", ValueType.FLOAT)
    stop = Cancellation()
    stop.cancel("nobody waits")
    with pytest.raises(Cancelled, match="nobody waits"):
        catalogue.select(SeriesFilter(1, tags=(Tag("a", equal("x")),)), stop)


@pytest.mark.parametrize("nesting", [AllOf, AnyOf])
def test_conditions_can_be_nested_as_deep_as_they_may_be(nesting: Callable[..., TagCondition]) -> None:
    catalogue = Catalogue()
    one = catalogue.create(SeriesKey(1, "m"), "f", ValueType.FLOAT)
    nested: TagCondition = Tag("a", equal(""))
    for _ in range(MAX_NESTING - 1):
        nested = nesting((nested,))
    assert catalogue.select(SeriesFilter(1, tags=(nested,))) == [one]


def test_many_tags_are_asked_for_one_after_another() -> None:
    catalogue = Catalogue()
    series = [catalogue.create(SeriesKey(1, "m", ((f"t{n}", "x"),)), "f", ValueType.FLOAT) for n in range(100)]
    for _ in range(2):
        for n in range(100):
            assert catalogue.select(SeriesFilter(1, tags=(Tag(f"t{n}", equal("x")),))) == [series[n]]


def test_groups_are_sorted_and_have_what_they_were_grouped_by() -> None:
    def one(series_id: int, measurement: str, field: str, **tags: str) -> Series:
        return Series(series_id, SeriesKey(1, measurement, tuple(sorted(tags.items()))), field, ValueType.FLOAT)

    series = [
        one(1, "m", "f", room="b", floor="1"),
        one(2, "m", "g", room="a", floor="2"),
        one(3, "m", "f", floor="1"),
        one(4, "l", "f", room="b"),
        one(5, "m", "f", room="b", floor="2"),
    ]
    assert grouped(series, GroupBy(("room",))) == [
        Group("l", None, (("room", "b"),), (4,)),
        Group("m", None, (("room", ""),), (3,)),
        Group("m", None, (("room", "a"),), (2,)),
        Group("m", None, (("room", "b"),), (1, 5)),
    ]
    assert grouped(series, GroupBy((), measurement=False, field=True)) == [
        Group(None, "f", (), (1, 3, 4, 5)),
        Group(None, "g", (), (2,)),
    ]
    assert [group.tags for group in grouped(series, GroupBy(None, measurement=False))] == [
        (("floor", "1"),),
        (("floor", "1"), ("room", "b")),
        (("floor", "2"), ("room", "a")),
        (("floor", "2"), ("room", "b")),
        (("room", "b"),),
    ]
    assert grouped([], GroupBy()) == []
