"""What is special about account devices: an id and a credential that people may choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headwater.errors import BadRequest
from headwater.registry.entities import Account, AccountDevice
from headwater.services.account_devices import (
    MAX_DEVICE_ID_LENGTH,
    MIN_CREDENTIAL_LENGTH,
    AccountDevices,
    check_credential,
    check_device_id,
)
from headwater.services.devices import MAX_NAME_LENGTH
from headwater.web.console.console import Visit
from headwater.web.console.device_pages import DevicePages, Kind, SignInName, name_errors
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form
from headwater.web.console.snippets import Addresses, Snippet, account_device_snippets

_LIMITS = {
    "device_id": MAX_DEVICE_ID_LENGTH,
    "name": MAX_NAME_LENGTH,
    "credential_min": MIN_CREDENTIAL_LENGTH,
}


class AccountDevicePages(DevicePages[AccountDevice]):
    """The pages of account devices."""

    kind = Kind(
        "/devices/account",
        "account_device_id",
        "_account_device.html",
        "credential",
        "Credential (password)",
        _LIMITS,
    )
    _devices: AccountDevices

    def sign_in_name(self, account: Account, device: AccountDevice) -> SignInName:
        return SignInName(device.device_id, account.name)

    def form_errors(self, form: Form, *, is_new: bool) -> dict[str, str]:
        errors = name_errors(form.text("name"), is_needed=not is_new)
        if not is_new:
            return errors
        errors |= _errors_of(check_device_id, "device_id", form.text("device_id"))
        if credential := form.exact("credential"):
            errors |= _errors_of(check_credential, "credential", credential)
        return errors

    def fields_in(self, form: Form) -> dict[str, Any]:
        return {"device_id": form.text("device_id"), "name": form.text("name")}

    def fields_of(self, device: AccountDevice) -> dict[str, Any]:
        return {"name": device.name}

    def choices(self, visit: Visit) -> dict[str, Any]:
        return {}

    async def add(self, account: Account, form: Form) -> tuple[AccountDevice, str]:
        return await self._devices.create(account.id, form.text("device_id"), form.text("name"), _credential_in(form))

    async def change(self, device: AccountDevice, form: Form) -> AccountDevice:
        return await self._devices.update(device.account_id, device.id, name=form.text("name"))

    async def new_secret(self, device: AccountDevice, form: Form) -> tuple[AccountDevice, str]:
        return await self._devices.set_credential(device.account_id, device.id, _credential_in(form))

    def snippets(self, account: Account, device: AccountDevice, secret: str, at: Addresses) -> list[Snippet]:
        return account_device_snippets(device.device_id, account.name, secret, at)


def _credential_in(form: Form) -> str | None:
    """A credential as typed: blanks around it are part of it. None where Headwater is to make one."""
    return form.exact("credential") or None


def _errors_of(check: Callable[[str], None], field: str, text: str) -> dict[str, str]:
    try:
        check(text)
    except BadRequest as error:
        return {field: sentence_of(str(error))}
    return {}
