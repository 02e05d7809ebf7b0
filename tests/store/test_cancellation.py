"""Breaking off: before, during and after; and that it is insisted on."""

from __future__ import annotations

import threading

import pytest

from headwater.errors import Cancelled
from headwater.store.cancellation import Cancellation


def test_what_begins_later_is_refused_with_the_first_reason() -> None:
    stop = Cancellation()
    stop.check()
    stop.cancel("its time was up")
    stop.cancel("nobody waits")
    with pytest.raises(Cancelled, match="its time was up"):
        stop.check()
    with pytest.raises(Cancelled, match="its time was up"), stop.interrupting(lambda: None):
        pytest.fail("it began")


def test_what_goes_on_is_interrupted_until_it_stops() -> None:
    stop = Cancellation()
    calls, heard = [0], threading.Event()

    def interrupt() -> None:
        calls[0] += 1
        if calls[0] == 3:  # as if the others had come too early
            heard.set()

    def work() -> None:
        with stop.interrupting(interrupt):
            stop.cancel("enough")
            assert heard.wait(30)
            raise RuntimeError("interrupted")

    with pytest.raises(Cancelled, match="enough"):
        work()


def test_an_error_of_its_own_stays_what_it_is_and_an_end_in_time_counts() -> None:
    stop = Cancellation()
    with pytest.raises(RuntimeError, match="its own"), stop.interrupting(lambda: None):
        raise RuntimeError("its own")
    with stop.interrupting(lambda: None):
        stop.cancel("too late")
