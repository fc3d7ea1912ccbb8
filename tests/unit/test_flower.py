"""How Flower is started, and that its history fits the memory that its container has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from tests.services import REPOSITORY
from workers.monitoring import flower

#: Fills Flower's history beyond its limit, with what our workers tell of a batch, and saves it as Flower does.
FULL = """
import re, sys
from pathlib import Path
from celery import Celery
from flower.command import apply_options
from flower.events import Events
from flower.options import options

apply_options("flower", sys.argv[1:])
events = Events(Celery(), None, options.db, options.persistent, max_tasks_in_memory=options.max_tasks)
for number in range(options.max_tasks + 1):
    common = {"uuid": f"{number:036}", "hostname": "embed-cuda0@0123456789ab", "utcoffset": 0, "pid": 7}
    said = {"name": "kb.embed", "args": f"embed 64 documents of run {number}", "kwargs": "{}"}
    for count, (kind, more) in enumerate(
        (("sent", said), ("received", said), ("started", {}), ("succeeded", {"result": "None", "runtime": 1.5}))
    ):
        clock = 4 * number + count
        times = {"timestamp": float(clock), "local_received": float(clock), "clock": clock}
        events.state.event({**common, **times, **more, "type": f"task-{kind}"})
events.save_state()
# Not getrusage: a process begins with the peak of the one that it was forked from.
peak_kb = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(len(events.state.tasks), peak_kb // 1024)
"""


def flower_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Flower is started with."""
    given: list[str] = []
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "")  # set for Flower, and taken back here
    monkeypatch.setattr(flower, "_adapt", lambda broker: None)
    monkeypatch.setattr("celery.Celery.start", lambda app, argv: given.extend(argv))
    settings = Settings(data_dir=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1/0"), flower_auth=SecretStr("kb:secret"))
    flower.serve_flower(settings, "127.0.0.1", 5555)
    assert given[0] == "flower"
    return given[1:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is that of a container, and read from /proc")
def test_a_full_history_leaves_half_of_the_containers_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = flower_options(tmp_path, monkeypatch)
    done = subprocess.run([sys.executable, "-c", FULL, *options], cwd=tmp_path, capture_output=True, text=True, check=True)
    kept, peak_mb = map(int, done.stdout.split())
    assert kept == flower.MAX_TASKS
    limit = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]["flower"]["mem_limit"]
    assert limit == "${KB_FLOWER_MEMORY:-512m}"
    assert peak_mb < 512 / 2


def test_a_password_that_flower_cannot_compare_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1/0"), flower_auth=SecretStr("kb:gehö"))
    with pytest.raises(ConfigError, match="must be ASCII"):
        flower.serve_flower(settings, "127.0.0.1", 5555)


#: Gets SIGTERM in a finalizer, where an exception would be lost.
TOLD_IN_A_FINALIZER = """
import signal
from tornado.ioloop import IOLoop
from workers.monitoring.flower import stop_in_turn

class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

signal.signal(signal.SIGTERM, stop_in_turn)
loop = IOLoop.current()
loop.add_callback(lambda: (Last(), None)[1])
try:
    loop.start()
finally:
    print("ended")
"""


def test_flower_ends_when_told_in_a_finalizer() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_IN_A_FINALIZER], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")
