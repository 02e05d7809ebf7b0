"""Account devices: a client id and a credential within an account, with all rights in that account's own topic tree.
Knows no connection.

Every method takes the account that asks; another account's device is `NotFound`.
"""

from __future__ import annotations

import re
import unicodedata

from headwater.errors import BadRequest, NotFound
from headwater.registry.entities import AccountDevice
from headwater.registry.keys import generate_device_password
from headwater.registry.passwords import Passwords
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_line
from headwater.services.connect_limits import ConnectLimits, claimed_client
from headwater.services.credentials import hash_generated
from headwater.services.devices import MAX_NAME_LENGTH

MAX_DEVICE_ID_LENGTH = 32
MIN_CREDENTIAL_LENGTH = 6
MAX_CREDENTIAL_LENGTH = 255

_DEVICE_ID = re.compile(r"[a-zA-Z0-9_-]+")


class AccountDevices:
    """The account devices of every account.

    Args: `passwords` hashes the credentials that people choose (its owner closes it). The limit of devices raises
    `Conflict`.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        connect_limits: ConnectLimits,
        passwords: Passwords,
        *,
        max_devices_per_account: int = 10_000,
    ) -> None:
        self._worker = worker
        self._access = access
        self._connect_limits = connect_limits
        self._passwords = passwords
        self._max_devices = max_devices_per_account

    async def owned(self, account_id: int) -> list[AccountDevice]:
        """An account's devices, oldest first."""
        return self._access.account_devices_of(account_id)

    async def get_owned(self, account_id: int, id_: int) -> AccountDevice:
        device = self._access.account_device(id_)
        if device is None or device.account_id != account_id:
            raise NotFound(f"there is no account device {id_}")
        return device

    async def create(
        self, account_id: int, device_id: str, name: str = "", credential: str | None = None
    ) -> tuple[AccountDevice, str]:
        """A new device and its credential: this one, or a fresh one. Only a hash is kept, so this is the one time it
        can be shown. Without a name it is called by its id.

        Raises: `BadRequest` for an id, name or credential that cannot be; `Conflict` for an id that is taken.
        """
        check_device_id(device_id)
        check_line("name", name or device_id, MAX_NAME_LENGTH)
        text, credential_hash = await self._hashed(credential)
        device = await self._worker.write(
            lambda registry: registry.add_account_device(
                account_id,
                device_id,
                name=name or device_id,
                credential_hash=credential_hash,
                most=self._max_devices,
            ),
            lambda added: self._access.put_account_device(added, credential_hash),
        )
        return device, text

    async def update(
        self, account_id: int, id_: int, *, name: str | None = None, is_enabled: bool | None = None
    ) -> AccountDevice:
        """Change what is given."""
        if name is not None:
            check_line("name", name, MAX_NAME_LENGTH)
        return await self._worker.write(
            lambda registry: registry.update_account_device(account_id, id_, name=name, is_enabled=is_enabled),
            self._access.put_account_device,
        )

    async def set_credential(
        self, account_id: int, id_: int, credential: str | None = None
    ) -> tuple[AccountDevice, str]:
        """A new credential, this one or a fresh one; the old one ends at once, also for a connection that is open.
        Whoever was blocked for wrong ones may try again. Raises: `BadRequest` for one that cannot be."""

        def changed(device: AccountDevice) -> None:
            self._access.put_account_device(device, credential_hash)
            if (account := self._access.account(account_id)) is not None:
                self._connect_limits.lift(claimed_client(account.name, device.device_id))

        await self.get_owned(account_id, id_)  # before any hashing
        text, credential_hash = await self._hashed(credential)
        device = await self._worker.write(
            lambda registry: registry.set_account_device_credential(account_id, id_, credential_hash), changed
        )
        return device, text

    async def delete(self, account_id: int, id_: int) -> AccountDevice:
        """Returns the device as it was."""
        return await self._worker.write(
            lambda registry: registry.remove_account_device(account_id, id_),
            lambda device: self._access.drop_account_device(device.id),
        )

    async def _hashed(self, credential: str | None) -> tuple[str, str]:
        """A credential and the text under which it is kept."""
        if credential is None:
            generated = generate_device_password()
            return generated, hash_generated(generated)
        check_credential(credential)
        return credential, await self._passwords.hash(credential)


def check_device_id(device_id: str) -> None:
    """Raises: `BadRequest` for what no account device can be called."""
    if not (len(device_id) <= MAX_DEVICE_ID_LENGTH and _DEVICE_ID.fullmatch(device_id)):
        raise BadRequest(
            f"a device id has 1 to {MAX_DEVICE_ID_LENGTH} letters without accents, digits, hyphens and underscores"
        )


def check_credential(credential: str) -> None:
    """Raises: `BadRequest` for what cannot be a credential. The credential is not repeated in the text."""
    if not MIN_CREDENTIAL_LENGTH <= len(credential) <= MAX_CREDENTIAL_LENGTH:
        raise BadRequest(f"a credential has {MIN_CREDENTIAL_LENGTH} to {MAX_CREDENTIAL_LENGTH} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in credential):
        raise BadRequest("a credential must not contain control characters")
