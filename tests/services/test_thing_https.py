"""ThingHTTP: stored requests, from the registry's file to what is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.entry import Entry
from headwater.registry.entities import Channel, ChannelSettings
from headwater.registry.sealing import Seal, SealBroken
from headwater.services.outbound import OutboundAnswer, OutboundRequest
from headwater.services.request_template import RequestTemplate
from headwater.services.thing_https import ThingHttps

NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
SECRET = "pass-word-of-another-server"
TEMPLATE = RequestTemplate("https://example.com/", password=SECRET)


class RecordingSender:
    """Answers the same to everybody, and remembers what it was to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, OutboundRequest]] = []
        self.answer = OutboundAnswer(200, b"hello", "text/html", 0.1)

    async def send(self, account_id: int, request: OutboundRequest) -> OutboundAnswer:
        self.sent.append((account_id, request))
        return self.answer


class Fields:
    """The last values of channels."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, int], str] = {}

    async def newest_with(self, channel: Channel, number: int) -> list[Entry]:
        fields: Mapping[int, str] = {number: self.values.get((channel.id, number), "")}
        return [Entry(1, 0, fields)] if (channel.id, number) in self.values else []


def open_things(house: Any, secret: bytes = b"s" * 32) -> SimpleNamespace:
    sender, fields = RecordingSender(), Fields()
    things = ThingHttps(
        house.worker, house.access, cast(Any, fields), sender, Seal(secret), now=lambda: NOW, max_per_account=2
    )
    return SimpleNamespace(things=things, sender=sender, fields=fields, house=house)


@pytest.fixture
async def at(house: Any) -> SimpleNamespace:
    return open_things(house)


async def test_a_request_comes_back_as_it_was_and_lies_sealed_in_the_file(at: SimpleNamespace, tmp_path: Path) -> None:
    ada = await at.house.account()
    made = await at.things.create(ada.id, "Lamp", TEMPLATE)
    assert await at.things.owned(ada.id) == [made]
    assert await at.things.get_owned(ada.id, made.id) == made
    assert at.things.template_of(made) == TEMPLATE
    assert len(made.api_key) == 16
    assert await at.things.of_key(made.api_key) == made
    assert await at.things.of_key("0" * 16) is None
    assert await at.things.of_key("\ud800") is None
    content = b"".join(path.read_bytes() for path in tmp_path.glob("registry.db*"))
    assert b"Lamp" in content
    assert SECRET.encode() not in content
    assert SECRET not in repr(made)
    assert made.api_key not in repr(made)


async def test_changing_rotating_and_deleting(at: SimpleNamespace) -> None:
    ada = await at.house.account()
    made = await at.things.create(ada.id, "Lamp", TEMPLATE)
    changed = await at.things.update(ada.id, made.id, "Light", RequestTemplate("http://example.org/"))
    assert (changed.id, changed.name, changed.api_key) == (made.id, "Light", made.api_key)
    assert at.things.template_of(changed).url == "http://example.org/"
    rotated = await at.things.rotate_key(ada.id, made.id)
    assert rotated.api_key != made.api_key
    assert await at.things.of_key(made.api_key) is None
    assert (await at.things.delete(ada.id, made.id)).name == "Light"
    assert await at.things.owned(ada.id) == []
    assert await at.things.of_key(rotated.api_key) is None


async def test_limits(at: SimpleNamespace) -> None:
    ada, bob = await at.house.account(), await at.house.account("bob")
    for name in ("", " ", "x" * 256, "a\nb"):
        with pytest.raises(BadRequest):
            await at.things.create(ada.id, name, TEMPLATE)
    with pytest.raises(BadRequest):
        await at.things.create(ada.id, "Lamp", RequestTemplate("ftp://example.com"))
    made = [await at.things.create(ada.id, "Lamp", TEMPLATE) for _ in range(2)]
    with pytest.raises(BadRequest):
        await at.things.update(ada.id, made[0].id, "Lamp", RequestTemplate("ftp://example.com"))
    with pytest.raises(Conflict, match="at most 2"):
        await at.things.create(ada.id, "Lamp", TEMPLATE)
    await at.things.create(bob.id, "Lamp", TEMPLATE)


async def test_anothers_request_is_like_one_that_does_not_exist(at: SimpleNamespace) -> None:
    ada, bob = await at.house.account(), await at.house.account("bob")
    made = await at.things.create(ada.id, "Lamp", TEMPLATE)
    for account_id, id_ in ((bob.id, made.id), (ada.id, made.id + 1), (ada.id, 0), (ada.id, 2**40)):
        for call in (
            at.things.get_owned(account_id, id_),
            at.things.update(account_id, id_, "Mine", TEMPLATE),
            at.things.rotate_key(account_id, id_),
            at.things.delete(account_id, id_),
            at.things.run(account_id, id_),
        ):
            with pytest.raises(NotFound, match=f"^there is no ThingHTTP {id_}$"):
                await call
    assert await at.things.owned(bob.id) == []
    assert await at.things.owned(ada.id) == [made]
    assert at.sender.sent == []


async def test_it_goes_with_its_account(at: SimpleNamespace) -> None:
    await at.house.account()
    bob = await at.house.account("bob")
    made = await at.things.create(bob.id, "Lamp", TEMPLATE)
    await at.house.accounts.remove("bob")
    assert await at.things.of_key(made.api_key) is None


async def test_without_the_key_it_says_what_to_do_and_can_be_entered_anew(at: SimpleNamespace) -> None:
    ada = await at.house.account()
    made = await at.things.create(ada.id, "Lamp", TEMPLATE)
    other = open_things(at.house, b"t" * 32).things
    assert await other.owned(ada.id) == [made]
    with pytest.raises(SealBroken, match=r"secrets\.key"):
        await other.run(ada.id, made.id)
    again = await other.update(ada.id, made.id, "Lamp", TEMPLATE)
    assert other.template_of(again) == TEMPLATE


async def test_values_are_those_that_the_account_may_read(at: SimpleNamespace) -> None:
    ada, bob = await at.house.account(), await at.house.account("bob")
    own = await at.house.channels.create(ada.id, ChannelSettings())
    public = await at.house.channels.create(bob.id, ChannelSettings(is_public=True))
    private = await at.house.channels.create(bob.id, ChannelSettings())
    for channel in (own, public, private):
        at.fields.values[channel.id, 1] = f"{channel.id} & more"
    ids = (own.id, public.id, private.id, 999)
    body = (
        "|".join(f"%%channel_{id_}_field_1%%" for id_ in ids)
        + f"|%%channel_{own.id}_field_2%%|%%channel_{own.id}_field_99%%"
    )
    template = RequestTemplate("https://example.com/?at=%%datetime%%", "POST", body=body + "|%%trigger%%|%%other%%")
    made = await at.things.create(ada.id, "Lamp", template)
    await at.things.run(ada.id, made.id, {"trigger": "35", f"channel_{private.id}_field_1": "forged"})
    [(account_id, request)] = at.sender.sent
    assert account_id == ada.id
    assert request.url == "https://example.com/?at=2026-01-31T12%3A30%3A00Z"
    assert request.body.decode() == f"{own.id} & more|{public.id} & more|||||35|%%other%%"


async def test_the_answer_is_cut(at: SimpleNamespace) -> None:
    ada = await at.house.account()
    whole = await at.things.create(ada.id, "Whole", RequestTemplate("https://example.com/"))
    part = await at.things.create(ada.id, "Part", RequestTemplate("https://example.com/", parse_string="main.temp"))
    at.sender.answer = OutboundAnswer(404, b'{"main":{"temp":21.5}}', "application/json", 0.1)
    assert await at.things.run(ada.id, whole.id) is at.sender.answer
    cut = await at.things.run(ada.id, part.id)
    assert (cut.status, cut.body, cut.content_type) == (404, b"21.5", "text/plain; charset=utf-8")
    at.sender.answer = OutboundAnswer(200, b"\xff<html>", "text/html", 0.1)
    assert (await at.things.run(ada.id, part.id)).body == b""
