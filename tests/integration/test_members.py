"""Files inside archives and mails are documents of their own, which come, change and go with what holds them."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.documents import zip_of
from tests.services import Cli

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def found(cli: Cli, query: str) -> str:
    """The URI of the first hit, from the name of the archive on."""
    (hit,) = cli.answer("search", query, "--limit", "1")
    return str(hit["uri"]).rsplit("/documents/", 1)[1]


def test_archives_are_folders(data_dir: Path, tmp_path: Path) -> None:
    cli = Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    folder = tmp_path / "documents"
    folder.mkdir()
    message = EmailMessage()
    message["From"], message["Subject"] = "ada@port.example", "Crane"
    message.set_content("The crane is closed for repair.")
    message.add_attachment(b"The winch needs a new rope.", maintype="text", subtype="plain", filename="winch report.txt")
    inner = zip_of({"deep.txt": b"The lighthouse is painted white."})
    box = folder / "box.zip"
    photo = b"\x89PNG\r\n\x1a\n" + bytes(99)
    fees = b"A berth costs forty euros."
    box.write_bytes(zip_of({"fees.txt": fees, "mail/crane.eml": message.as_bytes(), "inner.zip": inner, "photo.png": photo}))
    first = cli.answer("load", str(folder))
    # The archive, the text, the mail, its attachment, the inner archive, and the text in that.
    assert (first["indexed"], first["quarantined"], first["skipped"]) == (6, 0, 1)
    assert found(cli, "how much is a berth") == "box.zip!/fees.txt"
    assert found(cli, "rope of the winch") == "box.zip!/mail/crane.eml!/winch%20report.txt"
    assert found(cli, "colour of the lighthouse") == "box.zip!/inner.zip!/deep.txt"
    assert cli.answer("verify")["documents"] == 6
    again = cli.answer("load", str(folder))
    assert (again["indexed"], again["unchanged"], again["chunks"]) == (0, 1, 0)

    fees = b"A berth costs fifty euros."
    box.write_bytes(zip_of({"fees.txt": fees, "new.txt": b"The ferry leaves at noon.", "inner.zip": inner}))
    changed = cli.answer("load", str(folder))
    assert changed["chunks"] == 2
    assert found(cli, "when does the ferry leave") == "box.zip!/new.txt"
    hits = cli.answer("search", "crane winch rope repair", "--limit", "50")
    assert not any("crane" in hit["uri"] for hit in hits)
    assert any("deep.txt" in hit["uri"] for hit in hits)

    box.unlink()
    (folder / "other.txt").write_text("Nothing about ships.")
    synced = cli.answer("load", str(folder), "--sync", "--allow-delete")
    assert (synced["indexed"], synced["deleted"]) == (1, 5)
    assert [hit["uri"].rsplit("/", 1)[1] for hit in cli.answer("search", "ferry", "--limit", "50")] == ["other.txt"]
    verified = cli.answer("verify")
    assert (verified["documents"], verified["orphans"]) == (1, 0)
