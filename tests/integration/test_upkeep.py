"""The upkeep of a data folder by commands: what nobody needs goes, and searches find what they found before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.embed_server import MODEL
from tests.services import Cli, Server

pytestmark = pytest.mark.integration

DAY_S = 86_400.0


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    return Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL=MODEL, KB_SEARCH_MODE="dense")


def make_old(data_dir: Path, days: float) -> None:
    """Make all staged files look unused for some days."""
    then = time.time() - days * DAY_S
    for path in (data_dir / "staging").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def staged(data_dir: Path) -> int:
    return sum(path.is_file() for part in ("blobs", "chunks") for path in (data_dir / "staging" / part).rglob("*"))


def test_edited_and_deleted_documents_leave_nothing_behind(cli: Cli, data_dir: Path, documents: Path) -> None:
    cli.answer("load", str(documents), "--sync")
    (documents / "page.html").unlink()
    (documents / "tomatoes.md").write_text("# Tomatoes\n\nThey want sun.\n")
    cli.answer("load", str(documents), "--sync", "--allow-delete")
    assert staged(data_dir) == 10
    make_old(data_dir, 40)
    shown = cli.run("gc", "--dry-run").stdout
    assert "unused for 40 days" in shown
    assert "would be removed: 2 copies" in shown
    assert staged(data_dir) == 10
    cli.run("source", "add", "docs", str(documents))
    cli.run("schedule", "add", "cleanup", "--cron", "0 4 * * *", "--source", "docs", "--action", "gc")
    past = cli.answer("schedule", "run-now", "cleanup")
    assert (past["action"], past["outcome"]) == ("gc", "done")
    assert past["detail"].startswith("removed: ")
    assert "2 copies" in past["detail"]
    assert "2 chunk files" in past["detail"]
    assert staged(data_dir) == 6
    assert cli.answer("gc", "--older-than", "0") == {"dry_run": False, "kinds": {}, "items": [], "kept": []}
    assert cli.whole() == 3
    assert "not an age" in cli.run("gc", "--older-than", "soon", status=2).stderr
