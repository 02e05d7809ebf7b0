"""ThingHTTP in the console: the list, one stored request with its key, and a button that sends it now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict
from headwater.registry.sealing import SealBroken
from headwater.registry.thing_https import ThingHttp
from headwater.services.outbound import OutboundAnswer, OutboundFailed
from headwater.services.request_template import HTTP_VERSIONS, MAX_BODY_LENGTH, METHODS, RequestTemplate
from headwater.services.thing_https import MAX_NAME_LENGTH
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form
from headwater.web.console.snippets import Addresses, Snippet

ROOT = "/apps/thinghttp"
MAX_SHOWN_CHARACTERS = 4_000
"""Of an answer; the rest is left out."""


class ThingHttpPages:
    """The pages of stored requests."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._things = console.services.thing_https

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = f"{ROOT}/{{thing_http_id:int}}"
        return [
            get(ROOT, self.index),
            get(f"{ROOT}/new", self.new),
            post(f"{ROOT}/new", self.create),
            get(one, self.show),
            post(one, self.save),
            post(f"{one}/send", self.send),
            post(f"{one}/key", self.rotate_key),
            post(f"{one}/delete", self.delete),
        ]

    async def index(self, visit: Visit) -> Response:
        things = await self._things.owned(visit.account.id)
        return self._console.render(visit, "thing_https.html", things=[(one, self._target_of(one)) for one in things])

    async def new(self, visit: Visit) -> Response:
        return self._page(visit, None, _fields_of("", RequestTemplate("")))

    async def create(self, visit: Visit) -> Response:
        form = visit.form
        try:
            made = await self._things.create(visit.account.id, form.text("name"), _template_in(form, ""))
        except (BadRequest, Conflict) as error:
            return self._page(visit, None, _fields_in(form), error=sentence_of(str(error)))
        return self._console.redirect(
            visit, f"{ROOT}/{made.id}", "ThingHTTP saved. Send it now to see what comes back."
        )

    async def show(self, visit: Visit) -> Response:
        thing = await self._owned(visit)
        fields, error = self._stored_fields(thing)
        return self._page(visit, thing, fields, error=error, status=200)

    async def save(self, visit: Visit) -> Response:
        thing, form = await self._owned(visit), visit.form
        try:
            template = _template_in(form, self._password_of(thing))
            await self._things.update(visit.account.id, thing.id, form.text("name"), template)
        except BadRequest as error:
            return self._page(visit, thing, _fields_in(form), error=sentence_of(str(error)))
        return self._console.redirect(visit, f"{ROOT}/{thing.id}", "ThingHTTP saved.")

    async def send(self, visit: Visit) -> Response:
        """Run it as it is stored, and show how it went."""
        thing = await self._owned(visit)
        fields, error = self._stored_fields(thing)
        if error:
            return self._page(visit, thing, fields, error=error)
        try:
            answer = await self._things.run(visit.account.id, thing.id)
        except OutboundFailed as failure:
            return self._page(visit, thing, fields, failure=sentence_of(str(failure)), status=200)
        return self._page(visit, thing, fields, answer=answer, status=200)

    async def rotate_key(self, visit: Visit) -> Response:
        thing = await self._things.rotate_key(visit.account.id, visit.path_id("thing_http_id"))
        text = "There is a new key. The old one no longer works."
        return self._console.redirect(visit, f"{ROOT}/{thing.id}", text)

    async def delete(self, visit: Visit) -> Response:
        thing = await self._things.delete(visit.account.id, visit.path_id("thing_http_id"))
        return self._console.redirect(visit, ROOT, f"ThingHTTP “{thing.name[:80]}” was deleted.", "note")

    async def _owned(self, visit: Visit) -> ThingHttp:
        return await self._things.get_owned(visit.account.id, visit.path_id("thing_http_id"))

    def _stored_fields(self, thing: ThingHttp) -> tuple[dict[str, Any], str]:
        """What the form begins with, and what is wrong with what is stored."""
        try:
            return _fields_of(thing.name, self._things.template_of(thing)), ""
        except SealBroken as error:
            return _fields_of(thing.name, RequestTemplate("")), sentence_of(str(error))

    def _password_of(self, thing: ThingHttp) -> str:
        try:
            return self._things.template_of(thing).password
        except SealBroken:  # what cannot be read is entered anew
            return ""

    def _target_of(self, thing: ThingHttp) -> str:
        """Method and address for the list, without the query: keys stand there."""
        try:
            template = self._things.template_of(thing)
        except SealBroken:
            return ""
        return f"{template.method} {template.url.partition('?')[0].partition('#')[0]}"

    def _page(
        self,
        visit: Visit,
        thing: ThingHttp | None,
        fields: Mapping[str, Any],
        *,
        error: str = "",
        failure: str = "",
        answer: OutboundAnswer | None = None,
        status: int = 400,
    ) -> Response:
        """The form, empty or filled. A status other than 400 goes with a form that nothing is wrong with."""
        return self._console.render(
            visit,
            "thing_http.html",
            status=status if thing is not None or error else 200,
            thing=thing,
            fields=fields,
            error=error,
            failure=failure,
            answer=answer,
            shown="" if answer is None else answer.body.decode("utf-8", "replace")[:MAX_SHOWN_CHARACTERS],
            methods=METHODS,
            versions=HTTP_VERSIONS,
            limits={"name": MAX_NAME_LENGTH, "body": MAX_BODY_LENGTH},
            requests=[] if thing is None else key_snippets(thing.api_key, self._console.addresses(visit.request)),
        )


def key_snippets(api_key: str, at: Addresses) -> list[Snippet]:
    """How to run a stored request from elsewhere."""
    url = f"{at.base_url}{ROOT}/send_request?api_key={api_key}"
    return [Snippet("Send it", f"curl '{url}'"), Snippet("The same in any program: open this address", url)]


def _template_in(form: Form, stored_password: str) -> RequestTemplate:
    """What the form says. An empty password leaves the one that is stored, as long as there is a user name."""
    username = form.text("username")
    return RequestTemplate(
        url=form.text("url"),
        method=form.text("method"),
        http_version=form.text("http_version"),
        username=username,
        password=(form.exact("password") or stored_password) if username else "",
        content_type=form.text("content_type"),
        host=form.text("host"),
        headers=_headers_in(form.text("headers")),
        body=form.exact("body"),
        parse_string=form.exact("parse_string"),
    )


def _headers_in(text: str) -> tuple[tuple[str, str], ...]:
    headers = []
    for line in filter(str.strip, text.split("\n")):
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("write each header on a line of its own, as Name: value")
        headers.append((name.strip(), value.strip()))
    return tuple(headers)


def _fields_of(name: str, template: RequestTemplate) -> dict[str, Any]:
    """A stored request as the form shows it. The password is not shown again."""
    fields = {
        "name": name,
        "headers": "\n".join(f"{header}: {value}" for header, value in template.headers),
        "has_password": bool(template.password),
    }
    same = ("url", "method", "http_version", "username", "content_type", "host", "body", "parse_string")
    return fields | {field: getattr(template, field) for field in same}


def _fields_in(form: Form) -> dict[str, Any]:
    """A form as it was sent, to show it again."""
    names = ("name", "url", "method", "http_version", "username", "content_type", "host", "headers")
    return {
        **{name: form.text(name) for name in names},
        "body": form.exact("body"),
        "parse_string": form.exact("parse_string"),
        "has_password": False,
    }
