"""PowerPoint files: every slide under its title, with tables, groups, notes and comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.types import ElementKind, LossKind
from tests import documents as d
from tests import ooxml
from tests.ooxml import deck, shape
from tests.reading import read, read_bytes


def test_slides_start_with_their_heading_and_keep_notes(tmp_path: Path) -> None:
    found = read(d.write(tmp_path, "pptx"))
    assert [e.page for e in found.elements if e.kind is ElementKind.HEADING] == [1, 2]
    assert found.texts[0] == found.title == d.TITLE
    assert [e.page for e in found.elements if e.text == f"Notes on {d.SECTION}"] == [2]


def test_a_slide_without_a_title_gets_a_heading(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.pptx", deck(shape("First words."), shape("Second words.")))
    assert found.texts == ["Slide 1", "First words.", "Slide 2", "Second words."]


TABLE = (
    "<p:graphicFrame><a:graphic><a:graphicData uri='http://schemas.openxmlformats.org/drawingml/2006/table'><a:tbl>"
    "<a:tblPr firstRow='1'/><a:tr><a:tc>{}</a:tc><a:tc>{}</a:tc></a:tr><a:tr><a:tc>{}</a:tc><a:tc>{}</a:tc></a:tr>"
    "<a:tr><a:tc gridSpan='2'>{}</a:tc><a:tc hMerge='1'/></a:tr></a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
)


def test_a_table_in_a_group(tmp_path: Path) -> None:
    cells = [
        f"<a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody>" for text in ("Name", "Shift", "Olga", "early", "All year")
    ]
    group = f"<p:grpSp>{TABLE.format(*cells)}<p:grpSp>{shape('Deep in groups')}</p:grpSp></p:grpSp>"
    found = read_bytes(tmp_path, "a.pptx", deck(shape("Plan", "title") + group))
    assert [(e.header, e.text) for e in found.elements[1:]] == [
        ("Name | Shift", "Olga | early"),
        ("Name | Shift", "All year"),
        ("", "Deep in groups"),
    ]


def test_numbers_of_slides_are_no_text_and_footers_come_once(tmp_path: Path) -> None:
    slide = shape("Words.") + shape("7", "sldNum") + shape("3 May", "dt") + shape("Harbour office", "ftr")
    assert read_bytes(tmp_path, "a.pptx", deck(slide, slide)).texts == ["Slide 1", "Words.", "Slide 2", "Words.", "Harbour office"]


def test_hidden_shapes_are_not_read(tmp_path: Path) -> None:
    hidden = shape("Never shown.").replace("<p:cNvPr ", "<p:cNvPr hidden='1' ")
    assert read_bytes(tmp_path, "a.pptx", deck(hidden + shape("Shown."))).texts == ["Slide 1", "Shown."]


def test_numbered_items(tmp_path: Path) -> None:
    numbered = "".join(
        f"<a:p><a:pPr lvl='{level}'><a:buAutoNum type='{kind}'/></a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>"
        for text, level, kind in (("One", 0, "arabicPeriod"), ("Under", 1, "alphaLcParenR"), ("Two", 0, "arabicPeriod"))
    )
    found = read_bytes(tmp_path, "a.pptx", deck(f"<p:sp><p:txBody>{numbered}</p:txBody></p:sp>"))
    assert found.texts[1:] == ["1. One", "a. Under", "2. Two"]
    assert {e.kind for e in found.elements[1:]} == {ElementKind.LIST_ITEM}


def test_pictures_media_and_objects(tmp_path: Path) -> None:
    def picture(properties: str, inner: str = "") -> str:
        return f"<p:pic><p:nvPicPr><p:cNvPr id='1' name='p' {properties}/><p:nvPr>{inner}</p:nvPr></p:nvPicPr></p:pic>"

    slide = picture("descr='A map of the port'") + picture("") + picture("", "<a:videoFile r:link='rId1'/>")
    drawing = "<a:graphic><a:graphicData uri='x/ole'><p:oleObj progId='Visio.Drawing'/></a:graphicData></a:graphic>"
    ole = f"<p:graphicFrame>{drawing}</p:graphicFrame>"
    found = read_bytes(tmp_path, "a.pptx", deck(slide + ole))
    assert found.texts == ["Slide 1", "Picture: A map of the port"]
    assert found.lost == {LossKind.PICTURE: 1, LossKind.EMBEDDED_OBJECT: 2}
    assert {loss.place for loss in found.losses} == {"page 1"}


def test_comments_with_their_author(tmp_path: Path) -> None:
    parts = {
        "slides/slide1.xml": ("slide", f"<p:sld {ooxml.NAMES}><p:cSld><p:spTree>{shape('Words.')}</p:spTree></p:cSld></p:sld>"),
        "authors.xml": ("commentAuthors", f"<p:cmAuthorLst {ooxml.NAMES}><p:cmAuthor id='1' name='Ada'/></p:cmAuthorLst>"),
    }
    main = f"<p:presentation {ooxml.NAMES}><p:sldIdLst><p:sldId id='256' r:id='rId1'/></p:sldIdLst></p:presentation>"
    data = ooxml.package("pptx", main, parts)
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/comments"
    members["ppt/slides/_rels/slide1.xml.rels"] = (
        "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>"
        f"<Relationship Id='rId1' Type='{relation}' Target='../comments/c.xml'/></Relationships>"
    ).encode()
    members["ppt/comments/c.xml"] = (
        f"<p:cmLst {ooxml.NAMES}><p:cm authorId='1' dt='2026-05-06T07:08:09.100'><p:text>Is it so?</p:text></p:cm></p:cmLst>"
    ).encode()
    assert read_bytes(tmp_path, "a.pptx", d.zip_of(members)).texts[-1] == "Comment by Ada, 2026-05-06T07:08:09: Is it so?"


@pytest.mark.parametrize("kind", ["pptx", "ppsx", "potx"])
def test_all_kinds_of_presentations(kind: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, f"a.{kind}", deck(shape("Words."), kind=kind)).texts == ["Slide 1", "Words."]


def test_a_missing_slide_is_a_loss(tmp_path: Path) -> None:
    data = deck(shape("Words."), shape("Gone.")).replace(b"slides/slide2.xml", b"slides/slide9.xml")
    found = read_bytes(tmp_path, "a.pptx", data)
    assert found.texts[:2] == ["Slide 1", "Words."]
    assert found.lost.get(LossKind.UNREADABLE_PART, 0) <= 1
