"""OpenDocument texts and presentations: structure, notes, what is drawn, and what is named as a loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds
from pipeline.types import ElementKind, LossKind, Reason
from tests import opendocument as odf
from tests.opendocument import box, frame
from tests.reading import Read, read_bytes

NUMBERED = (
    '<text:list-style style:name="L"><text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>'
    '<text:list-level-style-number text:level="2" style:num-format="a" style:num-suffix=")" text:display-levels="2"/>'
    '<text:list-level-style-bullet text:level="3"/></text:list-style>'
)

TITLE, OUTLINE, NOTES, PAGE_NUMBER = (f'presentation:class="{name}"' for name in ("title", "outline", "notes", "page-number"))
PLACEHOLDER = f'{OUTLINE} presentation:placeholder="true"'


def odt(tmp_path: Path, body: str, automatic: str = "", common: str = "", master: str = "", **parts: str) -> Read:
    everything = {"styles.xml": odf.styles(common, master)} | {name.replace("__", "/"): part for name, part in parts.items()}
    return read_bytes(tmp_path, "a.odt", odf.text(body, automatic, everything))


def odp(tmp_path: Path, body: str) -> Read:
    return read_bytes(tmp_path, "a.odp", odf.deck(body))


def test_headings_by_level_style_and_number(tmp_path: Path) -> None:
    outline = (
        '<text:outline-style style:name="Outline"><text:outline-level-style text:level="1" style:num-format="1"/>'
        '<text:outline-level-style text:level="2" style:num-format="1" text:display-levels="2"/></text:outline-style>'
        '<style:style style:name="Chapter" style:family="paragraph" style:default-outline-level="3"/>'
        '<style:style style:name="Title" style:family="paragraph"/>'
    )
    own = (
        '<style:style style:name="P1" style:family="paragraph" style:parent-style-name="Title"/>'
        '<style:style style:name="P2" style:family="paragraph" style:parent-style-name="P2"/>'
    )
    found = odt(
        tmp_path,
        '<text:p text:style-name="P1">Harbour</text:p><text:h text:outline-level="1">Fees</text:h>'
        '<text:h text:outline-level="2">Ropes</text:h><text:h text:outline-level="2">Cranes</text:h>'
        '<text:h text:outline-level="1">Rules</text:h><text:h text:outline-level="1" text:is-list-header="true">Annex</text:h>'
        '<text:p text:style-name="Chapter">Deep</text:p><text:p text:style-name="P2">Around itself</text:p>',
        own,
        outline,
    )
    headings = [(e.level, e.text) for e in found.elements if e.kind is ElementKind.HEADING]
    assert headings == [
        (1, "Harbour"),
        (1, "1 Fees"),
        (2, "1.1 Ropes"),
        (2, "1.2 Cranes"),
        (1, "2 Rules"),
        (1, "Annex"),
        (3, "Deep"),
    ]
    assert found.of(ElementKind.PARAGRAPH) == ["Around itself"]
    assert found.title == "Harbour"


def test_lists_have_their_numbers_and_may_go_on(tmp_path: Path) -> None:
    item = "<text:list-item><text:p>{}</text:p>{}</text:list-item>".format
    inner = f"<text:list>{item('two a', '')}{item('two b', '<text:list>' + item('deep', '') + '</text:list>')}</text:list>"
    found = odt(
        tmp_path,
        f'<text:list xml:id="one" text:style-name="L">{item("one", "")}{item("two", inner)}</text:list><text:p>between</text:p>'
        f'<text:list text:continue-list="one" text:style-name="L">{item("three", "<text:p>of it</text:p>")}</text:list>'
        f'<text:list text:style-name="L">{item("new", "")}'
        '<text:list-item text:start-value="7"><text:p>seven</text:p></text:list-item></text:list>',
        NUMBERED,
    )
    told = ["1. one", "2. two", "2.a) two a", "2.b) two b", "deep", "3. three", "of it", "1. new", "7. seven"]
    assert found.of(ElementKind.LIST_ITEM) == told


def test_notes_comments_and_changes(tmp_path: Path) -> None:
    note = (
        '<text:note text:note-class="{}"><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>{}</text:p></text:note-body></text:note>"
    )
    found = odt(
        tmp_path,
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>deleted</text:p></text:deletion></text:changed-region>"
        f"</text:tracked-changes><text:p>Ships{note.format('footnote', 'of steel')} sail"
        f"{note.format('endnote', 'slowly')}.<office:annotation><dc:creator>Ann</dc:creator><dc:date>2024-06-03T10:00:00</dc:date>"
        "<text:p>Really?</text:p></office:annotation></text:p><text:p>Next</text:p>",
    )
    assert found.texts == [
        "Ships sail.",
        "Footnote: of steel",
        "Endnote: slowly",
        "Comment by Ann, 2024-06-03T10:00:00: Really?",
        "Next",
    ]


def test_what_stands_inside_paragraphs(tmp_path: Path) -> None:
    found = odt(
        tmp_path,
        '<text:p>a<text:s text:c="3"/>b<text:tab/>c<text:line-break/>d <text:span>e</text:span>'
        "<text:ruby><text:ruby-base>f</text:ruby-base><text:ruby-text>aid</text:ruby-text></text:ruby></text:p>"
        '<text:p><loext:content-control loext:checkbox="true" loext:checked="true">☒</loext:content-control>Ropes '
        '<loext:content-control loext:checkbox="true">☐</loext:content-control>Cranes</text:p>'
        '<text:section text:display="none"><text:p>hidden</text:p></text:section>'
        "<text:section><text:p>shown</text:p><text:section><text:p>inside</text:p></text:section></text:section>"
        '<text:p text:style-name="Preformatted_20_Text">x =   1</text:p>',
        common='<style:style style:name="Preformatted_20_Text" style:display-name="Preformatted Text" style:family="paragraph"/>',
    )
    assert found.texts == ["a b c d ef", "[x] Ropes [ ] Cranes", "shown", "inside", "x =   1"]
    assert found.of(ElementKind.CODE) == ["x =   1"]


def test_tables_of_texts(tmp_path: Path) -> None:
    cell = "<table:table-cell {}><text:p>{}</text:p></table:table-cell>".format
    wide = cell('table:number-columns-spanned="2"', "Both") + "<table:covered-table-cell/>"
    high = cell('table:number-rows-spanned="2"', "North")
    found = odt(
        tmp_path,
        f"<table:table><table:table-header-rows><table:table-row>{cell('', 'Berth')}{wide}</table:table-row>"
        "</table:table-header-rows>"
        f"<table:table-row>{high}{cell('', '1')}{cell('', '2')}</table:table-row>"
        f"<table:table-row><table:covered-table-cell/>{cell('', '3')}{cell('', '4')}</table:table-row></table:table>"
        f"<table:table><table:table-row>{cell('', 'A frame around a page')}</table:table-row></table:table>",
    )
    rows = [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW]
    assert rows == [("Berth | Both | Both", "North | 1 | 2"), ("Berth | Both | Both", "North | 3 | 4")]
    assert found.of(ElementKind.PARAGRAPH) == ["A frame around a page"]


def test_what_is_drawn(tmp_path: Path) -> None:
    math = '<math xmlns="http://www.w3.org/1998/Math/MathML"><mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mi>c</mi></mfrac></math>'
    chart = (
        f'<office:document-content {odf.NAMES}><office:body><office:chart><chart:chart chart:class="chart:bar">'
        "<chart:title><text:p>Catch</text:p></chart:title><table:table><table:table-header-rows><table:table-row>"
        "<table:table-cell/><table:table-cell><text:p>Tons</text:p></table:table-cell></table:table-row></table:table-header-rows>"
        "<table:table-row><table:table-cell><text:p>2023</text:p></table:table-cell><table:table-cell><text:p>9.1</text:p>"
        "</table:table-cell></table:table-row></table:table></chart:chart></office:chart></office:body></office:document-content>"
    )
    objects = {number: f'<draw:object xlink:href="./Object {number}"/>' for number in (1, 2, 9)}
    decorative = 'loext:decorative="true"'
    image = '<draw:image xlink:href="Pictures/1.png"/>'
    found = odt(
        tmp_path,
        f"<text:p>So {frame(objects[1])} holds.{box('In a box')}</text:p>"
        f"<text:p>{frame(objects[2] + image)}</text:p>"
        f"<text:p>{frame(image + '<svg:desc>The pier</svg:desc>')}{frame(image + image)}{frame(image, decorative)}</text:p>"
        "<text:p><draw:custom-shape><text:p>Shape</text:p></draw:custom-shape><draw:g><draw:rect><text:p>Group</text:p></draw:rect>"
        f"</draw:g>{frame('<draw:object-ole/>')}{frame(objects[9])}</text:p>",
        **{"Object 1__content.xml": math, "Object 2__content.xml": chart},
    )
    assert found.texts == ["So (a+b)/c holds.", "In a box", "Bar chart: Catch", "2023 | 9.1", "Picture: The pier", "Shape", "Group"]
    assert found.elements[3].header == " | Tons"
    assert found.lost == {LossKind.PICTURE: 1, LossKind.EMBEDDED_OBJECT: 2}


def test_headers_come_once_and_pages_are_those_of_the_file(tmp_path: Path) -> None:
    head = "<style:header><text:p>Harbour board</text:p></style:header><style:footer><text:p>7</text:p></style:footer>"
    master = f"<style:master-page>{head}</style:master-page><style:master-page>{head}</style:master-page>"
    broken = (
        '<style:style style:name="B" style:family="paragraph"><style:paragraph-properties fo:break-before="page"/></style:style>'
    )
    body = '<text:p text:style-name="B">first</text:p><text:p>still <text:soft-page-break/>here</text:p>'
    body += '<text:p text:style-name="B">third</text:p>'
    content = odf.content("text", body, broken, 'text:use-soft-page-breaks="true"')
    found = read_bytes(tmp_path, "a.odt", odf.package("text", content, {"styles.xml": odf.styles("", master)}))
    assert [(e.text, e.page) for e in found.elements] == [("first", 1), ("still here", 1), ("third", 3), ("Harbour board", None)]
    assert {e.page for e in odt(tmp_path, body, broken).elements} == {None}


def test_properties(tmp_path: Path) -> None:
    meta = (
        f"<office:document-meta {odf.NAMES}><office:meta><dc:title>Fees of 2024</dc:title>"
        "<meta:initial-creator>Ann</meta:initial-creator><dc:creator>Bob</dc:creator>"
        "<meta:keyword>ropes</meta:keyword><meta:keyword>cranes</meta:keyword><dc:language>en</dc:language>"
        "<meta:creation-date>2024-06-03T10:00:00.123456789</meta:creation-date><dc:date>2024-07-01</dc:date></office:meta>"
        "</office:document-meta>"
    )
    found = odt(tmp_path, "<text:p>x</text:p>", **{"meta.xml": meta})
    assert found.title == "Fees of 2024"
    told = {"author": "Ann", "keywords": "ropes, cranes", "language": "en"}
    assert found.metadata == {**told, "created": "2024-06-03T10:00:00.123456", "modified": "2024-07-01T00:00:00"}


def test_slides_with_titles_notes_and_comments(tmp_path: Path) -> None:
    number = box("&lt;number&gt;", PAGE_NUMBER)
    table = "<table:table><table:table-row>{}</table:table-row><table:table-row>{}</table:table-row></table:table>".format(
        *(
            "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in row)
            for row in (("Berth", "Fee"), ("1", "40"))
        )
    )
    found = odp(
        tmp_path,
        "<presentation:footer-decl>Harbour board</presentation:footer-decl>"
        f"<draw:page>{box('Six o’clock')}{box('Opening', TITLE)}{number}"
        f"{box('click', PLACEHOLDER)}"
        f"<office:annotation><dc:creator>Ann</dc:creator><text:p>Seven</text:p></office:annotation>"
        f"<presentation:notes><draw:page-thumbnail/>{box('Say hello.', NOTES)}</presentation:notes></draw:page>"
        f"<draw:page>{frame(table + '<draw:image/>')}{frame('<draw:plugin/>')}</draw:page>",
    )
    assert [(e.kind.value, e.text, e.page) for e in found.elements] == [
        ("heading", "Opening", 1),
        ("paragraph", "Six o’clock", 1),
        ("paragraph", "Comment by Ann: Seven", 1),
        ("paragraph", "Say hello.", 1),
        ("heading", "Slide 2", 2),
        ("table_row", "1 | 40", 2),
        ("paragraph", "Harbour board", None),
    ]
    assert found.title == "Opening"
    assert found.lost == {LossKind.EMBEDDED_OBJECT: 1}


def test_files_that_mean_harm_are_bounded(tmp_path: Path) -> None:
    deep = "<text:list><text:list-item>" * 300 + "<text:p>deep</text:p>" + "</text:list-item></text:list>" * 300
    repeated = (
        '<table:table-row table:number-rows-repeated="99999999"><table:table-cell table:number-columns-repeated="9999999">'
        "<text:p>x</text:p></table:table-cell></table:table-row>"
    )
    boxes = "<draw:frame><draw:text-box>" * 200 + "<text:p>y</text:p>" + "</draw:text-box></draw:frame>" * 200
    found = odt(tmp_path, f"<text:p>before</text:p>{deep}<table:table>{repeated}</table:table>{boxes}<text:p>after</text:p>")
    assert (found.texts[0], found.texts[-1]) == ("before", "after")
    assert found.lost[LossKind.CUT_TEXT] == 2
    assert sum(map(len, found.texts)) < 100_000


def test_a_damaged_part_is_read_as_far_as_possible(tmp_path: Path) -> None:
    whole = odf.content("text", "<text:p>one</text:p><text:p>two</text:p>")
    found = read_bytes(tmp_path, "a.odt", odf.package("text", whole[: whole.index("two")]))
    assert found.texts == ["one"]
    assert LossKind.UNREADABLE_PART in found.lost


@pytest.mark.parametrize("media_type", [kinds.ODT, kinds.ODP, kinds.ODS])
@pytest.mark.parametrize("content", ["", "<x/>", "no XML"])
def test_files_without_a_body_are_corrupt(media_type: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(tmp_path, "a", odf.package(media_type.rpartition(".")[2], content))
    assert caught.value.reason is Reason.CORRUPT
