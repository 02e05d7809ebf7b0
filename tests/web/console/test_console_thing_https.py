"""ThingHTTP in the console: stored, sent and deleted, by its owner alone."""

from __future__ import annotations

import pytest
from console_site import Browser, Site

from headwater.registry.entities import Account
from headwater.services.request_template import RequestTemplate
from web_site import answering, web_site

ROOT = "/apps/thinghttp"
PASSWORD = "password-of-the-lamp"


def form(url: str = "http://lamp.example/", **more: str) -> dict[str, str]:
    empty = dict.fromkeys(("username", "password", "content_type", "host", "headers", "body", "parse_string"), "")
    return {"name": "Lamp", "url": url, "method": "GET", "http_version": "1.1"} | empty | more


async def test_from_nothing_to_an_answer_and_back(site: Site, ada: Browser, ada_account: Account) -> None:
    page = (await ada.get(ROOT)).text
    assert "Store your first request" in page
    async with web_site(answering("201 Created", b"<script>alert(1)</script>", Content_Type="text/html")) as lamp:
        url = f"http://127.0.0.1:{lamp.port}/on?key=not-for-all"
        await ada.get(f"{ROOT}/new")
        sent = form(url, method="POST", username="ada", password=PASSWORD, headers="X-A: 1\nX-B:2\n", body="on")
        page = (await ada.follow(await ada.post(f"{ROOT}/new", sent))).text
        [thing] = await site.services.thing_https.owned(ada_account.id)
        assert PASSWORD not in page
        assert "Leave it empty to keep it" in page
        assert f"{ROOT}/send_request?api_key={thing.api_key}" in page
        page = (await ada.post(f"{ROOT}/{thing.id}/send")).text
        assert "Status 201" in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page
        [asked] = lamp.asked
        assert (asked.line, asked.body) == ("POST /on?key=not-for-all HTTP/1.1", b"on")
        assert (asked.headers["x-a"], asked.headers["x-b"]) == ("1", "2")
        assert asked.headers["authorization"].startswith("Basic ")
    page = (await ada.post(f"{ROOT}/{thing.id}/send")).text
    assert "Nothing came back: 127.0.0.1 cannot be reached" in page
    page = (await ada.get(ROOT)).text
    assert f"POST http://127.0.0.1:{lamp.port}/on<" in page
    assert "not-for-all" not in page
    page = (await ada.follow(await ada.post(f"{ROOT}/{thing.id}/key"))).text
    assert thing.api_key not in page
    await ada.follow(await ada.post(f"{ROOT}/{thing.id}/delete"))
    assert await site.services.thing_https.owned(ada_account.id) == []


async def test_a_password_stays_as_long_as_there_is_a_user(site: Site, ada: Browser, ada_account: Account) -> None:
    things = site.services.thing_https
    made = await things.create(
        ada_account.id, "Lamp", RequestTemplate("http://lamp.example/", username="ada", password=PASSWORD)
    )
    path = f"{ROOT}/{made.id}"
    for sent, password in (
        (form(username="ada", name="Light"), PASSWORD),
        (form(username="ada", password="new"), "new"),
        (form(), ""),
    ):
        await ada.get(path)
        await ada.follow(await ada.post(path, sent))
        stored = await things.get_owned(ada_account.id, made.id)
        assert (stored.name, things.template_of(stored).password) == (sent["name"], password)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "Name must not be empty."),
        ({"url": "ftp://example.com"}, "The URL must begin with http:// or https://"),
        ({"method": "TRACE"}, "The method must be one of"),
        ({"headers": "no colon"}, "Write each header on a line of its own"),
        ({"headers": "Transfer-Encoding: chunked"}, "is set by Headwater"),
        ({"parse_string": "//b"}, "XPath and regular expressions are not supported"),
    ],
)
async def test_what_cannot_be_is_told_and_nothing_is_lost(
    site: Site, ada: Browser, ada_account: Account, change: dict[str, str], message: str
) -> None:
    sent = form(body="what I wrote") | change
    await ada.get(f"{ROOT}/new")
    response = await ada.post(f"{ROOT}/new", sent)
    assert response.status_code == 400
    assert message in response.text
    assert "what I wrote" in response.text
    made = await site.services.thing_https.create(ada_account.id, "Lamp", RequestTemplate("http://lamp.example/"))
    response = await ada.post(f"{ROOT}/{made.id}", sent)
    assert response.status_code == 400
    assert message in response.text
    assert await site.services.thing_https.get_owned(ada_account.id, made.id) == made


async def test_anothers_is_like_one_that_does_not_exist(site: Site, ada: Browser) -> None:
    bob = await site.account("bob")
    made = await site.services.thing_https.create(bob.id, "Lamp of Bob", RequestTemplate("http://lamp.example/"))
    for id_ in (made.id, made.id + 1, 2**70):
        path = f"{ROOT}/{id_}"
        await ada.get(ROOT)
        answers = [await ada.get(path), await ada.post(path, form())]
        answers += [await ada.post(f"{path}/{what}") for what in ("send", "key", "delete")]
        assert {answer.status_code for answer in answers} == {404}
        assert not any("Lamp of Bob" in answer.text for answer in answers)
    assert "Lamp of Bob" not in (await ada.get(ROOT)).text
    assert await site.services.thing_https.owned(bob.id) == [made]
