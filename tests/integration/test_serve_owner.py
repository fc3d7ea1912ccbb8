"""The embedded store beside a service: the process that was first has a collection open, and answers the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.store.doors import SOCKET
from tests.services import Cli, wait_until
from tests.serving import Service, one_document, search, token

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def opened(cli: Cli) -> list[int]:
    """When sockets of processes that have collections open were made; whoever closes and opens makes another one."""
    return sorted(path.stat().st_mtime_ns for path in (cli.data_dir / "qdrant").glob(f"*/{SOCKET}"))


def lights(folder: Path, count: int) -> str:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"The lighthouse number {number} stands on a rock.\n")
    return str(folder)


def test_a_load_writes_through_the_service(tmp_path: Path) -> None:
    with one_document(tmp_path) as cli:
        with Service(cli) as service, service.client() as client:
            assert len(search(client, "nectar")) == 1
            before = opened(cli)
            cli.run("load", lights(tmp_path / "lights", 20))
            assert cli.whole() == 21  # by asking, as other commands do
            assert len(search(client, "lighthouse", limit=50)) == 21
            assert len(before) == 1
            assert opened(cli) == before
        assert opened(cli) == []
        assert cli.whole() == 21


def test_a_service_asks_the_worker_that_was_first_and_outlives_it(tmp_path: Path) -> None:
    with one_document(tmp_path) as cli:
        limited = token(cli, "limited", "--filter", f"folder={tmp_path / 'lights'}*")
        assert opened(cli) == []  # of the load that has ended
        workers = cli.start("up")
        try:
            wait_until(lambda: len(cli.answer("status")["workers"]) == 2, "workers run", 60, 0.5)
            cli.run("load", lights(tmp_path / "lights", 20))
            before = opened(cli)
            assert len(before) == 1
            with Service(cli) as service, service.client(limited) as client:
                # The worker applies the token's filter.
                assert {hit["uri"].split("/")[-2] for hit in search(client, "nectar", limit=50)} == {"lights"}
                assert len(search(client, "nectar", limit=50)) == 20
                assert opened(cli) == before
                workers.kill()  # its workers end with it

                def opens() -> bool:
                    return len(search(client, "nectar", limit=50)) == 20 and opened(cli) not in (before, [])

                wait_until(opens, "the service opens it", 60)
        finally:
            workers.kill()
            workers.communicate()
