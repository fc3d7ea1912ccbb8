"""The upkeep of a data folder by commands: what nobody needs goes, and searches find what they found before."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.staging.local import LocalStaging
from tests.embed_server import MODEL
from tests.packed import make_older
from tests.services import Cli, Server, wait_until

pytestmark = pytest.mark.integration

DAY_S = 86_400.0


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    return Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL=MODEL, KB_SEARCH_MODE="dense")


def make_old(data_dir: Path, days: float) -> None:
    """Make all staged files look unused for some days."""
    then = time.time() - days * DAY_S
    make_older(data_dir / "staging", then)
    for path in (data_dir / "staging").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def staged(data_dir: Path) -> int:
    return len({one.key for one in LocalStaging(data_dir / "staging").contents()})


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


def lots(folder: Path, first: int, count: int) -> None:
    """Write documents about different things."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nSubject{number} explains the word{number} of page{number}.\n")


@pytest.mark.slow
def test_a_backup_made_during_a_load_restores_what_was_there(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    folder, kept = tmp_path / "pages", tmp_path / "backup"
    lots(folder, 0, 30)
    cli.answer("load", str(folder))
    lots(folder, 30, 400)
    (folder / "7.md").write_text("# Page 7\n\nAnother text about the word7 of page7 altogether.\n")
    load = cli.start("load", str(folder))
    wait_until(lambda: cli.answer("status")["documents"].get("indexed", 0) > 40, "the load is under way")
    made = cli.answer("backup", str(kept))
    assert load.poll() is None, "the load ended before the backup: make it longer"
    assert made["files"] > 60
    assert load.wait(timeout=240) == 0
    load.communicate()
    shutil.rmtree(data_dir)

    restored = cli.answer("restore", str(kept))
    (collection,) = restored["collections"]
    assert collection["documents"] > 30
    cli.run("up", "--until-empty")
    cli.whole()
    for number in (3, 7, 21):
        (hit,) = cli.answer("search", f"word{number}", "--mode", "sparse", "--limit", "1")
        assert hit["uri"].endswith(f"/{number}.md")
    again = cli.answer("load", str(folder))
    assert again["quarantined"] == 0
    assert cli.whole() == 430
    assert cli.answer("status")["documents"] == {"indexed": 430}


def test_a_backup_at_rest_is_whole_at_once(cli: Cli, data_dir: Path, documents: Path, tmp_path: Path) -> None:
    kept = tmp_path / "backup"
    cli.answer("load", str(documents))
    points, hits = cli.whole(), cli.answer("search", "when should I water the plants?", "--limit", "2")
    made = cli.answer("backup", str(kept))
    manifest = json.loads((kept / "manifest.json").read_text())
    assert (manifest["files"], manifest["points"]) == (made["files"], "copied")
    assert manifest["versions"]["kb-ingest"]
    assert "stays as it is" in cli.run("backup", str(kept), status=1).stderr
    assert "is not empty" in cli.run("restore", str(kept), status=1).stderr
    data_dir.rename(tmp_path / "gone")
    (collection,) = cli.answer("restore", str(kept))["collections"]
    assert (collection["clean"], collection["again"], collection["actual_points"]) == (True, 0, points)
    assert cli.whole() == points
    assert cli.answer("search", "when should I water the plants?", "--limit", "2") == hits
    assert cli.answer("load", str(documents))["unchanged"] == 4
    assert cli.answer("gc", "--older-than", "0")["kinds"] == {}


def test_a_damaged_or_interrupted_backup_is_refused_and_nothing_changes(
    cli: Cli, data_dir: Path, documents: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "backup"
    cli.answer("load", str(documents))
    cli.run("backup", str(kept))
    data_dir.rename(tmp_path / "gone")
    blob = next(path for path in (kept / "staging" / "packs").rglob("*") if path.is_file())
    whole = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(whole[:-1] + b"?")
    refused = cli.run("restore", str(kept), status=1).stderr
    assert blob.name in refused
    assert "nothing was restored" in refused
    assert not data_dir.exists()
    (kept / "manifest.json").unlink()
    (kept / "unfinished").write_text("")
    assert "was not finished" in cli.run("restore", str(kept), status=1).stderr
    assert "holds no backup" in cli.run("restore", str(documents), status=1).stderr
    (tmp_path / "gone").rename(data_dir)
    cli.run("backup", str(kept))
    shutil.rmtree(data_dir)
    cli.run("restore", str(kept))
    cli.whole()


def test_a_ledger_on_a_server_is_left_to_the_server(data_dir: Path, tmp_path: Path) -> None:
    cli = Cli(data_dir, KB_DATABASE_URL="postgresql+psycopg://kb@127.0.0.1:1/kb")
    for command in ("backup", "restore"):
        assert "pg_dump" in cli.run(command, str(tmp_path / "kept"), status=1).stderr
    assert not (tmp_path / "kept").exists()


def test_points_on_a_server_are_made_again_from_chunk_files(
    data_dir: Path, model: Server, qdrant: Server, documents: Path, tmp_path: Path
) -> None:
    served = {"KB_EMBED_URL": f"http://127.0.0.1:{model.port}", "KB_EMBED_MODEL": MODEL, "KB_SEARCH_MODE": "dense"}
    cli = Cli(data_dir, **served, KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}")
    cli.answer("load", str(documents))
    points = cli.whole()
    made = cli.answer("backup", str(tmp_path / "kept"))
    assert made["points"].startswith("left out")
    shutil.rmtree(data_dir)
    shutil.rmtree(documents)
    other = Cli(data_dir, **served)  # the server is lost, too: the embedded store takes its place
    (collection,) = other.answer("restore", str(tmp_path / "kept"))["collections"]
    assert (collection["missing"], collection["again"]) == (points, 4)
    other.run("verify", "--repair")
    assert other.whole() == points
