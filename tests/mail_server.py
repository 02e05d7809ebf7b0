"""A mail server on a real port that takes what it gets, or answers as a test says."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default


@dataclass
class MailServer:
    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[str] = field(default_factory=list)
    """`MAIL FROM` and `RCPT TO` as they came."""
    signed_in: list[str] = field(default_factory=list)
    """User name and password, with a blank between."""
    replies: dict[str, str] = field(default_factory=dict)
    """By command, in place of the ordinary reply."""
    started_tls: int = 0
    is_silent: bool = False


@asynccontextmanager
async def mail_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[MailServer]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await talk(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.is_silent:
            await asyncio.Event().wait()
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := (await reader.readline()).decode().strip():
            command = line.split()[0].upper()
            if command in server.replies:
                writer.write(f"{server.replies[command]}\r\n".encode())
            elif command == "EHLO":
                writer.write(b"250-mail.test\r\n")
                if starttls is not None and not writer.get_extra_info("ssl_object"):
                    writer.write(b"250-STARTTLS\r\n")
                writer.write(b"250 AUTH PLAIN\r\n")
            elif command == "STARTTLS":
                writer.write(b"220 go on\r\n")
                await writer.drain()
                await writer.start_tls(starttls)  # type: ignore[arg-type]
                server.started_tls += 1
            elif command == "AUTH":
                _, name, password = base64.b64decode(line.split()[2]).decode().split("\0")
                server.signed_in.append(f"{name} {password}")
                writer.write(b"235 welcome\r\n")
            elif command in ("MAIL", "RCPT"):
                server.envelopes.append(line)
                writer.write(b"250 ok\r\n")
            elif command == "DATA":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                content = content.replace(b"\r\n..", b"\r\n.")
                server.mails.append(message_from_bytes(content[:-3], policy=default))  # type: ignore[arg-type]
                writer.write(b"250 taken\r\n")
            elif command == "QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 ok\r\n")
            await writer.drain()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server = MailServer(listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
