"""My Profile: time zone, keys, tokens (shown once) and the password."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict, NotAuthenticated, TooManyRequests
from headwater.registry.entities import AccountToken
from headwater.services.accounts import MAX_PASSWORD_LENGTH, MAX_TOKEN_NAME_LENGTH, MIN_PASSWORD_LENGTH
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import headers_of, sentence_of, waiting_time
from headwater.web.console.pages import BROWSER_ZONE
from headwater.web.console.update_limit_form import CHOICES, parse_update_limit

_PROFILE = "/profile"


class ProfilePages:
    """The pages of one's own account."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._accounts = console.services.accounts
        self._policies = console.services.update_policies

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        return [
            get(_PROFILE, self.show),
            post(f"{_PROFILE}/time_zone", self.set_time_zone),
            post(f"{_PROFILE}/user_api_key", self.rotate_user_api_key),
            post(f"{_PROFILE}/mqtt_api_key", self.rotate_mqtt_api_key),
            post(f"{_PROFILE}/update_limit", self.set_update_limit),
            post(f"{_PROFILE}/alerts_api_key", self.rotate_alerts_api_key),
            post(f"{_PROFILE}/email", self.set_email),
            post(f"{_PROFILE}/password", self.set_password),
            post(f"{_PROFILE}/tokens", self.add_token),
            post(f"{_PROFILE}/tokens/{{token_id:int}}/delete", self.remove_token),
        ]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit)

    async def set_time_zone(self, visit: Visit) -> Response:
        zone = visit.form.text("time_zone")
        try:
            await self._accounts.set_time_zone(visit.account.id, zone)
        except BadRequest:
            return await self._page(visit, {"time_zone": "Pick a time zone from the list."}, 400)
        return self._console.redirect(visit, _PROFILE, "Time zone saved.")

    async def set_update_limit(self, visit: Visit) -> Response:
        limit, errors = parse_update_limit(visit.form, self._policies.of_account(visit.account.id))
        if errors or limit is None:
            return await self._page(visit, errors or {"limit": "Choose one of these."}, 400)
        await self._policies.set_for_account(visit.account.id, limit)
        return self._console.redirect(visit, _PROFILE, "Update limit saved.")

    async def rotate_user_api_key(self, visit: Visit) -> Response:
        await self._accounts.rotate_user_api_key(visit.account.id)
        return self._console.redirect(visit, _PROFILE, "There is a new user API key. The old one no longer works.")

    async def rotate_mqtt_api_key(self, visit: Visit) -> Response:
        await self._accounts.rotate_mqtt_api_key(visit.account.id)
        return self._console.redirect(visit, _PROFILE, "There is a new MQTT API key. The old one no longer works.")

    async def rotate_alerts_api_key(self, visit: Visit) -> Response:
        await self._accounts.rotate_alerts_api_key(visit.account.id)
        return self._console.redirect(visit, _PROFILE, "There is a new alerts API key. The old one no longer works.")

    async def set_email(self, visit: Visit) -> Response:
        email = visit.form.text("email")
        try:
            await self._accounts.set_email(visit.account.id, email)
        except BadRequest as error:
            return await self._page(visit, {"email": sentence_of(str(error))}, 400, email=email)
        return self._console.redirect(visit, _PROFILE, "E-mail address saved." if email else "E-mail address removed.")

    async def add_token(self, visit: Visit) -> Response:
        name = visit.form.text("name")
        if not name or len(name) > MAX_TOKEN_NAME_LENGTH:
            problem = (
                "Say what the token is for." if not name else f"At most {MAX_TOKEN_NAME_LENGTH} characters, please."
            )
            return await self._page(visit, {"token": problem}, 400, token_name=name)
        try:
            token, secret = await self._accounts.add_token(visit.account.id, name)
        except (BadRequest, Conflict) as error:
            return await self._page(visit, {"token": sentence_of(str(error))}, 400, token_name=name)
        return await self._page(visit, new_token=(token, secret))

    async def remove_token(self, visit: Visit) -> Response:
        await self._accounts.remove_token(visit.account.id, visit.path_id("token_id"))
        return self._console.redirect(visit, _PROFILE, "Token deleted. Whatever used it has no access any more.")

    async def set_password(self, visit: Visit) -> Response:
        current, new = visit.form.exact("current_password"), visit.form.exact("new_password")
        errors = password_errors(current, new, visit.form.exact("new_password_again"))
        if errors:
            return await self._page(visit, errors, 400)
        try:
            await self._accounts.sign_in(visit.account.name, current, visit.address)
            await self._accounts.set_password(visit.account.name, new)
        except NotAuthenticated:
            return await self._page(visit, {"current_password": "That is not your current password."}, 400)
        except TooManyRequests as error:
            text = f"Too many wrong passwords. Please wait {waiting_time(error.retry_after_s)}, then try again."
            response = await self._page(visit, {"current_password": text}, 429)
            response.headers.update(headers_of(error))
            return response
        except BadRequest as error:
            return await self._page(visit, {"new_password": sentence_of(str(error))}, 400)
        # All sessions have ended, this browser's too: give it one of the new epoch.
        response = RedirectResponse(_PROFILE, 303, headers={"Cache-Control": "no-store"})
        account = self._console.services.access.account(visit.account.id)
        if account is not None:
            self._console.start_session(visit.request, response, account)
        self._console.flashes.put(
            response,
            "Password changed. Every other browser has been signed out.",
            is_secure=self._console.is_secure(visit.request),
        )
        return response

    async def _page(
        self,
        visit: Visit,
        errors: dict[str, str] | None = None,
        status: int = 200,
        token_name: str = "",
        new_token: tuple[AccountToken, str] | None = None,
        email: str | None = None,
    ) -> Response:
        limit = self._policies.of_account(visit.account.id)
        return self._console.render(
            visit,
            "profile.html",
            status=status,
            errors=errors or {},
            zones=await self._console.time_zones(),
            browser_zone=BROWSER_ZONE,
            password_min=MIN_PASSWORD_LENGTH,
            tokens=await self._accounts.tokens(visit.account.id),
            token_name=token_name,
            new_token=new_token,
            limit_choices=CHOICES,
            limit_choice=visit.form.text("limit") or limit.action.value,
            limit_interval_s=visit.form.text("interval_s") or limit.interval_s,
            email=visit.account.email if email is None else email,
        )


def password_errors(current: str, new: str, again: str) -> dict[str, str]:
    """What to say beside which input of the password form; empty when all is well."""
    if not current or len(current) > MAX_PASSWORD_LENGTH:
        return {"current_password": "Enter the password you sign in with now."}
    if len(new) < MIN_PASSWORD_LENGTH:
        return {"new_password": f"At least {MIN_PASSWORD_LENGTH} characters, please."}
    if len(new) > MAX_PASSWORD_LENGTH:
        return {"new_password": f"At most {MAX_PASSWORD_LENGTH} characters, please."}
    if new != again:
        return {"new_password_again": "The two new passwords differ."}
    return {}
