"""Mails, handed to the operator's mail server over SMTP. Knows nothing of why one is sent.

The standard library speaks SMTP, aside: two mails at a time, and a bounded number that wait.
"""

from __future__ import annotations

import re
import smtplib
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from functools import partial

from headwater.errors import ConfigurationError
from headwater.hooks.aside import Aside
from headwater.logs import Log
from headwater.services.outbound import MAX_BODY_LENGTH, MAX_SUBJECT_LENGTH, Mail, OutboundFailed, OutboundRefused
from headwater.services.quotas import Quota
from headwater.setting_kinds import is_mail_address
from headwater.settings import MailSecurity, MailSettings

AT_ONCE = 2
MAX_WAITING = 100
MAX_RECIPIENTS = 10
MAX_REASON_LENGTH = 200
MAX_PASSWORD_FILE_BYTES = 4096

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

log = Log(__name__)


class SmtpMailer:
    """A `services.outbound.Mailer`. The end of the process waits for no mail: who asked for one does.

    Args: `tls` says whose certificates are trusted, the system's if None; `clock` gives seconds, never going back.
    Raises ConfigurationError when the file with the password cannot be read.
    """

    def __init__(
        self,
        settings: MailSettings,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._password = _read_password(settings)
        self._tls = tls
        self._now = now
        self._quota = Quota(settings.per_account_per_hour, 3600.0, clock)
        self._aside = Aside(AT_ONCE, "headwater-mail")
        self._present = 0

    @property
    def is_set_up(self) -> bool:
        return bool(self._settings.host)

    async def send(self, account_id: int, mail: Mail) -> None:
        """As `Mailer.send` says."""
        if not self.is_set_up:
            raise OutboundRefused("no mail server is set up: the operator names one with the setting mail.host")
        message = self._message(mail)
        if self._present >= AT_ONCE + MAX_WAITING:
            raise OutboundFailed("too many mails are waiting for the mail server: try again later")
        if (wait_s := self._quota.take(account_id)) > 0:
            raise OutboundFailed(
                f"this account sends more than {self._settings.per_account_per_hour} mails an hour "
                f"(mail.per_account_per_hour); the next may go in {wait_s / 60:.0f} min"
            )
        self._present += 1
        try:
            await self._aside.run(partial(self._deliver, message))
        except OutboundFailed as error:
            log.warning("a mail was not sent", account_id=account_id, reason=str(error))
            raise
        finally:
            self._present -= 1

    def _message(self, mail: Mail) -> EmailMessage:
        if not 0 < len(mail.to) <= MAX_RECIPIENTS or not all(map(is_mail_address, mail.to)):
            raise OutboundRefused("the mail has no address, too many, or one that is none")
        if len(mail.subject) > MAX_SUBJECT_LENGTH or _CONTROLS.search(mail.subject):
            raise OutboundRefused(f"the subject must be one line of at most {MAX_SUBJECT_LENGTH} characters")
        if len(mail.body) > MAX_BODY_LENGTH:
            raise OutboundRefused(f"the mail is longer than {MAX_BODY_LENGTH} characters")
        message = EmailMessage(policy=SMTP)
        message["From"] = self._settings.from_address
        message["To"] = ", ".join(mail.to)
        # Other line separators, odd blanks and halves of surrogate pairs are no attack: a blank does.
        message["Subject"] = "".join(one if one.isprintable() else " " for one in mail.subject)
        message["Date"] = format_datetime(self._now())
        message["Message-ID"] = make_msgid(domain=self._settings.from_address.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # so that no absence note comes back
        message.set_content(mail.body.encode("utf-8", "replace").decode(), charset="utf-8")
        return message

    def _deliver(self, message: EmailMessage) -> None:
        """In a thread. Raises OutboundFailed."""
        host = self._settings.host
        try:
            self._speak(message)
        except smtplib.SMTPAuthenticationError:
            raise OutboundFailed("the mail server does not accept mail.username and its password") from None
        except smtplib.SMTPNotSupportedError as error:
            raise OutboundFailed(f"the mail server cannot do what is needed, see mail.security: {error}") from None
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _refused(code, f"the mail server refuses the recipient: {_said(code, text)}") from None
        except smtplib.SMTPResponseException as error:
            said = _said(error.smtp_code, error.smtp_error)
            raise _refused(error.smtp_code, f"the mail server refuses: {said}") from None
        except smtplib.SMTPException:
            raise OutboundFailed(f"the mail server {host} broke off, or took longer than mail.timeout_s") from None
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not accepted ({error.verify_message})"
            raise OutboundFailed(f"the mail server {host} cannot be trusted: {why}") from None
        except TimeoutError:
            raise OutboundFailed(f"the mail server {host} does not answer (mail.timeout_s)") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutboundFailed(f"the mail server {host} cannot be reached: {reason}") from None

    def _speak(self, message: EmailMessage) -> None:
        settings = self._settings
        if settings.security is MailSecurity.TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=settings.timeout_s, context=self._context()
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
        with server:
            if settings.security is MailSecurity.STARTTLS:
                server.starttls(context=self._context())
            if settings.username:
                server.login(settings.username, self._password)
            server.send_message(message)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context() if self._tls is None else self._tls


def _read_password(settings: MailSettings) -> str:
    path = settings.password_file
    if path is None:
        return settings.password
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_PASSWORD_FILE_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"mail.password_file: {path} cannot be read: {reason}") from None
    return lines[0] if lines else ""


def _refused(code: int, reason: str) -> OutboundFailed:
    """What a reply means: one of 500 and above is for good (RFC 5321, 4.2.1)."""
    return (OutboundRefused if code >= 500 else OutboundFailed)(reason)


def _said(code: int, text: bytes | str) -> str:
    """A server's reply, for people."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    line = " ".join(words.split())
    return f"{code} {''.join(filter(str.isprintable, line))[:MAX_REASON_LENGTH]}".rstrip()
