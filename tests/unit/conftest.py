"""Services that several unit tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.ledger import Ledger
from tests.services import Postgres, make_bucket, postgres_server, s3_environment, s3_server


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


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'kb.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What finds an S3 server with an empty bucket `kb-unit`."""
    server = s3_server(tmp_path_factory.mktemp("s3"))
    server.start()
    environment = s3_environment(server)
    make_bucket(environment, "kb-unit")
    yield environment
    server.stop()
