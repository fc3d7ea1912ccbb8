"""A worker's heartbeat: fresh through a long task, stale when its consumer hangs."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, wait_until
from workers import health

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Signs come every 5 s.
MAX_AGE_S = 8.0


def test_a_long_task_leaves_it_fresh_and_a_consumer_that_hangs_does_not(redis: Server, qdrant: Server, tmp_path: Path) -> None:
    model = embed_server(tmp_path / "embed", delay_s=16)
    model.start()
    folder = tmp_path / "health"
    settings = {
        "KB_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}",
        "KB_EMBED_URL": f"http://127.0.0.1:{model.port}", "KB_EMBED_MODEL": MODEL, "KB_HEALTH_DIR": str(folder),
    }  # fmt: skip
    cli = Cli(tmp_path / "data", **settings)
    (tmp_path / "one.txt").write_text("A document that takes its time.")
    worker = cli.start("worker")
    try:
        wait_until(lambda: folder.is_dir() and not health.stale(folder, MAX_AGE_S), "every process has begun", 90, 0.2)
        assert {path.name for path in folder.iterdir()} == {"parse", "embed-http", "dispatcher"}
        cli.run("load", str(tmp_path / "one.txt"), "--no-wait")
        wait_until(lambda: "embedding" in json.loads(cli.run("status", "--json").stdout)["documents"], "the task runs", 60, 0.2)
        began, worst = time.monotonic(), 0.0
        while time.monotonic() - began < 14:
            assert health.stale(folder, MAX_AGE_S) == []
            worst = max(worst, time.time() - (folder / "embed-http").stat().st_mtime)
            time.sleep(0.2)
        assert worst > 1  # it was looked at often enough to see it age
        wait_until(lambda: json.loads(cli.run("status", "--json").stdout)["documents"] == {"indexed": 1}, "it is indexed", 60, 0.5)

        redis.stop()
        redis.start()
        time.sleep(MAX_AGE_S + 2)  # Celery has connected anew, and emptied its timer
        wait_until(lambda: not health.stale(folder, MAX_AGE_S), "heartbeats continue", 60, 0.2)
        began = time.monotonic()
        while time.monotonic() - began < MAX_AGE_S + 2:
            assert health.stale(folder, MAX_AGE_S) == []
            time.sleep(0.2)

        (consumer,) = [one for one in psutil.Process(worker.pid).children() if "embed" in one.cmdline()]
        consumer.send_signal(signal.SIGSTOP)
        wait_until(lambda: any(line.startswith("embed-http") for line in health.stale(folder, MAX_AGE_S)), "it goes stale", 60, 0.2)
        assert not any(line.startswith(("parse", "dispatcher")) for line in health.stale(folder, MAX_AGE_S))
        consumer.send_signal(signal.SIGCONT)
        wait_until(lambda: not health.stale(folder, MAX_AGE_S), "it is fresh again", 60, 0.2)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
        model.stop()
