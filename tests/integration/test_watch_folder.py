"""`kb-ingest watch` on real folders: what changes is searchable, what is temporary is not, and nothing goes by mistake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.embed_server import MODEL
from tests.pages import PAGES, make_pages, page
from tests.services import Cli, Server, embed_server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pages(tmp_path / "pages")


def of_model(server: Server) -> dict[str, str]:
    return {"KB_EMBED_URL": f"http://127.0.0.1:{server.port}", "KB_EMBED_MODEL": MODEL}


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    """Nothing is configured but the model, so that the watcher runs the workers."""
    return Cli(data_dir, **of_model(model))


class Watch:
    """A running watcher and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def wait_for(self, words: str, since: int = 0) -> None:
        wait_until(lambda: any(words in line for line in self.said[since:]), f"{words!r} in {self.said}", 60)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.status()

    def status(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait(60)
        self._reader.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status


@contextmanager
def watching(cli: Cli, *options: str) -> Iterator[Watch]:
    """Watch the source `pages` from its first sync to the end of the block, which must be a graceful one."""
    watch = Watch(cli.start("watch", "pages", *options))
    try:
        watch.wait_for("run ")
        yield watch
    finally:
        status = watch.end(signal.SIGTERM)
    assert status == 0, watch.said
    assert "stopped watching" in watch.said[-1]
    assert not any("bug in kb-ingest" in line or "Traceback" in line for line in watch.said), watch.said


def runs(cli: Cli) -> list[dict[str, Any]]:
    return list(cli.answer("source", "show", "pages")["runs"])


def ended(cli: Cli) -> int:
    """The number of the last run, if it has ended; the first run has 1."""
    last = runs(cli)[0]
    return int(last["id"]) if last["outcome"] else 0


def found(cli: Cli) -> set[str]:
    return {hit["uri"].rpartition("/")[2] for hit in cli.answer("search", "page", "--limit", "1000")}


def test_a_collection_follows_its_folder(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    with watching(cli) as watch:
        watch.wait_for(f"{PAGES} indexed")
        # New, edited in place, saved as editors do, deleted, moved: one burst.
        (folder / "new.md").write_text(page(100))
        (folder / "0.md").write_text(page(0) + "\nEdited.\n")
        (folder / "2.md.tmp").write_text(page(2) + "\nSaved.\n")
        os.replace(folder / "2.md.tmp", folder / "2.md")
        (folder / "sub" / "1.md").unlink()
        (folder / "4.md").rename(folder / "moved.md")
        watch.wait_for("4 indexed, 2 deleted")
        assert runs(cli)[0]["embedded"] == 3  # what moved took its vectors along
        assert found(cli) == {f"{n}.md" for n in range(PAGES) if n not in (1, 4)} | {"new.md", "moved.md"}
        assert ended(cli) == 2

        # As vim saves: a probe, a swap file, the old file as a backup, the new one in its place.
        (folder / ".6.md.swp").write_bytes(b"b0VIM")
        (folder / "4913").touch()
        (folder / "4913").unlink()
        (folder / "6.md").rename(folder / "6.md~")
        (folder / "6.md").write_text(page(6) + "\nBy vim.\n")
        (folder / "6.md~").unlink()
        (folder / ".6.md.swp").unlink()
        watch.wait_for("1 indexed, of")
        assert runs(cli)[0]["deleted"] == 0
        assert ended(cli) == 3

        # What is only temporary starts nothing.
        for name in ("~$report.docx", "film.pdf.crdownload", "film.md.part", ".8.md.swp", "8.md~"):
            (folder / name).write_text("half of it")
        with pytest.raises(AssertionError):
            wait_until(lambda: ended(cli) != 3, "a run", 4)
        (folder / "film.md.part").rename(folder / "film.md")
        wait_until(lambda: "film.md" in found(cli), "the finished download is found", 30)

        # A burst is one sync; a folder that is moved in is one as well.
        said = len(watch.said)
        outside = folder.parent / "many"
        outside.mkdir()
        for number in range(300):
            (outside / f"m{number}.md").write_text(page(1000 + number))
        outside.rename(folder / "many")
        watch.wait_for("300 indexed", said)
        for number in range(300):
            (folder / f"n{number}.md").write_text(page(2000 + number))
        watch.wait_for("300 indexed", said + 1)
        assert ended(cli) == 6

        busy = cli.run("watch", "pages", status=1)
        assert "is being watched by another" in busy.stderr
    assert cli.whole() == PAGES + 1 + 600


def test_a_change_during_a_sync_is_another_sync(data_dir: Path, tmp_path: Path, folder: Path) -> None:
    server = embed_server(tmp_path / "slow", delay_s=2.0)
    server.start()
    try:
        cli = Cli(data_dir, **of_model(server))
        cli.run("source", "add", "pages", str(folder))
        with watching(cli) as watch:
            (folder / "first.md").write_text(page(100))
            wait_until(lambda: (runs(cli)[0]["outcome"], runs(cli)[0]["added"]) == ("", 1), "it is staged", 30, 0.02)
            (folder / "second.md").write_text(page(101))
            wait_until(lambda: {"first.md", "second.md"} <= found(cli), "both are found", 60)
            watch.wait_for("run 3: 1 indexed")
            assert [run["added"] for run in runs(cli)] == [1, 1, PAGES]
    finally:
        server.stop()


def test_nothing_is_deleted_by_accident(cli: Cli, folder: Path, tmp_path: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    with watching(cli, "--full-every", "2") as watch:
        for path in (folder / "sub").iterdir():
            path.unlink()
        watch.wait_for("deletions refused: 6 of 12 documents are gone")
        assert len(found(cli)) == PAGES
        # The folder disappears, as a disk that is taken out, and comes back.
        folder.rename(tmp_path / "away")
        watch.wait_for("cannot read")
        folder.mkdir()  # the place where it was mounted
        watch.wait_for("contains no files any more")
        assert len(found(cli)) == PAGES
        folder.rmdir()
        (tmp_path / "away").rename(folder)
        (folder / "new.md").write_text(page(100))
        wait_until(lambda: "new.md" in found(cli), "the folder is watched again", 60)
    # With a person's word the documents go, but not those of an empty folder.
    shutil.rmtree(folder)
    folder.mkdir()
    with watching(cli, "--allow-delete") as watch:
        watch.wait_for("contains no files any more")
        assert len(found(cli)) == PAGES + 1
        (folder / "0.md").write_text(page(0))
        wait_until(lambda: found(cli) == {"0.md"}, "the others are gone", 60)
    cli.whole()


def test_a_folder_is_polled(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    with watching(cli, "--poll", "--poll-every", "0.5") as watch:
        assert "looking every 0.50 s" in watch.said[0]
        (folder / "sub" / "new.md").write_text(page(100))
        (folder / "0.md").unlink()
        watch.wait_for("1 indexed, 1 deleted")
    cli.whole()


def test_servers_may_be_away(data_dir: Path, folder: Path, redis: Server, qdrant: Server, model: Server) -> None:
    servers = {"KB_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}"}
    cli = Cli(data_dir, **of_model(model), **servers, KB_LEASE_S="6", KB_REQUEUE_S="3")
    service = cli.start("up")
    try:
        cli.run("source", "add", "pages", str(folder))
        with watching(cli) as watch:
            watch.wait_for(f"{PAGES} indexed")
            for server, name in ((qdrant, "one.md"), (redis, "two.md")):
                said = len(watch.said)
                server.stop()
                (folder / name).write_text(page(100))
                time.sleep(5)
                assert not any("indexed" in line for line in watch.said[said:])
                server.start()
                watch.wait_for("1 indexed", said)
            assert watch.process.poll() is None
        cli.whole()
    finally:
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=60)


def test_what_cannot_be_watched(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    cli.run("source", "add", "objects", "s3://bucket/pages")
    assert "there is no source 'other'" in cli.run("watch", "other", status=1).stderr
    assert "is no folder" in cli.run("watch", "objects", status=1).stderr
    watch = Watch(cli.start("watch", "pages", "--full-every", "2"))
    watch.wait_for("run 1")
    cli.run("source", "remove", "pages")
    assert watch.status() == 1
    assert "was removed while it was being watched" in watch.said[-1]
