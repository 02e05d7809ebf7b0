"""The use cases, written against the store and the registry. Dialects and shells call these and nothing below."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.account_devices import AccountDevices
from headwater.services.accounts import Accounts
from headwater.services.alerts import Alerts
from headwater.services.channels import Channels
from headwater.services.connect_limits import ConnectLimits
from headwater.services.deleting import Deleting
from headwater.services.devices import Devices
from headwater.services.entries import Entries
from headwater.services.entry_editing import EntryEditing
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest
from headwater.services.outbound import Mailer, NoMailer, NoSender, PublisherSlot, Sender
from headwater.services.presence import Presence
from headwater.services.query import Query
from headwater.services.refusals import Refusals
from headwater.services.rollups import Rollups
from headwater.services.rules.rules import Rules
from headwater.services.sql import Sql
from headwater.services.talkbacks import Talkbacks
from headwater.services.thing_https import ThingHttps
from headwater.services.update_limits import UpdateLimits
from headwater.services.update_policies import UpdatePolicies


@dataclass(frozen=True, slots=True)
class Services:
    """Everything an edge may use."""

    access: Access
    accounts: Accounts
    channels: Channels
    devices: Devices
    ingest: Ingest
    query: Query
    sql: Sql
    entries: Entries
    editing: EntryEditing
    deleting: Deleting
    refusals: Refusals
    registry: RegistryWorker
    account_devices: AccountDevices
    connect_limits: ConnectLimits
    rollups: Rollups
    update_policies: UpdatePolicies
    update_limits: UpdateLimits
    thing_https: ThingHttps
    alerts: Alerts
    talkbacks: Talkbacks
    rules: Rules
    presence: Presence = field(default_factory=Presence)
    horizons: Horizons = field(default_factory=Horizons)
    sender: Sender = field(default_factory=NoSender)
    mailer: Mailer = field(default_factory=NoMailer)
    publisher: PublisherSlot = field(default_factory=PublisherSlot)
