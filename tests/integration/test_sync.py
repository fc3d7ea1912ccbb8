"""Sources kept in step: what is new comes in, what has vanished goes, and nothing goes by mistake."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.embed_server import MODEL
from tests.pages import PAGES, make_pages, page
from tests.services import Cli, embed_server, make_bucket, s3_environment, s3_server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pages(tmp_path / "pages")


@pytest.fixture
def cli(tmp_path: Path, data_dir: Path) -> Iterator[Cli]:
    """A deployment whose workers run already, with a model that starts fast."""
    server = embed_server(tmp_path / "embed")
    server.start()
    made = Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{server.port}", KB_EMBED_MODEL=MODEL, KB_LEASE_S="6", KB_REQUEUE_S="3")
    # The service has patience, so that what goes in these tests goes by the commands.
    service = Cli(data_dir, **{**made.environment, "KB_DELETE_GRACE": "3600"}).start("up")
    wait_until(lambda: bool(made.answer("status")["workers"]), "workers are there")
    yield made
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    server.stop()


def found(cli: Cli, collection: str = "documents") -> set[str]:
    """Names of all documents that a search finds."""
    hits = cli.answer("search", "page", "--limit", "1000", "--collection", collection)
    return {hit["uri"].rpartition("/")[2] for hit in hits}


def test_a_collection_is_kept_equal_to_its_source(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "pages", str(folder), "--exclude", "draft*")
    cli.run("source", "add", "pages", str(folder), status=1)
    assert [one["location"] for one in cli.answer("source", "list")] == [str(folder)]
    first = cli.answer("sync", "pages")
    assert (first["indexed"], first["deleted"]) == (PAGES, 0)

    # New, changed, vanished, moved, and one that its patterns no longer want.
    (folder / "new.md").write_text(page(100))
    (folder / "0.md").write_text(page(0) + "\nEdited.\n")
    (folder / "sub" / "1.md").unlink()
    (folder / "2.md").rename(folder / "moved.md")
    planned = cli.answer("plan", "pages")
    assert planned["counts"] == {
        "added": 1,
        "changed": 1,
        "moved": 1,
        "vanished": 2,
        "unchanged": PAGES - 3,
        "unknown": 0,
        "skipped": 0,
    }
    assert (planned["plan"]["chunks"], planned["plan"]["new_points"], planned["plan"]["estimated"]) == (2, 1, False)
    assert planned["plan"]["tokens"] > 10
    assert planned["plan"]["disk_bytes"] > planned["plan"]["memory_bytes"] > 0
    assert planned["seconds"] > 0
    assert cli.answer("status")["documents"] == {"indexed": PAGES}  # nothing has changed
    second = cli.answer("sync", "pages")
    assert (second["deleted"], second["deletions_refused"]) == (2, "")
    assert second["indexed"] == 3
    assert second["chunks"] == 2  # the new one and the edited one; the moved one took its vectors along
    assert found(cli) == {f"{n}.md" for n in range(PAGES) if n not in (1, 2)} | {"new.md", "moved.md"}
    assert cli.whole() == PAGES

    third = cli.answer("sync", "pages")
    assert (third["unchanged"], third["indexed"], third["deleted"]) == (PAGES, 0, 0)
    shown = cli.answer("source", "show", "pages")
    assert (shown["documents"], shown["source"]["name"]) == (PAGES, "pages")
    assert [(run["outcome"], run["deleted"], run["added"]) for run in shown["runs"]] == [
        ("done", 0, 0),
        ("done", 2, 2),
        ("done", 0, 12),
    ]
    cli.run("source", "remove", "pages")
    cli.run("source", "remove", "pages", status=1)
    assert len(found(cli)) == PAGES


def test_deletions_that_look_like_an_accident_are_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    cli.answer("sync", "pages")
    away = tmp_path / "away"
    shutil.move(folder / "sub", away)
    (folder / "new.md").write_text(page(100))
    assert "deletions would be refused: 6 of 12" in cli.run("plan", "pages").stdout
    many = cli.answer("sync", "pages", status=1)
    assert "6 of 13 documents are gone from the source, more than KB_MAX_DELETE_RATIO 0.2 allows" in many["deletions_refused"]
    assert many["indexed"] == 1  # what is new comes in all the same
    assert len(found(cli)) == PAGES + 1
    assert cli.answer("source", "show", "pages")["runs"][0]["outcome"] == "refused"

    for path in folder.iterdir():
        path.unlink()
    empty = cli.answer("sync", "pages", status=1)
    assert "contains no files any more" in empty["deletions_refused"]
    folder.rmdir()
    assert "cannot read" in cli.run("sync", "pages", "--allow-delete", status=1).stderr
    assert len(found(cli)) == PAGES + 1

    shutil.move(away, folder)
    meant = cli.answer("sync", "pages", "--allow-delete")
    assert meant["deleted"] == PAGES + 1  # all names have changed, the bytes of six have not
    assert (meant["indexed"], meant["chunks"]) == (6, 0)
    assert found(cli) == {f"{n}.md" for n in range(1, PAGES, 2)}
    cli.whole()


def test_what_has_vanished_stays_for_its_grace(cli: Cli, folder: Path) -> None:
    patient = Cli(cli.data_dir, **{**cli.environment, "KB_DELETE_GRACE": "3600"})
    patient.answer("load", str(folder), "--sync")
    text = (folder / "4.md").read_text()
    (folder / "4.md").unlink()
    (folder / "6.md").unlink()
    assert patient.answer("load", str(folder), "--sync")["deleted"] == 2
    assert {"4.md", "6.md"} <= found(cli)
    assert patient.answer("status")["documents"] == {"indexed": PAGES - 2, "deleted": 2}

    (folder / "4.md").write_text(text)  # it was a mistake
    back = patient.answer("load", str(folder), "--sync")
    assert (back["indexed"], back["chunks"], back["deleted"]) == (1, 0, 0)
    cli.answer("load", str(folder), "--sync")  # whose grace is none
    assert found(cli) == {f"{n}.md" for n in range(PAGES)} - {"6.md"}
    assert cli.whole() == PAGES - 1


def test_documents_are_deleted_by_name_and_by_beginning(cli: Cli, folder: Path) -> None:
    cli.answer("load", str(folder))
    assert cli.answer("delete", "--prefix", f"{folder}/sub/", "--dry-run")["deleted"] == 0
    cli.run("delete", "--prefix", f"{folder}/sub/", status=130)  # nobody is there to confirm it
    assert len(found(cli)) == PAGES
    assert cli.answer("delete", "--prefix", f"{folder}/sub/", "--yes")["deleted"] == PAGES // 2
    assert cli.answer("delete", str(folder / "0.md"), (folder / "2.md").as_uri())["deleted"] == 2
    assert cli.answer("delete", str(folder / "0.md"))["deleted"] == 0
    assert found(cli) == {"4.md", "6.md", "8.md", "10.md"}
    cli.whole()
    assert cli.answer("delete", str(folder / "sub" / ".." / "4.md"))["deleted"] == 1
    again = cli.answer("load", str(folder))
    assert (again["indexed"], len(found(cli))) == (9, PAGES)


def test_sources_inside_others_are_left_to_themselves(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "outer", str(folder))
    cli.run("source", "add", "inner", str(folder / "sub"))
    assert cli.answer("sync", "outer")["indexed"] == PAGES // 2
    assert cli.answer("sync", "inner")["indexed"] == PAGES // 2
    assert cli.answer("sync", "outer")["deleted"] == 0
    assert len(found(cli)) == PAGES
    # The same place twice would be one deleting what the other loads.
    assert "already loads this location" in cli.run("source", "add", "again", str(folder / "."), status=1).stderr
    cli.run("source", "add", "again", str(folder), "--collection", "others")
    # A sync of the outer folder without a name leaves the inner source to itself too.
    (folder / "sub" / "1.md").unlink()
    assert cli.answer("load", str(folder), "--sync")["deleted"] == 0
    assert cli.answer("sync", "inner")["deleted"] == 1


def test_objects_are_kept_in_step_as_files_are(cli: Cli, tmp_path: Path) -> None:
    server = s3_server(tmp_path / "s3")
    server.start()
    try:
        environment = s3_environment(server)
        make_bucket(environment, "pages")
        bucket = boto3.client(
            "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], aws_access_key_id="test", aws_secret_access_key="test",
            region_name="us-east-1",
        )  # fmt: skip
        for number in range(PAGES):
            bucket.put_object(Bucket="pages", Key=f"handbook/ä {number}.md", Body=page(number).encode())
        bucket.put_object(Bucket="pages", Key="other/0.md", Body=b"# Not ours\n\nElsewhere.\n")
        # Only the command reads the store: workers have their copies.
        there = Cli(cli.data_dir, **{**cli.environment, **environment})
        there.run("source", "add", "handbook", "s3://pages/handbook")
        assert there.answer("sync", "handbook")["indexed"] == PAGES
        assert there.answer("sync", "handbook")["unchanged"] == PAGES
        bucket.put_object(Bucket="pages", Key="handbook/ä 3.md", Body=(page(3) + "\nEdited.\n").encode())
        bucket.copy_object(Bucket="pages", Key="handbook/sub/moved.md", CopySource={"Bucket": "pages", "Key": "handbook/ä 4.md"})
        bucket.delete_object(Bucket="pages", Key="handbook/ä 4.md")
        assert there.answer("plan", "handbook")["counts"] == {
            "added": 0, "changed": 1, "moved": 1, "vanished": 1, "unchanged": PAGES - 2, "unknown": 0, "skipped": 0,
        }  # fmt: skip
        synced = there.answer("sync", "handbook")
        assert (synced["indexed"], synced["deleted"], synced["chunks"]) == (2, 1, 1)
        assert found(cli) == {f"%C3%A4%20{n}.md" for n in range(PAGES) if n != 4} | {"moved.md"}
        (hit,) = cli.answer("search", "subject5", "--mode", "sparse", "--filter", "folder=s3://pages/handbook", "--limit", "1")
        assert (hit["uri"], hit["title"]) == ("s3://pages/handbook/%C3%A4%205.md", "Page 5")
        cli.whole()
        server.stop()
        assert "cannot list s3://pages/handbook" in there.run("sync", "handbook", "--allow-delete", status=1).stderr
        assert len(found(cli)) == PAGES
    finally:
        server.stop()
