"""PDF: tables that go on over pages, down to a single row, and what is another table or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

from pipeline.parse.pdf.continued import is_continued
from pipeline.types import ElementKind
from tests.reading import Read, read

GRID: list[tuple[Any, ...]] = [("GRID", (0, 0), (-1, -1), 0.5, "black")]
BOOK: list[tuple[Any, ...]] = [
    ("LINEABOVE", (0, 0), (-1, 0), 1, "black"),
    ("LINEBELOW", (0, 0), (-1, 0), 0.5, "black"),
    ("LINEBELOW", (0, -1), (-1, -1), 1, "black"),
]
BOLD: list[tuple[Any, ...]] = [("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold")]
NAMES = ["Berth", "Length", "Fee", "Owner"]
HEADER = " | ".join(NAMES)
TEXT = "The mill stands at the river and grinds the corn of the whole valley in a day and sometimes in a night of winter. "
#: Rows of a page.
FULL = 38

styles = pytest.mark.parametrize("style", [GRID, BOOK, []], ids=["grid", "three rules", "no rules"])


def paragraph(text: str) -> Any:
    return Paragraph(text, getSampleStyleSheet()["BodyText"])


def data(count: int, columns: int = 4) -> list[list[Any]]:
    return [[f"North {at}", str(40 + at), f"{at}.50", "Ramona Feldt"][:columns] for at in range(count)]


def table(rows: list[list[Any]], style: list[tuple[Any, ...]], **options: Any) -> Any:
    return Table(rows, style=style, **{"colWidths": 110, **options})


def built(folder: Path, story: list[Any], furniture: Any = None, **options: Any) -> Read:
    pages = {"onFirstPage": furniture, "onLaterPages": furniture} if furniture else {}
    SimpleDocTemplate(str(folder / "a.pdf"), **{"pagesize": A4, **options}).build(story, **pages)
    return read(folder / "a.pdf")


def rows_of(found: Read) -> list[tuple[str, str]]:
    return [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW]


def joined(rows: list[list[Any]], header: str = HEADER) -> list[tuple[str, str]]:
    return [(header, " | ".join(row)) for row in rows]


@styles
@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("repeat", [0, 1], ids=["header once", "header on each page"])
def test_a_single_row_on_a_page_belongs_to_its_table(style: list[Any], columns: int, repeat: int, tmp_path: Path) -> None:
    rows = data(FULL, columns)
    whole = table([NAMES[:columns], *rows], style, repeatRows=repeat)
    found = built(tmp_path, [whole, paragraph(TEXT * 3)])
    assert rows_of(found) == joined(rows, " | ".join(NAMES[:columns]))
    assert found.elements[-1].kind is ElementKind.PARAGRAPH
    assert found.elements[-2].page == 2


@styles
def test_a_running_header_is_no_row_of_a_table(style: list[Any], tmp_path: Path) -> None:
    def furniture(sheet: Any, template: Any) -> None:
        sheet.setFont("Helvetica", 8)
        sheet.drawString(66, 800, "Fees of the harbour")
        sheet.drawString(200, 800, str(template.page))

    found = built(tmp_path, [table([NAMES, *data(2 * FULL)], style)], furniture)
    assert rows_of(found) == joined(data(2 * FULL))


@styles
def test_a_header_that_changes_with_the_page_stands_above_the_rest_of_a_table(style: list[Any], tmp_path: Path) -> None:
    def furniture(sheet: Any, template: Any) -> None:
        sheet.setFont("Helvetica", 8)
        sheet.drawString(66, 815, ["From Aal to Bern", "Of the upper river"][template.page - 1])

    found = built(tmp_path, [table([NAMES, *data(FULL)], style), paragraph(TEXT * 3)], furniture)
    assert rows_of(found) == joined(data(FULL))


@styles
def test_a_caption_says_that_a_table_goes_on(style: list[Any], tmp_path: Path) -> None:
    rest = [PageBreak(), paragraph("Table 1 (continued)"), table(data(1), style), paragraph(TEXT * 3)]
    found = built(tmp_path, [table([NAMES, *data(30)], style), *rest])
    assert rows_of(found) == joined([*data(30), *data(1)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Table 1 (continued)", True),
        ("Tab. 2: Fees of the harbour, continued from the last page", True),
        ("Fees of the harbour (cont'd)", True),
        ("Fees [cont. from page 3]", True),
        ("Tableau 4 (suite et fin)", True),
        ("Gebühren – Fortsetzung", True),
        ("Continued", True),
        ("The work was continued in 1950 as follows:", False),
        ("Fees of the bridal suite", False),
        ("Rooms (bridal suite)", False),
        ("Table 3 names the mills of the valley in the order in which the work on them was continued", False),
    ],
)
def test_a_caption_has_a_form(text: str, expected: bool) -> None:
    assert is_continued(text) is expected


@styles
def test_a_row_on_each_of_several_pages_belongs_to_the_table(style: list[Any], tmp_path: Path) -> None:
    rows = [["mill", "1", "2.50", "grain"], ["tower on the hill", "12", "3.30", "fish"], ["The old bridge", "7", "5", "meat"]]
    rest = [part for row in rows for part in (PageBreak(), table([row], style))]
    found = built(tmp_path, [table([NAMES, *data(30)], style), *rest, paragraph(TEXT * 3)])
    assert rows_of(found) == joined([*data(30), *rows])


@pytest.mark.parametrize(("size", "columns", "expected"), [(10, 2, 1), (14, 2, 0), (14, 3, 1)])
def test_a_line_in_other_type_is_no_row_of_two_columns(size: int, columns: int, expected: int, tmp_path: Path) -> None:
    signed = table([["Signed", "A. Moor", "Harbour"][:columns]], [("FONTSIZE", (0, 0), (-1, -1), size)])
    found = built(tmp_path, [table([NAMES[:columns], *data(30, columns)], []), PageBreak(), signed, paragraph(TEXT * 3)])
    assert len(rows_of(found)) == 30 + expected


@styles
def test_a_footnote_does_not_end_a_table(style: list[Any], tmp_path: Path) -> None:
    note = paragraph("<font size=7>1 Without the tax of the river, as the master of the harbour says.</font>")
    rest = [PageBreak(), table(data(2), style), paragraph(TEXT * 3)]
    found = built(tmp_path, [table([NAMES, *data(30)], style), note, *rest])
    assert rows_of(found) == joined([*data(30), *data(2)])


@styles
def test_text_ends_a_table(style: list[Any], tmp_path: Path) -> None:
    rest = [PageBreak(), table(data(5), style)]
    found = built(tmp_path, [table([NAMES, *data(20)], style), paragraph(TEXT * 3), *rest])
    assert {(e.page, e.header == HEADER) for e in found.elements if e.kind is ElementKind.TABLE_ROW} == {(1, True), (2, False)}


@styles
@pytest.mark.parametrize(
    "names", [["Place", "Corn", "Sacks", "Miller"], ["Sheep", "Length", "Price", "Herd"]], ids=["bold", "shared"]
)
def test_another_table_on_the_next_page_has_its_own_header(style: list[Any], names: list[str], tmp_path: Path) -> None:
    bold = BOLD if "Length" not in names else []
    second = table([names, *data(5)], [*style, *bold])
    found = built(tmp_path, [table([NAMES, *data(20)], style), PageBreak(), second])
    assert rows_of(found) == [*joined(data(20)), *joined(data(5), " | ".join(names))]


def test_headers_of_two_rows_are_repeated(tmp_path: Path) -> None:
    names = [["Berth", "Fee", "", "Owner"], ["", "summer", "winter", ""]]
    spans = [("SPAN", (0, 0), (0, 1)), ("SPAN", (1, 0), (2, 0)), ("SPAN", (3, 0), (3, 1))]
    found = built(tmp_path, [table([*names, *data(60)], [*GRID, *spans], repeatRows=2)])
    assert rows_of(found) == joined(data(60), "Berth | Fee summer | Fee winter | Owner")


def test_a_row_with_a_merged_cell_is_alone_on_a_page(tmp_path: Path) -> None:
    rows = [*data(FULL - 1), ["closed in winter", "", "1", "nobody"]]
    found = built(tmp_path, [table([NAMES, *rows], [*GRID, ("SPAN", (0, FULL), (1, FULL))])])
    assert rows_of(found)[-1] == (HEADER, "closed in winter | closed in winter | 1 | nobody")


@pytest.mark.parametrize("repeat", [0, 1], ids=["header once", "header on each page"])
def test_a_merged_cell_goes_on_over_pages(repeat: int, tmp_path: Path) -> None:
    span = ("SPAN", (0, FULL - 3), (0, FULL + 4))
    found = built(tmp_path, [table([NAMES, *data(FULL + 4)], [*GRID, span], repeatRows=repeat)])
    assert rows_of(found)[: FULL - 4] == joined(data(FULL - 4))
    assert {text.split(" | ")[0] for _, text in rows_of(found)[FULL - 4 :]} == {f"North {FULL - 4}"}
    assert {header for header, _ in rows_of(found)} == {HEADER}


@pytest.mark.parametrize("merged", [0, 3])
def test_a_merged_cell_without_text_goes_on_with_the_one_above_it(merged: int, tmp_path: Path) -> None:
    rows = [[f"quay {at} | left", *cells[1:3], f"Miller {at}"] for at, cells in enumerate(data(36))]
    for at in range(27, 36):
        rows[at][merged] = rows[27][merged]
    spans = [("SPAN", (merged, 28), (merged, 30)), ("SPAN", (merged, 0), (merged, 5))]
    rest = [["" if at == merged else text for at, text in enumerate(cells)] for cells in rows[30:]]
    parts = [table([NAMES, *rows[:30]], [*GRID, spans[0]]), PageBreak(), table(rest, [*GRID, spans[1]])]
    assert rows_of(built(tmp_path, parts)) == joined(rows)


@styles
def test_lines_of_a_cell_are_one_row(style: list[Any], tmp_path: Path) -> None:
    rows = [*data(FULL - 1), ["North 99", "1", "2.50", paragraph("the miller of the upper valley, his wife")]]
    found = built(tmp_path, [table([NAMES, *rows], [*style, ("VALIGN", (0, 0), (-1, -1), "TOP")])])
    assert found.elements[-1].page == 2
    assert [header for header, _ in rows_of(found)] == [HEADER] * FULL
    assert sorted(rows_of(found)[-1][1].replace(" | ", " ").split()) == sorted(
        ["North", "99", "1", "2.50", "the", "miller", "of", "the", "upper", "valley,", "his", "wife"]
    )


@styles
def test_landscape_pages(style: list[Any], tmp_path: Path) -> None:
    found = built(tmp_path, [table([NAMES, *data(24)], style), paragraph(TEXT * 3)], pagesize=landscape(A4))
    assert rows_of(found) == joined(data(24))
    assert found.elements[-2].page == 2


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rules_of_turned_pages_enclose_cells(angle: int, tmp_path: Path) -> None:
    width, height = A4
    sheet = canvas.Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    sheet.translate(*{90: (width, 0), 180: (width, height), 270: (0, height)}[angle])
    sheet.rotate({90: 90, 180: 180, 270: -90}[angle])
    drawn = table(
        [["Name", "What it is", "Whose"], *([f"crane {at}", paragraph(TEXT), paragraph(TEXT * 2)] for at in range(3))],
        GRID,
        colWidths=[60, 150, 200],
    )
    _, tall = drawn.wrap(500, 500)
    drawn.drawOn(sheet, 60, 520 - tall)
    sheet.setPageRotation(angle)
    sheet.save()
    rows = [[f"crane {at}", TEXT.strip(), (TEXT * 2).strip()] for at in range(3)]
    assert rows_of(read(tmp_path / "a.pdf")) == joined(rows, "Name | What it is | Whose")
