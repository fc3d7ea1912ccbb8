"""What every test gets: no settings of the person who runs it, no network, no file outside temporary folders."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from pipeline.files.private import keeping_umask
from tests.services import Postgres, postgres_server

pytest_plugins = ("tests.browser",)

REPOSITORY = Path(__file__).resolve().parents[1]

#: Other names under which Settings reads a value; KB_TEST_* and KB_FAULT_* are left alone, they are for tests.
FOREIGN_NAMES = (
    "CELERY_BROKER_URL", "QDRANT_URL", "QDRANT_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "FLOWER_BASIC_AUTH",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS",
)  # fmt: skip

# At import, before any test module imports a library that reads these once.
for _name in [name for name in os.environ if name.upper().startswith("KB_") and not name.startswith(("KB_TEST_", "KB_FAULT_"))]:
    del os.environ[_name]
for _name in FOREIGN_NAMES:
    os.environ.pop(_name, None)
os.environ["HF_HUB_OFFLINE"] = "1"
# Scans are as they are without an engine, whatever is installed here; tests of OCR say otherwise.
os.environ["KB_OCR"] = "never"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = "1"
# A shell that starts the tests in the background has them, and all their children, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Child processes find the packages in whichever folder they start, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
# No verdict depends on how busy the machine is.
settings.register_profile("untimed", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in an empty folder, so that no `.env` or `kb-ingest.toml` is read, and keep caches and default folders out of HOME."""
    place = tmp_path_factory.mktemp("session")
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(place / "data_home"))
        patch.setenv("HF_HOME", str(place / "hf_home"))
        (place / "cwd").mkdir()
        os.chdir(place / "cwd")
        yield
        os.chdir(before)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Commands that run in this process set up logging, and the umask.

    At the level debug, some parsers write a line for every line they read.
    """
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    with keeping_umask():
        yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own, named in KB_DATA_DIR too; not made yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("KB_DATA_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Call it with the reason when a service is missing: the test is skipped on a desk and fails in CI."""

    def stop(reason: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{reason} (CI must have it)")
        pytest.skip(reason)

    return stop


@pytest.fixture(scope="session")
def postgres(unavailable: Callable[[str], NoReturn]) -> Iterator[Postgres]:
    """A cluster for this session, outside pytest's folders: those are closed to the user that runs it."""
    with tempfile.TemporaryDirectory(prefix="kb-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = postgres_server(Path(folder) / "cluster")
        if server is None:
            unavailable("no PostgreSQL on this machine")
        server.start()
        yield server
        server.stop()
