"""Passwords that people choose: hashed and checked with Argon2id, off the event loop, few at a time."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from headwater.errors import StorageError, TooManyRequests

T = TypeVar("T")

# OWASP's setting of 19 MiB, two passes and one lane rather than RFC 9106's 64 MiB, three passes and four
# lanes: two at once take 38 MiB instead of 128, which a Raspberry Pi with 512 MB can spare beside the store,
# and one core each instead of all four. 20 ms against 120 ms on a 2-core server. The parameters are part of
# every hash, so they may grow later: a sign-in then renews the hash.
TIME_COST = 2
MEMORY_COST_KIB = 19 * 1024
PARALLELISM = 1

MAX_AT_ONCE = 2
MAX_WAITING = 64


class Passwords:
    """Hashes and checks passwords in its own threads. `close()` joins them.

    Raises: `TooManyRequests` when more than `max_waiting` calls are waiting for a thread already.
    """

    def __init__(
        self,
        *,
        time_cost: int = TIME_COST,
        memory_cost_kib: int = MEMORY_COST_KIB,
        max_at_once: int = MAX_AT_ONCE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_cost_kib, parallelism=PARALLELISM, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(max_at_once, thread_name_prefix="headwater-passwords")
        self._room = threading.Semaphore(max_at_once + max_waiting)

    async def hash(self, password: str) -> str:
        """The text under which a password is kept: parameters, salt and hash in one."""
        return await self._run(lambda: self._hasher.hash(octets_of(password)))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether this is the password. Without a hash to compare with: False, after the same work."""
        if password_hash is None:
            await self.hash(password)
            return False
        return await self._run(lambda: self._matches(password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._threads.shutdown()

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, octets_of(password))
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError) as error:
            raise StorageError("a stored password hash is damaged; set that password anew") from error

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise TooManyRequests("too many sign-ins at once; try again in a moment", retry_after_s=1.0)
        future = self._threads.submit(work)
        # On the thread's future: its place is free when the work ends, not when the caller goes away.
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)


def octets_of(password: str) -> bytes:
    """One spelling for what looks the same: keyboards differ in how they compose accents (RFC 8265, section
    4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
