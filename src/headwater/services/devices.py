"""MQTT devices: credentials for one client each, with grants on its owner's channels. Knows no connection.

Every method takes the account that asks; another account's device or channel is `NotFound`.
"""

from __future__ import annotations

from collections.abc import Sequence

from headwater.errors import BadRequest, NotFound
from headwater.model.principal import Grant
from headwater.registry.entities import MqttDevice
from headwater.registry.keys import generate_client_id, generate_device_password, hash_secret
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_line
from headwater.services.connect_limits import ConnectLimits, claimed_client

MAX_NAME_LENGTH = 255


class Devices:
    """The MQTT devices of every account. The limit of devices raises `Conflict`, that of grants
    `BadRequest`."""

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        connect_limits: ConnectLimits,
        *,
        max_devices_per_account: int = 10_000,
        max_grants_per_device: int = 1000,
    ) -> None:
        self._worker = worker
        self._access = access
        self._connect_limits = connect_limits
        self._max_devices = max_devices_per_account
        self._max_grants = max_grants_per_device

    async def owned(self, account_id: int) -> list[MqttDevice]:
        """An account's devices, oldest first."""
        return self._access.devices_of(account_id)

    async def get_owned(self, account_id: int, device_id: int) -> MqttDevice:
        device = self._access.device(device_id)
        if device is None or device.account_id != account_id:
            raise NotFound(f"there is no MQTT device {device_id}")
        return device

    async def create(self, account_id: int, name: str, grants: Sequence[Grant]) -> tuple[MqttDevice, str]:
        """A new device and its password. Only the hash is kept, so this is the one time it can be shown."""
        check_line("name", name, MAX_NAME_LENGTH)
        self._check_grants(grants)
        password = generate_device_password()
        password_hash = hash_secret(password)
        device = await self._worker.write(
            lambda registry: registry.add_device(
                account_id,
                name=name,
                client_id=generate_client_id(),
                password_hash=password_hash,
                grants=grants,
                most=self._max_devices,
            ),
            lambda added: self._access.put_device(added, password_hash),
        )
        return device, password

    async def update(
        self,
        account_id: int,
        device_id: int,
        *,
        name: str | None = None,
        grants: Sequence[Grant] | None = None,
        is_enabled: bool | None = None,
    ) -> MqttDevice:
        """Change what is given; `grants` replaces all of them."""
        if name is not None:
            check_line("name", name, MAX_NAME_LENGTH)
        if grants is not None:
            self._check_grants(grants)
        return await self._worker.write(
            lambda registry: registry.update_device(
                account_id, device_id, name=name, grants=grants, is_enabled=is_enabled
            ),
            self._access.put_device,
        )

    async def rotate_password(self, account_id: int, device_id: int) -> tuple[MqttDevice, str]:
        """A new password; the old one ends at once, also for a connection that is open. Whoever was blocked for wrong
        ones may try again."""

        def changed(device: MqttDevice) -> None:
            self._access.put_device(device, password_hash)
            self._connect_limits.lift(claimed_client(device.username, device.client_id))

        password = generate_device_password()
        password_hash = hash_secret(password)
        device = await self._worker.write(
            lambda registry: registry.set_device_password(account_id, device_id, password_hash), changed
        )
        return device, password

    async def delete(self, account_id: int, device_id: int) -> MqttDevice:
        """Returns the device as it was."""
        return await self._worker.write(
            lambda registry: registry.remove_device(account_id, device_id),
            lambda device: self._access.drop_device(device.id),
        )

    def _check_grants(self, grants: Sequence[Grant]) -> None:
        if len(grants) > self._max_grants:
            raise BadRequest(f"a device may have grants on at most {self._max_grants} channels")
        if len({grant.bucket_id for grant in grants}) != len(grants):
            raise BadRequest("a channel is named twice in the grants")
