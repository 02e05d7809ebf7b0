"""Between values and the rows of the SQLite file, column by column. Knows no connection."""

from __future__ import annotations

from typing import Any

from headwater.persistence import PacketKey, StoredOutgoing, StoredSession, StoredWill

_NO_WILL = (None,) * len(StoredWill._fields)


def packet_key(key: PacketKey) -> int:
    """One integer for a packet id in its session; those of one session follow each other."""
    return key.session_id << 16 | key.packet_id


def packet_key_of(key: int) -> PacketKey:
    return PacketKey(key >> 16, key & 0xFFFF)


def session_row(session: StoredSession) -> tuple[Any, ...]:
    *values, will = session
    return *values, *(_NO_WILL if will is None else will)


def session_of(row: tuple[Any, ...]) -> StoredSession:
    session_id, owner, client_id, expiry_s, disconnected_at_ns, *will_row = row
    topic, payload, qos, retain, properties = will_row
    will = None
    if topic is not None:
        will = StoredWill(topic, payload, qos, bool(retain), properties)
    return StoredSession(session_id, owner, client_id, expiry_s, disconnected_at_ns, will)


def outgoing_row(message: StoredOutgoing) -> tuple[Any, ...]:
    (
        session_id,
        packet_id,
        position,
        topic,
        payload,
        qos,
        retain,
        properties,
        expires_at_ns,
        subscription_ids,
        is_released,
        is_sent,
    ) = message
    return (
        session_id << 16 | packet_id,
        position,
        topic,
        payload,
        qos,
        retain,
        properties,
        expires_at_ns,
        ",".join(map(str, subscription_ids)) if subscription_ids else None,
        is_released,
        is_sent,
    )


def outgoing_of(row: tuple[Any, ...]) -> StoredOutgoing:
    key, position, topic, payload, qos, retain, properties, expires_at_ns, subscription_ids, is_released, is_sent = row
    return StoredOutgoing(
        session_id=key >> 16,
        packet_id=key & 0xFFFF,
        position=position,
        topic=topic,
        payload=payload,
        qos=qos,
        retain=bool(retain),
        properties=properties,
        expires_at_ns=expires_at_ns,
        subscription_ids=tuple(map(int, subscription_ids.split(","))) if subscription_ids else (),
        is_released=bool(is_released),
        is_sent=bool(is_sent),
    )
