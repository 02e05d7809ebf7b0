"""Account devices: adding one, its credential (shown once), its end."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict
from headwater.registry.entities import AccountDevice
from headwater.services.account_devices import (
    MAX_CREDENTIAL_LENGTH,
    MAX_DEVICE_ID_LENGTH,
    MAX_NAME_LENGTH,
    MIN_CREDENTIAL_LENGTH,
    AccountDevices,
    check_credential,
    check_device_id,
)
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.snippets import (
    CLIENT_ID,
    PASSWORD,
    USERNAME,
    account_device_snippets,
    credentials_text,
)


class AccountDevicePages:
    """The pages of account devices; another account's device is as unknown as one that never was."""

    def __init__(self, console: Console, account_devices: AccountDevices) -> None:
        self._console = console
        self._devices = account_devices

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = "/devices/account/{account_device_id:int}"
        return [
            get("/devices/account/new", self.new),
            post("/devices/account/new", self.create),
            get(one, self.show),
            post(one, self.save),
            post(f"{one}/enable", self.enable),
            post(f"{one}/disable", self.disable),
            post(f"{one}/credential", self.set_credential),
            post(f"{one}/delete", self.delete),
        ]

    async def new(self, visit: Visit) -> Response:
        return self._new_page(visit)

    async def create(self, visit: Visit) -> Response:
        # A credential as typed: blanks around it are part of it. It is never sent back with the form.
        device_id, name, credential = (
            visit.form.text("device_id"),
            visit.form.text("name"),
            visit.form.exact("credential"),
        )
        errors = device_id_errors(device_id) | name_errors(name, is_needed=False) | credential_errors(credential)
        if not errors:
            try:
                made = await self._devices.create(visit.account.id, device_id, name, credential or None)
            except Conflict as failure:
                errors = {"device_id": sentence_of(str(failure))}
            except BadRequest as failure:
                errors = {"": sentence_of(str(failure))}
            else:
                return self._credential_page(visit, *made, is_new=True)
        return self._new_page(visit, device_id, name, errors, 400)

    async def show(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        return self._device_page(visit, device, device.name)

    async def save(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        name = visit.form.text("name")
        errors = name_errors(name, is_needed=True)
        if not errors:
            try:
                await self._devices.update(visit.account.id, device.id, name=name)
            except BadRequest as failure:
                errors = {"name": sentence_of(str(failure))}
        if errors:
            return self._device_page(visit, device, name, errors, 400)
        return self._console.redirect(visit, _path(device), "Device saved.")

    async def enable(self, visit: Visit) -> Response:
        return await self._switch(visit, True, "Device enabled: it may connect again.")

    async def disable(self, visit: Visit) -> Response:
        return await self._switch(visit, False, "Device disabled: it can no longer connect.")

    async def set_credential(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        credential = visit.form.exact("credential")
        if errors := credential_errors(credential):
            return self._device_page(visit, device, device.name, errors, 400)
        made = await self._devices.set_credential(visit.account.id, device.id, credential or None)
        return self._credential_page(visit, *made, is_new=False)

    async def delete(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        await self._devices.delete(visit.account.id, device.id)
        return self._console.redirect(visit, "/devices", f"Device “{device.name[:80]}” was deleted.", "note")

    # -- helpers ----------------------------------------------------------------------------------------------

    async def _owned(self, visit: Visit) -> AccountDevice:
        return await self._devices.get_owned(visit.account.id, visit.path_id("account_device_id"))

    async def _switch(self, visit: Visit, is_enabled: bool, text: str) -> Response:
        device = await self._devices.update(visit.account.id, visit.path_id("account_device_id"), is_enabled=is_enabled)
        return self._console.redirect(visit, _path(device), text)

    def _new_page(
        self,
        visit: Visit,
        device_id: str = "",
        name: str = "",
        errors: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        return self._console.render(
            visit,
            "account_device_new.html",
            status=status,
            device_id=device_id,
            name=name,
            errors=errors or {},
            limits=_LIMITS,
        )

    def _device_page(
        self,
        visit: Visit,
        device: AccountDevice,
        name: str,
        errors: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        return self._console.render(
            visit,
            "account_device.html",
            status=status,
            device=device,
            name=name,
            errors=errors or {},
            refusal=self._console.services.refusals.of_account_device(device.id),
            limits=_LIMITS,
        )

    def _credential_page(self, visit: Visit, device: AccountDevice, credential: str, is_new: bool) -> Response:
        addresses = self._console.addresses(visit.request)
        credentials = {CLIENT_ID: device.device_id, USERNAME: visit.account.name, PASSWORD: credential}
        return self._console.render(
            visit,
            "account_device_credential.html",
            device=device,
            is_new=is_new,
            credentials=credentials,
            file_name=f"mqtt-device-{device.device_id}.txt",
            file_text=credentials_text(device.name, credentials, addresses),
            snippets=account_device_snippets(device.device_id, visit.account.name, credential, addresses),
            addresses=addresses,
        )


_LIMITS = {
    "device_id": MAX_DEVICE_ID_LENGTH,
    "name": MAX_NAME_LENGTH,
    "credential_min": MIN_CREDENTIAL_LENGTH,
    "credential": MAX_CREDENTIAL_LENGTH,
}


def _path(device: AccountDevice) -> str:
    return f"/devices/account/{device.id}"


def device_id_errors(device_id: str) -> dict[str, str]:
    """What is wrong with the id of a new device."""
    try:
        check_device_id(device_id)
    except BadRequest as error:
        return {"device_id": sentence_of(str(error))}
    return {}


def name_errors(name: str, *, is_needed: bool) -> dict[str, str]:
    """What is wrong with a device's name."""
    if is_needed and not name:
        return {"name": "Give the device a name, so that you know it again."}
    return {"name": f"At most {MAX_NAME_LENGTH} characters, please."} if len(name) > MAX_NAME_LENGTH else {}


def credential_errors(credential: str) -> dict[str, str]:
    """What is wrong with a chosen credential; empty means that Headwater makes one."""
    try:
        if credential:
            check_credential(credential)
    except BadRequest as error:
        return {"credential": sentence_of(str(error))}
    return {}
