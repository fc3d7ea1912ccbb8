"""PDF: tables between rules and without them, their headers, merged cells and captions, and what is no table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.types import ElementKind
from tests.reading import Read, read

ROWS = [
    ["Berth", "Length", "Fee", "Owner"],
    ["North 1", "40", "17.10", "Ramona Feldt"],
    ["South 7", "65", "23.40", "Jan Okker"],
    ["East 2", "70", "8.00", "Mill of the river"],
    ["West 4", "20", "112.55", "nobody"],
]
GRID: list[tuple[Any, ...]] = [("GRID", (0, 0), (-1, -1), 0.5, "black")]
BOOK: list[tuple[Any, ...]] = [
    ("LINEABOVE", (0, 0), (-1, 0), 1, "black"),
    ("LINEBELOW", (0, 0), (-1, 0), 0.5, "black"),
    ("LINEBELOW", (0, -1), (-1, -1), 1, "black"),
]
TEXT = "The mill stands at the river and grinds the corn of the whole valley in a day and sometimes in a night of winter. "


def built(folder: Path, story: list[Any], **options: Any) -> Read:
    from reportlab.platypus import SimpleDocTemplate

    SimpleDocTemplate(str(folder / "a.pdf"), **options).build(story)
    return read(folder / "a.pdf")


def paragraph(text: str) -> Any:
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph

    return Paragraph(text, getSampleStyleSheet()["BodyText"])


def grid(rows: list[list[Any]], style: list[tuple[Any, ...]], **options: Any) -> Any:
    from reportlab.platypus import Table

    return Table(rows, style=style, **options)


def table_rows(found: Read) -> list[tuple[str, str]]:
    return [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW]


@pytest.mark.parametrize("style", [GRID, BOOK, []], ids=["grid", "three rules", "no rules"])
@pytest.mark.parametrize("align", ["LEFT", "CENTER", "RIGHT"])
def test_rows_with_their_header(style: list[tuple[Any, ...]], align: str, tmp_path: Path) -> None:
    table = grid(ROWS, [*style, ("ALIGN", (0, 0), (-1, -1), align)], colWidths=110)
    found = built(tmp_path, [paragraph(TEXT * 3), table, paragraph(TEXT * 3)])
    assert table_rows(found) == [(" | ".join(ROWS[0]), " | ".join(row)) for row in ROWS[1:]]
    kinds = [e.kind for e in found.elements]
    assert kinds == [ElementKind.PARAGRAPH, *[ElementKind.TABLE_ROW] * 4, ElementKind.PARAGRAPH]


def test_merged_cells_are_repeated_and_headers_of_two_rows_are_one(tmp_path: Path) -> None:
    rows = [
        ["Berth", "Fee", "", "Owner"],
        ["", "summer", "winter", ""],
        ["North 1", "17", "12", "Ramona Feldt"],
        ["South 7", "23", "19", ""],
        ["East 2", "closed", "", "Jan Okker"],
    ]
    merged = (((0, 0), (0, 1)), ((1, 0), (2, 0)), ((3, 0), (3, 1)), ((3, 2), (3, 3)), ((1, 4), (2, 4)))
    spans = [("SPAN", first, last) for first, last in merged]
    header = "Berth | Fee summer | Fee winter | Owner"
    assert table_rows(built(tmp_path, [grid(rows, [*GRID, *spans], colWidths=100)])) == [
        (header, "North 1 | 17 | 12 | Ramona Feldt"),
        (header, "South 7 | 23 | 19 | Ramona Feldt"),
        (header, "East 2 | closed | closed | Jan Okker"),
    ]


def test_cells_of_several_lines(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Name", "What it is"], ["crane", paragraph(TEXT)], ["rope", paragraph(TEXT * 2)]]
    header = "Name | What it is"
    assert table_rows(built(tmp_path, [grid(rows, GRID, colWidths=[80, 200])])) == [
        (header, f"crane | {TEXT.strip()}"),
        (header, f"rope | {(TEXT * 2).strip()}"),
    ]


@pytest.mark.parametrize("repeat", [0, 1], ids=["header once", "header on each page"])
@pytest.mark.parametrize("style", [GRID, []], ids=["grid", "no rules"])
def test_tables_go_on_over_pages_under_their_header(style: list[tuple[Any, ...]], repeat: int, tmp_path: Path) -> None:
    rows = [["Place", "Weight", "Price"], *([f"place {n}", str(10 + n), f"{n}.50"] for n in range(150))]
    found = built(tmp_path, [grid(rows, style, colWidths=120, repeatRows=repeat)])
    assert table_rows(found) == [("Place | Weight | Price", " | ".join(row)) for row in rows[1:]]
    assert max(e.page or 0 for e in found.elements) > 2


@pytest.mark.parametrize("above", [True, False])
def test_captions_come_before_their_table(above: bool, tmp_path: Path) -> None:
    caption, table = paragraph("Table 3: fees of the berths"), grid(ROWS, GRID, colWidths=110)
    story = [paragraph(TEXT * 3), *([caption, table] if above else [table, caption]), paragraph(TEXT * 3)]
    texts = built(tmp_path, story).texts
    assert texts.index("Table 3: fees of the berths") + 1 == texts.index(" | ".join(ROWS[1]))


def lists(sheet: Any) -> None:
    for at, mark in enumerate(("1.", "2.", "3.", "4.", "5.")):
        sheet.drawString(60, 700 - 20 * at, mark)
        sheet.drawString(90, 700 - 20 * at, f"item {mark} is something to be done at the mill")


def contents(sheet: Any) -> None:
    for at, name in enumerate(("Water", "Corn", "Wheels", "Stones", "Sacks")):
        sheet.drawString(60, 700 - 20 * at, f"{name} " + ". " * 40)
        sheet.drawString(480, 700 - 20 * at, str(at * 7))


def justified(sheet: Any) -> None:
    for at, width in enumerate((3.0, 9.0, 4.0, 8.0, 2.0, 7.0)):
        text = sheet.beginText(60, 700 - 12 * at)
        text.setWordSpace(width)
        text.textOut(TEXT[at : at + 60])
        sheet.drawText(text)


def boxes(sheet: Any) -> None:
    for at, name in enumerate(("water", "wheel", "stone")):
        sheet.rect(60 + 150 * at, 640, 100, 40)
        sheet.drawString(70 + 150 * at, 655, name)
        sheet.line(160 + 150 * at, 660, 210 + 150 * at, 660)


@pytest.mark.parametrize("draw", [lists, contents, justified, boxes])
def test_what_is_no_table(draw: Callable[[Any], None], tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    draw(sheet)
    sheet.save()
    found = read(tmp_path / "a.pdf")
    assert found.elements
    assert table_rows(found) == []


def shaded(sheet: Any, x: float, y: float) -> None:
    """A row of two cells between rules; each line of the first has a background of its own, and the second has boxes."""
    for left, width in ((x, 200), (x + 200, 150)):
        sheet.rect(left, y, width, 44, stroke=1, fill=0)
        for side in (left - 0.2, left + width - 0.2):
            sheet.rect(side, y, 0.4, 44, stroke=0, fill=1)
        for side in (y - 0.2, y + 43.8):
            sheet.rect(left, side, width, 0.4, stroke=0, fill=1)
    sheet.setFillGray(0.9)
    for part in (0, 22):
        sheet.rect(x + 5.4, y + part, 189, 22, stroke=0, fill=1)
    sheet.setFillGray(0)
    for box in (x + 210, x + 250):
        sheet.rect(box, y + 29, 11, 11)


def test_backgrounds_of_text_and_boxes_are_no_cells(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    for title, y in (("2. Of the wheels", 700), ("3. Of the stones", 500)):
        sheet.setFont("Helvetica-Bold", 14)
        sheet.drawString(60, y + 100, title)
        for at in range(2):
            shaded(sheet, 60, y + 44 * at)
            sheet.setFont("Helvetica-Bold", 12)
            sheet.drawString(68, y + 44 * at + 28, "Does the miller of the upper")
            sheet.drawString(68, y + 44 * at + 6, "mill know the rule?")
            sheet.setFont("Helvetica", 10)
            sheet.drawString(275, y + 44 * at + 31, "yes")
            sheet.drawString(315, y + 44 * at + 31, "no, he has never heard of it")
    sheet.save()
    found = read(tmp_path / "a.pdf")
    row = "Does the miller of the upper mill know the rule? | yes no, he has never heard of it"
    assert {cells for header, text in table_rows(found) for cells in (header, text) if cells} == {row}
    # All running text is in the tables: what stands between them, in larger type, heads them.
    assert [e.text for e in found.elements if e.kind is ElementKind.HEADING] == ["2. Of the wheels", "3. Of the stones"]
