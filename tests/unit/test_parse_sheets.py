"""Workbooks: cells as Excel shows them, merged cells, several tables on a sheet, and what is named as a loss."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import openpyxl
import pytest
from openpyxl.comments import Comment

from pipeline.parse import kinds, parse
from pipeline.parse.ooxml.number_format import BUILTIN, shown
from pipeline.types import ElementKind, LossKind
from tests import ooxml
from tests.ooxml import workbook
from tests.reading import Read, read, read_bytes

#: Expected texts as Excel shows them; of the formats, those of ECMA-376 and of its own manual.
SHOWN = [
    (1067, "00000", "01067"),
    (0.195, "0.0%", "19.5%"),
    (46086, "DD.MM.YYYY", "05.03.2026"),
    (1.604166666666667, "[h]:mm", "38:30"),
    (0.3541666666666667, "h:mm:ss", "8:30:00"),
    (1234567.891, "#,##0.00", "1,234,567.89"),
    (-5, "0;(0)", "(5)"),
    (0, "0;-0;none", "none"),
    (12, '0" kg"', "12 kg"),
    (0.5, "# ?/?", "1/2"),
    (2.75, "# ?/?", "2 3/4"),
    (12345.678, "0.00E+00", "1.23E+04"),
    (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
    (1234.5, '#,##0.00 "€"', "1,234.50 €"),
    (123456789, "000-00-0000", "123-45-6789"),
    (46086.75, "yyyy-mm-dd hh:mm", "2026-03-05 18:00"),
    (46086, "d. mmmm yyyy", "5. March 2026"),
    (46086, "ddd d mmm", "Thu 5 Mar"),
    (0.75, "h:mm AM/PM", "6:00 PM"),
    (1500000, '0.0,," M"', "1.5 M"),
    (3, "General", "3"),
    (0.1 + 0.2, "0.###", "0.3"),
    (5, "[Red]0", "5"),
    (150, '[>=100]"many";"few"', "many"),
    (50, '[>=100]"many";"few"', "few"),
    (7, "@", "7"),
    (1, "yyyy", "1900"),
    (0.00001157407407, "mm:ss.0", "00:01.0"),
    (45.5, '0.0"°"', "45.5°"),
    (0.5, "?/4", "2/4"),
    (2.99, "# ?/8", "3"),
    (0.99, "# ?/4", "1"),
    (0.99, "?/4", "4/4"),
    (5.99, "# ?/?", "6"),
    (0, '#,##0.00\\ "€";-#,##0.00\\ "€";"-"??\\ "€"', "- €"),
    (0, "#", ""),
    (46086, 'ggge"年"m"月"d"日"', "2026年3月5日"),
]


@pytest.mark.parametrize(("value", "code", "told"), SHOWN)
def test_number_formats(value: float, code: str, told: str) -> None:
    assert shown(value, code) == told


@pytest.mark.parametrize(
    ("number", "value", "told"),
    [(44, 1234.5, "1,234.50"), (31, 46086, "2026-03-05"), (55, 46086, "2026-03-05"), (55, 0.75, "18:00")],
)
def test_formats_that_files_name_by_number(number: int, value: float, told: str) -> None:
    assert shown(value, BUILTIN[number]) == told


def test_characters_that_stand_as_numbers_in_texts(tmp_path: Path) -> None:
    inline = "<c r='A1' t='inlineStr'><is><t>First_x000D_\nsecond _x00FC_ber, _x005F_x0041_ stays _xD83D__xDE00_</t></is></c>"
    found = of(tmp_path, f"<sheetData><row r='1'>{inline}</row></sheetData>")
    assert "First second über, _x0041_ stays 😀" in found.text


def test_days_that_count_from_1904() -> None:
    assert shown(0, "yyyy-mm-dd", since_1904=True) == "1904-01-01"


def cells(*rows: tuple[str, ...], start: int = 1) -> str:
    """Rows of texts, from row `start` on; an empty row is left out."""
    told = "".join(
        f'<row r="{number}">'
        + "".join(f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for at, text in enumerate(row) if text)
        + "</row>"
        for number, row in enumerate(rows, start)
        if any(row)
    )
    return f"<sheetData>{told}</sheetData>"


def of(folder: Path, *sheets: str, **options: object) -> Read:
    named = {f"S{number}": text for number, text in enumerate(sheets, 1)}
    return read_bytes(folder, "a.xlsx", workbook(named, **options))  # type: ignore[arg-type]


def test_values_as_excel_shows_them(tmp_path: Path) -> None:
    styles = (
        '<numFmts><numFmt numFmtId="164" formatCode="0000"/><numFmt numFmtId="165" formatCode="0.0%"/></numFmts>'
        '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="14"/></cellXfs>'
    )
    row = (
        '<row><c s="1"><v>42</v></c><c s="2"><v>0.125</v></c><c s="3"><v>46086</v></c><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c>'
        '<c t="str"><f>A1&amp;B1</f><v>joined</v></c><c><v>0.30000000000000004</v></c><c t="d"><v>2026-03-05</v></c></row>'
    )
    assert of(tmp_path, f"<sheetData>{row}</sheetData>", styles=styles).texts[1:] == [
        "0042 | 12.5% | 2026-03-05 | TRUE | #N/A | joined | 0.3 | 2026-03-05"
    ]


@pytest.mark.parametrize(
    ("formula", "told", "lost"),
    [
        ('HYPERLINK("https://x.example","The manual")', "The manual", 0),
        ('CONCATENATE("Shelf ","Q")', "Shelf Q", 0),
        ('"a "&amp;"b"', "a b", 0),
        ("D2*E2", "=D2*E2", 1),
    ],
)
def test_formulas_whose_result_is_not_stored(formula: str, told: str, lost: int, tmp_path: Path) -> None:
    found = of(tmp_path, f"<sheetData><row><c><f>{formula}</f><v></v></c><c><v>1</v></c></row></sheetData>")
    assert found.texts[1:] == [f"{told} | 1"]
    assert found.lost.get(LossKind.FORMULA, 0) == lost


def test_merged_cells_are_repeated_where_the_row_has_others(tmp_path: Path) -> None:
    sheet = cells(
        ("Zone", "Weight", "Price"), ("Alps", "5 kg", "17"), ("", "10 kg", "23"), ("Coast", "on request"), ("All prices in euros",)
    )
    merged = '<mergeCells><mergeCell ref="A2:A3"/><mergeCell ref="B4:C4"/><mergeCell ref="A5:C5"/></mergeCells>'
    assert of(tmp_path, sheet + merged).texts[1:] == [
        "Alps | 5 kg | 17",
        "Alps | 10 kg | 23",
        "Coast | on request | on request",
        "All prices in euros",
    ]


def test_a_title_over_several_rows_comes_once(tmp_path: Path) -> None:
    rows = '<row r="1"><c r="A1" t="inlineStr"><is><t>Fees</t></is></c><c r="B1"/></row><row r="2"><c r="A2"/><c r="B2"/></row>'
    merged = '<mergeCells><mergeCell ref="A1:B2"/></mergeCells>'
    assert of(tmp_path, f"<sheetData>{rows}</sheetData>{merged}").texts == ["S1", "Fees"]


def test_several_tables_on_a_sheet(tmp_path: Path) -> None:
    sheet = cells(
        ("Fees",), (), ("Berth", "Fee"), ("North", "40"), (), ("South", "65"), (), ("Ship", "Crew"), ("Ada", "12"), (), ("Remark",)
    )
    found = of(tmp_path, sheet)
    assert [(e.kind, e.header, e.text) for e in found.elements[1:]] == [
        (ElementKind.PARAGRAPH, "", "Fees"),
        (ElementKind.TABLE_ROW, "Berth | Fee", "North | 40"),
        (ElementKind.TABLE_ROW, "Berth | Fee", "South | 65"),
        (ElementKind.TABLE_ROW, "Ship | Crew", "Ada | 12"),
        (ElementKind.PARAGRAPH, "", "Remark"),
    ]


def test_tables_next_to_each_other(tmp_path: Path) -> None:
    sheet = cells(("Berth", "Fee", "", "Ship", "Crew"), ("North", "40", "", "Ada", "12"), ("South", "65", "", "Bo", "7"))
    found = of(tmp_path, sheet)
    assert [(e.header, e.text) for e in found.elements[1:]] == [
        ("Berth | Fee", "North | 40"),
        ("Berth | Fee", "South | 65"),
        ("Ship | Crew", "Ada | 12"),
        ("Ship | Crew", "Bo | 7"),
    ]


def test_hidden_sheets_are_losses(tmp_path: Path) -> None:
    found = of(tmp_path, cells(("shown",)), cells(("secret",)), cells(("deep",)), states={"S2": "hidden", "S3": "veryHidden"})
    assert found.texts == ["S1", "shown"]
    assert [(loss.kind, loss.place) for loss in found.losses] == [(LossKind.HIDDEN_SHEET, "S2"), (LossKind.HIDDEN_SHEET, "S3")]


def test_links_comments_charts_and_pictures_by_openpyxl(tmp_path: Path) -> None:
    from openpyxl.chart import BarChart, Reference

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fees"
    for row in (["Berth", "Fee"], ["North", 40], ["South", 65]):
        sheet.append(row)
    sheet["A2"].hyperlink = "https://port.example/north"
    sheet["B3"].comment = Comment("Since March.", "Ada")
    chart = BarChart()
    chart.title = "Fees by berth"
    chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=3), titles_from_data=True)
    sheet.add_chart(chart, "D2")
    book.save(tmp_path / "a.xlsx")
    found = read(tmp_path / "a.xlsx")
    assert found.texts == [
        "Fees",
        "North (https://port.example/north) | 40",
        "South | 65",
        "Comment by Ada on Fees!B3: Since March.",
        "Bar chart: Fees by berth",
    ]


@pytest.mark.parametrize("kind", ["xlsx", "xlsm", "xltx"])
def test_all_kinds_of_workbooks(kind: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, f"a.{kind}", workbook({"S1": cells(("Words",))}, kind=kind)).texts == ["S1", "Words"]


def test_strict_workbooks(tmp_path: Path) -> None:
    import io

    from tests.documents import zip_of

    with zipfile.ZipFile(io.BytesIO(workbook({"S1": cells(("Pump", "Serial"), ("Main", "STX"))}))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for main in (b"spreadsheetml", b"officeDocument"):
        old, new = b"http://schemas.openxmlformats.org/" + main + b"/2006/", b"http://purl.oclc.org/ooxml/" + main + b"/"
        members = {name: text.replace(old, new) for name, text in members.items()}
    assert read_bytes(tmp_path, "a.xlsx", zip_of(members)).texts == ["S1", "Main | STX"]


def test_a_damaged_sheet_is_a_loss_and_the_others_are_read(tmp_path: Path) -> None:
    data = bytearray(workbook({"S1": cells(*[(f"word {n}",) for n in range(400)]), "S2": cells(("whole",))}))
    at = data.index(b"xl/worksheets/sheet1.xml") + 80
    data[at : at + 40] = bytes(40)
    found = read_bytes(tmp_path, "a.xlsx", bytes(data))
    assert found.texts[-2:] == ["S2", "whole"]
    assert found.lost == {LossKind.UNREADABLE_PART: 1}


def test_a_long_sheet_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    rows = "".join(f'<row r="{n}"><c r="A{n}"><v>{n}</v></c><c r="B{n}" t="str"><v>word{n}</v></c></row>' for n in range(1, 20_001))
    path.write_bytes(workbook({"S1": f"<sheetData>{rows}</sheetData>"}))
    elements = parse(path, "long.xlsx", kinds.XLSX).elements
    next(elements)
    tracemalloc.start()
    assert sum(1 for _ in elements) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20  # all elements together take 3.6 MB


def test_reading_aids_and_rich_text(tmp_path: Path) -> None:
    rich = '<row><c t="inlineStr"><is><r><t>To</t></r><r><t>kyo</t></r><rPh><t>トウキョウ</t></rPh></is></c></row>'
    assert of(tmp_path, f"<sheetData>{rich}</sheetData>").texts == ["S1", "Tokyo"]


def test_a_binary_workbook_is_of_another_kind(tmp_path: Path) -> None:
    from pipeline.errors import DocumentError
    from pipeline.types import Reason

    data = ooxml.package("xlsx", "x").replace(b"x", b"x")
    ooxml._MAIN["xlsb"] = ("xl/workbook.bin", "application/vnd.ms-excel.sheet.binary.macroEnabled.main")
    data = ooxml.package("xlsb", "x")
    with pytest.raises(DocumentError) as caught:
        read_bytes(tmp_path, "a.xlsb", data)
    assert caught.value.reason is Reason.UNSUPPORTED
