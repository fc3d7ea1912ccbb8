"""What a load says of files that hold nothing readable, and of parts of documents that did not become text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import documents as d
from tests.documents import half_scanned_pdf
from tests.services import Cli

pytestmark = pytest.mark.integration

PHOTO = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


@pytest.fixture
def cli(data_dir: Path) -> Cli:
    return Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_MAX_FAILURE_FLOOR="2")


def test_a_folder_with_more_photos_than_documents(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    d.write(folder, "md")
    for number in range(9):
        (folder / f"photo-{number}.png").write_bytes(PHOTO)
    (folder / "sound.mp3").write_bytes(b"ID3" + bytes(300))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "nothing.html").write_text("<html><body><script>1</script></body></html>")
    d.pdf(folder / "scan.pdf", picture_only=True)
    d.pdf(folder / "locked.pdf", password="secret")
    record = cli.answer("load", str(folder))
    assert (record["outcome"], record["indexed"], record["quarantined"], record["skipped"]) == ("done", 1, 0, 14)
    assert record["skipped_reasons"] == {"unsupported": 10, "empty_file": 1, "empty_text": 1, "needs_ocr": 1, "encrypted": 1}
    again = cli.answer("load", str(folder), "--strict", status=3)
    assert (again["outcome"], again["unchanged"], again["skipped"]) == ("partly", 1, 14)
    said = cli.run("load", str(folder)).stderr
    assert "skipped: 10 documents: unsupported" in said
    assert "10 documents pending again" in cli.run("retry", "--reason", "unsupported").stdout


def test_losses_are_named_wherever_somebody_looks(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    half_scanned_pdf(folder / "half.pdf")
    (folder / "guide.md").write_text("---\nauthor: Ada\n---\n\n# Guide\n\nWords.\n")
    loaded = cli.run("load", str(folder), "--fail-on-loss", status=3)
    assert "1 document indexed with losses: 1 page without text" in loaded.stdout
    (shown,) = cli.answer("status", "--document", "half.pdf")
    assert (shown["state"], shown["losses"]) == (
        "indexed",
        [{"kind": "page_without_text", "place": "page 2", "detail": "a scanned page", "count": 1}],
    )
    assert (
        "loss: 1 page without text at page 2 (a scanned page)" in cli.run("status", "--document", str(folder / "half.pdf")).stdout
    )
    assert cli.answer("status", "--document", "guide.md")[0]["properties"] == {"author": "Ada"}
    assert cli.run("status", "--document", "no-such.pdf", status=1).stdout == ""
    assert "half.pdf: 1 page without text" in cli.run("status", "1").stdout
    assert cli.answer("verify")["losses"] == {"page_without_text": 1}
    assert "1 document indexed with losses" in cli.run("report", "1").stdout
    half_scanned_pdf(folder / "other.pdf")
    assert cli.answer("load", str(folder))["losses"] == {"page_without_text": 1}
    d.pdf(folder / "half.pdf")
    mended = cli.answer("load", str(folder), "--fail-on-loss")
    assert (mended["indexed"], mended["losses"]) == (1, {})
    assert cli.answer("verify")["lossy_documents"] == 1
