"""The pages that devices of both kinds have: adding one, its credentials (shown once), its name, its switch, its end.

Knows no kind: what one asks for and how it signs in, its own class says, and the macros of its `Kind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.registry.entities import Account, AccountDevice, MqttDevice
from headwater.services.connect_limits import claimed_client
from headwater.services.devices import MAX_NAME_LENGTH
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form
from headwater.web.console.snippets import CLIENT_ID, PASSWORD, USERNAME, Addresses, Snippet, credentials_text

D = TypeVar("D", bound=MqttDevice | AccountDevice)
D_co = TypeVar("D_co", bound=MqttDevice | AccountDevice, covariant=True)


class SignInName(NamedTuple):
    """What a device calls itself when it connects."""

    client_id: str
    username: str


class Kind(NamedTuple):
    """What sets the pages of one kind apart."""

    root: str
    """Where they are."""
    id_name: str
    """What the id in their paths is called."""
    parts: str
    """The template with the macros that say what is this kind's own."""
    credential: str
    """What people call the secret; the path of the form that makes a new one ends in it."""
    credential_label: str
    """The same beside the secret, for those who look for the word of their MQTT client."""
    limits: Mapping[str, int]
    """How long what is typed into the forms may be, in characters."""


class DeviceService(Protocol[D_co]):
    """What the services of both kinds offer."""

    async def get_owned(self, account_id: int, id_: int, /) -> D_co: ...

    async def update(self, account_id: int, id_: int, /, *, is_enabled: bool | None = None) -> D_co: ...

    async def delete(self, account_id: int, id_: int, /) -> D_co: ...


class DevicePages(ABC, Generic[D]):
    """The pages of one kind; another account's device is as unknown as one that never was."""

    kind: ClassVar[Kind]

    def __init__(self, console: Console, devices: DeviceService[D]) -> None:
        self._console = console
        self._devices = devices

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = f"{self.kind.root}/{{{self.kind.id_name}:int}}"
        return [
            get(f"{self.kind.root}/new", self.new),
            post(f"{self.kind.root}/new", self.create),
            get(one, self.show),
            post(one, self.save),
            post(f"{one}/enable", self.enable),
            post(f"{one}/disable", self.disable),
            post(f"{one}/{self.kind.credential}", self.renew),
            post(f"{one}/delete", self.delete),
        ]

    async def new(self, visit: Visit) -> Response:
        return self._new_page(visit, {})

    async def create(self, visit: Visit) -> Response:
        errors = self.form_errors(visit.form, is_new=True)
        if not errors:
            try:
                made = await self.add(visit.account, visit.form)
            except (BadRequest, Conflict, NotFound) as failure:
                errors = {"": sentence_of(str(failure))}
            else:
                return self._credentials_page(visit, *made, is_new=True)
        return self._new_page(visit, errors)

    async def show(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        return self._device_page(visit, device, self.fields_of(device))

    async def save(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        errors = self.form_errors(visit.form, is_new=False)
        if not errors:
            try:
                await self.change(device, visit.form)
            except (BadRequest, NotFound) as failure:
                errors = {"": sentence_of(str(failure))}
        if errors:
            return self._device_page(visit, device, self.fields_in(visit.form), errors)
        return self._console.redirect(visit, self._path(device), "Device saved.")

    async def enable(self, visit: Visit) -> Response:
        return await self._switch(visit, True, "Device enabled: it may connect again.")

    async def disable(self, visit: Visit) -> Response:
        return await self._switch(visit, False, "Device disabled: it can no longer connect.")

    async def renew(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        try:
            made = await self.new_secret(device, visit.form)
        except BadRequest as failure:
            errors = {self.kind.credential: sentence_of(str(failure))}
            return self._device_page(visit, device, self.fields_of(device), errors)
        return self._credentials_page(visit, *made, is_new=False)

    async def delete(self, visit: Visit) -> Response:
        device = await self._owned(visit)
        await self._devices.delete(visit.account.id, device.id)
        return self._console.redirect(visit, "/devices", f"Device “{device.name[:80]}” was deleted.", "note")

    # -- what is a kind's own -----------------------------------------------------------------------------------

    @abstractmethod
    def sign_in_name(self, account: Account, device: D) -> SignInName: ...

    @abstractmethod
    def form_errors(self, form: Form, *, is_new: bool) -> dict[str, str]:
        """What is wrong, by field, in the form of a new device or of one that is there."""

    @abstractmethod
    def fields_in(self, form: Form) -> dict[str, Any]:
        """What a form holds, to show it again; never a secret."""

    @abstractmethod
    def fields_of(self, device: D) -> dict[str, Any]:
        """What the form of a device begins with."""

    @abstractmethod
    def choices(self, visit: Visit) -> dict[str, Any]:
        """What else the forms need."""

    @abstractmethod
    async def add(self, account: Account, form: Form) -> tuple[D, str]:
        """A new device and its secret."""

    @abstractmethod
    async def change(self, device: D, form: Form) -> D:
        """Save the form of a device."""

    @abstractmethod
    async def new_secret(self, device: D, form: Form) -> tuple[D, str]:
        """The device with a new secret."""

    @abstractmethod
    def snippets(self, account: Account, device: D, secret: str, at: Addresses) -> list[Snippet]:
        """Programs that use the credentials."""

    def firmware(self, account: Account, device: D, secret: str, at: Addresses) -> list[Snippet]:
        """What to put into firmware that uses the credentials; kinds that have no channels have none."""
        return []

    # -- helpers ------------------------------------------------------------------------------------------------

    async def _owned(self, visit: Visit) -> D:
        return await self._devices.get_owned(visit.account.id, visit.path_id(self.kind.id_name))

    def _path(self, device: D) -> str:
        return f"{self.kind.root}/{device.id}"

    async def _switch(self, visit: Visit, is_enabled: bool, text: str) -> Response:
        device = await self._devices.update(visit.account.id, visit.path_id(self.kind.id_name), is_enabled=is_enabled)
        return self._console.redirect(visit, self._path(device), text)

    def _blocks(self, account: Account, device: D) -> dict[str, Any]:
        """Where sign-ins of the device are refused now, and until when; and in how many more places."""
        name, now_s = self.sign_in_name(account, device), self._console.options.clock()
        blocks = self._console.services.connect_limits.blocks_of(claimed_client(name.username, name.client_id))
        until_ns = [(block, int((now_s + block.remaining_s) * 1e9)) for block in blocks.last]
        return {"blocks": until_ns, "more_blocks": blocks.more}

    def _new_page(self, visit: Visit, errors: dict[str, str]) -> Response:
        fields = self.fields_in(visit.form) | self.choices(visit)
        return self._page(visit, "device_new.html", errors=errors, here=f"{self.kind.root}/new", **fields)

    def _device_page(
        self, visit: Visit, device: D, fields: dict[str, Any], errors: dict[str, str] | None = None
    ) -> Response:
        return self._page(
            visit,
            "device.html",
            errors=errors or {},
            device=device,
            here=self._path(device),
            sign_in=self.sign_in_name(visit.account, device),
            refused=self._console.services.refusals.of(device),
            **self._blocks(visit.account, device),
            **fields,
            **self.choices(visit),
        )

    def _credentials_page(self, visit: Visit, device: D, secret: str, is_new: bool) -> Response:
        addresses = self._console.addresses(visit.request)
        name = self.sign_in_name(visit.account, device)
        credentials = {CLIENT_ID: name.client_id, USERNAME: name.username, PASSWORD: secret}
        return self._page(
            visit,
            "device_credentials.html",
            device=device,
            here=self._path(device),
            new_device=f"{self.kind.root}/new",
            is_new=is_new,
            credentials=credentials,
            file_name=f"mqtt-device-{name.client_id}.txt",
            file_text=credentials_text(device.name, credentials, addresses),
            snippets=self.snippets(visit.account, device, secret, addresses),
            firmware=self.firmware(visit.account, device, secret, addresses),
            addresses=addresses,
        )

    def _page(self, visit: Visit, template: str, **values: Any) -> Response:
        shared = {
            "parts": self.kind.parts,
            "credential_word": self.kind.credential,
            "credential_label": self.kind.credential_label,
            "limits": self.kind.limits,
        }
        return self._console.render(visit, template, 400 if values.get("errors") else 200, **shared | values)


def name_errors(name: str, *, is_needed: bool) -> dict[str, str]:
    """What is wrong with a device's name."""
    if is_needed and not name:
        return {"name": "Give the device a name, so that you know it again."}
    return {"name": f"At most {MAX_NAME_LENGTH} characters, please."} if len(name) > MAX_NAME_LENGTH else {}
