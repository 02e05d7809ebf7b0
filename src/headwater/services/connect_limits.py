"""How often an address may connect, and how often its sign-ins may fail, before it has to wait. Knows no socket and no
password: addresses, client ids and a clock.

Everything here is bounded in memory, in number and in size, whatever strangers call themselves; and it costs the same
whatever went before, because it is asked before any work is done for a stranger. (Once a minute, some
milliseconds at most go into forgetting what is over.)
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from heapq import nlargest
from typing import NamedTuple

from headwater.logs import Log
from headwater.services.networks import is_loopback, network_of
from headwater.services.throttle import Throttle
from headwater.settings import MqttSettings

CONNECT_RATE = "max_connects_per_second_per_address"
FAILURES = "max_failures_per_minute"
FAILURES_OF_ADDRESS = "max_failures_per_minute_per_address"
"""The limits are called as the settings are, wherever a person meets them."""

WINDOW_S = 60.0
EPISODE_ENDS_S = 60.0
"""Whoever is refused again after so long without a refusal is logged again."""
MAX_BLOCKS_TOLD = 3
"""Of one client. A stranger with many addresses can make as many blocks."""
_MAX_LOGGED_LENGTH = 128

log = Log(__name__)


class SignInBlock(NamedTuple):
    """Sign-ins of one client that are refused for a while."""

    network: str
    """Where those come from that failed, and are refused now: an address, or an IPv6 /64."""
    failures: int
    """How many led to it."""
    remaining_s: float
    refused: int
    """Sign-ins since it began."""


class SignInBlocks(NamedTuple):
    """All sign-ins of one client that are refused for a while."""

    last: list[SignInBlock]
    """Those that end last, the very last first."""
    more: int
    """How many there are besides."""


class _ClientKey(NamedTuple):
    network: str
    client: bytes


class _Rule(NamedTuple):
    limit: str
    throttle: Throttle
    key: Hashable


class ConnectLimits:
    """The broker asks `admit` for a new connection and `check` for a sign-in, before any hashing; a sign-in that was
    not refused ends with exactly one of `failed`, `succeeded` and `abandoned`.

    Addresses count as networks: a host may have a whole IPv6 /64. The machine itself is exempt from what is counted
    for an address alone, because behind a reverse proxy that would shut out everybody. A client without an id is
    counted for its address only.

    Args: `clock` gives seconds, never going back; a limit of 0 is off; who has failed too often is blocked for
    `block_s`; of addresses and clients, the last `max_keys` each are remembered.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_connects_per_second_per_address: int = 0,
        max_failures_per_minute: int = 10,
        max_failures_per_minute_per_address: int = 100,
        block_s: float = 300.0,
        max_keys: int = 20_000,
    ) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._connects_per_s = max_connects_per_second_per_address
        self._next_connect_at_s: OrderedDict[Hashable, float] = OrderedDict()
        """When the connections made so far would have come in evenly, by network."""

        def throttle(max_failures: int) -> Throttle | None:
            if not max_failures:
                return None
            return Throttle(
                max_failures=max_failures, window_s=WINDOW_S, block_s=block_s, clock=clock, max_keys=max_keys
            )

        self._failures_of_client = max_failures_per_minute
        self._of_client = throttle(max_failures_per_minute)
        self._of_address = throttle(max_failures_per_minute_per_address)
        self._refused_at_s: OrderedDict[Hashable, float] = OrderedDict()
        self.refused: Counter[str] = Counter()
        """Connections and sign-ins refused here, by limit."""

    @classmethod
    def of(cls, settings: MqttSettings, clock: Callable[[], float]) -> ConnectLimits:
        """With the limits that the operator has set."""
        return cls(
            clock,
            max_connects_per_second_per_address=settings.max_connects_per_second_per_address,
            max_failures_per_minute=settings.max_failures_per_minute,
            max_failures_per_minute_per_address=settings.max_failures_per_minute_per_address,
            block_s=settings.failures_block_s,
        )

    def admit(self, address: str) -> str | None:
        """Whether this address may connect once more: None, or the limit that it has reached. As many as it may
        make in a second, it may make at once."""
        if not self._connects_per_s:
            return None
        now_s, network = self._clock(), network_of(address)
        next_s = max(self._next_connect_at_s.get(network, 0.0), now_s)
        if next_s + 1 / self._connects_per_s > now_s + 1 + 1e-9:
            return self._refuse(CONNECT_RATE, network, address, None)
        _keep(self._next_connect_at_s, network, next_s + 1 / self._connects_per_s, self._max_keys)
        return None

    def check(self, address: str, client_id: str) -> str | None:
        """Whether this client may try to sign in: None, or the limit that it has reached. None begins an attempt."""
        rules = self._rules(address, client_id)
        for rule in rules:
            if rule.throttle.refusal(rule.key) is not None:
                return self._refuse(rule.limit, rule.key, address, client_id)
        for rule in rules:
            rule.throttle.begin(rule.key)
        return None

    def blocked_s(self, address: str, client_id: str) -> float:
        """For how long `check` will refuse because of failures; 0 where it refused only for attempts under way."""
        blocks = [rule.throttle.block(rule.key) for rule in self._rules(address, client_id)]
        return max((block.remaining_s for block in blocks if block is not None), default=0.0)

    def failed(self, address: str, client_id: str) -> None:
        """The attempt failed: the credentials were wrong."""
        self._end(address, client_id, failed=True)

    def succeeded(self, address: str, client_id: str) -> None:
        """The attempt succeeded. Failures before it still count, or whoever has credentials of their own could try
        others' in between."""
        self._end(address, client_id, failed=False)

    def abandoned(self, address: str, client_id: str) -> None:
        """The attempt came to no end: the client went away, or we could not check."""
        self._end(address, client_id, failed=False)

    def blocks_of(self, client_id: str) -> SignInBlocks:
        """Where this client's sign-ins are refused now because too many of them have failed."""
        if self._of_client is None:
            return SignInBlocks([], 0)
        found = [
            (block, key.network)
            for key in _keys_of(self._of_client, client_id)
            if (block := self._of_client.block(key)) is not None
        ]
        last = [
            SignInBlock(network, self._failures_of_client, block.remaining_s, block.refused)
            for block, network in nlargest(MAX_BLOCKS_TOLD, found, key=lambda each: each[0].remaining_s)
        ]
        return SignInBlocks(last, len(found) - len(last))

    def lift(self, client_id: str) -> None:
        """This client has new credentials: what failed before does not count any more."""
        if self._of_client is not None:
            for key in _keys_of(self._of_client, client_id):
                self._of_client.forget(key)

    def forget_old(self) -> None:
        """Let go of what does not count any more."""
        for throttle in (self._of_client, self._of_address):
            if throttle is not None:
                throttle.forget_old()
        now_s = self._clock()
        _drop(self._next_connect_at_s, now_s)
        _drop(self._refused_at_s, now_s - EPISODE_ENDS_S)

    def _end(self, address: str, client_id: str, *, failed: bool) -> None:
        for rule in self._rules(address, client_id):
            rule.throttle.end(rule.key, failed=failed)

    def _rules(self, address: str, client_id: str) -> list[_Rule]:
        network = network_of(address)
        rules = []
        if self._of_client is not None and client_id:
            rules.append(_Rule(FAILURES, self._of_client, _ClientKey(network, _short_key(client_id))))
        if self._of_address is not None and not is_loopback(address):
            rules.append(_Rule(FAILURES_OF_ADDRESS, self._of_address, network))
        return rules

    def _refuse(self, limit: str, key: Hashable, address: str, client_id: str | None) -> str:
        self.refused[limit] += 1
        now_s, episode = self._clock(), (limit, key)
        refused_at_s = self._refused_at_s.get(episode)
        if refused_at_s is None or now_s - refused_at_s > EPISODE_ENDS_S:
            client = {} if client_id is None else {"client_id": client_id[:_MAX_LOGGED_LENGTH]}
            log.warning("too many connections or failed sign-ins: refused", limit=limit, address=address, **client)
        _keep(self._refused_at_s, episode, now_s, self._max_keys)
        return limit


def claimed_client(username: str | None, client_id: str) -> str:
    """Who a client says it is, for counting failures: device ids are unique within an account only, so one device with
    a wrong password must not shut out another account's."""
    return client_id and f"{username or ''}/{client_id}"


def claimed_by_certificate(common_name: str) -> str:
    """Who a client is that signs in with a certificate of this name, which takes the place of what it calls itself:
    the same as if that device had come with its password."""
    account_name, is_of_account, device_id = common_name.partition("/")
    return claimed_client(account_name, device_id) if is_of_account else claimed_client(common_name, common_name)


def _short_key(text: str) -> bytes:
    """What stands for a text, however long strangers made it: 16 bytes that no other text has."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _keys_of(throttle: Throttle, client_id: str) -> Iterator[_ClientKey]:
    """Those of one client. Looks through all that are remembered: not for strangers."""
    client = _short_key(client_id)
    return (key for key in throttle.known() if isinstance(key, _ClientKey) and key.client == client)


def _keep(times: OrderedDict[Hashable, float], key: Hashable, at_s: float, most: int) -> None:
    """Note a time, and forget the one noted longest ago when there are more than `most`."""
    times[key] = at_s
    times.move_to_end(key)
    if len(times) > most:
        times.popitem(last=False)


def _drop(times: OrderedDict[Hashable, float], until_s: float) -> None:
    """Forget the times up to this one."""
    for key in [key for key, at_s in times.items() if at_s <= until_s]:
        del times[key]
