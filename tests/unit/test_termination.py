"""SIGTERM in a process that holds documents: once, and never in the middle of a note."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from workers.process.termination import Termination


@pytest.fixture(autouse=True)
def handler() -> Iterator[list[int]]:
    """As the pool's own: raises at the first signal, and lets the next one kill."""
    calls: list[int] = []

    def first(number: int, _: object) -> None:
        calls.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SystemExit(-241)

    before = signal.signal(signal.SIGTERM, first)
    yield calls
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_raises_at_once_and_a_second_one_does_not_kill(handler: list[int]) -> None:
    done = []
    with Termination() as termination:
        with pytest.raises(SystemExit) as caught:
            terminate()
        with termination.held():
            terminate()
            terminate()
            done.append("handed back")
    assert caught.value.code == -241
    assert done == ["handed back"]
    assert handler == [signal.SIGTERM]


def test_a_signal_in_a_held_block_raises_at_its_end() -> None:
    done = []

    def claim(termination: Termination) -> None:
        with termination.held():
            terminate()
            done.append("claimed")

    with Termination() as termination:
        with pytest.raises(SystemExit):
            claim(termination)
        assert done == ["claimed"]


def test_the_handler_is_the_old_one_afterwards(handler: list[int]) -> None:
    with Termination() as termination, termination.held():
        pass
    with pytest.raises(SystemExit):
        terminate()
    assert handler == [signal.SIGTERM]
