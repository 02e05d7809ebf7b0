"""MQTT Devices: the list of both kinds, and what is special about MQTT devices: the channels they may use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.model.principal import Grant
from headwater.registry.entities import Account, Channel, MqttDevice
from headwater.services.devices import MAX_NAME_LENGTH, Devices
from headwater.web.console.console import Console, Visit
from headwater.web.console.device_pages import DevicePages, Kind, SignInName, name_errors
from headwater.web.console.firmware_snippets import Sender, firmware_snippets
from headwater.web.console.forms import Form
from headwater.web.console.snippets import Addresses, Snippet, device_snippets


class DeviceList:
    """The page that lists an account's devices of both kinds."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def routes(self) -> list[BaseRoute]:
        return [self._console.get("/devices", self.index)]

    async def index(self, visit: Visit) -> Response:
        services = self._console.services
        refusals = services.refusals
        devices = await services.devices.owned(visit.account.id)
        of_account = await services.account_devices.owned(visit.account.id)
        return self._console.render(
            visit,
            "devices.html",
            devices=[(device, refusals.of(device)) for device in devices],
            account_devices=[(device, refusals.of(device)) for device in of_account],
            ports=self._console.options.mqtt_ports(),
        )


class MqttDevicePages(DevicePages[MqttDevice]):
    """The pages of MQTT devices."""

    kind = Kind("/devices", "device_id", "_mqtt_device.html", "password", "Password", {"name": MAX_NAME_LENGTH})
    _devices: Devices

    def sign_in_name(self, account: Account, device: MqttDevice) -> SignInName:
        return SignInName(device.client_id, device.username)

    def form_errors(self, form: Form, *, is_new: bool) -> dict[str, str]:
        return name_errors(form.text("name"), is_needed=True)

    def fields_in(self, form: Form) -> dict[str, Any]:
        return _fields(form.text("name"), parse_grants(form))

    def fields_of(self, device: MqttDevice) -> dict[str, Any]:
        return _fields(device.name, device.grants)

    def choices(self, visit: Visit) -> dict[str, Any]:
        return {"channels": self._console.services.access.channels_of(visit.account.id)}

    async def add(self, account: Account, form: Form) -> tuple[MqttDevice, str]:
        return await self._devices.create(account.id, form.text("name"), parse_grants(form))

    async def change(self, device: MqttDevice, form: Form) -> MqttDevice:
        return await self._devices.update(
            device.account_id, device.id, name=form.text("name"), grants=parse_grants(form)
        )

    async def new_secret(self, device: MqttDevice, form: Form) -> tuple[MqttDevice, str]:
        return await self._devices.rotate_password(device.account_id, device.id)

    def snippets(self, account: Account, device: MqttDevice, secret: str, at: Addresses) -> list[Snippet]:
        publish_to = self._channels(account, (grant.bucket_id for grant in device.grants if grant.allow_publish))
        subscribe_to = self._channels(account, (grant.bucket_id for grant in device.grants if grant.allow_subscribe))
        return device_snippets(device.client_id, secret, next(publish_to, None), next(subscribe_to, None), at)

    def firmware(self, account: Account, device: MqttDevice, secret: str, at: Addresses) -> list[Snippet]:
        channels = list(self._channels(account, (grant.bucket_id for grant in device.grants if grant.allow_publish)))
        return firmware_snippets(Sender(device.client_id, secret, channels), at) if channels else []

    def _channels(self, account: Account, channel_ids: Iterable[int]) -> Iterator[Channel]:
        """Those of these channels that the account owns: only their keys may be shown."""
        channels = map(self._console.services.access.channel, channel_ids)
        return (one for one in channels if one is not None and one.account_id == account.id)


def parse_grants(form: Form) -> list[Grant]:
    """The grants that the check boxes of a form stand for."""
    publish, subscribe = form.ids("publish"), form.ids("subscribe")
    return [Grant(bucket_id, bucket_id in publish, bucket_id in subscribe) for bucket_id in sorted(publish | subscribe)]


def _fields(name: str, grants: Iterable[Grant]) -> dict[str, Any]:
    return {"name": name, "grants": {grant.bucket_id: grant for grant in grants}}
