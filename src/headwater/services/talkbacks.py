"""TalkBacks: queues of commands that people and rules fill and devices empty. Knows no dialect.

Every method that takes an account answers another account's TalkBack with `NotFound`. TalkBacks themselves are kept in
memory, since devices ask for the next command again and again; the commands are in the registry. That a queue is
empty is remembered too, so that most of these questions cost no transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from headwater.errors import BadRequest, HeadwaterError, NotFound
from headwater.logs import Log
from headwater.model.entry import EntryUpdate
from headwater.registry.keys import generate_api_key, hash_secret
from headwater.registry.talkback_tables import Command, TalkBack
from headwater.registry.talkbacks import Queue
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access, AccessChange
from headwater.services.checks import check_line, check_text
from headwater.services.entries import Entries

log = Log(__name__)

MAX_NAME_LENGTH = 255
MAX_COMMAND_LENGTH = 255
MAX_POSITION = 2**31 - 1
"""Far behind the end of any queue, which means at its end."""
EXECUTED_KEPT = 100
"""Of each TalkBack, so that one can see what became of a command."""


class Talkbacks:
    """The TalkBacks of every account. Call everything from the event loop's thread.

    Args: `now_ns` dates what is logged to a channel; the limits raise `Conflict`.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        entries: Entries,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        max_talkbacks_per_account: int = 1000,
        max_commands: int = 8000,
    ) -> None:
        self._worker = worker
        self._access = access
        self._entries = entries
        self._now_ns = now_ns
        self._max_talkbacks = max_talkbacks_per_account
        self._max_commands = max_commands
        self._known: dict[int, TalkBack] = {}
        self._ids: dict[bytes, int] = {}
        """By SHA-256 of the key, so that the time a look-up takes says nothing about it."""
        self._empty: set[int] = set()
        """In which nothing waits, as far as is known."""
        access.on_change(self._access_changed)

    def load(self, talkbacks: Iterable[TalkBack]) -> None:
        """Take over the TalkBacks of the registry in place of those that are known."""
        self._known.clear()
        self._ids.clear()
        self._empty.clear()
        for talkback in talkbacks:
            self._put(talkback)

    def of_key(self, key: str) -> TalkBack | None:
        """The TalkBack that this key opens."""
        talkback_id = self._ids.get(hash_secret(key))
        return None if talkback_id is None else self._known[talkback_id]

    def owned(self, account_id: int) -> list[TalkBack]:
        """An account's TalkBacks, oldest first."""
        owned = (talkback for talkback in self._known.values() if talkback.account_id == account_id)
        return sorted(owned, key=lambda talkback: talkback.id)

    def get_owned(self, account_id: int, talkback_id: int) -> TalkBack:
        talkback = self._known.get(talkback_id)
        if talkback is None or talkback.account_id != account_id:
            raise NotFound(f"there is no TalkBack {talkback_id}")
        return talkback

    async def create(self, account_id: int, name: str, log_channel_id: int | None = None) -> TalkBack:
        """A new TalkBack with a key of its own. `log_channel_id`: one of the account's channels, which gets an entry
        for each executed command, with the command as its status."""
        check_line("name", name, MAX_NAME_LENGTH)
        return await self._worker.write(
            lambda registry: registry.add_talkback(
                account_id,
                name=name,
                api_key=generate_api_key(),
                log_channel_id=log_channel_id,
                most=self._max_talkbacks,
            ),
            self._put,
        )

    async def update(self, account_id: int, talkback_id: int, *, name: str, log_channel_id: int | None) -> TalkBack:
        """Replace both."""
        check_line("name", name, MAX_NAME_LENGTH)
        return await self._worker.write(
            lambda registry: registry.update_talkback(
                account_id, talkback_id, name=name, log_channel_id=log_channel_id
            ),
            self._put,
        )

    async def delete(self, account_id: int, talkback_id: int) -> TalkBack:
        """With its commands. Returns it as it was."""
        return await self._worker.write(
            lambda registry: registry.remove_talkback(account_id, talkback_id),
            lambda talkback: self._forget(talkback.id),
        )

    async def rotate_key(self, account_id: int, talkback_id: int) -> TalkBack:
        """A new key; the old one ends at once."""
        return await self._worker.write(
            lambda registry: registry.set_talkback_key(account_id, talkback_id, generate_api_key()), self._put
        )

    # Commands

    async def commands(self, talkback: TalkBack) -> Queue:
        """Those that wait, and the last ones that were executed."""
        return await self._worker.read(lambda registry: registry.commands(talkback.id))

    async def waiting_counts(self, account_id: int) -> dict[int, int]:
        """How many commands wait in each of an account's TalkBacks that has any."""
        return await self._worker.read(lambda registry: registry.waiting_counts(account_id))

    async def command(self, talkback: TalkBack, command_id: int) -> Command:
        return await self._worker.read(lambda registry: registry.command(talkback.id, command_id))

    async def last_command(self, talkback: TalkBack) -> Command | None:
        """The one that was executed last."""
        return await self._worker.read(lambda registry: registry.last_command(talkback.id))

    async def add_command(
        self, account_id: int, talkback_id: int, command_string: str, position: int | None = None
    ) -> Command:
        """One more command: at the end, or before the one that is at `position`. Raises `BadRequest` for a command or
        position that cannot be, `Conflict` when the queue is full."""
        self.get_owned(account_id, talkback_id)
        _check_command(command_string)
        _check_position(position)
        return await self._worker.write(
            lambda registry: registry.add_command(
                talkback_id, command_string, position=position, most=self._max_commands
            ),
            lambda command: self._empty.discard(command.talkback_id),
        )

    async def change_command(
        self,
        account_id: int,
        talkback_id: int,
        command_id: int,
        command_string: str | None = None,
        position: int | None = None,
    ) -> Command:
        """Change what is given, of a command that waits still."""
        self.get_owned(account_id, talkback_id)
        if command_string is not None:
            _check_command(command_string)
        _check_position(position)
        return await self._worker.write(
            lambda registry: registry.change_command(talkback_id, command_id, text=command_string, position=position)
        )

    async def remove_command(self, account_id: int, talkback_id: int, command_id: int) -> Command:
        """Returns it as it was."""
        self.get_owned(account_id, talkback_id)
        return await self._worker.write(lambda registry: registry.remove_command(talkback_id, command_id))

    async def clear(self, account_id: int, talkback_id: int) -> None:
        """Remove all commands, the executed ones too."""
        self.get_owned(account_id, talkback_id)
        await self._worker.write(lambda registry: registry.clear_commands(talkback_id))

    async def execute(self, talkback: TalkBack) -> Command | None:
        """Take the next command from the queue; None when there is none. Two who ask at once never get the same one.

        Whoever goes away before the answer has lost the command, as when an answer is lost on the way.
        """
        if talkback.id in self._empty:
            return None

        def note(command: Command | None) -> None:
            if command is None and talkback.id in self._known:
                self._empty.add(talkback.id)
            elif command is not None:
                self._log_executed(talkback.id, command)

        return await self._worker.write(
            lambda registry: registry.execute_command(talkback.id, keep=EXECUTED_KEPT), note
        )

    def _log_executed(self, talkback_id: int, command: Command) -> None:
        """Nobody waits for it: the command is out already, so nothing may keep it from the device."""
        talkback = self._known.get(talkback_id)
        channel_id = None if talkback is None else talkback.log_channel_id
        channel = None if channel_id is None else self._access.channel(channel_id)
        if channel is None:
            return
        try:
            self._entries.append(channel, EntryUpdate({}, status=command.command_string), self._now_ns())
        except HeadwaterError as error:
            log.warning("an executed command was not logged", talkback=talkback_id, reason=str(error))

    # What is known

    def _put(self, talkback: TalkBack) -> None:
        self._forget_key(talkback.id)
        self._known[talkback.id] = talkback
        self._ids[hash_secret(talkback.api_key)] = talkback.id

    def _forget(self, talkback_id: int) -> None:
        self._forget_key(talkback_id)
        self._known.pop(talkback_id, None)
        self._empty.discard(talkback_id)

    def _forget_key(self, talkback_id: int) -> None:
        if (known := self._known.get(talkback_id)) is not None:
            self._ids.pop(hash_secret(known.api_key), None)

    def _access_changed(self, change: AccessChange) -> None:
        """What the registry has done with an account or a channel that is gone is done here too."""
        for account_id in change.account_ids:
            if self._access.account(account_id) is None:
                for talkback in self.owned(account_id):
                    self._forget(talkback.id)
        gone = {bucket_id for bucket_id in change.bucket_ids if self._access.channel(bucket_id) is None}
        if gone:
            for talkback in list(self._known.values()):
                if talkback.log_channel_id in gone:
                    self._put(replace(talkback, log_channel_id=None))


def _check_command(text: str) -> None:
    if not text.strip():
        raise BadRequest("command_string must not be empty")
    check_text("command_string", text, MAX_COMMAND_LENGTH, lines=True)


def _check_position(position: int | None) -> None:
    if position is not None and not 1 <= position <= MAX_POSITION:
        raise BadRequest("position must be a whole number from 1, which is the next command, or be left out")
