"""The folder broker under many hands: bindings are never half there, and a message is taken once and whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError

from pipeline.settings import Settings
from workers.broker import app

PROCESSES = 6


def connect(place: Path) -> Connection:
    settings = Settings(data_dir=place)
    return Connection(  # type: ignore[no-untyped-call]
        app.broker_url(settings), transport_options=app.transport_options(settings)
    )


def _bind(place: Path, number: int, begin: Any) -> None:
    begin.wait()
    with connect(place) as connection:
        exchange = Exchange("shared", "direct")  # type: ignore[no-untyped-call]
        queue = Queue(f"q{number}", exchange, routing_key=f"q{number}")  # type: ignore[no-untyped-call]
        queue(connection.default_channel).declare()  # type: ignore[no-untyped-call]


def _take(place: Path, taken: Any) -> None:
    with connect(place) as connection:
        channel, until = connection.default_channel, time.monotonic() + 30
        while time.monotonic() < until:
            try:
                message = channel._get("work")
            except Empty:
                time.sleep(0.001)
                continue
            if message["number"] < 0:
                return
            taken.put((message["number"], len(message["body"])))


def run(target: Any, *arguments: Any, number: int = PROCESSES) -> list[Any]:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=target, args=tuple(one(n) if callable(one) else one for one in arguments)) for n in range(number)
    ]
    for process in processes:
        process.start()
    return processes


def test_workers_that_start_together_all_bind_their_queues(tmp_path: Path) -> None:
    for turn in range(10):
        place = tmp_path / str(turn)
        begin = multiprocessing.get_context("fork").Barrier(PROCESSES)
        processes = run(_bind, place, lambda number: number, begin)
        for process in processes:
            process.join(30)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
        with connect(place) as connection:
            assert {binding.queue for binding in connection.default_channel.get_table("shared")} == {
                f"q{n}" for n in range(PROCESSES)
            }


def test_a_message_is_taken_once_and_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    taken = context.Queue()
    app.transport_options(Settings(data_dir=tmp_path))
    processes = run(_take, tmp_path, lambda _: taken, number=3)
    body = "x" * 200_000
    with connect(tmp_path) as connection:
        for number in range(300):
            connection.default_channel._put("work", {"number": number, "body": body})
        found = sorted(taken.get(timeout=30) for _ in range(300))
        assert found == [(number, len(body)) for number in range(300)]
        for _ in processes:
            connection.default_channel._put("work", {"number": -1})
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 3
    assert list((tmp_path / "broker" / "queue").iterdir()) == []


def test_queues_do_not_mix_and_keep_their_order(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        channel = connection.default_channel
        for queue in ("a", "b"):
            for number in range(3):
                channel._put(queue, {"number": number, "queue": queue})
                time.sleep(0.002)  # names begin with a millisecond
        assert (channel._size("a"), channel._size("b")) == (3, 3)
        assert [channel._get("b") for _ in range(3)] == [{"number": number, "queue": "b"} for number in range(3)]
        channel._purge("a")
        with pytest.raises(Empty):
            channel._get("a")


def test_a_full_or_lost_folder_is_an_error_of_the_broker(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        channel = connection.default_channel
        os.rmdir(tmp_path / "broker" / "queue")
        with pytest.raises(ChannelError, match="cannot add a message to the work queue"):
            channel._put("work", {})
        (tmp_path / "broker" / "control" / "damaged.exchange").write_text(json.dumps([["k", "", "q"]]))
        assert channel.get_table("damaged")[0].queue == "q"
        assert channel.get_table("unknown") == []


def test_a_reader_polls_less_often_until_a_message_comes(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        found: list[object] = []
        queue = Queue("work", Exchange("work", "direct"), routing_key="work")  # type: ignore[no-untyped-call]
        with connection.Consumer(queue, callbacks=[lambda body, message: found.append(body)], accept=["json"]):
            transport = connection.transport
            assert transport.polling_interval == app.FOLDER_POLL_S
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.05)
            assert transport.polling_interval == app.FOLDER_IDLE_POLL_S
            connection.Producer().publish({"number": 1}, exchange="work", routing_key="work", serializer="json")
            connection.drain_events(timeout=10)
            assert transport.polling_interval == app.FOLDER_POLL_S
        assert found == [{"number": 1}]
