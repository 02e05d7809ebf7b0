"""From a CONNECT to a session: limits, who it is, whose place is taken, and what the client is told."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from headwater.broker.sessions import Sessions, TooManySessions
from headwater.broker.wills import Wills
from headwater.errors import NotAuthenticated, TooManyRequests
from headwater.logs import Log
from headwater.model.principal import KEY_ONLY, Principal
from headwater.mqtt.packets import NO_PROPERTIES, Connect, Properties, PropertyId, ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode
from headwater.services import Services
from headwater.services.connect_limits import FAILURES, claimed_by_certificate, claimed_client
from headwater.services.mqtt_sign_in import SignInFailed
from headwater.settings import MqttSettings

if TYPE_CHECKING:
    from headwater.broker.connection import Connection

TAKEOVER_WINDOW_S = 60.0

log = Log(__name__)

ClientKey = tuple[str, str]
"""A principal's key and a client id."""


class SignIn:
    """Lets clients in, and knows which connection is which client's."""

    def __init__(
        self,
        services: Services,
        settings: MqttSettings,
        sessions: Sessions,
        wills: Wills,
        now_s: Callable[[], float],
    ) -> None:
        self._access = services.access
        self._refusals = services.refusals
        self._settings = settings
        self._sessions = sessions
        self._wills = wills
        self._now_s = now_s
        self.limits = services.connect_limits
        self._online: dict[ClientKey, Connection] = {}
        self._by_account: Counter[int] = Counter()
        self._takeovers: dict[ClientKey, list[float]] = {}
        self.clients = 0
        """Let in and not gone; the most there were; and all there were since the start."""
        self.most_clients = 0
        self.clients_total = 0

    def begin(self, connection: Connection, connect: Connect) -> Awaitable[Principal] | None:
        """Accept or refuse a client; or answer what has to be waited for, and then given to `finish`.

        Raises MqttProtocolError (from `ServerProtocol.refuse`) for whom is refused.
        """
        limit = self.limits.check(connection.address, self._claimed(connection, connect))
        if limit is not None:
            blocked_s = self.limits.blocked_s(connection.address, self._claimed(connection, connect))
            if not blocked_s:
                connection.protocol.refuse(ReasonCode.SERVER_BUSY, f"limit {limit}: too many sign-ins at once")
            connection.protocol.refuse(ReasonCode.BANNED, _why_banned(limit, blocked_s))
        try:
            principal = self._authenticate(connection, connect)
        except NotAuthenticated as error:
            self._fail(connection, connect, error)
            return None
        except TooManyRequests as error:
            self.limits.abandoned(connection.address, self._claimed(connection, connect))
            connection.protocol.refuse(ReasonCode.SERVER_BUSY, str(error))
            return None
        if isinstance(principal, Principal):
            self._let_in(connection, connect, principal)
            return None
        return principal

    async def finish(self, connection: Connection, connect: Connect, checking: Awaitable[Principal]) -> None:
        """The slow way: a credential that a person chose is checked in another thread. Raises as `begin`."""
        is_settled = False
        try:
            principal = await checking
            is_settled = True
        except NotAuthenticated as error:
            is_settled = True
            self._fail(connection, connect, error)
            return
        except TooManyRequests as error:
            connection.protocol.refuse(ReasonCode.SERVER_BUSY, str(error))
        finally:
            if not is_settled:  # the client went away, or something of ours failed
                self.limits.abandoned(connection.address, self._claimed(connection, connect))
        self._let_in(connection, connect, principal)

    def leave(self, connection: Connection) -> None:
        """A client that was let in is not here any more."""
        session, principal = connection.protocol.session, connection.principal
        assert session is not None
        self.clients -= 1
        key = (principal.key, session.client_id)
        if self._online.get(key) is connection:
            del self._online[key]
        if principal.account_id is not None:
            self._by_account[principal.account_id] -= 1
            if not self._by_account[principal.account_id]:
                del self._by_account[principal.account_id]

    def forget_old(self) -> None:
        """Let go of what does not count any more."""
        self.limits.forget_old()
        since_s = self._now_s() - TAKEOVER_WINDOW_S
        self._takeovers = {key: times for key, times in self._takeovers.items() if times[-1] > since_s}

    # -- who it is ---------------------------------------------------------------------------------------------

    def _authenticate(self, connection: Connection, connect: Connect) -> Principal | Awaitable[Principal]:
        name = self._certificate_name(connection, connect)
        if name is not None:
            return self._access.authenticate_certificate(connect.client_id, name)
        return self._access.authenticate_mqtt(connect.client_id, connect.username, connect.password)

    def _certificate_name(self, connection: Connection, connect: Connect) -> str | None:
        """The name that takes the place of user name and password, if this client signs in so."""
        is_allowed = self._settings.certificate_sign_in and connect.password is None
        return connection.certificate_name if is_allowed else None

    def _claimed(self, connection: Connection, connect: Connect) -> str:
        """For whom a failed sign-in counts."""
        name = self._certificate_name(connection, connect)
        return claimed_client(connect.username, connect.client_id) if name is None else claimed_by_certificate(name)

    def _fail(self, connection: Connection, connect: Connect, error: NotAuthenticated) -> None:
        self.limits.failed(connection.address, self._claimed(connection, connect))
        if isinstance(error, SignInFailed):
            log.info(
                "sign-in failed", cause=error.reason, client_id=connect.client_id[:128], address=connection.address
            )
            self._refusals.note_failed_sign_in(error, connection.address)
        connection.protocol.refuse(ReasonCode.NOT_AUTHORIZED)

    # -- letting in ----------------------------------------------------------------------------------------------

    def _let_in(self, connection: Connection, connect: Connect, principal: Principal) -> None:
        """The client is who it says. An older connection of it ends [MQTT-3.1.4-3]; its session goes on or begins anew.

        The same client means the same principal too: nobody ends another's connection by knowing its client id.
        Clients that only show keys in topics are nobody in particular, so none of them is the same as another.
        """
        protocol = connection.protocol
        self.limits.succeeded(connection.address, self._claimed(connection, connect))
        self._check(connection, connect, principal)
        client_id = connect.client_id or f"hw-{secrets.token_hex(12)}"
        expiry_s = 0
        if principal != KEY_ONLY:
            expiry_s = self._granted_expiry_s(connect)
            self._take_over(connection, (principal.key, client_id))
            self._settle_old_will(principal, client_id, is_clean=connect.clean_session)
        try:
            session, is_present = self._sessions.open(
                principal,
                client_id,
                is_clean=connect.clean_session,
                expiry_s=expiry_s,
                will=connect.will,
            )
        except TooManySessions:
            protocol.refuse(ReasonCode.QUOTA_EXCEEDED, "limit max_sessions_per_account")
            return
        connection.principal = principal
        self.clients += 1
        self.clients_total += 1
        self.most_clients = max(self.most_clients, self.clients)
        if principal != KEY_ONLY:
            self._online[principal.key, client_id] = connection
        if principal.account_id is not None:
            self._by_account[principal.account_id] += 1
        protocol.client_id = client_id
        properties = self._connack_properties(connect, client_id, expiry_s)
        protocol.accept(session, session_present=is_present, properties=properties)

    def _check(self, connection: Connection, connect: Connect, principal: Principal) -> None:
        protocol = connection.protocol
        if connect.will is not None and connect.will.topic.startswith("$"):
            protocol.refuse(ReasonCode.TOPIC_NAME_INVALID, "a will cannot go to a topic that begins with $")
        most = self._settings.max_connections_per_account
        if not most or principal.account_id is None:
            return
        is_taking_over = (principal.key, connect.client_id) in self._online  # and so takes the place of one that counts
        if self._by_account[principal.account_id] - is_taking_over >= most:
            protocol.refuse(ReasonCode.QUOTA_EXCEEDED, "limit max_connections_per_account")

    def _take_over(self, connection: Connection, key: ClientKey) -> None:
        older = self._online.get(key)
        if older is None:
            return
        now_s = self._now_s()
        recent = [at_s for at_s in self._takeovers.get(key, ()) if at_s > now_s - TAKEOVER_WINDOW_S]
        most = self._settings.max_takeovers_per_minute
        if most and len(recent) >= most:  # two clients with one id: let the one that is here do its work
            connection.protocol.refuse(ReasonCode.SERVER_BUSY, "limit max_takeovers_per_minute: is this id used twice?")
        self._takeovers[key] = [*recent, now_s]
        older.close("taken over by a newer connection of this client", ReasonCode.SESSION_TAKEN_OVER, is_fault=False)

    def _settle_old_will(self, principal: Principal, client_id: str, *, is_clean: bool) -> None:
        """A will that waits is not sent when its client is back in time [MQTT-3.1.3-9]; but when the client wants
        nothing of its old session, that session ends now, and the will goes out with it."""
        entry = self._sessions.find(principal, client_id)
        if entry is not None:
            if is_clean:
                self._wills.hasten(entry.session)
            else:
                self._wills.cancel(entry.session)

    def _granted_expiry_s(self, connect: Connect) -> int:
        if connect.level == ProtocolLevel.V5:
            asked_s: int = connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0)
        else:
            asked_s = 0 if connect.clean_session else self._settings.session_expiry_s
        return min(asked_s, self._settings.max_session_expiry_s)

    def _connack_properties(self, connect: Connect, client_id: str, expiry_s: int) -> Properties:
        """What is limited here (5.0 section 3.2.2.3)."""
        if connect.level != ProtocolLevel.V5:
            return NO_PROPERTIES
        settings = self._settings
        properties: dict[PropertyId, int | str] = {
            PropertyId.RECEIVE_MAXIMUM: settings.receive_maximum,
            PropertyId.MAXIMUM_PACKET_SIZE: settings.max_packet_bytes,
            PropertyId.TOPIC_ALIAS_MAXIMUM: settings.topic_alias_maximum,
        }
        if not connect.client_id:
            properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER] = client_id
        if connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0) != expiry_s:
            properties[PropertyId.SESSION_EXPIRY_INTERVAL] = expiry_s
        if not 0 < connect.keep_alive_s <= settings.max_keep_alive_s:
            properties[PropertyId.SERVER_KEEP_ALIVE] = settings.max_keep_alive_s
        return properties


def _why_banned(limit: str, blocked_s: float) -> str:
    """What a client reads: the same whether there is such a device or not."""
    reason = f"limit {limit}: too many failed sign-ins, try again in {math.ceil(blocked_s)} s"
    return f"{reason}; a device's owner can lift it with a new password" if limit == FAILURES else reason
