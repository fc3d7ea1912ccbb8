"""XML by its text: the vocabularies of articles, books and patents, feeds, data, and what a damaged file still says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.types import ElementKind, LossKind
from tests.reading import Read, read_bytes


def of(folder: Path, text: str, name: str = "a.xml") -> Read:
    return read_bytes(folder, name, text)


def told(found: Read) -> list[tuple[str, int, str]]:
    return [(e.kind.value, e.level, e.text) for e in found.elements]


def test_articles_in_jats(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<!DOCTYPE article PUBLIC 'x' 'jats.dtd'><article xmlns:mml='http://www.w3.org/1998/Math/MathML'><front><article-meta><title-group>"
        "<article-title>On <italic>tides</italic></article-title></title-group><abstract><p>Short&nbsp;words.</p></abstract>"
        "</article-meta></front>"
        "<body><sec><title>Methods</title><p>We used H<sub>2</sub>O<xref rid='r1'>1</xref>.</p><sec><title>Ships</title><list>"
        "<list-item>"
        "<p>Ada</p></list-item></list></sec></sec></body><back><ref-list><ref><mixed-citation><article-title>Old tides"
        "</article-title>, 1999"
        "</mixed-citation></ref></ref-list></back></article>",
        "a.nxml",
    )
    assert told(found) == [
        ("heading", 1, "On tides"),
        ("heading", 2, "Abstract"),
        ("paragraph", 0, "Short words."),
        ("heading", 2, "Methods"),
        ("paragraph", 0, "We used H2O1."),
        ("heading", 3, "Ships"),
        ("list_item", 0, "Ada"),
        ("paragraph", 0, "Old tides, 1999"),
    ]
    assert found.title == "On tides"


def test_formulas_come_once_in_the_form_there_is(tmp_path: Path) -> None:
    both = "<alternatives><tex-math>$x^2$</tex-math><math><mi>y</mi><mo>=</mo><mn>2</mn></math></alternatives>"
    found = of(
        tmp_path,
        f"<article><p>Only <inline-formula><tex-math>$a+b$</tex-math></inline-formula> here.</p><p>Or {both}.</p></article>",
    )
    assert found.texts == ["Only a+b here.".replace("  ", " "), "Or y=2."]


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (
            "<TEI xmlns='http://www.tei-c.org/ns/1.0'><text><body><div><head>Of ships</head><p>The <hi>old</hi> quay.</p><lg><l>A"
            " line</l></lg>"
            "</div></body></text></TEI>",
            ["Of ships", "The old quay.", "A line"],
        ),
        (
            "<book xmlns='http://docbook.org/ns/docbook'><info><title>Guide</title></info><chapter><title>Ropes</title><para>Tie "
            "<command>a"
            "</command>.</para><programlisting>moor()\n  fast()</programlisting></chapter></book>",
            ["Guide", "Ropes", "Tie a.", "moor()\n  fast()"],
        ),
        (
            "<FictionBook><description><title-info><book-title>Sea</book-title></title-info></description><body><section><title><p>One</p><p>Two"
            "</p></title><p>Waves.</p></section></body><binary content-type='image/png'>iVBORw0KGgo=</binary></FictionBook>",
            ["Sea", "One Two", "Waves."],
        ),
        (
            "<task id='t'><title>Moor</title><shortdesc>How to.</shortdesc><taskbody><steps><step><cmd>Throw the rope.</cmd>"
            "</step></steps>"
            "</taskbody></task>",
            ["Moor", "How to.", "Throw the rope."],
        ),
        (
            "<us-patent-grant><invention-title>Winch</invention-title><description><heading>FIELD</heading><p>A <b>10</b> winch."
            "</p></description>"
            "<claims><claim><claim-text>1. A winch.</claim-text></claim></claims></us-patent-grant>",
            ["Winch", "FIELD", "A 10 winch.", "Claims", "1. A winch."],
        ),
    ],
    ids=["tei", "docbook", "fictionbook", "dita", "patent"],
)
def test_vocabularies(text: str, texts: list[str], tmp_path: Path) -> None:
    assert of(tmp_path, text).texts == texts


def test_tables_of_both_models(tmp_path: Path) -> None:
    cals = (
        "<table><tgroup cols='3'><colspec colname='a'/><colspec colname='b'/><colspec colname='c'/><thead><row><entry>Zone"
        "</entry><entry>"
        "Weight</entry><entry>Price</entry></row></thead><tbody><row><entry morerows='1'>Alps</entry><entry>5 kg</entry>"
        "<entry>17</entry></row>"
        "<row><entry>10 kg</entry><entry>23</entry></row><row><entry>Coast</entry><entry namest='b' nameend='c'>on request"
        "</entry></row></tbody>"
        "</tgroup></table>"
    )
    html = "<table-wrap><table><tr><th>Ship</th><th>Crew</th></tr><tr><td>Ada</td><td><p>12</p></td></tr></table></table-wrap>"
    found = of(tmp_path, f"<article><body><p>Before.</p>{cals}{html}</body></article>")
    assert [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW] == [
        ("Zone | Weight | Price", "Alps | 5 kg | 17"),
        ("Zone | Weight | Price", "Alps | 10 kg | 23"),
        ("Zone | Weight | Price", "Coast | on request | on request"),
        ("Ship | Crew", "Ada | 12"),
    ]


def test_data_become_records_of_fields(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<stock><item><name>Pump</name><serial>XA-1</serial></item><item><name>Valve</name><where hall='3'/></item>"
        "<remark>Checked in <b>May</b> by Ada.</remark></stock>",
    )
    assert found.texts == ["name: Pump\nserial: XA-1", "name: Valve\nwhere: hall=3", "remark: Checked in May by Ada."]


def test_feeds_with_html_inside(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<rss><channel><item><title>News</title><description>&lt;p&gt;Open &lt;b&gt;again&lt;/b&gt;.&lt;/p&gt;</description>"
        "</item></channel></rss>",
    )
    assert found.texts == ["News", "description: Open again."]


def test_pictures_by_their_words(tmp_path: Path) -> None:
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><style>.a{}</style><defs><path d='M0'/></defs>"
    svg += "<text>Berth <tspan>7</tspan></text></svg>"
    assert of(tmp_path, svg, "plan.svg").texts == ["Berth 7"]


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1251", "utf-16", "shift_jis"])
def test_declared_encodings(encoding: str, tmp_path: Path) -> None:
    word = {"iso-8859-1": "Größe", "windows-1251": "Размер", "utf-16": "Größe", "shift_jis": "倉庫"}[encoding]
    text = f"<?xml version='1.0' encoding='{encoding}'?><a><p>{word} x</p></a>"
    assert read_bytes(tmp_path, "a.xml", text.encode(encoding)).texts == [f"{word} x"]


def test_a_damaged_file_is_read_as_far_as_possible(tmp_path: Path) -> None:
    found = of(tmp_path, "<a><p>First.</p><p>Second <b>word</p><p>Third.</p>")
    assert {"First.", "Third."} <= set(found.texts)
    assert found.lost == {LossKind.UNREADABLE_PART: 1}


def test_entities_of_the_file_are_text_and_those_of_others_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("THE-SECRET")
    head = f"<!DOCTYPE a [<!ENTITY own 'Harbour'><!ENTITY other SYSTEM 'file://{tmp_path}/secret'>]>"
    found = of(tmp_path, f"{head}<a><p>&own; office &other;</p></a>")
    assert found.texts == ["Harbour office"]
    laughs = "".join(f"<!ENTITY l{level} '{f'&l{level - 1};' * 10}'>" for level in range(1, 10))
    assert len(of(tmp_path, f"<!DOCTYPE a [<!ENTITY l0 'ha'>{laughs}]><a><p>&l9;</p><p>x</p></a>").text) < 12_000_000


def test_numbers_of_sections_figures_and_references_stand_before_their_text(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<article><front><article-title>Tides</article-title></front><body><sec><label>1</label><title>Methods</title>"
        "<fig><label>Fig 1</label><caption><p>A gauge.</p></caption></fig><fig><label>Fig 2</label><graphic/></fig>"
        "<table-wrap><label>Table 1</label><caption><title>Fees</title></caption><table><tr><td>Berth</td><td>Fee</td></tr></table>"
        "</table-wrap></sec></body><back><ref-list><ref><label>[1]</label><mixed-citation><name><surname>Eigege</surname>"
        "<given-names>A</given-names></name>, Tides.</mixed-citation></ref><ref><element-citation><person-group><name><surname>Kal"
        "</surname><given-names>B</given-names></name></person-group><article-title>Ebb.</article-title><year>1999</year>"
        "</element-citation></ref></ref-list></back></article>",
        "a.nxml",
    )
    texts = [
        "Tides",
        "1 Methods",
        "Fig 1 A gauge.",
        "Fig 2",
        "Table 1 Fees",
        "Berth | Fee",
        "[1] Eigege A, Tides.",
        "Kal B Ebb. 1999",
    ]
    assert found.texts == texts


def test_a_label_in_data_is_a_field(tmp_path: Path) -> None:
    assert of(tmp_path, "<rows><row><label>North</label><fee>40</fee></row></rows>").texts == ["label: North\nfee: 40"]


def test_abstracts_and_claims_have_a_heading_and_do_not_run_into_what_follows(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<article><front><article-title>Tides</article-title><abstract><p>Short.</p></abstract>"
        "<abstract><title>Digest</title><p>Shorter.</p></abstract></front><body><p>Long.</p></body>"
        "<back><ack><p>Thanks.</p></ack></back></article>",
    )
    assert told(found) == [
        ("heading", 1, "Tides"),
        ("heading", 2, "Abstract"),
        ("paragraph", 0, "Short."),
        ("heading", 2, "Digest"),
        ("paragraph", 0, "Shorter."),
        ("paragraph", 0, "Long."),
        ("heading", 2, "Acknowledgments"),
        ("paragraph", 0, "Thanks."),
    ]
    title, abstract = "<invention-title>Winch</invention-title>", "<abstract><p>A winch.</p></abstract>"
    grant = f"<us-patent-grant>{title}{{}}{abstract}<p>More.</p></us-patent-grant>"
    claims = "<claims><claim><claim-text>1. A drum.</claim-text></claim></claims>"
    assert of(tmp_path, grant.format(claims)).texts == ["Winch", "Claims", "1. A drum.", "Abstract", "A winch.", "Winch", "More."]


def test_old_patents(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<PATDOC><SDOBI><B540><STEXT><PDAT>Turbo code</PDAT></STEXT></B540></SDOBI><SDOAB><PARA><PTEXT><PDAT>An N</PDAT><HIL>"
        "<SB><PDAT>1</PDAT></SB></HIL><PDAT> array.</PDAT></PTEXT></PARA></SDOAB><SDODE><H LVL='1'><STEXT><PDAT>FIELD</PDAT>"
        "</STEXT></H><PARA><PTEXT><PDAT>Words.</PDAT></PTEXT></PARA></SDODE><SDOCL><CL><CLM><PARA><PTEXT><PDAT>1. A method:</PDAT>"
        "</PTEXT></PARA><CLMSTEP><PTEXT><PDAT>storing a frame.</PDAT></PTEXT></CLMSTEP></CLM></CL></SDOCL></PATDOC>",
    )
    assert told(found) == [
        ("heading", 1, "Turbo code"),
        ("heading", 1, "Abstract"),
        ("paragraph", 0, "An N1 array."),
        ("heading", 1, "FIELD"),
        ("paragraph", 0, "Words."),
        ("heading", 1, "Claims"),
        ("list_item", 0, "1. A method:"),
        ("list_item", 0, "storing a frame."),
    ]


def test_attributes_of_data_are_text_beside_what_they_belong_to(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "<order version='1' number='B-7'><item sku='S-1'><name lang='de'>Bolzen</name><price currency='EUR'>3</price></item>"
        "<item sku='S-2' href='https://x.example'><name>Nut</name></item></order>",
    )
    assert found.texts == [
        "order: number=B-7\nitem: sku=S-1\nname: Bolzen (lang=de)\nprice: 3 (currency=EUR)",
        "item: sku=S-2\nname: Nut",
    ]


def test_a_file_that_says_utf_8_and_is_none(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.xml", "<?xml version='1.0' encoding='UTF-8'?><r><a>Größe für Türen</a></r>".encode("cp1252"))
    assert (found.texts, found.losses) == (["a: Größe für Türen"], ())
