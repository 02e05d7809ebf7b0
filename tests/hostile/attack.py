"""What hostile tests have in common: somebody who sends what he likes, and the bystander who must not notice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from broker.client import Client, Closed
from broker.house import ADA, House, as_account, as_lasting
from headwater.mqtt.packets import Connect, Disconnect, Packet, PropertyId, ProtocolLevel
from headwater.mqtt.properties import render_properties
from server import Server

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
GROWTH_LIMIT_BYTES = 20_000_000


def as_level(level: int, client_id: str = "attacker", **options: Any) -> Connect:
    """CONNECT of Ada's in this version; its properties are those of MQTT 5 only."""
    if level != ProtocolLevel.V5:
        options.pop("properties", None)
    return as_account(ADA, client_id, level=ProtocolLevel(level), **options)


async def attacker(house: House, level: int = 5, client_id: str = "attacker", **options: Any) -> Client:
    """A client that has signed in and means harm."""
    return await house.connect(as_level(level, client_id, **options))


async def lasting(house: House, client_id: str, level: int = 5, expiry_s: int = 3_600) -> Client:
    """A client with a session that outlives its connection."""
    return await house.connect(as_lasting(as_account(ADA, client_id), level=level, expiry_s=expiry_s))


async def check_served(house: House) -> None:
    """Somebody unrelated publishes and receives in good time."""
    if house._bystander is None:
        await house.check_others_are_served()
    started_s = time.monotonic()
    await house.check_others_are_served()
    assert time.monotonic() - started_s < 1


async def expect_end(client: Client, *codes: int) -> None:
    """The connection is closed; MQTT 5 says why, with one of these codes."""
    packets = await client.expect_closed()
    if client.level == ProtocolLevel.V5 and codes:
        assert packets, "closed without a reason"
        last = packets[-1]
        assert isinstance(last, Disconnect), last
        assert last.reason_code in codes, last


async def strike(house: House, level: int, sent: Packet | bytes, *codes: int) -> None:
    """What a signed-in client sends ends its connection, and disturbs nobody."""
    client = await attacker(house, level)
    client.send(sent)
    await expect_end(client, *codes)
    await check_served(house)


async def refused(house: House, sent: bytes | Connect) -> list[Packet]:
    """What a new connection begins with is refused; what was answered."""
    client = await house.connect()
    client.send(sent)
    packets = await client.expect_closed()
    assert not [packet for packet in packets if getattr(packet, "reason_code", 1) == 0], packets
    await check_served(house)
    return packets


async def drain(client: Client, seconds: float = 0.2) -> list[Packet]:
    """What comes until nothing comes for so long."""
    packets: list[Packet] = []
    while True:
        try:
            packets.append(await asyncio.wait_for(client.read(), seconds))
        except (TimeoutError, Closed):
            return packets


def frame(first_byte: int, body: bytes) -> bytes:
    """A packet with any first byte."""
    length, head = len(body), bytes((first_byte,))
    while length > 127:
        head += bytes((length & 127 | 128,))
        length >>= 7
    return head + bytes((length,)) + body


def text(value: str | bytes) -> bytes:
    """A string with its length, well formed or not."""
    raw = value if isinstance(value, bytes) else value.encode()
    return len(raw).to_bytes(2, "big") + raw


def properties(values: dict[PropertyId, Any]) -> bytes:
    return render_properties(values)


def memory_bytes(server: Server) -> int:
    """What a real process holds."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmRSS:"))


def cpu_s(server: Server) -> float:
    """The processor time a real process has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
