"""What a server makes when there is none yet: its administrator and its own keys."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from headwater.errors import BadRequest, ConfigurationError, Conflict
from headwater.files import write_atomically
from headwater.logs import Log
from headwater.registry.keys import generate_account_token
from headwater.services.accounts import Accounts, check_name, check_password, check_token
from headwater.settings import ADMIN_VARIABLES, AdminSeed

log = Log(__name__)

SECRET_BYTES = 32
DEFAULT_ADMIN_NAME = "admin"


async def seed_administrator(accounts: Accounts, admin: AdminSeed) -> None:
    """Where there is no administrator, make one; what was generated for it is shown once, and logged never.

    Raises `ConfigurationError` that names the variable with a value that cannot be.
    """
    given = dict(zip(ADMIN_VARIABLES, (admin.user, admin.password, admin.token), strict=True))
    if await accounts.has_administrator():
        if ignored := [variable for variable, value in given.items() if value is not None]:
            log.info("ignored: accounts exist already", variables=" ".join(ignored))
        return
    for (variable, value), check in zip(given.items(), (check_name, check_password, check_token), strict=True):
        if value is not None:
            try:
                check(value)
            except BadRequest as error:
                raise ConfigurationError(f"{variable}: {error}") from None
    name = admin.user or DEFAULT_ADMIN_NAME
    password = admin.password or secrets.token_urlsafe(15)
    token = admin.token or generate_account_token()
    try:
        await accounts.add(name, password, is_admin=True, token=token)
    except Conflict as error:
        raise ConfigurationError(
            f"no account is an administrator, and {name!r} cannot be made one: {error}; "
            f"choose others with {ADMIN_VARIABLES[0]} and {ADMIN_VARIABLES[2]}"
        ) from None
    generated = [("password", password, admin.password), ("token", token, admin.token)]
    lines = [f"  {what:<9}{value}" for what, value, wanted in generated if wanted is None]
    if lines:
        text = "\n".join([f"First start: the administrator is {name!r}. Shown only now:", *lines])
        print(text, file=sys.stderr, flush=True)


def read_or_make_secret(path: Path, without_it: str = "everybody has to sign in again") -> bytes:
    """A key of the server's own, such as the one that signs console sessions; made once, readable by its owner only.

    Args: `without_it` says what a new one means. Raises `ConfigurationError`.
    """
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(SECRET_BYTES)
        try:
            write_atomically(path, secret, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"{path} is damaged; restore it from a backup, or delete it ({without_it})")
    return secret
