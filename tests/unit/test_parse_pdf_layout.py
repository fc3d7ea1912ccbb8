"""PDF: reading order, running headers, words and headings, by what pages show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.parse.pdf.glyphs import Piece
from pipeline.parse.pdf.lines import line_of
from pipeline.types import ElementKind
from tests.reading import Read, read

Draw = Callable[[Any], None]
WORDS = (
    *("harbour", "rope", "lantern", "winter", "cargo", "anchor", "ledger", "gravel", "copper", "signal", "orchard", "meadow"),
    *("castle", "barrel", "timber", "velvet", "marble", "pepper", "saddle", "thunder", "walnut", "island", "bridge", "candle"),
    *("feather", "garden", "hammer", "kettle", "ladder", "mirror", "needle", "oyster", "pillow", "ribbon"),
)


def made(folder: Path, pages: list[Draw], *, size: tuple[float, float] = (595, 842)) -> Read:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(folder / "a.pdf"), pagesize=size)
    for draw in pages:
        sheet.setFont("Times-Roman", 10)
        draw(sheet)
        sheet.showPage()
    sheet.save()
    return read(folder / "a.pdf")


def column(name: str, rows: int, length: int = 6) -> list[str]:
    """Lines of running text; each names its column and its place in it."""
    return [f"{name}{row} " + " ".join(WORDS[(row * 7 + at * 3) % len(WORDS)] for at in range(length)) for row in range(rows)]


def put(sheet: Any, x: float, y: float, lines: list[str], lead: float = 12) -> None:
    for at, line in enumerate(lines):
        sheet.drawString(x, y - lead * at, line)


def in_order(found: Read, marks: list[str]) -> bool:
    text = found.text.replace("\n", " ") + " "
    places = [text.find(f"{mark} ") for mark in marks]
    return -1 not in places and places == sorted(places)


def names(*columns: tuple[str, int]) -> list[str]:
    return [f"{name}{row}" for name, rows in columns for row in range(rows)]


@pytest.mark.parametrize("by_row", [True, False], ids=["written by row", "written by column"])
@pytest.mark.parametrize("count", [2, 3])
def test_columns_below_a_title_and_above_a_line_across(count: int, by_row: bool, tmp_path: Path) -> None:
    places = [50 + at * 500 / count for at in range(count)]
    columns = [column("ABC"[at], 12, 9 - 2 * count) for at in range(count)]

    def draw(sheet: Any) -> None:
        sheet.drawString(50, 790, "across0 " + " ".join(WORDS[:16]))
        sheet.drawString(50, 778, "across1 " + " ".join(WORDS[3:19]))
        if by_row:
            for row in range(12):
                for x, lines in zip(places, columns, strict=True):
                    sheet.drawString(x, 740 - 12 * row, lines[row])
        else:
            for x, lines in zip(places, columns, strict=True):
                put(sheet, x, 740, lines)
        sheet.drawString(50, 570, "below0 " + " ".join(WORDS[5:21]))

    found = made(tmp_path, [draw])
    assert in_order(found, [*names(("across", 2)), *names(*(("ABC"[at], 12) for at in range(count))), "below0"])


def test_regions_of_different_columns_on_one_page(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        for row, (left, right) in enumerate(zip(column("A", 8), column("B", 8), strict=True)):
            sheet.drawString(50, 780 - 12 * row, left)
            sheet.drawString(310, 780 - 12 * row, right)
        put(sheet, 50, 660, [line + " " + " ".join(WORDS[2:11]) for line in column("M", 3)])
        for row, lines in enumerate(zip(*(column(name, 8, 3) for name in "CDE"), strict=True)):
            for x, line in zip((50, 220, 390), lines, strict=True):
                sheet.drawString(x, 600 - 12 * row, line)

    assert in_order(made(tmp_path, [draw]), names(("A", 8), ("B", 8), ("M", 3), ("C", 8), ("D", 8), ("E", 8)))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_pages_and_turned_text_are_read_as_they_are_seen(turn: int, tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        sheet.setPageRotation(turn)
        sheet.translate(300, 420)
        sheet.rotate(turn)
        for row, (left, right) in enumerate(zip(column("A", 6), column("B", 6), strict=True)):
            sheet.drawString(-250, 100 - 12 * row, left)
            sheet.drawString(10, 100 - 12 * row, right)

    assert in_order(made(tmp_path, [draw]), names(("A", 6), ("B", 6)))


def test_turned_text_beside_a_page_comes_after_it(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        sheet.saveState()
        sheet.translate(30, 300)
        sheet.rotate(90)
        sheet.drawString(0, 0, "margin0 " + " ".join(WORDS[:6]))
        sheet.restoreState()
        put(sheet, 60, 780, column("A", 30, 8))

    assert in_order(made(tmp_path, [draw]), [*names(("A", 30)), "margin0"])


def book(pages: int, header: Callable[[int], str], footer: Callable[[int], str]) -> list[Draw]:
    def page(number: int) -> Draw:
        def draw(sheet: Any) -> None:
            sheet.drawString(60, 810, header(number))
            put(sheet, 60, 770, [f"{WORDS[number]} {WORDS[row]} " + " ".join(WORDS[8:15]) for row in range(20)])
            sheet.drawString(290, 30, footer(number))

        return draw

    return [page(number) for number in range(1, pages + 1)]


ROMAN_FIRST = ("ii", "iii", "iv", "v", "vi", "vii", "viii", "1", "2")
HEADERS: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {
    "same text": (lambda n: "Manual of the mill", lambda n: f"{n}"),
    "odd and even": (lambda n: "Manual of the mill" if n % 2 else "Part of the gears", lambda n: f"Page {n} of 9"),
    "numbered from elsewhere": (lambda n: "Manual of the mill", lambda n: f"– {n + 41} –"),
    "roman": (lambda n: "Manual of the mill", lambda n: ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")[n - 1]),
    "excerpt": (lambda n: f"Manual of the mill, chapter 3, page {n * n + 3}", lambda n: f"{n}"),
    "roman, then not": (lambda n: f"Manual of the mill and gears {ROMAN_FIRST[n - 1]}", lambda n: f"{n}"),
    "sections": (lambda n: f"{n} Manual of the mill" if n % 2 else f"Section on subject {WORDS[n]} {n}", lambda n: "Secret"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_and_footers_come_once_at_the_end(kind: str, tmp_path: Path) -> None:
    header, footer = HEADERS[kind]
    found = made(tmp_path, book(9, header, footer))
    bodies = [e for e in found.elements if WORDS[14] in e.text]
    kept = [e.text for e in found.elements if e not in bodies]
    assert len(bodies) >= 9
    assert sum("Manual of the mill" in text for text in found.texts) == 1
    assert not any(text.strip("– ").isdigit() or text.startswith("Page") or text in ("iv", "vi") for text in kept)
    assert kept == found.texts[-len(kept) :]


def test_what_one_page_alone_has_at_its_edge_stays(tmp_path: Path) -> None:
    lasts = ["1984", "civil", "mill", "xiv", "48213", "7"]
    heads = ["Total due", "Names", "Places", "Kings", "Amount", "Size"]
    found = made(tmp_path, book(6, lambda n: heads[n - 1], lambda n: lasts[n - 1]))
    assert all(any(text in e.text.split() or text in e.text for e in found.elements) for text in [*lasts, *heads])


def test_the_number_of_one_page_is_left_out_where_it_says_so(tmp_path: Path) -> None:
    found = made(tmp_path, book(1, lambda n: "Page 7 of 9", lambda n: "Page 7 shows it"))
    assert not any("of 9" in text for text in found.texts)
    assert any("Page 7 shows it" in text for text in found.texts)


def test_numbers_beside_few_words_that_grow_stay(tmp_path: Path) -> None:
    """Figures of three pages at one place, such as amounts, are no numbers of pages."""
    found = made(tmp_path, book(3, lambda n: f"Total due {(17, 43, 98)[n - 1]}", lambda n: "Secret"))
    assert all(any(number in text for text in found.texts) for number in ("17", "43", "98"))


def test_a_header_that_is_all_of_a_page_stays(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        sheet.drawString(60, 810, "This page was left empty")

    assert made(tmp_path, [draw] * 4).texts == ["This page was left empty"] * 4


def test_divided_words_by_what_the_document_says_later(tmp_path: Path) -> None:
    def first(sheet: Any) -> None:
        put(
            sheet,
            60,
            780,
            ["The sluice has a counter-", "weight and a head-", "race of oak, and the over-", "seer of the mill-", "pond."],
        )

    def second(sheet: Any) -> None:
        put(sheet, 60, 780, ["A counterweight of lead, the head-race, and the mill-pond in winter.", "It is cold."])

    text = made(tmp_path, [first, second]).text
    assert all(f" {word} " in text for word in ("counterweight", "head-race", "overseer"))
    assert "the mill-pond." in text


def test_spaced_out_letters_and_drop_capitals_are_words(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        spaced = sheet.beginText(60, 790)
        spaced.setCharSpace(5)
        spaced.textOut("WINTER")
        spaced.setCharSpace(0)
        sheet.drawText(spaced)
        sheet.setFont("Times-Bold", 34)
        sheet.drawString(60, 716, "O")
        sheet.setFont("Times-Roman", 10)
        put(sheet, 88, 732, ["ur mill stands at the river and grinds", "the corn of the whole valley in a day"])
        put(sheet, 60, 704, ["and sometimes in the night, when the water is", "high enough to turn both of its wheels."])

    found = made(tmp_path, [draw])
    assert "WINTER" in found.text
    assert any(e.text.startswith("Our mill stands at the river and grinds the corn") for e in found.elements)


def test_numbers_of_footnotes_are_apart_from_words(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        text = sheet.beginText(60, 790)
        parts = [("The mill was rebuilt", 0), ("12", 4), (" with an area of 40 m", 0), ("2", 4), (" by Vitruvius9.", 0)]
        for part, rise in parts:
            text.setFont("Times-Roman", 6 if rise else 10)
            text.setRise(rise)
            text.textOut(part)
        sheet.drawText(text)

    assert made(tmp_path, [draw]).texts == ["The mill was rebuilt 12 with an area of 40 m2 by Vitruvius9."]


def headings(found: Read) -> list[tuple[int, str]]:
    return [(e.level, e.text) for e in found.elements if e.kind is ElementKind.HEADING]


def chapter(sheet: Any, lines: list[tuple[str, float, str]]) -> None:
    y = 790.0
    for font, size, text in lines:
        sheet.setFont(font, size)
        for line in [text] if text else column("t", 4, 9):
            sheet.drawString(60, y, line)
            y -= 1.25 * size
        y -= 10


def test_headings_by_size_weight_and_number(tmp_path: Path) -> None:
    body = ("Times-Roman", 10.0, "")
    titles = [
        ("Times-Bold", 20.0, "Rules of the mill", 1),
        ("Times-Bold", 14.0, "1 Water", 2),
        ("Times-Bold", 10.0, "1.1 High water", 3),
        ("Times-Bold", 10.0, "Ice", 3),
        ("Times-Bold", 14.0, "2 Corn", 2),
        ("Times-Roman", 10.0, "2.1 Rye and wheat", 3),
    ]
    lines = [line for font, size, text, _ in titles for line in ((font, size, text), body)]
    found = made(tmp_path, [lambda sheet: chapter(sheet, lines)])
    assert headings(found) == [(level, text) for _, _, text, level in titles]


def test_headings_in_italics(tmp_path: Path) -> None:
    body = ("Times-Roman", 10.0, "")
    lines = [body, ("Times-Italic", 10.0, "Stones of the Upper Mill"), body, ("Times-Italic", 10.0, "a word in passing"), body]
    assert [text for _, text in headings(made(tmp_path, [lambda sheet: chapter(sheet, lines)]))] == ["Stones of the Upper Mill"]


def test_bold_words_are_no_headings(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        put(sheet, 60, 790, column("t", 4, 9))
        sheet.setFont("Times-Bold", 10)
        sheet.drawString(60, 720, "Warning: never reach into the gears while the wheel turns.")
        sheet.drawString(60, 690, "Figure 3: the gears")
        sheet.setFont("Times-Roman", 10)
        put(sheet, 60, 660, column("u", 4, 9))

    assert headings(made(tmp_path, [draw])) == []


def test_headings_by_bookmarks(tmp_path: Path) -> None:
    def page(title: str, level: int) -> Draw:
        def draw(sheet: Any) -> None:
            sheet.bookmarkPage(title)
            sheet.addOutlineEntry(title, title, level)
            put(sheet, 60, 790, [title])
            put(sheet, 60, 770, column("t", 5, 9))

        return draw

    found = made(tmp_path, [page("Of water", 0), page("Of its height", 1), page("Of corn", 0)])
    assert headings(found) == [(1, "Of water"), (2, "Of its height"), (1, "Of corn")]


def test_numbers_in_parentheses_head_the_text_right_below(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        y = 790.0
        for number in (1, 2):
            for size, lines in ((12.5, [f"({number}) Water of the upper pond"]), (11.5, column("t", 5, 9))):
                sheet.setFont("Times-Roman", size)
                put(sheet, 60, y, lines, 17)
                y -= 17 * len(lines)

    found = [text for _, text in headings(made(tmp_path, [draw]))]
    assert found == ["(1) Water of the upper pond", "(2) Water of the upper pond"]


def test_addresses_are_no_headings(tmp_path: Path) -> None:
    lines = [
        ("Times-Bold", 18.0, "example.org/mills"),
        ("Times-Roman", 10.0, ""),
        ("Times-Bold", 18.0, "Of wheels"),
        ("Times-Roman", 10.0, ""),
    ]
    assert [text for _, text in headings(made(tmp_path, [lambda sheet: chapter(sheet, lines)]))] == ["Of wheels"]


def test_items_behind_larger_bullets_are_one(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        text = sheet.beginText(60, 760)
        for size, part in ((13, "• "), (9, "They coordinate appointments of millers and of")):
            text.setFont("Times-Roman", size)
            text.textOut(part)
        sheet.drawText(text)
        sheet.setFont("Times-Roman", 9)
        sheet.drawString(72, 749, "carters to the mills of the valley.")
        put(sheet, 60, 700, column("t", 6, 9))

    found = made(tmp_path, [draw])
    assert "• They coordinate appointments of millers and of carters to the mills of the valley." in found.texts
    assert headings(found) == []


def test_numbers_of_footnotes_in_korean(tmp_path: Path) -> None:
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfbase.pdfmetrics import registerFont

    registerFont(UnicodeCIDFont("HYSMyeongJo-Medium"))

    def draw(sheet: Any) -> None:
        text = sheet.beginText(60, 790)
        for size, rise, part in ((10, 0, "보험"), (6, 4, "10)"), (10, 0, " 제2호")):
            text.setFont("HYSMyeongJo-Medium", size)
            text.setRise(rise)
            text.textOut(part)
        sheet.drawText(text)

    assert made(tmp_path, [draw]).texts == ["보험 10) 제2호"]


def test_arabic_and_latin_words_that_touch_are_two() -> None:
    text = "لغة R وPython"
    piece = Piece(text, 60, 700, 120, 712, size=12, bold=False, italic=False, fixed=False, lefts=[60], rights=[120], first=0)
    assert line_of([piece], 120.0).text == "لغة R و Python"
