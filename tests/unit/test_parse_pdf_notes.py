"""PDF: comments, marked text, links and attached files, and text that nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.parse import kinds, parse
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
    path.write_bytes(data + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, data.index(b"xref\n0")))
    return path


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(content), content)


def page(content: bytes, *, catalog: bytes = b"", resources: bytes = b"", entries: bytes = b"") -> list[bytes]:
    return [
        b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%s>>%s>>" % (resources, entries),
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
        b"BT /F 12 Tf 72 700 Td (The visible part of the plan.) Tj ET /OC /L BDC BT /F 12 Tf 72 600 Td (An older draft of it.) Tj ET EMC"
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
