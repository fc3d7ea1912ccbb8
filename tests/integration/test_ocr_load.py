"""Loads of scans: their words are found, and turning OCR on starts them again and nothing else."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests import documents as d
from tests.scans import PAGE_S, page, scanned_pdf
from tests.services import Cli

pytestmark = pytest.mark.integration


def with_page_of_text(path: Path, words: str) -> None:
    """A page of text, and a scanned one that says `words`."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(path))
    sheet.drawString(72, 700, d.SENTENCE)
    sheet.showPage()
    sheet.drawImage(ImageReader(page(words).convert("RGB")), 0, 500, 590, 130)
    sheet.save()


def test_scans_are_found_by_their_words_once_ocr_is_on(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    scanned_pdf(folder / "lighthouse.pdf", [page("The lighthouse keeper counts gulls.")])
    with_page_of_text(folder / "mixed.pdf", "Barnacles grow below the waterline.")
    page("Receipt for seven lanterns.").save(folder / "receipt.jpg", quality=90)
    with ZipFile(folder / "box.zip", "w") as box:
        page("Ledger of the ferry company.").save(tmp_path / "ferry.png")
        box.write(tmp_path / "ferry.png", "ferry.png")
    d.write(folder, "md")
    d.pdf(folder / "text.pdf")

    settings = {"KB_INGEST_DEVICE": "cpu", "KB_DEVICE": "cpu", "KB_OCR_PAGE_TIMEOUT_S": PAGE_S}
    off = Cli(data_dir, KB_OCR="never", **settings).answer("load", str(folder))
    assert (off["skipped_reasons"], off["losses"]) == ({"needs_ocr": 1, "unsupported": 2}, {"page_without_text": 1})

    cli = Cli(data_dir, KB_OCR="always", **settings)
    on = cli.answer("load", str(folder))
    assert (on["skipped"], on["quarantined"], on["losses"]) == (0, 0, {})
    assert (on["unchanged"], on["indexed"]) == (3, 4)  # the scan, the mixed one and the receipt; with the picture in the archive
    for words, name in (
        ("lighthouse keeper gulls", "lighthouse.pdf"),
        ("barnacles waterline", "mixed.pdf"),
        ("receipt lanterns", "receipt.jpg"),
        ("ledger ferry company", "ferry.png"),
    ):
        assert cli.answer("search", words)[0]["uri"].endswith(name), words

    again = cli.answer("load", str(folder))
    assert (again["unchanged"], again["indexed"], again["skipped"]) == (6, 0, 0)
