"""OpenDocument spreadsheets: cells as they are shown, several tables on a sheet, and what is named as a loss."""

from __future__ import annotations

from pathlib import Path

from pipeline.types import ElementKind, LossKind
from tests import opendocument as odf
from tests.opendocument import box, cell, row, sheet
from tests.reading import Read, read_bytes


def ods(tmp_path: Path, body: str, automatic: str = "") -> Read:
    return read_bytes(tmp_path, "a.ods", odf.sheets(body, automatic))


def test_cells_are_what_the_file_shows(tmp_path: Path) -> None:
    automatic = (
        '<number:date-style style:name="N1" number:automatic-order="true"/><number:date-style style:name="N2"/>'
        '<style:style style:name="local" style:family="table-cell" style:data-style-name="N1"/>'
        '<style:style style:name="heir" style:family="table-cell" style:parent-style-name="local"/>'
        '<style:style style:name="own" style:family="table-cell" style:data-style-name="N2"/>'
    )
    columns = '<table:table-column/><table:table-column table:number-columns-repeated="2" table:default-cell-style-name="local"/>'
    day = 'office:value-type="date" office:date-value="{}"'.format
    cells = (
        cell("12,5 %", 'office:value-type="percentage" office:value="0.125"'),
        cell("03.06.24", day("2024-06-03")),
        cell("03.06.24 10:30", day("2024-06-03T10:30:00")),
        cell("06/03/24", day("2024-06-03") + ' table:style-name="heir"'),
        cell("3. Juni 2024", day("2024-06-03") + ' table:style-name="own"'),
        '<table:table-cell office:value-type="float" office:value="0.30000000000000004"/>',
        cell("7", 'office:value-type="float" office:value="7" table:formula="of:=[.A1]*2"'),
        '<table:table-cell table:formula="of:=[.A1]+1"/>',
        '<table:table-cell office:value-type="string" office:string-value="" table:formula="of:=IF(0;1;&quot;&quot;)"/>',
        cell("two <text:s/>lines</text:p><text:p>here"),
        cell('<text:a xlink:href="https://port.example/plan">Plan</text:a>'),
    )
    found = ods(tmp_path, sheet("Fees", columns, row(*cells)), automatic)
    told = "12,5 % | 2024-06-03 | 2024-06-03 10:30 | 2024-06-03 | 3. Juni 2024 | 0.3 | 7 | =[.A1]+1 |  | two lines here | "
    assert found.of(ElementKind.TABLE_ROW) == [told + "Plan (https://port.example/plan)"]
    assert [(loss.kind, loss.place) for loss in found.losses] == [(LossKind.FORMULA, "Fees!H1")]


def test_rows_and_cells_that_stand_for_several(tmp_path: Path) -> None:
    merged = '<table:table-cell table:number-rows-spanned="2" office:value-type="string"><text:p>North</text:p></table:table-cell>'
    empty = '<table:table-cell table:number-columns-repeated="16384"/>'
    found = ods(
        tmp_path,
        sheet(
            "Fees",
            row("Berth", "Fee", "Tax"),
            row(merged, "40", cell("2", 'office:value-type="float"')),
            row(
                "<table:covered-table-cell/>",
                '<table:table-cell table:number-columns-repeated="2"><text:p>50</text:p></table:table-cell>',
            ),
            f'<table:table-row table:number-rows-repeated="1048000">{empty}</table:table-row>',
            "<table:table-row-group><table:table-header-rows>"
            + row("Ship", "Length")
            + "</table:table-header-rows>"
            + row("Ada", "12")
            + "</table:table-row-group>",
            f'<table:table-row table:number-rows-repeated="9999999">{cell("Bo")}</table:table-row>',
        ),
    )
    rows = [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW]
    assert rows[:3] == [
        ("Berth | Fee | Tax", "North | 40 | 2"),
        ("Berth | Fee | Tax", "North | 50 | 50"),
        ("Ship | Length", "Ada | 12"),
    ]
    assert len(rows) == 1003


def test_sheets_comments_and_what_is_drawn(tmp_path: Path) -> None:
    hides = '<style:style style:name="ta1" style:family="table"><style:table-properties table:display="false"/></style:style>'
    comment = (
        "<office:annotation><dc:creator>Ann</dc:creator><dc:date>2024-06-03T10:00:00</dc:date>"
        "<text:p>Too much?</text:p></office:annotation>"
    )
    found = ods(
        tmp_path,
        sheet("Old", row("secret"), style="ta1")
        + sheet("Fees", f"<table:shapes>{box('Drawn on it')}<draw:frame><draw:image/></draw:frame></table:shapes>",
                row("Berth", f"<table:table-cell>{comment}<text:p>40</text:p></table:table-cell>"))
        + sheet("Empty"),
        hides,
    )  # fmt: skip
    assert [(e.kind.value, e.text, e.page) for e in found.elements] == [
        ("heading", "Fees", 2),
        ("table_row", "Berth | 40", 2),
        ("paragraph", "Drawn on it", 2),
        ("paragraph", "Comment by Ann, 2024-06-03T10:00:00 on Fees!B1: Too much?", 2),
    ]
    assert found.lost == {LossKind.HIDDEN_SHEET: 1, LossKind.PICTURE: 1}
    assert "secret" not in found.text


def test_a_workbook_that_ends_too_early(tmp_path: Path) -> None:
    whole = odf.content("spreadsheet", sheet("Fees", row("Berth", "Fee"), row("North", "40")))
    found = read_bytes(tmp_path, "a.ods", odf.package("spreadsheet", whole[: whole.index("40")]))
    assert "Berth | Fee" in found.text
    assert LossKind.UNREADABLE_PART in found.lost
