"""Signs of life: fresh, stale, and none at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers import health


def test_a_service_is_healthy_once_every_process_has_given_a_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "health"
    assert health.main([str(folder)]) == 1
    assert "no process has started" in capsys.readouterr().out
    health.prepare(folder)
    health.expect(folder, "embed-cpu")
    health.expect(folder, "dispatcher")
    health.touch(folder, "dispatcher")
    assert health.stale(folder) == ["embed-cpu: no heartbeat yet"]
    health.touch(folder, "embed-cpu")
    assert health.main([str(folder)]) == 0
    past = time.time() - 100
    os.utime(folder / "embed-cpu", (past, past))
    assert health.main([str(folder)]) == 1
    assert "embed-cpu: no heartbeat for 100 s" in capsys.readouterr().out
    health.expect(folder, "embed-cpu")  # started again
    assert health.stale(folder) == ["embed-cpu: no heartbeat yet"]
    health.prepare(folder)  # the service begins anew
    assert health.main([str(folder)]) == 1


def test_without_a_folder_nothing_happens(tmp_path: Path) -> None:
    health.expect(None, "a")
    health.touch(None, "a")
    health.touch(tmp_path / "gone", "a")
    health.prepare(None)
    assert list(tmp_path.iterdir()) == []


def test_the_check_is_cheap() -> None:
    code = "import sys, workers.health; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"celery", "torch", "pydantic", "sqlalchemy"} & set(loaded)


def test_a_worker_and_its_successor_share_a_file() -> None:
    for name in ("embed-cuda0@host-1", "embed-cuda0-4711@host-1", "embed-cuda0-7-2@host-1"):
        assert health.file_of(name) == "embed-cuda0"
    assert health.file_of("embed-cuda0.2-4711@host") == "embed-cuda0.2"
