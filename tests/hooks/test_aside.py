from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from headwater.hooks.aside import Aside


async def test_it_answers_and_raises_what_the_call_does() -> None:
    aside = Aside(1, "test")
    assert await aside.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await aside.run(lambda: 1 // 0)
    assert await aside.run(lambda: "again") == "again"


async def test_a_call_that_nobody_waits_for_keeps_its_turn() -> None:
    aside, gate = Aside(1, "test"), threading.Event()
    given_up = asyncio.create_task(aside.run(gate.wait))
    await asyncio.sleep(0)
    given_up.cancel()
    waiting = asyncio.create_task(aside.run(partial(str, 7)))
    await asyncio.sleep(0.05)
    assert given_up.cancelled()
    assert not waiting.done()
    gate.set()
    assert await waiting == "7"


def test_a_process_ends_while_a_name_server_and_a_mail_server_are_silent() -> None:
    code = """
import asyncio, socket, time
from headwater.hooks.mail import SmtpMailer
from headwater.hooks.sender import HttpSender
from headwater.services.outbound import Mail, OutboundRequest
from headwater.settings import HookSettings, MailSettings

socket.getaddrinfo = lambda *_, **__: time.sleep(60)

async def main():
    mailer = SmtpMailer(MailSettings(host="mail.example", from_address="a@example.org"))
    waiting = [
        asyncio.create_task(HttpSender(HookSettings()).send(1, OutboundRequest("GET", "http://silent.example/"))),
        asyncio.create_task(mailer.send(1, Mail(("b@example.org",), "s", "b"))),
    ]
    await asyncio.wait(waiting, timeout=0.3)
    assert not any(task.done() for task in waiting)

asyncio.run(main())
"""
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began_s < 20
