"""Who signs in over MQTT: the rules, asked of the directory. Knows no connection and counts nothing."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from types import MappingProxyType

from headwater.errors import NotAuthenticated
from headwater.model.principal import ANONYMOUS, KEY_ONLY, Principal, PrincipalKind
from headwater.registry.directory import Directory, KnownAccountDevice, KnownDevice
from headwater.registry.entities import AccountDevice, MqttDevice
from headwater.registry.keys import hash_secret
from headwater.services.credentials import CredentialCheck

MAX_SECRET_LENGTH = 1024
"""No key, token or password is longer; what is, matches nothing and is not even hashed."""

_API_KEY = re.compile(rb"\s*[0-9A-Z]{16}\s*")
"""The form of ThingSpeak's keys: an MQTT API key, or a write key that a sketch shows twice."""
WRONG_PASSWORD = "wrong password"  # noqa: S105  a reason, not a secret
WRONG_USER_NAME = "wrong user name"
NO_SUCH_CLIENT = "no such client, key or token"
OTHER_CLIENT_ID = "its certificate, but another client id"
DISABLED = "the device is disabled"


class SignInFailed(NotAuthenticated):
    """A sign-in that was refused. The text is the same for every reason, because it may be shown to whoever tried;
    `reason`, and which device was meant as far as that is known, are for the owner of that device."""

    def __init__(self, reason: str, *, device_id: int | None = None, account_device_id: int | None = None) -> None:
        super().__init__("the client id, user name or password is wrong, or the device is disabled")
        self.reason = reason
        self.device_id = device_id
        self.account_device_id = account_device_id


class MqttSignIn:
    """The rules of signing in. `directory` gives what is known now, since that may be replaced as a whole."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        credentials: CredentialCheck,
        *,
        allow_topic_keys: bool,
        allow_anonymous: bool,
    ) -> None:
        self._directory = directory
        self._credentials = credentials
        self._allow_topic_keys = allow_topic_keys
        self.allows_anonymous = allow_anonymous

    def authenticate(
        self, client_id: str, username: str | None, password: bytes | None
    ) -> Principal | Awaitable[Principal]:
        """See `Access.authenticate_mqtt`."""
        directory = self._directory()
        account_device = directory.account_device_named(username, client_id)
        device_id = directory.device_ids.get(client_id)
        if device_id is not None:
            device = directory.devices[device_id]
            if account_device is None or username == device.device.username:
                try:
                    return _authenticate_device(device, username or "", password or b"")
                except SignInFailed as error:
                    raise self._failure_of_named(username, password, error) from None
        token = directory.tokens.get(hash_of(password)) if password else None
        if account_device is not None:
            if token is not None and token.account_id == account_device.device.account_id:
                return principal_of_account(token.account_id)
            return self._authenticate_account_device(account_device, password or b"")
        if token is not None:
            return principal_of_account(token.account_id)
        if password:
            if username and (hash_of(password) in directory.mqtt_keys or self._is_from_before(username, password)):
                return KEY_ONLY
            raise self._failure_of_named(username, password, SignInFailed(NO_SUCH_CLIENT))
        if self.allows_anonymous:
            return ANONYMOUS
        if self._allow_topic_keys:
            return KEY_ONLY
        raise SignInFailed("no password")

    def authenticate_certificate(self, client_id: str, common_name: str) -> Principal:
        """See `Access.authenticate_certificate`."""
        directory = self._directory()
        account_name, is_of_account, named_id = common_name.partition("/")
        if is_of_account:
            account_device = directory.account_device_named(account_name, named_id)
            if account_device is not None:
                return _admit(account_device.device, None if named_id == client_id else OTHER_CLIENT_ID)
        elif (device_id := directory.device_ids.get(common_name)) is not None:
            device = directory.devices[device_id].device
            return _admit(device, None if common_name == client_id else OTHER_CLIENT_ID)
        raise SignInFailed("a certificate of no device")

    def _is_from_before(self, username: str, password: bytes) -> bool:
        """Whether somebody shows a key as password who is no device here. Before there were MQTT devices, whoever had
        a write key in the topic might publish, whatever it signed in with; firmware goes on doing so."""
        is_key = self._allow_topic_keys and _API_KEY.fullmatch(password) is not None
        return is_key and self._device_named(username) is None

    def _failure_of_named(self, username: str | None, password: bytes | None, otherwise: SignInFailed) -> SignInFailed:
        """What is told of an MQTT device's credentials with another client id, or with none: to forget it is the
        commonest mistake, and nobody but the owner of the user name can make something of it."""
        known = self._device_named(username)
        if known is None or otherwise.device_id == known.device.id:
            return otherwise
        if _has_password(known, password or b""):
            reason = f"user name and password are right, but the client ID has to be {known.device.client_id}"
        elif otherwise.device_id is None:
            reason = f"wrong password, and the client ID has to be {known.device.client_id}"
        else:  # it was neither's password: the device whose client id was used is told
            return otherwise
        return SignInFailed(f"{reason}, as on the device's page", device_id=known.device.id)

    def _device_named(self, username: str | None) -> KnownDevice | None:
        """The MQTT device of this user name, which is its client id as well."""
        directory = self._directory()
        id_ = directory.device_ids.get(username or "")
        return None if id_ is None or directory.devices[id_].device.username != username else directory.devices[id_]

    def _authenticate_account_device(
        self, known: KnownAccountDevice, password: bytes
    ) -> Principal | Awaitable[Principal]:
        device = known.device
        if not device.is_enabled:  # which the slow hash need not confirm
            raise SignInFailed(DISABLED, account_device_id=device.id)
        is_right = self._credentials.check(device.id, password, known.credential_hash)
        if isinstance(is_right, bool):
            return _admit(device, None if is_right else WRONG_PASSWORD)
        return self._authenticate_slowly(known, is_right)

    async def _authenticate_slowly(self, known: KnownAccountDevice, check: Awaitable[bool]) -> Principal:
        is_right = await check
        # Meanwhile the device may have been deleted or disabled, or have got another credential.
        current = self._directory().account_devices.get(known.device.id)
        if not is_right or current is None or current.credential_hash != known.credential_hash:
            raise SignInFailed(WRONG_PASSWORD, account_device_id=known.device.id)
        return _admit(current.device, None)


def hash_of(secret: str | bytes) -> bytes:
    """SHA-256 of a key or token. Blanks around it do not count: sketches in the field send keys with trailing
    ones. What cannot be one gives a hash that matches nothing."""
    if len(secret) > MAX_SECRET_LENGTH:
        return b""
    return hash_secret(secret.strip())


def principal_of_account(account_id: int) -> Principal:
    return Principal(PrincipalKind.ACCOUNT, account_id=account_id)


def principal_of_device(device: MqttDevice | AccountDevice) -> Principal:
    """A device with the rights it has now."""
    if isinstance(device, AccountDevice):
        return Principal(PrincipalKind.ACCOUNT_DEVICE, account_id=device.account_id, account_device_id=device.id)
    return Principal(
        PrincipalKind.DEVICE,
        account_id=device.account_id,
        device_id=device.id,
        grants=MappingProxyType({grant.bucket_id: grant for grant in device.grants}),
    )


def _authenticate_device(known: KnownDevice, username: str, password: bytes) -> Principal:
    device = known.device
    has_name = hmac.compare_digest(hash_secret(username), hash_secret(device.username))
    has_password = _has_password(known, password)
    if not has_name:
        return _admit(device, WRONG_USER_NAME)
    return _admit(device, None if has_password else WRONG_PASSWORD)


def _has_password(known: KnownDevice, password: bytes) -> bool:
    return len(password) <= MAX_SECRET_LENGTH and hmac.compare_digest(hash_secret(password), known.password_hash)


def _admit(device: MqttDevice | AccountDevice, failure: str | None) -> Principal:
    """The device's principal, provided that nothing failed and that it is enabled."""
    if failure is None and not device.is_enabled:
        failure = DISABLED
    if failure is None:
        return principal_of_device(device)
    if isinstance(device, AccountDevice):
        raise SignInFailed(failure, account_device_id=device.id)
    raise SignInFailed(failure, device_id=device.id)
