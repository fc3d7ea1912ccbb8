"""Workers of two versions side by side, as an upgrade that replaces them one by one has them."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from pipeline.ledger.schema import SCHEMA_VERSION
from tests.embed_server import MODEL
from tests.services import REPOSITORY, Cli, Server, embed_server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The code of a next version: its ledger has one more table."""
    code = tmp_path / "next"
    for part in ("pipeline", "workers"):
        shutil.copytree(REPOSITORY / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    schema = code / "pipeline" / "ledger" / "schema.py"
    text = schema.read_text("utf-8")
    old = f"SCHEMA_VERSION = {SCHEMA_VERSION}\n"
    assert old in text
    table = 'news = Table("news", metadata, Column("id", Integer, primary_key=True))\n\n\n'
    text = text.replace(old, f"SCHEMA_VERSION = {SCHEMA_VERSION + 1}\n").replace("def open_engine", f"{table}def open_engine")
    assert table in text
    schema.write_text(text, "utf-8")
    return code


def test_an_upgrade_one_by_one_loses_nothing(tmp_path: Path, next_version: Path, redis: Server, qdrant: Server) -> None:
    embed = embed_server(tmp_path / "embed")
    embed.start()
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(60):
        (documents / f"{number}.txt").write_text(f"Page {number} says what number {number} is about.\n" * 5, "utf-8")
    values = {
        "KB_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}",
        "KB_EMBED_URL": f"http://127.0.0.1:{embed.port}", "KB_EMBED_MODEL": MODEL, "KB_BATCH_DOCUMENTS": "4",
    }  # fmt: skip
    old = Cli(tmp_path / "data", **values)
    new = Cli(tmp_path / "data", **values | {"PYTHONPATH": str(next_version)})
    new.prefix = ("env", "-C", str(next_version))
    first = old.start("worker")
    second = None
    try:
        old.run("load", str(documents / "0.txt"))
        # The next version migrates the ledger below the old worker, which continues with it.
        new.run("load", str(documents), "--no-wait")
        refused = old.run("status", status=1).stderr
        assert f"the ledger has schema {SCHEMA_VERSION + 1}" in refused
        assert new.answer("load", str(documents))["quarantined"] == 0
        assert new.answer("status")["documents"] == {"indexed": 60}  # by the old worker alone
        second = new.start("worker")
        for number in range(60):
            (documents / f"{number}.txt").write_text(f"Page {number} was edited.\n", "utf-8")
        new.run("load", str(documents), "--no-wait")
        first.send_signal(signal.SIGTERM)
        _, err = first.communicate(timeout=60)
        assert "Traceback" not in err
        wait_until(lambda: new.answer("status")["verdict"] == "idle", "all is done")
        assert new.answer("status")["documents"] == {"indexed": 60}
        assert new.whole() == 60
    finally:
        for worker in (first, second):
            if worker is not None and worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.communicate(timeout=60)
        embed.stop()
