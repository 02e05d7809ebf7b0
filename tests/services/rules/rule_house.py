"""Rules over a registry file and a store in memory, with a clock that a test moves and doubles of what leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headwater.errors import Conflict
from headwater.model.entry import EntryUpdate
from headwater.registry.entities import Account, Channel
from headwater.registry.sealing import Seal
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.channels import Channels
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.outbound import Mail, OutboundAnswer, OutboundFailed, OutboundRequest
from headwater.services.query import Query
from headwater.services.rules.carriers import Carriers
from headwater.services.rules.definitions import Action, Condition, Draft, Publish, Rule, Run, Timed, Watch
from headwater.services.rules.rules import Rules
from headwater.settings import RuleSettings
from headwater.store.memory import MemoryStore

S = 1_000_000_000
START_NS = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * S  # a Monday
PUBLISH = Publish("alarms", "%%field1%%")


class WorldOutside:
    """Takes what leaves, and fails when a test says so."""

    is_set_up = True

    def __init__(self) -> None:
        self.requests: list[OutboundRequest] = []
        self.mails: list[Mail] = []
        self.messages: list[tuple[int, str, bytes, int, bool]] = []
        self.commands: list[tuple[int, int, str]] = []
        self.called: list[tuple[int, int]] = []
        self.failures: list[Exception | int] = []
        """What the next requests and mails end with: an error, or a status."""
        self.gate: asyncio.Event | None = None
        """Holds requests up until it is set."""
        self.at_once = self.most_at_once = 0

    async def send(self, account_id: int, what: OutboundRequest | Mail) -> OutboundAnswer:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_once -= 1
        if isinstance(what, Mail):
            self.mails.append(what)
        else:
            self.requests.append(what)
        failure = self.failures.pop(0) if self.failures else 200
        if isinstance(failure, Exception):
            raise failure
        return OutboundAnswer(failure, b"", "text/plain", 0.01)

    async def publish(self, account_id: int, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.messages.append((account_id, topic, payload, qos, retain))

    async def add_command(self, account_id: int, talkback_id: int, command_string: str) -> object:
        self.commands.append((account_id, talkback_id, command_string))
        return None

    async def run(self, account_id: int, thing_http_id: int) -> OutboundAnswer:
        self.called.append((account_id, thing_http_id))
        raise OutboundFailed("nobody answered")

    async def names(self, account_id: int) -> Mapping[int, str]:
        return {account_id: "mine"}

    @property
    def carriers(self) -> Carriers:
        return Carriers(self, self, self, self, self, self.names, self.names)  # type: ignore[arg-type]

    @property
    def payloads(self) -> list[str]:
        return [message[2].decode() for message in self.messages]


@dataclass
class RuleHouse:
    """Everything that rules need."""

    worker: RegistryWorker
    access: Access
    channels: Channels
    ada: Account
    bob: Account
    channel: Channel
    settings: RuleSettings
    store: MemoryStore = field(default_factory=MemoryStore)
    outside: WorldOutside = field(default_factory=WorldOutside)
    now_ns: int = START_NS
    chance: float = 0.5
    slept: list[float] = field(default_factory=list)

    async def open(self) -> None:
        """What a server makes at its start."""
        catalogue = Catalogue(self.store.catalogue())
        self.ingest = Ingest(self.store, catalogue, IngestLimits(flush_interval_s=0))
        self.query = Query(self.store, catalogue)
        self.entries = Entries(self.ingest, self.query, catalogue, Deleting(self.ingest, catalogue, self.store))
        await self.entries.recover()

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        self.rules = Rules(
            self.worker,
            self.access,
            self.entries,
            Seal(b"k" * 32),
            self.settings,
            now_ns=lambda: self.now_ns,
            chance=lambda: self.chance,
            sleep=sleep,
        )
        await self.rules.load()
        self.rules.runner.carriers = self.outside.carriers
        await self.settle()

    async def close(self) -> None:
        await self.rules.engine.close()
        await self.rules.runner.close()
        await self.rules.journal.flush()
        await self.ingest.close()
        self.query.close()

    async def restart(self, down_s: float = 0) -> None:
        await self.close()
        self.now_ns += int(down_s * S)
        await self.open()

    async def settle(self) -> None:
        """Until nothing is under way any more."""
        await self.ingest.drain()
        await asyncio.sleep(0)  # those who watch are told
        await asyncio.sleep(0)
        await self.rules.engine.settle()
        await self.rules.runner.settle()

    async def passes(self, seconds: float) -> None:
        """Time passes, all at once; timers are looked at then."""
        self.now_ns += int(seconds * S)
        self.rules.timers.run_due()
        await self.settle()

    async def send(self, *values: str | None, **others: str) -> None:
        """An entry for each value of field 1."""
        for value in values:
            self.now_ns += 1
            self.entries.append(self.channel, EntryUpdate({} if value is None else {1: value}, **others), self.now_ns)
            await self.settle()

    async def send_bulk(self, *values: str) -> None:
        """Old entries, sent together."""
        start_ns = self.now_ns - 1000 * S
        writes = [
            self.entries.write_dated(
                self.channel, EntryUpdate({1: value}, created_at_ns=start_ns + n), self.now_ns, is_told=False
            )
            for n, value in enumerate(values)
        ]
        self.entries.tell_bulk(self.channel.id, writes)
        for write in writes:
            with suppress(Conflict):
                await write.wait()
        await self.settle()

    async def watch(self, condition: Condition, *actions: Action, **options: object) -> Rule:
        trigger = Watch(condition, **options)  # type: ignore[arg-type]
        return await self.add(Draft("Hot", trigger, self.channel.id, actions or (PUBLISH,)))

    async def time(self, timed: Timed, *actions: Action) -> Rule:
        return await self.add(Draft("Now", timed, None, actions or (PUBLISH,)))

    async def add(self, draft: Draft) -> Rule:
        rule = await self.rules.create(self.ada.id, "react", draft)
        await self.settle()
        return rule

    async def history(self, rule: Rule) -> list[Run]:
        return await self.rules.history(self.ada.id, rule.id)
