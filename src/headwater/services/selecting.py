"""Which series a query is about: conditions on bucket, measurement, field, type and tags. Values only; knows no series.

A tag that a series does not have is the empty text, as in InfluxQL. Regular expressions are those of RE2 (which is also
what InfluxQL and Flux have): the time that one takes grows with the length of the text and of the expression and with
nothing else. They are tried on each different text once, never on every series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadRequest
from headwater.model.series import ValueType
from headwater.store.cancellation import Cancellation

MAX_REGEX_CHARS = 500
"""An expression that is made to be slow needs 1 s for 20,000 texts at this length."""
MAX_CONDITIONS = 1_000
MAX_NESTING = 50
_TEXTS_AT_ONCE = 10_000
"""Between so many texts, a query can be broken off."""


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Which texts; made by `equal`, `one_of` and `regex`, turned into its opposite by `~`."""

    texts: frozenset[str] | None = None
    pattern: str | None = None
    is_negated: bool = False

    def __invert__(self) -> TextMatch:
        return replace(self, is_negated=not self.is_negated)

    def mask(self, texts: Sequence[str], stop: Cancellation | None = None) -> pa.BooleanArray:
        """Which of some texts are meant."""
        found = [
            self._mask(pa.array(texts[first : first + _TEXTS_AT_ONCE], pa.string()), stop)
            for first in range(0, len(texts), _TEXTS_AT_ONCE)
        ]
        return pa.chunked_array(found, pa.bool_()).combine_chunks()

    def among(self, texts: Iterable[str], stop: Cancellation | None = None) -> list[str]:
        """Those of some texts that are meant."""
        texts = list(texts)
        return pa.array(texts, pa.string()).filter(self.mask(texts, stop)).to_pylist()  # type: ignore[no-any-return]

    def _mask(self, texts: pa.StringArray, stop: Cancellation | None) -> pa.BooleanArray:
        if stop is not None:
            stop.check()
        if self.pattern is not None:
            found = pc.match_substring_regex(texts, self.pattern)
        else:
            found = pc.is_in(texts, pa.array(list(self.texts or ()), pa.string()))
        return pc.invert(found) if self.is_negated else found


def equal(text: str) -> TextMatch:
    """This text alone."""
    return one_of([text])


def one_of(texts: Iterable[str]) -> TextMatch:
    """Any of some texts."""
    found = frozenset(texts)
    for text in found:
        _check_unicode(text)
    return TextMatch(texts=found)


def regex(pattern: str) -> TextMatch:
    """Texts in which a regular expression matches somewhere. Raises BadRequest for one that is none, or too long."""
    _check_unicode(pattern)
    if len(pattern) > MAX_REGEX_CHARS:
        raise BadRequest(f"a regular expression has at most {MAX_REGEX_CHARS} characters: make it shorter")
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        raise BadRequest(f"the regular expression cannot be used (syntax of RE2): {error}") from error
    return TextMatch(pattern=pattern)


@dataclass(frozen=True, slots=True)
class Tag:
    """A condition on the value of one tag."""

    name: str
    value: TextMatch


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of some conditions; without any, every series."""

    conditions: tuple[TagCondition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of some conditions; without any, no series."""

    conditions: tuple[TagCondition, ...]


TagCondition: TypeAlias = Tag | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Series of a bucket that meet all that is given. Raises BadRequest for too many conditions on tags."""

    bucket_id: int
    measurement: TextMatch | None = None
    fields: TextMatch | None = None
    tags: tuple[TagCondition, ...] = ()
    types: frozenset[ValueType] | None = None
    """For fields that are text in one series and numbers in another: which of them."""

    def __post_init__(self) -> None:
        waiting, count = [(one, 1) for one in self.tags], 0
        while waiting:
            condition, depth = waiting.pop()
            count += 1
            if count > MAX_CONDITIONS or depth > MAX_NESTING:
                raise BadRequest(
                    f"a query has at most {MAX_CONDITIONS} conditions on tags, nested {MAX_NESTING} deep: ask for "
                    "fewer at a time"
                )
            if not isinstance(condition, Tag):
                waiting += [(inner, depth + 1) for inner in condition.conditions]


def mask_of(
    conditions: Sequence[TagCondition], mask_of_tag: Callable[[Tag], pa.BooleanArray], everything: pa.BooleanArray
) -> pa.BooleanArray:
    """What meets all conditions, put together from what meets each of them; `everything` is true throughout."""

    def mask(condition: TagCondition) -> pa.BooleanArray:
        if isinstance(condition, Tag):
            return mask_of_tag(condition)
        if isinstance(condition, AllOf):
            return mask_of(condition.conditions, mask_of_tag, everything)
        return reduce(pc.or_, map(mask, condition.conditions), pc.invert(everything))

    return reduce(pc.and_, map(mask, conditions), everything)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest("a condition has text that is not Unicode") from error
