"""MQTT Devices: the list of both kinds; adding an MQTT device, its credentials (shown once), its rights, its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.principal import Grant
from headwater.registry.entities import Channel, MqttDevice
from headwater.services.devices import MAX_NAME_LENGTH
from headwater.web.console.account_devices import AccountDevicePages
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form
from headwater.web.console.snippets import (
    CLIENT_ID,
    PASSWORD,
    USERNAME,
    credentials_text,
    device_snippets,
)


class DevicePages:
    """The pages of devices; another account's device is as unknown as one that never was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._devices = console.services.devices
        self._account_devices = console.services.account_devices
        self._channels = console.services.channels

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = "/devices/{device_id:int}"
        return [
            *AccountDevicePages(self._console, self._account_devices).routes(),
            get("/devices", self.index),
            get("/devices/new", self.new),
            post("/devices/new", self.create),
            get(one, self.show),
            post(one, self.save),
            post(f"{one}/enable", self.enable),
            post(f"{one}/disable", self.disable),
            post(f"{one}/password", self.rotate_password),
            post(f"{one}/delete", self.delete),
        ]

    async def index(self, visit: Visit) -> Response:
        refusals = self._console.services.refusals
        devices = await self._devices.owned(visit.account.id)
        of_account = await self._account_devices.owned(visit.account.id)
        return self._console.render(
            visit,
            "devices.html",
            devices=[(device, refusals.of_device(device.id)) for device in devices],
            account_devices=[(device, refusals.of_account_device(device.id)) for device in of_account],
            ports=self._console.options.mqtt_ports(),
        )

    async def new(self, visit: Visit) -> Response:
        return await self._new_page(visit, "", ())

    async def create(self, visit: Visit) -> Response:
        name, grants = visit.form.text("name"), parse_grants(visit.form)
        error = name_error(name)
        if error:
            return await self._new_page(visit, name, grants, {"name": error}, 400)
        try:
            device, password = await self._devices.create(visit.account.id, name, grants)
        except (BadRequest, Conflict, NotFound) as failure:
            return await self._new_page(visit, name, grants, {"": sentence_of(str(failure))}, 400)
        return self._credentials_page(visit, device, password, is_new=True)

    async def show(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        return await self._device_page(visit, device, device.name, device.grants)

    async def save(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        name, grants = visit.form.text("name"), parse_grants(visit.form)
        error = name_error(name)
        if error:
            return await self._device_page(visit, device, name, grants, {"name": error}, 400)
        try:
            await self._devices.update(visit.account.id, device.id, name=name, grants=grants)
        except (BadRequest, NotFound) as failure:
            errors = {"": sentence_of(str(failure))}
            return await self._device_page(visit, device, name, grants, errors, 400)
        return self._console.redirect(visit, f"/devices/{device.id}", "Device saved.")

    async def enable(self, visit: Visit) -> Response:
        return await self._switch(visit, True, "Device enabled: it may connect again.")

    async def disable(self, visit: Visit) -> Response:
        return await self._switch(visit, False, "Device disabled: it can no longer connect.")

    async def rotate_password(self, visit: Visit) -> Response:
        device, password = await self._devices.rotate_password(visit.account.id, visit.path_id("device_id"))
        return self._credentials_page(visit, device, password, is_new=False)

    async def delete(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        await self._devices.delete(visit.account.id, device.id)
        return self._console.redirect(visit, "/devices", f"Device “{device.name[:80]}” was deleted.", "note")

    # -- helpers ----------------------------------------------------------------------------------------------

    async def _owned(self, visit: Visit) -> MqttDevice:
        return await self._devices.get_owned(visit.account.id, visit.path_id("device_id"))

    async def _switch(self, visit: Visit, is_enabled: bool, text: str) -> Response:
        device_id = visit.path_id("device_id")
        await self._devices.update(visit.account.id, device_id, is_enabled=is_enabled)
        return self._console.redirect(visit, f"/devices/{device_id}", text)

    async def _new_page(
        self,
        visit: Visit,
        name: str,
        grants: Collection[Grant],
        errors: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        return self._console.render(
            visit,
            "device_new.html",
            status=status,
            name=name,
            grants={grant.bucket_id: grant for grant in grants},
            errors=errors or {},
            channels=await self._channels.owned(visit.account.id),
        )

    async def _device_page(
        self,
        visit: Visit,
        device: MqttDevice,
        name: str,
        grants: Collection[Grant],
        errors: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        return self._console.render(
            visit,
            "device.html",
            status=status,
            device=device,
            name=name,
            grants={grant.bucket_id: grant for grant in grants},
            errors=errors or {},
            channels=await self._channels.owned(visit.account.id),
            refusal=self._console.services.refusals.of_device(device.id),
        )

    def _credentials_page(self, visit: Visit, device: MqttDevice, password: str, is_new: bool) -> Response:
        addresses = self._console.addresses(visit.request)
        credentials = {CLIENT_ID: device.client_id, USERNAME: device.username, PASSWORD: password}
        publish_to = self._first_channel(visit, (grant.bucket_id for grant in device.grants if grant.allow_publish))
        subscribe_to = self._first_channel(visit, (grant.bucket_id for grant in device.grants if grant.allow_subscribe))
        return self._console.render(
            visit,
            "device_credentials.html",
            device=device,
            is_new=is_new,
            credentials=credentials,
            file_name=f"mqtt-device-{device.id}.txt",
            file_text=credentials_text(device.name, credentials, addresses),
            snippets=device_snippets(device.client_id, password, publish_to, subscribe_to, addresses),
            addresses=addresses,
            may_publish=publish_to is not None,
            may_subscribe=subscribe_to is not None,
        )

    def _first_channel(self, visit: Visit, channel_ids: Iterable[int]) -> Channel | None:
        """The first of these channels that the account owns: only its keys may be shown."""
        channels = map(self._console.services.access.channel, channel_ids)
        return next((one for one in channels if one is not None and one.account_id == visit.account.id), None)


def parse_grants(form: Form) -> list[Grant]:
    """The grants that the check boxes of a form stand for."""
    publish, subscribe = form.ids("publish"), form.ids("subscribe")
    return [Grant(bucket_id, bucket_id in publish, bucket_id in subscribe) for bucket_id in sorted(publish | subscribe)]


def name_error(name: str) -> str:
    """What is wrong with a device's name, or nothing."""
    if not name:
        return "Give the device a name, so that you know it again."
    return f"At most {MAX_NAME_LENGTH} characters, please." if len(name) > MAX_NAME_LENGTH else ""
