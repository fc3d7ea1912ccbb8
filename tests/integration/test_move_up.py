"""A laptop's knowledge base moved to servers: everything is found there, and nothing is processed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.staging import open_staging
from tests.embed_server import MODEL
from tests.services import REPOSITORY, Cli, Postgres, Server, free_port, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def laptop(tmp_path: Path, model: Server) -> Cli:
    """A data folder with nothing configured but the model server; its commands run in a folder of their own, with its `.env`."""
    folder = tmp_path / "folder"
    folder.mkdir()
    cli = Cli(tmp_path / "data", KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL=MODEL, PYTHONPATH=str(REPOSITORY))
    cli.prefix = ("env", "-C", str(folder))
    return cli


@pytest.fixture
def places(postgres: Postgres, redis: Server, qdrant: Server, tmp_path: Path) -> list[str]:
    return [
        "--database", postgres.schema(), "--qdrant", f"http://127.0.0.1:{qdrant.port}", "--redis", f"redis://127.0.0.1:{redis.port}/0",
        "--staging", str(tmp_path / "shared"),
    ]  # fmt: skip


def found(cli: Cli, question: str) -> list[tuple[str, str]]:
    return [(hit["uri"], hit["text"]) for hit in cli.answer("search", question, "--limit", "5")]


def history(cli: Cli, path: Path) -> dict[str, list[dict[str, object]]]:
    """The events of a document, by collection; without the time in its present state, which goes on."""
    return {
        one["collection"]: [{name: value for name, value in event.items() if name != "seconds"} for event in one["events"]]
        for one in cli.answer("logs", "--document", str(path))
    }


def test_a_laptop_moves_to_servers(laptop: Cli, places: list[str], documents: Path, tmp_path: Path) -> None:
    laptop.run("load", str(documents), "--sync", "--meta", "team=garden")
    (documents / "tomatoes.md").write_text("# Tomatoes\n\nThey want sun and warm nights.\n")
    laptop.run("load", str(documents), "--sync")
    laptop.run("load", str(documents / "tomatoes.md"), "--collection", "other")
    before = {question: found(laptop, question) for question in ("warm nights", "a page")}
    events = history(laptop, documents / "tomatoes.md")
    points = laptop.whole()
    # A place that does not answer stops the move before anything depends on it.
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "Qdrant" in laptop.run("move-up", *places, "--qdrant", nobody, status=1).stderr
    done = laptop.answer("move-up", *places, "--write")
    assert done["clean"] is True
    assert sum(done["points"].values()) == points + 1
    assert {name: one["missing"] + one["orphans"] for name, one in done["collections"].items()} == {"documents": 0, "other": 0}
    # From here on `.env` names the new places.
    assert "postgresql" in laptop.run("config").stdout
    assert laptop.whole() == points
    assert {question: found(laptop, question) for question in before} == before
    assert history(laptop, documents / "tomatoes.md") == events
    again = laptop.answer("load", str(documents), "--sync", "--no-wait")
    assert (again["unchanged"], again["discovered"]) == (4, 4)
    # Copies of the documents are there as well: a new model needs no source.
    assert len([one for one in open_staging(str(tmp_path / "shared")).contents() if not one.is_chunk_file]) == 4
    laptop.run("move-up", *places, status=1)


def test_a_ledger_is_copied_there_and_back(laptop: Cli, postgres: Postgres, documents: Path, tmp_path: Path) -> None:
    laptop.run("load", str(documents))
    url = postgres.schema()
    there = laptop.answer("ledger", "copy", "--to", url)
    assert there["changed"] == there["rows"] - 1  # both have the version of the schema
    assert laptop.answer("ledger", "copy", "--to", url) == {"rows": there["rows"], "changed": 0}
    laptop.environment["KB_DATABASE_URL"] = url
    back = laptop.answer("ledger", "copy", "--to", f"sqlite:///{tmp_path / 'back.db'}")
    assert back == there
    assert "in this database already" in laptop.run("ledger", "copy", "--to", url, status=1).stderr


def test_workers_that_run_are_not_copied_under(laptop: Cli, places: list[str]) -> None:
    worker = laptop.start("up")
    try:
        laptop.run("status")
        wait_until(lambda: len(laptop.answer("status")["workers"]) == 2, "workers run")
        assert "workers run" in laptop.run("move-up", *places, status=1).stderr
    finally:
        worker.terminate()
        worker.communicate(timeout=60)
