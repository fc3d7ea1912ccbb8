"""A file for every usual name in the table of docs/formats.md, most of them with something that no parser can turn into text."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import mailbox
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from pipeline.types import LossKind
from tests import documents as d
from tests import office, ooxml, opendocument
from tests.scans import page

REPOSITORY = Path(__file__).resolve().parents[1]

#: Text for machines, which no chunk holds.
BASE64 = "Q29udGVudHMgb2YgYSBiaW5hcnkgZmlsZSwgZW5jb2RlZA" * 12


@dataclass(frozen=True, slots=True)
class Sample:
    """How to make a file, and what a load says of it."""

    write: Callable[[Path], object]
    losses: frozenset[LossKind] = frozenset()
    members: int = 0  #: number of files inside it that become documents
    needs: str = ""  #: the program that writes it; the machine of a developer may lack it


def usual_names() -> dict[str, frozenset[str]]:
    """Usual names (`.rst.txt`, `Makefile`) -> the media types of their row of the table."""
    page = (REPOSITORY / "docs" / "formats.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \| ([^|]*`[^|]*/[^|]*`) \|", page, re.M)
    return {name: frozenset(re.findall(r"`([^`]+)`", types)) for names, types in rows for name in re.findall(r"`([^`]+)`", names)}


def file_name(usual: str) -> str:
    """The name of the sample with this usual name."""
    return f"sample{usual}" if usual.startswith(".") else usual


def picture() -> io.BytesIO:
    """A PNG without a word."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (40, 30), (90, 90, 120)).save(data, "PNG")
    data.seek(0)
    return data


def _scan(path: Path) -> None:
    """A picture of words of its own: documents with equal text are one hit."""
    page(f"{path.suffix.removeprefix('.').title()} picture of a jetty").save(path)


def _bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _text(text: str) -> Callable[[Path], object]:
    return _bytes(text.encode())


def _of(kind: str) -> Callable[[Path], object]:
    return d.WRITERS[kind]


def _docx(path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading(d.TITLE, 1)
    document.add_paragraph(d.SENTENCE)
    document.add_picture(picture())
    document.save(str(path))


def _pptx(path: Path) -> None:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = d.TITLE
    slide.shapes.add_movie(picture(), 0, 0, Inches(1), Inches(1), poster_frame_image=picture(), mime_type="video/mp4")
    deck.save(str(path))


def _xlsx(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["Berth", "Fee"])
    book.active.append(["North 1", 40])
    hidden = book.create_sheet("Old fees")
    hidden.append(["North 1", 30])
    hidden.sheet_state = "hidden"
    book.save(str(path))


def _pandoc_with_picture(kind: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pypandoc

        image = path.with_name("berth.png")
        image.write_bytes(picture().getvalue())
        source = f"# {d.TITLE}\n\n{d.SENTENCE}\n\n![]({image.as_posix()})\n\n## {d.SECTION}\n\n{d.SECOND}\n"
        pypandoc.convert_text(
            source, kind, format="markdown", outputfile=str(path), extra_args=["-s", f"--metadata=title={d.TITLE}"]
        )
        image.unlink()

    return write


def _mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "master@port.example", "crew@ship.example", d.TITLE
    message["Date"], message["Message-ID"] = "Mon, 03 Jun 2024 10:00:00 +0000", "<1@port.example>"
    message.set_content(f"{d.SENTENCE}\n")
    return message


def _eml(path: Path) -> None:
    message = _mail()
    message.add_attachment(b"The permit is valid for a year.", maintype="text", subtype="plain", filename="permit.txt")
    voice = EmailMessage()
    voice.set_content(bytes(range(200)), maintype="audio", subtype="ogg", disposition="inline")
    message.attach(voice)
    path.write_bytes(message.as_bytes())


def _saved_as(kind: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            later = d.write(Path(folder), kind)
            shutil.move(office.saved_as(later, path.suffix.removeprefix(".")), path)

    return write


def _djvu(path: Path) -> None:
    office.djvu(path, (d.SENTENCE,), ())


def _emlx(path: Path) -> None:
    data = _mail().as_bytes()
    path.write_bytes(b"%d\n" % len(data) + data + b'<?xml version="1.0"?><plist><dict><key>flags</key></dict></plist>')


def _mbox(path: Path) -> None:
    box = mailbox.mbox(path)
    box.add(_mail())
    box.close()


def _msg(path: Path) -> None:
    d.msg(path, attachment=None)


def _notebook() -> str:
    shown = {"output_type": "display_data", "data": {"image/png": BASE64}}
    code = {"cell_type": "code", "source": d.CODE, "outputs": [shown]}
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "markdown", "source": [f"# {d.TITLE}"]}, code]})


def _fb2() -> str:
    return (
        f'<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><body><title><p>{d.TITLE}</p></title><section>'
        f'<p>{d.SENTENCE}</p></section></body><binary id="cover.png" content-type="image/png">{BASE64}</binary></FictionBook>'
    )


def _html(body: str) -> Callable[[Path], object]:
    return _text(f"<!DOCTYPE html><html><head><title>{d.TITLE}</title></head><body>{body}</body></html>")


_ODD_BYTE = b"\xef\xbb\xbf" + d.SENTENCE.encode() + b"\n\nThe \xff gauge.\n"
_SRT = f"1\n00:00:01,000 --> 00:00:04,000\n{d.SENTENCE}\n"
_XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
_SVG = (
    f'<svg xmlns="http://www.w3.org/2000/svg" {_XLINK}><image xlink:href="data:image/png;base64,{BASE64}"/>'
    f'<text x="1">{d.SENTENCE}</text></svg>'
)
_FORMULA = '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>Sum</t></is></c><c r="B1"><f>1+2</f></c></row></sheetData>'
_OBJECT = '<w:p><w:r><w:t>Plan: </w:t><w:object><o:OLEObject ProgID="Visio.Drawing.15"/></w:object></w:r></w:p>'
_PICTURE = "<w:p><w:r><w:t>Plan</w:t></w:r><w:r><w:drawing><pic:pic/></w:drawing></w:r></w:p>"
_SLIDE = opendocument.box(d.SENTENCE) + opendocument.frame("<draw:image/>")
_SHEET = opendocument.sheet("Fees", opendocument.row("Sum", '<table:table-cell table:formula="of:=[.A1]+2"/>'))
_INSIDE = {"permit.txt": d.SENTENCE.encode()}


def _of_loss(*kinds: LossKind) -> frozenset[LossKind]:
    return frozenset(kinds)


#: By usual name.
SAMPLES: dict[str, Sample] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"), Sample(_scan)),
    ".txt": Sample(_bytes(_ODD_BYTE), _of_loss(LossKind.UNDECODABLE_BYTES)),
    ".log": Sample(_text(f"\x1b[31merror\x1b[0m {d.SENTENCE}\n\n{BASE64}\n"), _of_loss(LossKind.MACHINE_TEXT)),
    ".md": Sample(
        _text(f"---\nauthor: Ada\n---\n\n{d.markdown()}\n![](data:image/png;base64,{BASE64})\n"), _of_loss(LossKind.PICTURE)
    ),
    ".markdown": Sample(_of("md")),
    ".mdx": Sample(_text(f"import Card from './card'\n\n# {d.TITLE}\n\n<Card>{d.SENTENCE}</Card>\n")),
    ".rst": Sample(_of("rst")),
    ".rst.txt": Sample(_of("rst")),
    ".org": Sample(_of("org")),
    ".adoc": Sample(_of("adoc")),
    ".asciidoc": Sample(_of("adoc")),
    ".tex": Sample(_text(f"{d.latex()[:-16]}\n\\begin{{tabular}}{{l\n\\end{{document}}\n"), _of_loss(LossKind.UNREADABLE_PART)),
    ".py": Sample(_of("py")),
    ".c": Sample(_text(f"/* {d.SENTENCE} */\nint fee(int length) {{ return 3 * length; }}\n")),
    ".js": Sample(_text(f"// {d.SENTENCE}\nconst fee = (length) => 3 * length\n")),
    ".sql": Sample(_text(f"-- {d.SENTENCE}\nSELECT fee FROM berths WHERE length > 12;\n")),
    ".yaml": Sample(_text(f"title: {d.TITLE}\nrules:\n  - {d.SENTENCE}\n")),
    ".toml": Sample(_text(f'title = "{d.TITLE}"\n[rules]\nfirst = "{d.SENTENCE}"\n')),
    "Makefile": Sample(_text(f"# {d.SENTENCE}\nall: fees\n\tcp fees.csv public/\n")),
    ".html": Sample(
        _html(f"<h1>{d.TITLE}</h1><p>{d.SENTENCE}<img src='data:image/png;base64,{BASE64}'>"), _of_loss(LossKind.PICTURE)
    ),
    ".htm": Sample(_html("<p>Loading</p><div id='app'></div><script src='app.js'></script>"), _of_loss(LossKind.SCRIPTED_CONTENT)),
    ".xhtml": Sample(_of("html")),
    ".xml": Sample(_text(d.xml().removesuffix("</body></article>")), _of_loss(LossKind.UNREADABLE_PART)),
    ".nxml": Sample(_of("xml")),
    ".tei": Sample(_text(f"<TEI><text><body><div><head>{d.SECTION}</head><p>{d.SECOND}</p></div></body></text></TEI>")),
    ".fb2": Sample(_text(_fb2()), _of_loss(LossKind.PICTURE)),
    ".dita": Sample(_text(f"<topic id='a'><title>{d.TITLE}</title><body><p>{d.SENTENCE}</p></body></topic>")),
    ".xbrl": Sample(_text("<xbrl><Revenue contextRef='Y2024' unitRef='EUR'>3180</Revenue></xbrl>")),
    ".rss": Sample(_text(f"<rss><channel><title>{d.TITLE}</title><item><title>{d.SENTENCE}</title></item></channel></rss>")),
    ".svg": Sample(_text(_SVG), _of_loss(LossKind.PICTURE)),
    ".pdf": Sample(d.half_scanned_pdf, _of_loss(LossKind.PICTURE)),
    ".docx": Sample(_docx, _of_loss(LossKind.PICTURE)),
    ".docm": Sample(_bytes(ooxml.word(_OBJECT, kind="docm")), _of_loss(LossKind.EMBEDDED_OBJECT)),
    ".dotx": Sample(_bytes(ooxml.word(ooxml.para(d.SENTENCE), kind="dotx"))),
    ".dotm": Sample(_bytes(ooxml.word(_PICTURE, kind="dotm")), _of_loss(LossKind.PICTURE)),
    ".pptx": Sample(_pptx, _of_loss(LossKind.EMBEDDED_OBJECT)),
    ".pptm": Sample(_bytes(ooxml.deck(ooxml.shape(d.SENTENCE), kind="pptm"))),
    ".ppsx": Sample(_bytes(ooxml.deck(ooxml.shape(d.SENTENCE), kind="ppsx"))),
    ".potx": Sample(_bytes(ooxml.deck(ooxml.shape(d.SENTENCE), kind="potx"))),
    ".xlsx": Sample(_xlsx, _of_loss(LossKind.HIDDEN_SHEET)),
    ".xlsm": Sample(_bytes(ooxml.workbook({"Fees": _FORMULA}, kind="xlsm")), _of_loss(LossKind.FORMULA)),
    ".xltx": Sample(_bytes(ooxml.workbook({"Fees": _FORMULA.replace("<f>1+2</f>", "<v>3</v>")}, kind="xltx"))),
    ".csv": Sample(_of("csv")),
    ".tsv": Sample(_of("tsv")),
    ".json": Sample(_text(json.dumps({"title": d.TITLE, "file": BASE64})), _of_loss(LossKind.MACHINE_TEXT)),
    ".jsonl": Sample(_of("jsonl")),
    ".ndjson": Sample(_of("jsonl")),
    ".ipynb": Sample(_text(_notebook()), _of_loss(LossKind.PICTURE)),
    ".srt": Sample(_text(_SRT)),
    ".vtt": Sample(_of("vtt")),
    ".po": Sample(_of("po")),
    ".ics": Sample(_of("ics")),
    ".vcf": Sample(_of("vcf")),
    ".eml": Sample(_eml, _of_loss(LossKind.EMBEDDED_OBJECT), members=1),
    ".emlx": Sample(_emlx),
    ".mbox": Sample(_mbox, members=1),
    ".msg": Sample(_msg, _of_loss(LossKind.ATTACHMENT)),
    ".epub": Sample(_pandoc_with_picture("epub"), _of_loss(LossKind.PICTURE)),
    ".odt": Sample(_pandoc_with_picture("odt"), _of_loss(LossKind.PICTURE)),
    ".odp": Sample(_bytes(opendocument.deck(f"<draw:page>{_SLIDE}</draw:page>")), _of_loss(LossKind.PICTURE)),
    ".ods": Sample(_bytes(opendocument.sheets(_SHEET)), _of_loss(LossKind.FORMULA)),
    ".xls": Sample(office.xls, _of_loss(LossKind.HIDDEN_SHEET)),
    ".doc": Sample(_saved_as("docx"), needs="soffice"),
    ".ppt": Sample(_saved_as("pptx"), needs="soffice"),
    ".djvu": Sample(_djvu, needs="cjb2"),
    ".rtf": Sample(_of("rtf")),
    ".zip": Sample(_bytes(d.zip_of(_INSIDE)), members=1),
    ".tar": Sample(_bytes(d.tar_of({**_INSIDE, "a.csv": b""})[:1300]), _of_loss(LossKind.UNREADABLE_PART), members=1),
    ".tgz": Sample(_bytes(d.tar_of(_INSIDE, "w:gz")), members=1),
    ".tar.xz": Sample(_bytes(d.tar_of(_INSIDE, "w:xz")), members=1),
    ".gz": Sample(_bytes(gzip.compress(d.SENTENCE.encode())), members=1),
    ".bz2": Sample(_bytes(bz2.compress(d.SENTENCE.encode())), members=1),
    ".xz": Sample(_bytes(lzma.compress(d.SENTENCE.encode())), members=1),
    ".7z": Sample(lambda path: path.write_bytes(d.sevenzip(_INSIDE)), members=1),
}


def writable() -> dict[str, Sample]:
    """The samples that this machine can write; in CI all of them."""
    return {name: s for name, s in SAMPLES.items() if not s.needs or shutil.which(s.needs) is not None or "CI" in os.environ}
