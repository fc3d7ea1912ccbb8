"""PDF: comments, marked text, links and attached files, tags, Hebrew, and text that nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.parse import kinds, parse
from pipeline.types import ElementKind
from tests.reading import Read, read


def made(folder: Path, draw: Callable[[Any], None]) -> Read:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(folder / "a.pdf"))
    draw(sheet)
    sheet.save()
    return read(folder / "a.pdf")


def written(path: Path, objects: list[bytes]) -> Path:
    """A file of numbered objects; the first is its catalog."""
    data, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    path.write_bytes(
        data + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, data.index(b"xref\n0"))
    )
    return path


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(content), content)


def page(content: bytes, *, catalog: bytes = b"", resources: bytes = b"", entries: bytes = b"") -> list[bytes]:
    return [
        b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%s>>%s>>"
        % (resources, entries),
        stream(content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]


def test_highlighted_text_and_links_that_the_page_does_not_show(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        sheet.drawString(72, 700, "The sluice is opened at noon by the miller.")
        sheet.highlightAnnotation("", (72, 697, 135, 712), QuadPoints=(72, 712, 135, 712, 72, 697, 135, 697))
        sheet.drawString(72, 650, "See the plan of the mill and mill.example/plan for more.")
        sheet.linkURL("https://plans.example/mill?page=7", (94, 648, 190, 662))
        sheet.linkURL("https://mill.example/plan", (214, 648, 300, 662))

    texts = made(tmp_path, draw).texts
    assert any(text.startswith("Highlighted: The sluice") and "miller" not in text for text in texts)
    links = [text for text in texts if text.startswith("Links: ")]
    assert len(links) == 1
    assert "(https://plans.example/mill?page=7)" in links[0]
    assert "mill.example/plan" not in links[0].replace("plans.example/mill", "")


def test_comments_tell_what_they_are_about(tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        sheet.drawString(72, 700, "The sluice is opened at noon by the miller.")
        sheet.highlightAnnotation("not on Sundays", (72, 697, 135, 712), QuadPoints=(72, 712, 135, 712, 72, 697, 135, 697))

    texts = made(tmp_path, draw).texts
    assert any(text.startswith("Comment") and "on “The sluice" in text and text.endswith(": not on Sundays") for text in texts)


def test_files_attached_to_a_place_are_members(tmp_path: Path) -> None:
    objects = page(b"BT /F 12 Tf 72 700 Td (See the list that is attached here.) Tj ET", entries=b"/Annots[6 0 R]")
    objects += [
        b"<</Type/Annot/Subtype/FileAttachment/Rect[50 700 70 720]/FS 7 0 R>>",
        b"<</Type/Filespec/F(list.csv)/UF(list.csv)/EF<</F 8 0 R>>>>",
        stream(b"Berth,Fee\nNorth 1,40\n", b"/Type/EmbeddedFile"),
    ]
    parsed = parse(written(tmp_path / "a.pdf", objects), "a.pdf", kinds.PDF)
    assert [element.text for element in parsed.elements] == ["See the list that is attached here."]
    (member,) = parsed.members
    assert member.name == "list.csv"
    assert member.open().read() == b"Berth,Fee\nNorth 1,40\n"


@pytest.mark.parametrize(
    ("state", "is_shown"), [(b"/OFF[6 0 R]", False), (b"/ON[6 0 R]", True), (b"/BaseState/OFF/ON[7 0 R]", False)]
)
def test_layers_that_are_off_are_left_out(state: bytes, is_shown: bool, tmp_path: Path) -> None:
    content = (
        b"BT /F 12 Tf 72 700 Td (The visible part of the plan.) Tj ET"
        b" /OC /L BDC BT /F 12 Tf 72 600 Td (An older draft of it.) Tj ET EMC"
        b" /OC /M BDC BT /F 12 Tf 72 500 Td (The legend of the plan.) Tj ET EMC"
    )
    objects = page(
        content,
        catalog=b"/OCProperties<</OCGs[6 0 R 7 0 R]/D<<%s>>>>" % state,
        resources=b"/Properties<</L 6 0 R/M 7 0 R>>",
    )
    objects += [b"<</Type/OCG/Name(Draft \\(old\\))>>", b"<</Type/OCG/Name<FEFF004C00650067>>>"]
    text = read(written(tmp_path / "a.pdf", objects)).text
    assert "visible part" in text
    assert "legend of the plan" in text
    assert ("older draft" in text) is is_shown


@pytest.mark.parametrize("scanned", [True, False])
def test_invisible_text_counts_where_it_lies_over_a_picture(scanned: bool, tmp_path: Path) -> None:
    def draw(sheet: Any) -> None:
        from PIL import Image
        from reportlab.lib.utils import ImageReader

        if scanned:
            sheet.drawImage(ImageReader(Image.new("RGB", (60, 80), (90, 90, 120))), 0, 0, 590, 840)
        sheet.drawString(72, 700, "Words that everybody can see on this page.")
        text = sheet.beginText(72, 600)
        text.setTextRenderMode(3)
        text.textOut("Recognised words of the picture.")
        sheet.drawText(text)

    text = made(tmp_path, draw).text
    assert "everybody can see" in text
    assert ("Recognised words" in text) is scanned


@pytest.mark.parametrize(("tag", "level"), [(b"H1", 1), (b"H3", 3), (b"P", 0), (b"Chapter", 2)])
def test_tags_make_headings_of_lines_like_all_others(tag: bytes, level: int, tmp_path: Path) -> None:
    content = (
        b"/P <</MCID 0>> BDC BT /F 12 Tf 72 700 Td (Of the sluice) Tj ET EMC"
        b" /P <</MCID 1>> BDC BT /F 12 Tf 72 684 Td (It is opened at noon, and closed again in the evening.) Tj ET EMC"
    )
    objects = page(content, catalog=b"/MarkInfo<</Marked true>>/StructTreeRoot 6 0 R", entries=b"/StructParents 0")
    objects += [
        b"<</Type/StructTreeRoot/K[7 0 R 8 0 R]/ParentTree 9 0 R/RoleMap<</Chapter/H2>>>>",
        b"<</Type/StructElem/S/%s/P 6 0 R/Pg 3 0 R/K 0>>" % tag,
        b"<</Type/StructElem/S/P/P 6 0 R/Pg 3 0 R/K 1>>",
        b"<</Nums[0[7 0 R 8 0 R]]>>",
    ]
    found = read(written(tmp_path / "a.pdf", objects))
    headings = [(e.level, e.text) for e in found.elements if e.kind is ElementKind.HEADING]
    assert headings == ([(level, "Of the sluice")] if level else [])
    assert "It is opened at noon" in found.text


def lettered(content: bytes, first: bytes) -> list[bytes]:
    """A page whose letters from A to U mean other letters, from `first`."""
    cmap = b"1 begincodespacerange <00> <FF> endcodespacerange 1 beginbfrange <41> <55> <%s> endbfrange" % first
    objects = page(content)
    objects[4] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>"
    return [*objects, stream(b"begincmap " + cmap + b" endcmap")]


def hebrew(text: bytes) -> str:
    return "".join(chr(0x5D0 + mark - 65) if mark > 32 else " " for mark in text)


def test_columns_of_hebrew_are_read_from_right_to_left(tmp_path: Path) -> None:
    right = [b"ABCD EFGHI JKLM NOPQ RSTU", b"BBCD EFGHI JKLM NOPQ RSTU", b"CBCD EFGHI JKLM NOPQ RST", b"DBCD EFGHI JKLM NOPQ RSTU"]
    left = [line[::-1] for line in right]
    content = b""
    for row, lines in enumerate(zip(left, right, strict=True)):
        for x, line in zip((60, 330), lines, strict=True):  # letters stand on the page as they are seen
            content += b"BT /F 12 Tf %d %d Td (%s) Tj ET\n" % (x, 700 - 14 * row, line[::-1])
    text = " ".join(read(written(tmp_path / "a.pdf", lettered(content, b"05D0"))).texts)
    assert text == " ".join(map(hebrew, [*right, *left]))


def test_vertical_writing_is_read_from_right_to_left(tmp_path: Path) -> None:
    content = b""
    for column, text in enumerate((b"ABCDEFGHI", b"JKLMNOPQR", b"STUABCKLM")):
        for row, mark in enumerate(text):
            content += b"BT /F 14 Tf %d %d Td (%c) Tj ET\n" % (500 - 30 * column, 780 - 16 * row, mark)
    found = "".join("".join(read(written(tmp_path / "a.pdf", lettered(content, b"6C34"))).texts).split())
    assert found == "".join(chr(0x6C34 + mark - 65) for mark in b"ABCDEFGHIJKLMNOPQRSTUABCKLM")


def test_lines_of_chinese_are_joined_without_spaces(tmp_path: Path) -> None:
    lines = [b"ABCDEFGHIJKLMNOPQRSTU", b"BCDEFGHIJKLMNOPQRSTUA", b"CDEFG"]
    content = b"".join(b"BT /F 14 Tf 60 %d Td (%s) Tj ET\n" % (700 - 18 * row, line) for row, line in enumerate(lines))
    (found,) = read(written(tmp_path / "a.pdf", lettered(content, b"6C34"))).texts
    assert found == "".join(chr(0x6C34 + mark - 65) for mark in b"".join(lines))


@pytest.mark.parametrize(
    "matrix", [b"-1 0 0 1 300 700", b"1 0 0 -1 72 300", b"1e30 0 0 1e30 0 0", b"0 0 0 0 72 700", b"1 0.4 -0.4 1 72 300"]
)
def test_broken_places_cost_order_not_words(matrix: bytes, tmp_path: Path) -> None:
    lines = [b"The sluice of the mill is opened at noon %d" % at for at in range(12)]
    content = b"".join(b"BT /F 12 Tf 72 %d Td (%s) Tj ET\n" % (700 - 14 * at, line) for at, line in enumerate(lines))
    content += b"BT /F 12 Tf %s Tm (Odd words of a broken matrix) Tj ET" % matrix
    text = read(written(tmp_path / "a.pdf", page(content))).text
    assert all(line.decode() in text.replace("\n", " ") for line in lines)
