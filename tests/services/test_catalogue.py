"""The catalogue: one number a series, blocks of numbers a key, the same after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.model.series import TYPE_OF, Series, SeriesKey, Unsigned, ValueType
from headwater.services.catalogue import BLOCK, Catalogue

KEY = SeriesKey(1, "entry")
OTHER = SeriesKey(2, "entry")
TAGGED = SeriesKey(1, "entry", (("room", "attic"),))


def test_nothing_is_known_at_first() -> None:
    catalogue = Catalogue()
    assert catalogue.find(KEY, "field1", float) is None
    assert catalogue.ids(KEY) == {}
    assert catalogue.find(KEY, "field1", float) is None
    assert list(catalogue.of_bucket(1)) == []


def test_a_series_is_found_by_key_field_and_type() -> None:
    catalogue = Catalogue()
    created = [catalogue.create(KEY, "field1", value_type) for value_type in ValueType]
    assert len({series.id for series in created}) == len(ValueType)
    for value_class, value_type in TYPE_OF.items():
        assert catalogue.find(KEY, "field1", value_class) == created[value_type - 1].id
    assert catalogue.find(KEY, "field2", float) is None
    assert catalogue.find(OTHER, "field1", float) is None
    assert catalogue.find(TAGGED, "field1", float) is None
    assert catalogue.ids(KEY)[Unsigned] == {"field1": created[2].id}
    assert sorted(catalogue.of_bucket(1)) == sorted(created)


def test_ids_start_above_zero_and_stay_side_by_side() -> None:
    catalogue = Catalogue()
    ours, theirs = [], []
    for number in range(BLOCK):
        ours.append(catalogue.create(KEY, f"f{number}", ValueType.FLOAT).id)
        theirs.append(catalogue.create(OTHER, f"f{number}", ValueType.FLOAT).id)
    assert ours == list(range(BLOCK, 2 * BLOCK))
    assert theirs == list(range(2 * BLOCK, 3 * BLOCK))
    assert catalogue.create(KEY, "one more", ValueType.FLOAT).id == 3 * BLOCK, "a full block is followed by a free one"
    assert catalogue.create(KEY, "two more", ValueType.FLOAT).id == 3 * BLOCK + 1
    assert catalogue.create(OTHER, "one more", ValueType.FLOAT).id == 4 * BLOCK


KEYS = st.sampled_from([KEY, OTHER, TAGGED])
STEPS = st.lists(st.tuples(KEYS, st.integers(1, 40)), max_size=12)


@given(STEPS, STEPS)
def test_after_a_restart_everything_is_as_before(
    before: list[tuple[SeriesKey, int]], after: list[tuple[SeriesKey, int]]
) -> None:
    first = Catalogue()
    stored = create(first, before, "a")
    second = Catalogue(sorted(stored))
    for series in stored:
        assert second.find(series.key, series.field, float) == series.id
    assert create(first, after, "b") == create(second, after, "b")
    everything = stored + [s for bucket_id in (1, 2) for s in second.of_bucket(bucket_id) if s not in stored]
    assert len({series.id for series in everything}) == len(everything)
    blocks: dict[int, SeriesKey] = {}
    for series in everything:
        assert blocks.setdefault(series.id // BLOCK, series.key) == series.key, "a block belongs to one key"


def create(catalogue: Catalogue, steps: list[tuple[SeriesKey, int]], prefix: str) -> list[Series]:
    return [
        catalogue.create(key, f"{prefix}{step}.{number}", ValueType.FLOAT)
        for step, (key, count) in enumerate(steps)
        for number in range(count)
    ]


def test_series_of_one_field_in_all_buckets() -> None:
    catalogue = Catalogue()
    wanted = [catalogue.create(key, "entry_id", ValueType.INTEGER) for key in (KEY, OTHER)]
    catalogue.create(KEY, "entry_id", ValueType.FLOAT)
    catalogue.create(KEY, "field1", ValueType.INTEGER)
    catalogue.create(SeriesKey(3, "weather"), "entry_id", ValueType.INTEGER)
    assert list(catalogue.with_field("entry", "entry_id", int)) == [(series.key, series.id) for series in wanted]


def test_a_forgotten_bucket_leaves_nothing_and_its_ids_are_not_used_again() -> None:
    catalogue = Catalogue()
    gone = {catalogue.create(key, "f", ValueType.FLOAT).id for key in (KEY, TAGGED)}
    kept = catalogue.create(OTHER, "f", ValueType.FLOAT)
    catalogue.forget(list(catalogue.of_bucket(1)))
    assert list(catalogue.of_bucket(1)) == []
    assert catalogue.find(KEY, "f", float) is None
    assert list(catalogue.of_bucket(2)) == [kept]
    assert list(catalogue.with_field("entry", "f", float)) == [(OTHER, kept.id)]
    assert catalogue.create(KEY, "f", ValueType.FLOAT).id not in gone | {kept.id}


def test_ids_of_forgotten_series_are_not_used_again_and_the_key_keeps_its_block() -> None:
    catalogue = Catalogue()
    first, second, third = (catalogue.create(KEY, field, ValueType.FLOAT) for field in "abc")
    catalogue.forget([third, second])
    assert catalogue.find(KEY, "c", float) is None
    again = catalogue.create(KEY, "c", ValueType.FLOAT)
    assert again.id == third.id + 1
    catalogue.forget([third, first, again])
    assert list(catalogue.of_bucket(1)) == []
    assert catalogue.bucket_ids() == []
    assert catalogue.create(KEY, "a", ValueType.FLOAT).id == 2 * BLOCK


def test_asking_for_the_ids_of_an_unknown_key_leaves_nothing() -> None:
    catalogue = Catalogue()
    catalogue.ids(KEY)
    assert catalogue.bucket_ids() == []


def test_of_two_stored_series_of_one_field_the_later_one_counts() -> None:
    first = [Series(BLOCK + number, KEY, field, ValueType.FLOAT) for number, field in enumerate("ab")]
    later = [Series(2 * BLOCK + number, KEY, field, ValueType.FLOAT) for number, field in enumerate("ba")]
    catalogue = Catalogue([*first, *later])
    assert sorted(catalogue.of_bucket(1)) == later
    assert (sorted(catalogue.unfinished[1].series), catalogue.unfinished[1].is_clear) == (first, False)
    assert catalogue.create(KEY, "c", ValueType.FLOAT).id == 2 * BLOCK + 2


@given(st.sets(st.integers(1, 300), min_size=1), st.booleans())
def test_series_of_which_a_notice_says_that_they_go_are_not_there(doomed: set[int], is_clear: bool) -> None:
    series = [Series(number, KEY, str(number), ValueType.FLOAT) for number in range(1, 301)]
    before = Catalogue(series)
    gone = [one for one in series if one.id in doomed]
    notice = before.make_notice(1, gone, is_clear=is_clear)
    again = Catalogue([*series, notice])
    assert sorted(again.of_bucket(1)) == [one for one in series if one.id not in doomed]
    assert again.bucket_ids() == ([1] if len(doomed) < 300 else [])
    assert sorted(again.unfinished[1].series) == sorted([*gone, notice])
    assert again.unfinished[1].is_clear is is_clear
    assert again.create(KEY._replace(bucket_id=2), "a", ValueType.FLOAT).id > notice.id > 300


def test_a_bucket_may_be_walked_through_while_it_grows() -> None:
    catalogue = Catalogue()
    first = catalogue.create(KEY, "a", ValueType.FLOAT)
    walk = catalogue.of_bucket(1)
    assert next(walk) == first
    for name in ("b", "c"):
        catalogue.create(KEY._replace(measurement=name), "a", ValueType.FLOAT)
        catalogue.create(KEY, name, ValueType.FLOAT)
    assert set(walk) <= set(catalogue.of_bucket(1))
