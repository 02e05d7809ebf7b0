"""Carries out one action once, through whoever does that kind of thing. Knows no condition and no retrying."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from headwater.services.outbound import (
    MAX_BODY_LENGTH,
    MAX_SUBJECT_LENGTH,
    Mail,
    Mailer,
    OutboundAnswer,
    OutboundFailed,
    OutboundRefused,
    OutboundRequest,
    Publisher,
    Sender,
)
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    CallWebhook,
    Publish,
    QueueCommand,
    SendMail,
)
from headwater.services.rules.placeholders import Occasion, escape_for, escape_like, fill, fill_url, line_escape

MAX_COMMAND_LENGTH = 255


class TalkBackQueue(Protocol):
    """Queues of commands, which devices fetch."""

    def add_command(self, account_id: int, talkback_id: int, command_string: str) -> Awaitable[object]:
        """Append a command. Raises NotFound for what is not the account's, Conflict when the queue is full."""


class ThingHttpRunner(Protocol):
    """Stored requests."""

    def run(self, account_id: int, thing_http_id: int) -> Awaitable[OutboundAnswer]:
        """Send one. Raises NotFound for what is not the account's, and OutboundFailed."""


Names = Callable[[int], Awaitable[Mapping[int, str]]]
"""What an account has of something: names by id."""


@dataclass(frozen=True, slots=True)
class Carriers:
    """Who carries actions out. An action that nobody carries fails and says so."""

    sender: Sender | None = None
    mailer: Mailer | None = None
    publisher: Publisher | None = None
    talkbacks: TalkBackQueue | None = None
    thing_https: ThingHttpRunner | None = None
    talkback_names: Names | None = None
    thing_http_names: Names | None = None
    address_of: Callable[[int], str | None] | None = None
    """An account's own mail address."""


def describe_action(action: Action) -> str:
    """What an action is, without anything secret: an address's path may hold a key."""
    match action:
        case CallThingHttp(thing_http_id):
            return f"ThingHTTP {thing_http_id}"
        case QueueCommand(talkback_id, _):
            return f"TalkBack {talkback_id}"
        case Publish(topic):
            return f"MQTT {topic}"
        case SendMail(to):
            return f"E-mail to {', '.join(to) or 'the account'}"
        case CallWebhook(method, url):
            return f"{method} {urlsplit(url).netloc}"


def is_worth_retrying(action: Action) -> bool:
    """Whether a failure may be the network's: what goes to this server fails for good."""
    return isinstance(action, CallThingHttp | SendMail | CallWebhook)


async def carry_out(action: Action, account_id: int, occasion: Occasion, carriers: Carriers) -> str:
    """Do it. Answers how it went; raises OutboundFailed, or another RequestError that says why not."""
    match action:
        case CallThingHttp(thing_http_id):
            if carriers.thing_https is None:
                raise OutboundRefused("this server has no ThingHTTP")
            return _judged(await carriers.thing_https.run(account_id, thing_http_id))
        case QueueCommand(talkback_id, command):
            if carriers.talkbacks is None:
                raise OutboundRefused("this server has no TalkBack")
            filled = fill(command, occasion, line_escape)[:MAX_COMMAND_LENGTH]
            await carriers.talkbacks.add_command(account_id, talkback_id, filled)
            return "queued"
        case Publish(topic, payload, qos, retain):
            if carriers.publisher is None:
                raise OutboundRefused("this server cannot publish for rules")
            content = fill(payload, occasion, escape_like(payload)).encode()
            await carriers.publisher.publish(account_id, topic, content, qos=qos, retain=retain)
            return "published"
        case SendMail():
            return await _send_mail(action, account_id, occasion, carriers)
        case CallWebhook():
            if carriers.sender is None:
                raise OutboundRefused("this server cannot send HTTP requests")
            return _judged(await carriers.sender.send(account_id, _request(action, occasion)))


async def _send_mail(action: SendMail, account_id: int, occasion: Occasion, carriers: Carriers) -> str:
    if carriers.mailer is None or not carriers.mailer.is_set_up:
        raise OutboundRefused("no mail server is set up; the operator names one in the settings")
    to = action.to
    if not to:
        address = carriers.address_of(account_id) if carriers.address_of is not None else None
        if not address:
            raise OutboundRefused("the account has no mail address; name one in the rule")
        to = (address,)
    # Cut, because an alarm in part is better than none.
    subject = line_escape(fill(action.subject, occasion))[:MAX_SUBJECT_LENGTH]
    body = fill(action.body, occasion)[:MAX_BODY_LENGTH]
    await carriers.mailer.send(account_id, Mail(to, subject, body))
    return "sent"


def _request(action: CallWebhook, occasion: Occasion) -> OutboundRequest:
    content_type = next((value for name, value in action.headers if name.lower() == "content-type"), "")
    escape = escape_for(content_type) if content_type else escape_like(action.body)
    return OutboundRequest(
        action.method,
        fill_url(action.url, occasion),
        tuple((name, fill(value, occasion, line_escape)) for name, value in action.headers),
        fill(action.body, occasion, escape).encode(),
    )


def _judged(answer: OutboundAnswer) -> str:
    """How an answer reads. Raises OutboundFailed for what may succeed later, OutboundRefused for what will not."""
    if answer.status < 400:
        return f"HTTP {answer.status}"
    passes = answer.status >= 500 or answer.status in (408, 425, 429)
    raise (OutboundFailed if passes else OutboundRefused)(f"answered with HTTP {answer.status}")
