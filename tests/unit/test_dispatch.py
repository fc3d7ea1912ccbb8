"""The dispatcher: bounded queues, lost messages, dead leases, all without a wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from pipeline.errors import BrokerUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Batch
from pipeline.ledger.work import ParsedResult
from pipeline.settings import Settings
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id
from workers.broker.dispatch import EMBED_MESSAGES, Dispatcher, DispatchThread
from workers.monitoring.snapshot import Lookout


class Recorded:
    """Queues in memory, the second implementation of the dispatcher's protocol."""

    def __init__(self) -> None:
        self.sent: list[Batch] = []
        self.down = False
        self.waiting = 0

    def send(self, batch: Batch) -> None:
        if self.down:
            raise BrokerUnavailable("down")
        self.sent.append(batch)

    def depth(self, stage: Stage) -> int:
        return self.waiting


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    staged = {}
    for number in range(10):
        source = SourceFile(f"file:///doc/{number}", Path(f"/doc/{number}"), 10, 1)
        staged[document_id("docs", source.uri)] = StagedFile(source, "1" * 64, "")
    opened.intake.record_staged("docs", 1, staged)
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The dispatcher's monotonic clock, to be set by hand."""
    now = [1000.0]
    monkeypatch.setattr("workers.broker.dispatch.time.monotonic", lambda: now[0])
    return now


def settings(tmp_path: Path, **values: object) -> Settings:
    return Settings(data_dir=tmp_path, **values)  # type: ignore[arg-type]


def test_documents_in_flight_are_bounded(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path, max_in_flight=6, batch_documents=4), spread=1)
    assert dispatcher.sweep().sent == 6
    assert dispatcher.sweep().sent == 0
    claim = ledger.work.claim(Stage.PARSE, queues.sent[0].document_ids, "w")
    assert dispatcher.sweep().sent == 0
    for key in queues.sent[0].document_ids:
        ledger.work.fail(claim, key, Reason.CORRUPT, "")
    assert dispatcher.sweep().sent == 4


def test_the_queue_is_refilled_in_large_steps_so_that_batches_keep_their_size(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path, max_in_flight=8, batch_documents=8), spread=1)
    assert dispatcher.sweep().sent == 8
    ids = [key for batch in queues.sent for key in batch.document_ids]
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.fail(claim, ids[0], Reason.CORRUPT, "")
    assert dispatcher.sweep().sent == 0, "one of eight places is free"
    ledger.work.fail(claim, ids[1], Reason.CORRUPT, "")
    assert dispatcher.sweep().sent == 2


def test_the_ledger_is_read_again_only_after_a_commit(ledger: Ledger, tmp_path: Path) -> None:
    statements: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    dispatcher = Dispatcher(ledger, Recorded(), settings(tmp_path, max_in_flight=6), spread=1)
    lookout = Lookout(settings(tmp_path), ledger)
    dispatcher.sweep()
    dispatcher.sweep()
    first = lookout.look()
    statements.clear()
    assert dispatcher.sweep().sent == 0
    assert not [one for one in statements if one.startswith("SELECT")]
    assert lookout.look().progress == first.progress
    assert not [one for one in statements if any(f"FROM {table}" in one for table in ("documents", "leases", "events"))]
    with Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}") as other:
        other.work.claim(Stage.PARSE, [document_id("docs", "file:///doc/0")], "w")
    assert lookout.look().progress != first.progress
    assert [one for one in statements if "FROM documents" in one]


def parsed(ledger: Ledger) -> None:
    """Parse all documents, and send no message about them."""
    ids = [document_id("docs", f"file:///doc/{number}") for number in range(10)]
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "f" * 16, 5, chunks=1) for key in ids])
    ledger.work.release(claim)


def test_parsed_documents_get_messages_while_few_wait_in_the_queue(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    parsed(ledger)
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path, batch_documents=4), spread=1)
    queues.waiting = EMBED_MESSAGES
    assert dispatcher.sweep().sent == 0, "there are enough messages to wake every worker"
    queues.waiting = EMBED_MESSAGES - 1
    assert dispatcher.sweep().sent == 4
    queues.waiting = 0
    assert dispatcher.sweep().sent == 6
    assert {batch.stage for batch in queues.sent} == {Stage.EMBED}


def test_parsed_documents_without_a_message_are_in_flight(ledger: Ledger, tmp_path: Path) -> None:
    parsed(ledger)
    assert ledger.flow.in_flight(99) == 10
    assert ledger.flow.in_flight(4) == 4, "of these, no more are counted than needed"
    assert (ledger.flow.unqueued(Stage.PARSE), ledger.flow.unqueued(Stage.EMBED)) == (0, 10)


def test_a_message_that_an_empty_queue_does_not_hold_is_sent_again(ledger: Ledger, tmp_path: Path, clock: list[float]) -> None:
    queues = Recorded()
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path, requeue_s=30), spread=1)
    dispatcher.sweep()
    dispatcher.sweep()  # sees the batch it sent
    queues.waiting = 1
    clock[0] += 100
    assert dispatcher.sweep().requeued == 0, "it may be among the waiting ones"
    queues.waiting = 0
    swept = dispatcher.sweep()
    assert (swept.requeued, swept.sent) == (10, 10)
    dispatcher.sweep()
    clock[0] += 10
    assert dispatcher.sweep().requeued == 0, "the new message has its own time"


def test_a_lease_without_progress_is_taken_back_after_its_time(ledger: Ledger, tmp_path: Path, clock: list[float]) -> None:
    queues = Recorded()
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path, lease_s=60), spread=1)
    dispatcher.sweep()
    claim = ledger.work.claim(Stage.PARSE, queues.sent[0].document_ids, "w")
    dispatcher.sweep()
    clock[0] += 50
    ledger.work.beat(claim)
    assert dispatcher.sweep().expired == 0
    clock[0] += 50
    assert dispatcher.sweep().expired == 0, "it moved 50 s ago"
    clock[0] += 20
    swept = dispatcher.sweep()
    assert swept.expired == swept.sent == len(claim.documents)


def test_a_broker_that_is_away_loses_nothing_and_charges_nothing(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    queues.down = True
    dispatcher = Dispatcher(ledger, queues, settings(tmp_path), spread=1)
    with pytest.raises(BrokerUnavailable):
        dispatcher.sweep()
    assert ledger.flow.queued() == {}
    queues.down = False
    assert dispatcher.sweep().sent == 10


def test_two_dispatchers_send_each_document_once(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    for _ in range(2):
        Dispatcher(ledger, queues, settings(tmp_path), spread=1).sweep()
    assert sum(len(batch.document_ids) for batch in queues.sent) == 10


def test_the_thread_goes_on_after_an_outage(ledger: Ledger, tmp_path: Path) -> None:
    queues = Recorded()
    queues.down = True
    with DispatchThread(Dispatcher(ledger, queues, settings(tmp_path)), 0.01) as thread:
        while thread.error is None:
            pass
        queues.down = False
        while not queues.sent:
            pass
    assert sum(len(batch.document_ids) for batch in queues.sent) == 10
