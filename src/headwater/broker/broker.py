"""The broker: what it is made of, the connections there are, their deadlines, and changes of rights while they live."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from headwater import __version__
from headwater.broker.connection import Connection
from headwater.broker.figures import Figures
from headwater.broker.first_messages import FirstMessages
from headwater.broker.journal import Journal
from headwater.broker.limits import protocol_limits, retained_limits, sessions_limits
from headwater.broker.records import Clocks
from headwater.broker.retained import Retained
from headwater.broker.router import Router
from headwater.broker.sessions import Entry, Sessions
from headwater.broker.sign_in import SignIn
from headwater.broker.sys_space import SysSpace
from headwater.broker.sys_topics import render_sys_topics
from headwater.broker.wills import Wills
from headwater.errors import StorageError
from headwater.logs import Log
from headwater.model.principal import Principal
from headwater.mqtt.limits import Turn
from headwater.mqtt.packets import PropertyId, Will
from headwater.mqtt.publish_properties import will_message_properties
from headwater.mqtt.publishing import Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.persistence import LoadedState
from headwater.services import Services
from headwater.services.access import AccessChange
from headwater.services.dialect import TopicSpace
from headwater.services.networks import network_of
from headwater.settings import MqttSettings

SWEEP_INTERVAL_S = 0.5
"""Deadlines are kept to within this."""
KEEP_ALIVE_GRACE = 1.5
"""[MQTT-3.1.2-24] of 3.1.1, [MQTT-3.1.2-22] of 5.0."""
CLOSE_TIMEOUT_S = 3.0
TIDY_INTERVAL_S = 60.0
"""How often everything is looked through for what is over and forgotten."""

log = Log(__name__)


class Broker:
    """Accepts MQTT clients on any number of listeners; call everything from the event loop's thread.

    Args: `journal` keeps what must survive; `state` is what it kept the last time.
    """

    def __init__(
        self,
        services: Services,
        spaces: Iterable[TopicSpace],
        settings: MqttSettings,
        journal: Journal,
        state: LoadedState | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.turn = Turn()
        self.bytes_per_turn = settings.bytes_per_turn
        self.protocol_limits = protocol_limits(settings)
        self._access = services.access
        self.ingest = services.ingest
        self._refusals = services.refusals
        self.journal = journal
        clocks = Clocks(self.loop.time, time.time_ns)
        self.figures = Figures(self, services.refusals)
        self.retained = Retained(journal, clocks, retained_limits(settings))
        self._sys = SysSpace(services.access, services.refusals, self.retained)
        self.router = Router(
            (*spaces, self._sys),
            services.refusals,
            self.retained,
            turn=self.turn,
            now_s=self.loop.time,
            count_changes=lambda: journal.recorded,
            written=journal.written,
            max_nodes_per_tree=settings.max_subscription_levels_per_account,
            max_message_expiry_s=settings.max_message_expiry_s,
        )
        self.sessions = Sessions(self.router, journal, clocks, sessions_limits(settings), self.figures.count_drop)
        self.first_messages = FirstMessages(self)
        self.wills = Wills(self._publish_will, self.loop.call_soon, self.turn)
        self.sign_in = SignIn(services, settings, self.sessions, self.wills, self.loop.time)
        self._connections: dict[int, Connection] = {}
        """By number, and so in the order of connecting."""
        self._last_number = 0
        self._by_address: Counter[str] = Counter()
        """Addresses as `network_of` sees them."""
        self._to_flush: list[Connection] = []
        self._all_gone = asyncio.Event()
        if state is not None:
            self._restore(state)
        self._next_sys_s = 0.0
        self._next_tidy_s = self.loop.time() + TIDY_INTERVAL_S
        self._sweeper = self.loop.create_task(self._sweep())
        self._access.on_change(self._access_changed)
        services.presence.attach(self.figures)

    def _restore(self, state: LoadedState) -> None:
        for retained in state.retained:
            self.retained.restore(retained)
        self.retained.forget_accounts_but({account.id for account in self._access.accounts()})
        for owed in self.sessions.restore(state, self._access.principal_of):
            self._owe_will(*owed)

    # -- connections come and go --------------------------------------------------------------------------

    def new_connection(self, transport_name: str) -> Connection:
        """The protocol for a client that has arrived: `tcp`, `tls`, `websocket` and so on."""
        return Connection(self, transport_name)

    async def close(self) -> None:
        """Close every connection, after what it still has to be told. Nobody new may arrive any more."""
        self._sweeper.cancel()
        self.first_messages.close()
        await self.ingest.drain()
        await self.journal.drain()
        self._flush_all()
        if self._connections:
            self._all_gone.clear()
            for connection in self.each_connection():
                connection.close("the server shuts down", ReasonCode.SERVER_SHUTTING_DOWN, is_fault=False)
            try:
                await asyncio.wait_for(self._all_gone.wait(), CLOSE_TIMEOUT_S)
            except TimeoutError:
                for connection in self.each_connection():
                    connection.abort("the server shuts down", is_fault=False)
        self.wills.publish_all()
        await self.ingest.drain()

    @property
    def connections(self) -> int:
        """How many clients are connected, signed in or not."""
        return len(self._connections)

    def each_connection(self) -> Iterable[Connection]:
        """Those connected now; some may go meanwhile."""
        return tuple(self._connections.values())

    def connection_numbered(self, number: int) -> Connection | None:
        """The connection with this number, if it still is there."""
        return self._connections.get(number)

    def add(self, connection: Connection) -> str | None:
        """A connection was made. Answers why it cannot stay, or None."""
        self._last_number += 1
        connection.number = self._last_number
        self._connections[connection.number] = connection
        network = network_of(connection.address)
        self._by_address[network] += 1
        if len(self._connections) > self.settings.max_connections:
            return "limit max_connections"
        most = self.settings.max_connections_per_address
        if most and self._by_address[network] > most:
            return "limit max_connections_per_address"
        limit = self.sign_in.limits.admit(connection.address)
        return None if limit is None else f"limit {limit}"

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        del self._connections[connection.number]
        network = network_of(connection.address)
        self._by_address[network] -= 1
        if not self._by_address[network]:
            del self._by_address[network]
        self.figures.count_gone(connection)
        if not self._connections:
            self._all_gone.set()

    def left(self, connection: Connection) -> None:
        """A client is not here any more, in whatever way: its will goes out unless it said goodbye."""
        session = connection.protocol.session
        if session is None:
            return
        self.sign_in.leave(connection)
        will = session.will
        entry = self.sessions.disconnected(session, connection.principal)
        if will is not None:
            self._owe_will(connection.principal, session, will, entry)

    # -- wills ----------------------------------------------------------------------------------------------

    def _owe_will(self, principal: Principal, session: Session, will: Will, entry: Entry | None) -> None:
        """[MQTT-3.1.2-8]: after its delay, or at once where the session is over."""
        delay_s = will.properties.get(PropertyId.WILL_DELAY_INTERVAL, 0)
        if entry is None or not delay_s:
            self.wills.publish_soon(principal, session, will)
        else:
            self.wills.publish_at(self.loop.time() + min(delay_s, session.expiry_s), principal, session, will)

    def _publish_will(self, principal: Principal, session: Session, will: Will) -> None:
        """With the rights of now: they may have gone since CONNECT."""
        if session.will is will:  # a client that is back may have left another one
            session.will = None
            self.sessions.save(session)
        renewed = self._access.renewed(principal)
        if renewed is None:
            return
        target = self.router.resolve_publish(renewed, will.topic, session)
        properties = will_message_properties(will) if will.properties else None
        try:
            taken = target(will.payload, will.qos << 1 | will.retain, time.time_ns(), properties)
        except StorageError as error:  # nobody is left to send it again
            reason = f"a will was lost: {error}"
            self._refusals.note(reason, device_id=renewed.device_id, account_device_id=renewed.account_device_id)
            log.warning("a will was lost", client_id=session.client_id, reason=str(error))
            return
        if isinstance(taken, Refused):
            log.info(
                "a will was refused",
                client_id=session.client_id,
                topic=self.router.logged(will.topic),
                reason=taken.reason,
            )

    # -- back-pressure and output -------------------------------------------------------------------------

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once there is room again (or where there is none yet, to be asked again)."""
        if self.journal.is_full:
            self.journal.when_room(callback)
        else:
            self.ingest.when_room(callback)

    def flush_soon(self, connection: Connection) -> None:
        """Write this connection's output after the current callback, once for all that is due by then."""
        if not self._to_flush:
            self.loop.call_soon(self._flush_all)
        self._to_flush.append(connection)

    def _flush_all(self) -> None:
        due, self._to_flush = self._to_flush, []
        for connection in due:
            try:
                connection.flush_due()
            except Exception:  # a fault with one client must not keep the others from their messages
                log.exception("output could not be written", client_id=connection.protocol.client_id)
                connection.abort("an internal fault")

    # -- deadlines ------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                self._sweep_once(self.loop.time())
            except Exception:  # a fault in one round must not be the end of all deadlines
                log.exception("deadlines could not be looked at")

    def _sweep_once(self, now_s: float) -> None:
        for connection in self.each_connection():
            try:
                self._check_deadlines(connection, now_s)
            except Exception:  # nor must a fault with one client be the end of the others' deadlines
                log.exception("deadlines could not be looked at", client_id=connection.protocol.client_id)
                connection.abort("an internal fault")
        self.wills.sweep(now_s)
        for entry in self.sessions.expired():
            self.wills.hasten(entry.session)
            self.sessions.end(entry)
        if self.settings.sys_interval_s and now_s >= self._next_sys_s:
            self._next_sys_s = now_s + self.settings.sys_interval_s
            self._sys.publish(render_sys_topics(self.figures.totals(), __version__, time.time_ns()))
        if now_s >= self._next_tidy_s:
            self._next_tidy_s = now_s + TIDY_INTERVAL_S
            self.retained.forget_expired()
            self.sign_in.forget_old()
            self.figures.forget_old({account.id for account in self._access.accounts()})

    def _check_deadlines(self, connection: Connection, now_s: float) -> None:
        settings, protocol = self.settings, connection.protocol
        if not connection.is_here:  # what it had not read by then is still being sent
            if connection.unread_s(now_s) > settings.write_timeout_s:
                connection.abort("does not read its last bytes")
        elif not protocol.is_connected:
            # Also while there is no room: a socket that is not read does not show that its client has gone.
            if now_s - connection.active_at_s > settings.connect_timeout_s:
                connection.abort("no CONNECT in time")
        elif protocol.is_congested:
            if connection.unread_s(now_s) > settings.write_timeout_s:
                connection.abort("does not read what it is sent")
        elif not connection.waits_for_room:  # we are not listening then, so its silence means nothing
            longest_s = settings.max_keep_alive_s
            keep_alive_s = min(protocol.keep_alive_s or longest_s, longest_s)
            if now_s - connection.active_at_s > keep_alive_s * KEEP_ALIVE_GRACE:
                connection.close("keep alive ran out", ReasonCode.KEEP_ALIVE_TIMEOUT)

    # -- rights -------------------------------------------------------------------------------------------

    def note_refused_subscription(self, principal: Principal, topic_filter: str, reason: str) -> None:
        """Before MQTT 5, no client is told why a subscription was refused, so its owner may read it."""
        told = f"{reason} (topic filter {topic_filter})" if topic_filter else reason
        self._refusals.note(told, device_id=principal.device_id, account_device_id=principal.account_device_id)

    def _access_changed(self, change: AccessChange) -> None:
        """Whoever lost the right to be here goes at once. Rights are worked out anew of those who are named, and, as
        a bucket has changed, of everybody who may be using it: only dialects know which topics mean which bucket."""
        for connection in self.each_connection():
            session, principal = connection.protocol.session, connection.principal
            if session is None or not connection.is_here:
                continue
            is_named = change.names(principal)
            renewed = self._access.renewed(principal) if is_named else principal
            if renewed is None or (is_named and change.ends_sessions):
                connection.close("its credentials were withdrawn", ReasonCode.NOT_AUTHORIZED, is_fault=False)
            elif is_named or change.bucket_ids:
                connection.apply_rights(renewed)
                self.sessions.apply_rights(session, renewed)
        self.sessions.access_changed(change, self._access.renewed)
        for account_id in change.account_ids:
            if self._access.account(account_id) is None:
                self.retained.forget_tree(f"account:{account_id}")
                self.router.forget_tree(f"account:{account_id}")
