"""Mails, to a real little mail server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater.certificates import prepare_identity, server_context
from headwater.errors import ConfigurationError
from headwater.hooks.mail import SmtpMailer
from headwater.services.outbound import Mail, OutboundFailed, OutboundRefused
from headwater.settings import MailSecurity, MailSettings, Settings
from mail_server import mail_server

PASSWORD = "correct-horse"
MAIL = Mail(("ada@example.com",), "Über 30 °C", "It is hot.\nNow.\n.\n")

Make = Callable[..., SmtpMailer]


@pytest.fixture
def mailer() -> Make:
    def make(port: int, *, tls: ssl.SSLContext | None = None, clock: Any = None, **settings: Any) -> SmtpMailer:
        chosen = MailSettings(
            **{
                "host": "localhost",
                "port": port,
                "security": MailSecurity.NONE,
                "from_address": "headwater@example.org",
                "timeout_s": 5.0,
            }
            | settings
        )
        return SmtpMailer(chosen, tls=tls, **({} if clock is None else {"clock": clock}))

    return make


async def failure(mailer: SmtpMailer, mail: Mail = MAIL) -> str:
    with pytest.raises(OutboundFailed) as raised:
        await mailer.send(1, mail)
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


async def test_a_mail_arrives_as_it_was_meant(mailer: Make) -> None:
    async with mail_server() as server:
        await mailer(server.port).send(1, MAIL)
    mail = server.mails[0]
    assert (mail["From"], mail["To"], mail["Subject"]) == ("headwater@example.org", "ada@example.com", MAIL.subject)
    assert mail.get_content().replace("\r\n", "\n") == MAIL.body
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs((datetime.now(UTC) - mail["Date"].datetime).total_seconds()) < 60
    assert server.envelopes[0].startswith("mail FROM:<headwater@example.org>")
    assert server.envelopes[1:] == ["rcpt TO:<ada@example.com>"]
    assert server.signed_in == []


async def test_the_password_is_sent_only_encrypted(
    mailer: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    identity = prepare_identity(Settings(data=tmp_path), machine_names=("localhost",), now=datetime.now(UTC))
    trusting = ssl.create_default_context(cafile=str(identity.ca_certificate))
    signing_in: dict[str, Any] = {"username": "headwater", "password": PASSWORD, "security": MailSecurity.STARTTLS}
    async with mail_server(starttls=server_context(identity)) as server:
        await mailer(server.port, tls=trusting, **signing_in).send(1, MAIL)
        assert (server.started_tls, server.signed_in) == (1, [f"headwater {PASSWORD}"])
        assert "cannot be trusted: its certificate" in await failure(mailer(server.port, **signing_in))
    async with mail_server() as plain:
        assert "mail.security" in await failure(mailer(plain.port, tls=trusting, **signing_in))
        assert plain.signed_in == []
    async with mail_server(tls=server_context(identity)) as server:
        await mailer(server.port, tls=trusting, **signing_in | {"security": MailSecurity.TLS}).send(1, MAIL)
        assert server.signed_in == [f"headwater {PASSWORD}"]
    assert PASSWORD not in caplog.text


async def test_a_password_from_a_file(mailer: Make, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    async with mail_server() as server:
        await mailer(server.port, username="headwater", password_file=path).send(1, MAIL)
        assert server.signed_in == [f"headwater {PASSWORD}"]
        with pytest.raises(ConfigurationError, match="No such file"):
            mailer(server.port, password_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("command", "reply", "reason"),
    [
        ("AUTH", f"535 no {PASSWORD}", "does not accept mail.username"),
        ("RCPT", "550 no such user", "refuses the recipient: 550 no such user"),
        ("MAIL", "451 later", "refuses: 451 later"),
        ("DATA", "554 spam", "refuses: 554 spam"),
    ],
)
async def test_what_the_mail_server_refuses_is_told(mailer: Make, command: str, reply: str, reason: str) -> None:
    async with mail_server() as server:
        server.replies[command] = reply
        with pytest.raises(OutboundFailed) as raised:
            await mailer(server.port, username="headwater", password=PASSWORD).send(1, MAIL)
        assert reason in str(raised.value)
        assert PASSWORD not in str(raised.value)
        is_final = reply.startswith("5") and command != "AUTH"  # the operator may mend a password meanwhile
        assert isinstance(raised.value, OutboundRefused) == is_final
    assert server.mails == []


async def test_a_mail_server_that_is_not_there_or_does_not_speak(mailer: Make, unused_tcp_port: int) -> None:
    assert "cannot be reached: Connection refused" in await failure(mailer(unused_tcp_port))
    async with mail_server() as server:
        server.is_silent = True
        assert "mail.timeout_s" in await failure(mailer(server.port, timeout_s=0.2))


async def test_without_a_mail_server_it_says_what_to_set(mailer: Make) -> None:
    without = mailer(25, host="")
    assert not without.is_set_up
    assert "mail.host" in await failure(without)


@pytest.mark.parametrize(
    "mail",
    [
        Mail((), "subject", "body"),
        Mail(("ada",), "subject", "body"),
        Mail(("ada@example.com\r\nBcc: eve@example.com",), "subject", "body"),
        Mail(("ada@example.com, eve@example.com",), "subject", "body"),
        Mail(("ada@example.com",) * 11, "subject", "body"),
        Mail(("ada@example.com",), "subject\r\nBcc: eve@example.com", "body"),
        Mail(("ada@example.com",), "subject\n", "body"),
        Mail(("ada@example.com",), "x" * 201, "body"),
        Mail(("ada@example.com",), "subject", "x" * 20_001),
    ],
)
async def test_what_would_be_another_mail_is_refused(mailer: Make, mail: Mail) -> None:
    async with mail_server() as server:
        await failure(mailer(server.port), mail)
        assert server.envelopes == []


async def test_odd_blanks_in_a_subject_become_plain(mailer: Make) -> None:
    async with mail_server() as server:
        await mailer(server.port).send(
            1, Mail(("ada@example.com",), "21\u00a0°C\u2028hot \U0001f469\u200d\U0001f467", "b")
        )
    assert server.mails[0]["Subject"] == "21 °C hot \U0001f469 \U0001f467"


async def test_a_lone_surrogate_does_no_harm(mailer: Make) -> None:
    async with mail_server() as server:
        await mailer(server.port).send(1, Mail(("ada@example.com",), "subject", "a\ud800b"))
    assert server.mails[0].get_content().strip() == "a?b"


async def test_an_account_may_send_so_many_mails_an_hour(mailer: Make) -> None:
    now_s = 0.0
    async with mail_server() as server:
        sending = mailer(server.port, per_account_per_hour=1, clock=lambda: now_s)
        await sending.send(1, MAIL)
        now_s = 1800.0
        assert "in 30 min" in await failure(sending)
        await sending.send(2, MAIL)
        now_s = 3600.0
        await sending.send(1, MAIL)
    assert len(server.mails) == 3


async def test_mails_that_wait_are_bounded(mailer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.hooks.mail.MAX_WAITING", 1)
    async with mail_server() as server:
        server.is_silent = True
        sending = mailer(server.port, timeout_s=0.5)
        tasks = [asyncio.create_task(sending.send(1, MAIL)) for _ in range(3)]
        await asyncio.sleep(0)
        assert "too many mails" in await failure(sending)
        assert all(isinstance(error, OutboundFailed) for error in await asyncio.gather(*tasks, return_exceptions=True))
