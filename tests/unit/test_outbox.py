"""Reports of ended runs in the ledger: each once, tried by one process at a time, forgotten after a day."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.outbox import KEPT_S


def ended(ledger: Ledger) -> int:
    run = ledger.runs.start("documents")
    ledger.runs.end(run, "done")
    return run


def test_every_run_after_the_first_look_is_due_once_for_each_target(ledger: Ledger) -> None:
    ended(ledger)
    ledger.outbox.fill(["a", "b"])
    assert ledger.outbox.due() == []  # it ended before anybody wanted to know
    ledger.runs.start("documents")  # goes on
    second, third = ended(ledger), ended(ledger)
    for _ in range(2):
        ledger.outbox.fill(["a", "b"])
    found = [(one.target, one.run) for one in ledger.outbox.due()]
    assert sorted(found) == [(target, run) for target in "ab" for run in (second, third)]


def test_a_try_belongs_to_one_process(ledger: Ledger) -> None:
    ledger.outbox.fill(["a"])
    ended(ledger)
    ledger.outbox.fill(["a"])
    (seen,) = ledger.outbox.due()
    claimed = ledger.outbox.claim(seen, for_s=30)
    assert claimed is not None
    assert ledger.outbox.claim(seen, for_s=30) is None
    assert ledger.outbox.due() == []
    assert [one.tries for one in ledger.outbox.due(within_s=31)] == [1]
    ledger.outbox.settle(claimed, again_s=0)
    (again,) = ledger.outbox.due()
    last = ledger.outbox.claim(again, for_s=30)
    assert last is not None
    assert last.tries == 2
    ledger.outbox.settle(claimed, outcome="given up")  # by a process that was too slow: it changes nothing
    ledger.outbox.settle(last, outcome="delivered")
    ledger.outbox.fill(["a"])
    assert ledger.outbox.due(within_s=1e6) == []


def test_what_is_old_is_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.outbox.fill(["a"])
    ended(ledger)
    ledger.outbox.fill(["a"])
    (seen,) = ledger.outbox.due()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * KEPT_S)
    assert ledger.outbox.due() == []
    assert ledger.outbox.claim(replace(seen), for_s=1) is None  # its row is gone
    ledger.outbox.fill(["a"])
    assert ledger.outbox.due() == []
