"""Accounts: who has one, their passwords, keys and tokens. Knows no session and no page.

Everything goes to the registry first and to `Access` once it is committed.
"""

from __future__ import annotations

import asyncio
import builtins
import re
import time
import zoneinfo
from collections.abc import Awaitable, Callable

from headwater.errors import BadRequest, Conflict, NotAuthenticated, NotFound
from headwater.logs import Log
from headwater.registry.entities import Account, AccountToken, Channel
from headwater.registry.keys import generate_account_token, generate_api_key, hash_secret
from headwater.registry.passwords import Passwords
from headwater.registry.registry import NewToken
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_line
from headwater.services.networks import network_of
from headwater.services.throttle import Throttle
from headwater.setting_kinds import is_mail_address

log = Log(__name__)

MAX_NAME_LENGTH = 64
MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 1024
MIN_TOKEN_LENGTH = 8
MAX_TOKEN_LENGTH = 256
MAX_TOKEN_NAME_LENGTH = 64
FIRST_TOKEN_NAME = "first token"  # noqa: S105  a label, not a secret

# At least one letter or digit, because `.` and `..` have a meaning in URLs.
_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]+")
# What every dialect's header, query and MQTT password can carry unchanged.
_TOKEN = re.compile(r"[!-~]+")


class Accounts:
    """The accounts of this server.

    Args: `passwords` hashes (its owner closes it); `on_channel_deleted` is awaited for every channel of a
    removed account, once the account is gone; `max_failures` sign-ins may fail in `failure_window_s` for one
    address or one name before that address or name is blocked for `block_s`; `clock` gives seconds, never
    going back.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        passwords: Passwords,
        *,
        on_channel_deleted: Callable[[Channel], Awaitable[None]] | None = None,
        max_failures: int = 10,
        failure_window_s: float = 60.0,
        block_s: float = 300.0,
        max_tokens_per_account: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._access = access
        self._passwords = passwords
        self._on_channel_deleted = on_channel_deleted
        self._max_tokens = max_tokens_per_account
        self._throttle = Throttle(max_failures=max_failures, window_s=failure_window_s, block_s=block_s, clock=clock)

    async def has_administrator(self) -> bool:
        """Whether any account is an administrator."""
        return any(account.is_admin for account in self._access.accounts())

    async def list(self) -> builtins.list[Account]:
        """Every account, by name."""
        return self._access.accounts()

    async def add(self, name: str, password: str, *, is_admin: bool = False, token: str | None = None) -> Account:
        """Make an account with fresh keys, and with this token if one is given.

        Raises: `BadRequest` for a name, password or token that cannot be; `Conflict` for one that is taken.
        """
        check_name(name)
        check_password(password)
        new_token = None if token is None else self._new_token(FIRST_TOKEN_NAME, token)
        password_hash = await self._passwords.hash(password)

        def remember(added: tuple[Account, AccountToken | None]) -> None:
            account, account_token = added
            self._access.put_account(account)
            if account_token is not None and new_token is not None:
                self._access.put_token(account_token, new_token.token_hash)

        account, _ = await self._worker.write(
            lambda registry: registry.add_account(
                name,
                password_hash=password_hash,
                user_api_key=generate_api_key(),
                mqtt_api_key=generate_api_key(),
                alerts_api_key=generate_api_key(),
                is_admin=is_admin,
                time_zone="UTC",
                token=new_token,
            ),
            remember,
        )
        return account

    async def remove(self, name: str) -> None:
        """Remove an account and everything it owns. Raises: `Conflict` for the last administrator."""
        account = self._named(name)
        if account.is_admin and not any(a.is_admin for a in self._access.accounts() if a.id != account.id):
            raise Conflict("this is the last administrator; add another one first")
        channels = self._access.channels_of(account.id)

        async def forget(_: None) -> None:
            self._access.drop_account(account.id)
            if self._on_channel_deleted is not None:
                for channel in channels:
                    await self._on_channel_deleted(channel)

        await self._worker.write(lambda registry: registry.remove_account(account.id), forget)

    async def set_password(self, name: str, password: str) -> Account:
        """A new password; browser sessions that began with an older one end (`session_epoch`)."""
        account = self._named(name)
        check_password(password)
        password_hash = await self._passwords.hash(password)
        return await self._worker.write(
            lambda registry: registry.set_password(account.id, password_hash), self._access.put_account
        )

    async def sign_in(self, name: str, password: str, address: str) -> Account:
        """The account of this name, when the password is its password; `address` is where the caller comes
        from.

        Takes the same time for names that do not exist. Raises: `NotAuthenticated`; `TooManyRequests` after
        too many failures of this address or for this name, before any hashing.
        """
        with self._throttle.attempt([f"address {network_of(address)}", f"name {name[:MAX_NAME_LENGTH]}"]):
            account_id = await self._check(name, password)
            account = None if account_id is None else self._access.account(account_id)
            if account is None:
                # Only a name that exists: people type their password there by mistake.
                known = {} if self._access.account_named(name) is None else {"account": name}
                log.warning("a sign-in failed", address=address, **known)
                raise NotAuthenticated("the name or the password is wrong")
        return account

    async def rotate_user_api_key(self, account_id: int) -> Account:
        return await self._worker.write(
            lambda registry: registry.set_user_api_key(account_id, generate_api_key()),
            self._access.put_account,
        )

    async def rotate_mqtt_api_key(self, account_id: int) -> Account:
        return await self._worker.write(
            lambda registry: registry.set_mqtt_api_key(account_id, generate_api_key()),
            self._access.put_account,
        )

    async def rotate_alerts_api_key(self, account_id: int) -> Account:
        return await self._worker.write(
            lambda registry: registry.set_alerts_api_key(account_id, generate_api_key()),
            self._access.put_account,
        )

    async def set_email(self, account_id: int, email: str) -> Account:
        """Where mails to this account go, or nowhere. Raises: `BadRequest`."""
        if email and not is_mail_address(email):
            raise BadRequest("an e-mail address looks like anna@example.com, and nothing stands around it")
        return await self._worker.write(
            lambda registry: registry.set_email(account_id, email), self._access.put_account
        )

    async def set_time_zone(self, account_id: int, name: str) -> Account:
        """Raises: `BadRequest` for anything but an IANA name such as `Europe/Berlin`."""
        # In a thread, because it walks through the system's zone files.
        if name not in await asyncio.to_thread(zoneinfo.available_timezones):
            raise BadRequest("the time zone must be an IANA name, such as Europe/Berlin or UTC")
        return await self._worker.write(
            lambda registry: registry.set_time_zone(account_id, name), self._access.put_account
        )

    async def tokens(self, account_id: int) -> builtins.list[AccountToken]:
        """An account's tokens, oldest first."""
        return self._access.tokens_of(account_id)

    async def add_token(self, account_id: int, name: str, token: str | None = None) -> tuple[AccountToken, str]:
        """Add a token: this one, or a fresh one. Only its hash is kept, so this is the one time it can be
        shown.

        Raises: `Conflict` when the token is in use already or the account has as many as it may.
        """
        check_line("name", name, MAX_TOKEN_NAME_LENGTH)
        text = generate_account_token() if token is None else token
        new_token = self._new_token(name, text)
        account_token = await self._worker.write(
            lambda registry: registry.add_token(account_id, new_token, most=self._max_tokens),
            lambda added: self._access.put_token(added, new_token.token_hash),
        )
        return account_token, text

    async def remove_token(self, account_id: int, token_id: int) -> None:
        await self._worker.write(lambda registry: registry.remove_token(account_id, token_id), self._access.drop_token)

    def _named(self, name: str) -> Account:
        account = self._access.account_named(name)
        if account is None:
            raise NotFound("there is no account of this name")
        return account

    def _new_token(self, name: str, token: str) -> NewToken:
        check_token(token)
        if self._access.account_of_key(token) is not None:
            raise Conflict("this token cannot be used; choose another")
        return NewToken(name, hash_secret(token))

    async def _check(self, name: str, password: str) -> int | None:
        """The id of the account, when the password is right."""
        if len(password) > MAX_PASSWORD_LENGTH:
            return None
        # Every step is taken for unknown names too: how long it took must not say which names exist.
        known_name = name if _is_name(name) else ""  # which nobody has, and any database can look up
        found = await self._worker.read(lambda registry: registry.password_of(known_name))
        account_id, password_hash = found if found is not None else (None, None)
        is_right = await self._passwords.verify(password, password_hash)
        if not is_right or account_id is None or password_hash is None:
            return None
        if self._passwords.is_outdated(password_hash):
            await self._renew_hash(account_id, password_hash, password)
        return account_id

    async def _renew_hash(self, account_id: int, old_hash: str, password: str) -> None:
        new_hash = await self._passwords.hash(password)
        await self._worker.write(lambda registry: registry.renew_password_hash(account_id, old_hash, new_hash))


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raises: `BadRequest` for what no account can be called."""
    if not _is_name(name):
        raise BadRequest(f"an account name has 1 to {MAX_NAME_LENGTH} letters, digits, dots, hyphens and underscores")


def check_token(token: str) -> None:
    """Raises: `BadRequest` for what cannot be a token."""
    if not (MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH and _TOKEN.fullmatch(token)):
        raise BadRequest(f"a token has {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} visible ASCII characters, no blanks")


def check_password(password: str) -> None:
    """Raises: `BadRequest` for what cannot be a password."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise BadRequest(f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
