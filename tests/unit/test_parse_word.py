"""Word files: what each construction says, in its place, and what is named as a loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.parse import kinds, parse
from pipeline.parse.ooxml import word as reader
from pipeline.types import ElementKind, LossKind
from tests import documents as d
from tests import ooxml
from tests.ooxml import para, row, word
from tests.reading import Read, read, read_bytes


def of(folder: Path, body: str, **parts: tuple[str, str]) -> Read:
    return read_bytes(folder, "a.docx", word(body, {name.replace("_", ".", 1): part for name, part in parts.items()}))


TEXT_BOX = "<wps:wsp><wps:txbx><w:txbxContent>{}</w:txbxContent></wps:txbx></wps:wsp>"


def drawn(inner: str) -> str:
    return (
        f"<w:p><w:r><w:drawing><wp:anchor><a:graphic><a:graphicData uri='x'>{inner}</a:graphicData></a:graphic></wp:anchor>"
        "</w:drawing></w:r></w:p>"
    )


def boxed(text: str) -> str:
    return drawn(TEXT_BOX.format(para(text)))


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (para("Above.") + boxed("In the box.") + para("Below."), ["Above.", "In the box.", "Below."]),
        (
            "<w:p><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing>"
            + TEXT_BOX.format(para("Once only."))
            + "</w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox><w:txbxContent>"
            + para("Once only.")
            + "</w:txbxContent></v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>",
            ["Once only."],
        ),
        (
            f"<w:p><w:r><w:pict><v:shape><v:textbox><w:txbxContent>{para('Old box.')}</w:txbxContent></v:textbox></v:shape>"
            "</w:pict>"
            "</w:r></w:p>",
            ["Old box."],
        ),
        (drawn("<wps:wgp>" + TEXT_BOX.format(para("One.")) + TEXT_BOX.format(para("Two.")) + "</wps:wgp>"), ["One.", "Two."]),
        (drawn(TEXT_BOX.format(f"<w:p><w:r><w:drawing>{TEXT_BOX.format(para('Inner.'))}</w:drawing></w:r></w:p>")), ["Inner."]),
    ],
    ids=["box", "alternatives", "vml", "group", "nested"],
)
def test_text_boxes(body: str, texts: list[str], tmp_path: Path) -> None:
    assert of(tmp_path, body).texts == texts


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (
            "<w:p><w:r><w:t xml:space='preserve'>Rent is </w:t></w:r><w:del><w:r><w:delText>90</w:delText></w:r></w:del>"
            "<w:ins><w:r>"
            "<w:t>110</w:t></w:r></w:ins></w:p>",
            ["Rent is 110"],
        ),
        (
            f"<w:p><w:moveFrom><w:r><w:t>Moved.</w:t></w:r></w:moveFrom></w:p>{para('Between.')}"
            "<w:p><w:moveTo><w:r><w:t>Moved.</w:t></w:r></w:moveTo></w:p>",
            ["Between.", "Moved."],
        ),
        (f"<w:tbl>{row('Room', 'Rent')}{row('Attic', '310')}{row('Gone', '9', properties='<w:del/>')}</w:tbl>", ["Attic | 310"]),
        ("<w:p><w:ins><w:del><w:r><w:delText>never</w:delText></w:r></w:del><w:r><w:t>kept</w:t></w:r></w:ins></w:p>", ["kept"]),
    ],
    ids=["run", "move", "row", "nested"],
)
def test_insertions_are_text_and_deletions_are_not(body: str, texts: list[str], tmp_path: Path) -> None:
    assert of(tmp_path, body).texts == texts


def math(inner: str) -> str:
    return f"<w:p><w:r><w:t xml:space='preserve'>So </w:t></w:r><m:oMath>{inner}</m:oMath></w:p>"


def mr(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        (mr("F=ma"), "So F=ma"),
        (f"<m:f><m:num>{mr('a+b')}</m:num><m:den>{mr('2')}</m:den></m:f>", "So (a+b)/2"),
        (f"<m:sSup><m:e>{mr('x')}</m:e><m:sup>{mr('2')}</m:sup></m:sSup>", "So x^2"),
        (f"<m:sSubSup><m:e>{mr('x')}</m:e><m:sub>{mr('i')}</m:sub><m:sup>{mr('n+1')}</m:sup></m:sSubSup>", "So x_i^(n+1)"),
        (f"<m:rad><m:radPr><m:degHide m:val='1'/></m:radPr><m:deg/><m:e>{mr('πr')}</m:e></m:rad>", "So √(πr)"),
        (
            f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{mr('i')}</m:sub><m:sup>{mr('n')}</m:sup><m:e>{mr('i')}</m:e>"
            "</m:nary>",
            "So ∑_i^n i",
        ),
        (f"<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e>{mr('a')}</m:e></m:d>", "So [a]"),
        (
            f"<m:m><m:mr><m:e>{mr('a')}</m:e><m:e>{mr('b')}</m:e></m:mr><m:mr><m:e>{mr('c')}</m:e><m:e>{mr('d')}</m:e></m:mr></m:m>",
            "So [a, b; c, d]",
        ),
    ],
)
def test_equations_are_linear_text(inner: str, told: str, tmp_path: Path) -> None:
    assert of(tmp_path, math(inner)).texts == [told]


def test_an_equation_on_its_own_line(tmp_path: Path) -> None:
    assert (
        of(tmp_path, para("Then:") + f"<w:p><m:oMathPara><m:oMath>{mr('E=mc²')}</m:oMath></m:oMathPara></w:p>").texts[1] == "E=mc²"
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{para('Around a paragraph.')}</w:sdtContent></w:sdt>", "Around a paragraph."),
        ("<w:p><w:sdt><w:sdtContent><w:r><w:t>Around a run.</w:t></w:r></w:sdtContent></w:sdt></w:p>", "Around a run."),
        (
            f"<w:tbl>{row('Key', 'Value')}<w:sdt><w:sdtContent>{row('Row', 'control')}</w:sdtContent></w:sdt></w:tbl>",
            "Row | control",
        ),
        (
            f"<w:tbl>{row('Key', 'Value')}<w:tr><w:tc>{para('Cell')}</w:tc><w:sdt><w:sdtContent><w:tc>{para('control')}</w:tc>"
            "</w:sdtContent></w:sdt></w:tr></w:tbl>",
            "Cell | control",
        ),
        (
            "<w:p><w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText>REF a</w:instrText></w:r><w:r><w:t>hidden"
            "</w:t></w:r>"
            "<w:r><w:fldChar w:fldCharType='separate'/></w:r><w:r><w:t>shown</w:t></w:r><w:r><w:fldChar w:fldCharType='end'/>"
            "</w:r></w:p>",
            "shown",
        ),
        ("<w:p><w:fldSimple w:instr='DATE'><w:r><w:t>3 May</w:t></w:r></w:fldSimple></w:p>", "3 May"),
        ("<w:p><w:hyperlink r:id='x'><w:r><w:t>the handbook</w:t></w:r></w:hyperlink></w:p>", "the handbook"),
        (
            "<w:p><w:r><w:t>Ice</w:t><w:softHyphen/></w:r><w:r><w:t>cream and e</w:t><w:noBreakHyphen/><w:t>mail</w:t></w:r></w:p>",
            "Icecream and e-mail",
        ),
        (
            "<w:p><w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val='1'/></w14:checkbox></w:sdtPr><w:sdtContent><w:r><w:t>☒"
            "</w:t></w:r>"
            "</w:sdtContent></w:sdt><w:r><w:t>paid</w:t></w:r></w:p>",
            "[x] paid",
        ),
        ("<w:p><w:r><w:sym w:font='Symbol' w:char='F061'/><w:t xml:space='preserve'> particle</w:t></w:r></w:p>", "α particle"),
        (
            "<w:p><w:r><w:ruby><w:rt><w:r><w:t>とう</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>東</w:t></w:r></w:rubyBase>"
            "</w:ruby></w:r></w:p>",
            "東",
        ),
    ],
    ids=["block", "run", "row", "cell", "field", "simple field", "link", "hyphens", "checkbox", "symbol", "ruby"],
)
def test_containers_fields_and_characters(body: str, told: str, tmp_path: Path) -> None:
    assert of(tmp_path, body).texts[-1] == told


NOTE = (
    f"<w:footnotes {ooxml.NAMES}><w:footnote w:type='separator' w:id='0'>{para('-')}</w:footnote>"
    "<w:footnote w:id='7'>{}</w:footnote></w:footnotes>"
)


def test_notes_and_comments_follow_their_paragraph(tmp_path: Path) -> None:
    body = "<w:p><w:r><w:t>Sentence.</w:t><w:footnoteReference w:id='7'/><w:commentReference w:id='2'/></w:r></w:p>" + para("Next.")
    comments = (
        f"<w:comments {ooxml.NAMES}><w:comment w:id='2' w:author='Ada' w:date='2026-03-04T09:00:00Z'>{para('Is it so?')}"
        "</w:comment>"
        f"<w:comment w:id='3' w:author='Bo'>{para('Nobody refers to me.')}</w:comment></w:comments>"
    )
    found = of(tmp_path, body, footnotes_xml=("footnotes", NOTE.format(para("The source."))), comments_xml=("comments", comments))
    assert found.texts == [
        "Sentence.",
        "Footnote: The source.",
        "Comment by Ada, 2026-03-04T09:00:00: Is it so?",
        "Next.",
        "Comment by Bo: Nobody refers to me.",
    ]


def test_headers_and_footers_come_once_and_numbers_of_pages_never(tmp_path: Path) -> None:
    headers = {
        "one.xml": ("header", f"<w:hdr {ooxml.NAMES}>{para('Confidential')}</w:hdr>"),
        "two.xml": ("header", f"<w:hdr {ooxml.NAMES}>{para('Confidential')}</w:hdr>"),
        "three.xml": ("footer", f"<w:ftr {ooxml.NAMES}>{para('12')}{para('Harbour office')}</w:ftr>"),
    }
    assert read_bytes(tmp_path, "a.docx", word(para("Body."), headers)).texts == ["Body.", "Confidential", "Harbour office"]


NUMBERING = f"""<w:numbering {ooxml.NAMES}><w:abstractNum w:abstractNumId='0'>
<w:lvl w:ilvl='0'><w:start w:val='1'/><w:numFmt w:val='decimal'/><w:lvlText w:val='%1.'/></w:lvl>
<w:lvl w:ilvl='1'><w:start w:val='1'/><w:numFmt w:val='lowerLetter'/><w:lvlText w:val='%1%2)'/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId='1'><w:lvl w:ilvl='0'><w:numFmt w:val='bullet'/><w:lvlText w:val='o'/></w:lvl></w:abstractNum>
<w:num w:numId='1'><w:abstractNumId w:val='0'/></w:num><w:num w:numId='2'><w:abstractNumId w:val='1'/></w:num>
<w:num w:numId='3'><w:abstractNumId w:val='0'/><w:lvlOverride w:ilvl='0'><w:startOverride w:val='8'/></w:lvlOverride></w:num>
</w:numbering>"""


def item(text: str, number: int, level: int = 0) -> str:
    return para(text, f"<w:numPr><w:ilvl w:val='{level}'/><w:numId w:val='{number}'/></w:numPr>")


def test_lists_have_their_numbers(tmp_path: Path) -> None:
    body = item("One", 1) + item("Under", 1, 1) + item("Two", 1) + item("Point", 2) + item("Again", 3) + item("None", 0)
    found = of(tmp_path, body, numbering_xml=("numbering", NUMBERING))
    assert found.texts == ["1. One", "1a) Under", "2. Two", "Point", "8. Again", "None"]
    assert found.of(ElementKind.LIST_ITEM) == found.texts[:-1]


def test_headings_by_style_by_outline_and_by_number(tmp_path: Path) -> None:
    styles = (
        f"<w:styles {ooxml.NAMES}><w:style w:type='paragraph' w:styleId='berschrift2'><w:name w:val='heading 2'/></w:style>"
        "<w:style w:type='paragraph' w:styleId='Clause'><w:name w:val='Clause'/><w:basedOn w:val='berschrift2'/></w:style>"
        "<w:style w:type='paragraph' w:styleId='Loop'><w:name w:val='Loop'/><w:basedOn w:val='Loop'/></w:style></w:styles>"
    )
    body = (
        para("By style", "<w:pStyle w:val='berschrift2'/>")
        + para("Inherited", "<w:pStyle w:val='Clause'/>")
        + para("By outline", "<w:outlineLvl w:val='0'/>")
        + para("Body", "<w:outlineLvl w:val='9'/><w:pStyle w:val='berschrift2'/>")
        + para("Unknown", "<w:pStyle w:val='Heading3'/>")
        + para("Circle", "<w:pStyle w:val='Loop'/>")
        + item("Numbered", 1).replace("<w:numPr>", "<w:outlineLvl w:val='1'/><w:numPr>")
    )
    found = of(tmp_path, body, styles_xml=("styles", styles), numbering_xml=("numbering", NUMBERING))
    assert [(e.level, e.text) for e in found.elements] == [
        (2, "By style"),
        (2, "Inherited"),
        (1, "By outline"),
        (0, "Body"),
        (3, "Unknown"),
        (0, "Circle"),
        (2, "1. Numbered"),
    ]


def cell(text: str, properties: str) -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{para(text)}</w:tc>"


def test_merged_and_nested_cells(tmp_path: Path) -> None:
    tall = [cell("Alps", "<w:vMerge w:val='restart'/>"), cell("", "<w:vMerge/>")]
    wide = cell("on request", "<w:gridSpan w:val='2'/>")
    inner = f"<w:tc>{para('Parts:')}<w:tbl>{row('Bolt', '4')}{row('Nut', '9')}</w:tbl><w:p/></w:tc>"
    body = (
        f"<w:tbl>{row('Zone', 'Weight', 'Price')}{row(tall[0], '5 kg', '17')}{row(tall[1], '10 kg', '23')}"
        f"{row('Coast', wide)}{row('Kit', inner, 'x')}</w:tbl>"
    )
    found = of(tmp_path, body)
    assert {e.header for e in found.elements} == {"Zone | Weight | Price"}
    assert found.texts == [
        "Alps | 5 kg | 17",
        "Alps | 10 kg | 23",
        "Coast | on request | on request",
        "Kit | Parts:; Bolt, 4; Nut, 9 | x",
    ]


def test_a_table_that_lays_out_a_page_is_no_table(tmp_path: Path) -> None:
    head = para("Head", "<w:pStyle w:val='Heading1'/>")
    found = of(tmp_path, f"<w:tbl><w:tr><w:tc>{head}{para('Text.')}</w:tc></w:tr></w:tbl>")
    assert [(e.kind, e.text) for e in found.elements] == [(ElementKind.HEADING, "Head"), (ElementKind.PARAGRAPH, "Text.")]


CHART = f"""<c:chartSpace {ooxml.NAMES}><c:chart>
<c:title><c:tx><c:rich><a:p><a:r><a:t>Ships a year</a:t></a:r></a:p></c:rich></c:tx></c:title>
<c:plotArea><c:barChart><c:ser><c:tx><c:strRef><c:strCache><c:pt idx='0'><c:v>North</c:v></c:pt></c:strCache></c:strRef></c:tx>
<c:cat><c:strRef><c:strCache><c:pt idx='0'><c:v>2024</c:v></c:pt>
<c:pt idx='1'><c:v>2025</c:v></c:pt></c:strCache></c:strRef></c:cat>
<c:val><c:numRef><c:numCache><c:pt idx='0'><c:v>4.4000000000000004</c:v></c:pt>
<c:pt idx='1'><c:v>12</c:v></c:pt></c:numCache></c:numRef></c:val>
</c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"""
DIAGRAM = f"""<dgm:dataModel {ooxml.NAMES}><dgm:ptLst><dgm:pt><dgm:t><a:p><a:r><a:t>Plan</a:t></a:r></a:p></dgm:t></dgm:pt>
<dgm:pt type='parTrans'/><dgm:pt><dgm:t><a:p><a:r><a:t>Build</a:t></a:r></a:p></dgm:t></dgm:pt></dgm:ptLst></dgm:dataModel>"""


def graphic(uri: str, inner: str) -> str:
    return (
        f"<w:p><w:r><w:drawing><wp:inline><a:graphic><a:graphicData uri='{uri}'>{inner}</a:graphicData></a:graphic></wp:inline>"
        "</w:drawing></w:r></w:p>"
    )


def test_charts_and_diagrams_are_read_and_those_without_text_are_losses(tmp_path: Path) -> None:
    chart = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    parts = {"chart1.xml": ("chart", CHART), "data1.xml": ("diagramData", DIAGRAM)}
    body = (
        graphic(chart, "<c:chart r:id='rId1'/>")
        + graphic("x/diagram", "<dgm:relIds r:dm='rId2'/>")
        + graphic(chart, "<c:chart r:id='no'/>")
    )
    found = read_bytes(tmp_path, "a.docx", word(body, parts))
    assert found.texts == ["Bar chart: Ships a year", "2024 | 4.4", "2025 | 12", "Plan", "Build"]
    assert found.elements[1].header == " | North"
    assert found.lost == {LossKind.CHART: 1}


def pictured(properties: str) -> str:
    return f"<w:p><w:r><w:drawing><wp:inline><wp:docPr id='1' {properties}/><pic:pic/></wp:inline></w:drawing></w:r></w:p>"


def test_pictures_are_told_by_their_words_or_are_losses(tmp_path: Path) -> None:
    body = pictured("name='a' descr='A crane lifts a boat'") + pictured("name='b'") + pictured("name='c' title='The pier'")
    found = of(tmp_path, body + "<w:p><w:r><w:object><o:OLEObject ProgID='Excel.Sheet.12'/></w:object></w:r></w:p>")
    assert found.texts == ["Picture: A crane lifts a boat", "Picture: The pier"]
    assert found.lost == {LossKind.PICTURE: 1, LossKind.EMBEDDED_OBJECT: 1}
    assert next(loss for loss in found.losses if loss.kind is LossKind.EMBEDDED_OBJECT).detail == "Excel.Sheet.12"


@pytest.mark.parametrize("kind", ["docm", "dotx", "docx"])
def test_parts_are_found_by_relations_in_any_kind_of_word_file(kind: str, tmp_path: Path) -> None:
    notes = {"sub/notes.xml": ("footnotes", NOTE.format(para("Elsewhere.")))}
    found = read_bytes(tmp_path, f"a.{kind}", word(para("Main."), notes, kind=kind, place="content/text.xml"))
    assert found.texts == ["Main.", "Footnote: Elsewhere."]


def test_strict_files(tmp_path: Path) -> None:
    data = word(
        para("Heading", "<w:pStyle w:val='Heading1'/>") + para("Strict text."), {"n.xml": ("footnotes", NOTE.format(para("Note.")))}
    )
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    strict = {
        name: text.replace(
            b"http://schemas.openxmlformats.org/wordprocessingml/2006/", b"http://purl.oclc.org/ooxml/wordprocessingml/"
        ).replace(b"http://schemas.openxmlformats.org/officeDocument/2006/", b"http://purl.oclc.org/ooxml/officeDocument/")
        for name, text in members.items()
    }
    assert any(b"purl.oclc.org" in text for text in strict.values())
    assert read_bytes(tmp_path, "a.docx", d.zip_of(strict)).texts == ["Heading", "Strict text.", "Footnote: Note."]


def test_a_damaged_part_is_a_loss_and_the_rest_is_read(tmp_path: Path) -> None:
    parts = {"broken.xml": ("header", f"<w:hdr {ooxml.NAMES}>{para('Half of it')}<w:p"), "gone.xml": ("footnotes", "not XML")}
    found = read_bytes(tmp_path, "a.docx", word(para("Body."), parts))
    assert found.texts == ["Body.", "Half of it"]
    assert {loss.place for loss in found.losses} == {"word/broken.xml", "word/gone.xml"}
    cut = read_bytes(tmp_path, "b.docx", word(para("First.") + "<w:p><w:r><w:t>Second"))
    assert cut.texts[0] == "First."
    assert cut.lost == {LossKind.UNREADABLE_PART: 1}


def test_pages_where_the_file_records_them(tmp_path: Path) -> None:
    broken = "<w:p><w:r><w:br w:type='page'/><w:t>Two</w:t></w:r></w:p>"
    assert [e.page for e in of(tmp_path, para("One") + broken + para("Two again")).elements] == [1, 1, 2]
    rendered = "<w:p><w:r><w:lastRenderedPageBreak/><w:t>Two</w:t></w:r></w:p>"
    assert [e.page for e in of(tmp_path, para("One") + broken + rendered + para("Two")).elements][-1] == 2
    assert {e.page for e in of(tmp_path, para("One")).elements} == {None}


def test_html_inside_a_document(tmp_path: Path) -> None:
    parts = {"piece.html": ("aFChunk", "<html><body><h2>Inside</h2><p>From a page.</p></body></html>")}
    found = read_bytes(tmp_path, "a.docx", word(para("Outside.") + "<w:altChunk r:id='rId1'/><w:altChunk r:id='rId9'/>", parts))
    assert found.texts == ["Outside.", "Inside", "From a page."]
    assert found.lost == {LossKind.EMBEDDED_OBJECT: 1}


def test_a_defect_of_the_reader_does_not_lose_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with surprises keeps its text; a file that cannot be read at all goes to unstructured, without a network or torch."""
    path = d.write(tmp_path, "docx")

    def surprised(*_: object) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(reader.Document, "_table", surprised)
        found = read(path)
    assert d.ROWS[0][0] in found.text
    assert d.SECOND in found.texts
    assert found.lost == {LossKind.UNREADABLE_PART: 1}
    code = f"""
import socket, sys
def refuse(*args, **kwargs):
    print("connects", args, file=sys.stderr)
    raise SystemExit(3)
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from pipeline.parse import kinds, parse
from pipeline.parse.ooxml import slides, word
def surprised(*args): raise ValueError("a defect")
word.Document.elements = slides._Deck.elements = surprised
for path, kind in (({str(path)!r}, kinds.DOCX), ({str(d.write(tmp_path, "pptx"))!r}, kinds.PPTX)):
    parsed = parse(Path(path), "a.docx", kind)
    assert {d.SENTENCE!r} in [e.text for e in parsed.elements]
    assert "a defect" in parsed.losses.all()[0].detail
assert not {{"torch", "spacy"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_title_is_the_first_heading_else_the_property(tmp_path: Path) -> None:
    assert parse(d.write(tmp_path, "docx"), "a.docx", kinds.DOCX).title == d.TITLE
    import docx

    document = docx.Document()
    document.core_properties.title = "From the properties"
    document.add_paragraph("No heading.")
    document.save(str(tmp_path / "b.docx"))
    assert read(tmp_path / "b.docx").title == "From the properties"


def test_entities_reach_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("THE-SECRET")
    evil = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]><w:ftr {ooxml.NAMES}>{para("a &e; b")}</w:ftr>'
    assert "THE-SECRET" not in read_bytes(tmp_path, "a.docx", word(para("Body."), {"f.xml": ("footer", evil)})).text
