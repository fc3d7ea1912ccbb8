"""Makes real sample files of every format with the formats' own libraries; nothing here is read from the repository."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

TITLE = "Harbour Handbook"
SECTION = "Mooring rules"
SENTENCE = "Every vessel that stays overnight needs a mooring permit."
SECOND = "The tide gauge is read at noon and written into the log."
ITEMS = ("Ropes are doubled in winter.", "Fenders hang on both sides.")
HEADER = ("Berth", "Length", "Fee")
ROWS = (("North 1", "12 m", "40"), ("South 7", "18 m", "65"))
CODE = "def fee(length):\n    return 3 * length"


def markdown() -> str:
    table = "\n".join(f"| {' | '.join(row)} |" for row in (HEADER, ("---",) * 3, *ROWS))
    items = "\n".join(f"- {item}" for item in ITEMS)
    return f"# {TITLE}\n\n{SENTENCE}\n\n## {SECTION}\n\n{SECOND}\n\n{items}\n\n{table}\n\n```python\n{CODE}\n```\n"


def rst() -> str:
    items = "\n".join(f"* {item}" for item in ITEMS)
    code = CODE.replace("\n", "\n    ")
    bar = "=" * len(TITLE)
    return (
        f"{bar}\n{TITLE}\n{bar}\n\n{SENTENCE}\n\n{SECTION}\n{'-' * len(SECTION)}\n\n{SECOND}\n\n{items}\n\n"
        f".. function:: moor(vessel, *, ropes=2)\n\n   Moors the :class:`~harbour.Vessel` with ``ropes``.\n\n"
        f"Afterwards::\n\n    {code}\n"
    )


def html() -> str:
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in ROWS)
    head = "<tr>" + "".join(f"<th>{cell}</th>" for cell in HEADER) + "</tr>"
    items = "".join(f"<li>{item}</li>" for item in ITEMS)
    return (
        f"<!DOCTYPE html><html><head><title>{TITLE} - Port</title><style>p {{color: red}}</style></head><body>"
        f"<nav><a href='/'>Start page</a></nav><h1>{TITLE}<a class='headerlink' href='#x'>¶</a></h1><p>{SENTENCE}</p>"
        f"<h2>{SECTION}</h2><p>The <b>tide</b> gauge is read at noon\n and written into the log.</p><ul>{items}</ul>"
        f"<table>{head}{rows}</table><pre>{CODE}</pre><script>alert('never')</script><footer>Imprint</footer></body></html>"
    )


def pdf(path: Path, *, password: str = "", picture_only: bool = False) -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    if picture_only:
        _scanned(path)
        return
    styles = getSampleStyleSheet()
    body = f"{SENTENCE} {SECOND} The harbour master decides in all other matters and keeps the keys of the crane."
    story = [
        Paragraph(TITLE, styles["Title"]), Paragraph(body, styles["BodyText"]), Paragraph(SECOND, styles["BodyText"]), PageBreak(),
        Paragraph(SECTION, styles["Heading2"]), Paragraph("Ropes of the water-<br/>proof kind are doubled.", styles["BodyText"]),
    ]  # fmt: skip
    encryption = StandardEncryption(password, canPrint=0) if password else None
    SimpleDocTemplate(str(path), encrypt=encryption, title="Metadata title").build(story)


def half_scanned_pdf(path: Path) -> None:
    """A page of text, and a scanned one."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(path))
    sheet.drawString(72, 700, SENTENCE)
    sheet.showPage()
    sheet.drawImage(ImageReader(Image.new("RGB", (60, 80), (90, 90, 120))), 0, 0, 590, 840)
    sheet.save()


def _scanned(path: Path) -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(path))
    for shade in range(3):
        sheet.drawImage(ImageReader(Image.new("RGB", (60, 80), (shade * 60, 90, 120))), 0, 0, 590, 840)
        sheet.showPage()
    sheet.save()


def docx(path: Path) -> None:
    import docx as word

    document = word.Document()
    document.add_heading(TITLE, 1)
    document.add_paragraph(SENTENCE)
    document.add_heading(SECTION, 2)
    document.add_paragraph(SECOND)
    for item in ITEMS:
        document.add_paragraph(item, style="List Bullet")
    table = document.add_table(len(ROWS) + 1, len(HEADER))
    for i, row in enumerate((HEADER, *ROWS)):
        for j, cell in enumerate(row):
            table.cell(i, j).text = cell
    document.sections[0].header.paragraphs[0].text = "Running head"
    document.save(str(path))


def pptx(path: Path) -> None:
    from pptx import Presentation

    deck = Presentation()
    for title, text in ((TITLE, SENTENCE), (SECTION, "\n".join(ITEMS))):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
        slide.notes_slide.notes_text_frame.text = f"Notes on {title}"
    deck.save(str(path))


def xlsx(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fees"
    sheet.append(["Fees of the harbour"])
    sheet.append([])
    for row in (HEADER, *ROWS):
        sheet.append(list(row))
    other = book.create_sheet("Numbers")
    other.append(["Year", "Ships"])
    other.append([2024, 318.0])
    book.create_sheet("Empty")
    book.save(str(path))


def csv(delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(row) for row in (HEADER, *ROWS)) + "\n"


def records() -> list[dict[str, object]]:
    return [
        {"title": TITLE, "body": {"text": SENTENCE, "tags": ["port", "rules"]}, "year": 2024},
        {"title": SECTION, "text": SECOND},
    ]


def eml() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Übernachtung: mooring permit"
    message["From"] = "Harbour Master <master@port.example>"
    message["To"] = "crew@ship.example"
    message["Date"] = "Mon, 03 Jun 2024 10:00:00 +0000"
    message.set_content(f"{SENTENCE}\n\n{SECOND}\n")
    message.add_alternative(f"<html><body><h2>{SECTION}</h2><p>{SENTENCE}</p><p>{SECOND}</p></body></html>", subtype="html")
    message.add_attachment(
        b"The permit is valid for a year.", maintype="application", subtype="pdf", filename="../../etc/permit.pdf"
    )
    return message.as_bytes()


def xml() -> str:
    return (
        f'<?xml version="1.0"?><article><front><article-title>{TITLE}</article-title></front><body><p>{SENTENCE}</p>'
        f"<sec><title>{SECTION}</title><p>The <italic>tide</italic> gauge is read at noon and written into the log.</p></sec>"
        "</body></article>"
    )


def svg() -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg"><title>{TITLE}</title><path d="M0 0L9 9"/><text x="1">{SENTENCE}</text></svg>'


def notebook() -> dict[str, object]:
    return {
        "nbformat": 4,
        "cells": [
            {"cell_type": "markdown", "source": [f"# {TITLE}\n", SENTENCE]},
            {"cell_type": "code", "source": CODE, "outputs": [{"output_type": "stream", "name": "stdout", "text": [SECOND]}]},
        ],
    }


def latex() -> str:
    return (
        f"\\documentclass{{article}}\\title{{{TITLE}}}\\begin{{document}}\\maketitle {SENTENCE}\n\n"
        f"\\section{{{SECTION}}}{SECOND}\\end{{document}}\n"
    )


def pandoc(path: Path, kind: str) -> None:
    import pypandoc

    pypandoc.convert_text(
        markdown(), kind, format="markdown", outputfile=str(path), extra_args=["-s", f"--metadata=title={TITLE} (book)"]
    )


def msg(path: Path, attachment: bytes | None = b"The permit is valid for a year.") -> None:
    """An Outlook message; no library writes them, so its container is made here. `attachment`: None for one without bytes."""

    def properties(values: Mapping[int, str | bytes], header: int) -> dict[str, bytes]:
        streams: dict[str, bytes] = {}
        table = bytes(header)
        for pid, value in values.items():
            kind = 0x001F if isinstance(value, str) else 0x0102
            data = value.encode("utf-16-le") if isinstance(value, str) else value
            streams[f"__substg1.0_{pid:04X}{kind:04X}"] = data
            table += struct.pack("<HHIII", kind, pid, 6, len(data) + (2 if kind == 0x1F else 0), 0)
        return {**streams, "__properties_version1.0": table}

    page = f"<html><body><p>{SENTENCE}</p><p>{SECOND}</p></body></html>".encode()
    root = properties({0x001A: "IPM.Note", 0x0037: "Mooring permit", 0x0C1A: "Harbour Master", 0x0C1F: "master@port.example",
                       0x1000: SENTENCE, 0x1013: page}, 32)  # fmt: skip
    recipient = properties({0x3001: "Crew", 0x39FE: "crew@ship.example"}, 8)
    content = {} if attachment is None else {0x3701: attachment}
    attached = properties({0x3707: "..\\..\\permit.pdf", **content}, 8)
    path.write_bytes(compound({**root, "__recip_version1.0_#00000000": recipient, "__attach_version1.0_#00000000": attached}))


Tree = Mapping[str, "bytes | Tree"]


def compound(tree: Tree) -> bytes:
    """A compound file (OLE, version 3) that holds `tree`; for streams of less than 4,096 bytes in all of 30 KB."""
    free, end, fat_mark = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    entries: list[list[object]] = [["Root Entry", 5, free, end, 0]]  # name, kind, child, first sector, size
    siblings: dict[int, int] = {}
    mini, minifat = b"", list[int]()

    def add(children: Tree) -> int:
        nonlocal mini
        first = before = free
        for name in sorted(children, key=lambda n: (len(n), n.upper())):
            value = children[name]
            index = len(entries)
            if isinstance(value, bytes):
                sectors = -(-len(value) // 64)
                entries.append([name, 2, free, len(minifat) if sectors else end, len(value)])
                minifat.extend([*range(len(minifat) + 1, len(minifat) + sectors), end] if sectors else [])
                mini += value.ljust(sectors * 64, b"\0")
            else:
                entries.append([name, 1, free, 0, 0])
                entries[index][2] = add(value)
            if before == free:
                first = index
            else:
                siblings[before] = index
            before = index
        return first

    entries[0][2] = add(tree)
    directory_sectors = -(-len(entries) * 128 // 512)
    minifat_sectors = -(-len(minifat) * 4 // 512)
    mini_sectors = -(-len(mini) // 512)
    entries[0][3], entries[0][4] = 1 + directory_sectors + minifat_sectors, len(mini)
    fat = [fat_mark]
    for count in (directory_sectors, minifat_sectors, mini_sectors):
        fat += [*range(len(fat) + 1, len(fat) + count), end]
    directory = b""
    for index, (name, kind, child, sector, size) in enumerate(entries):
        label = str(name).encode("utf-16-le")
        directory += struct.pack(
            "<64sHBBIII36xIII", label, len(label) + 2, kind, 1, free, siblings.get(index, free), child, sector, size, 0
        )
    directory += (struct.pack("<64xHBBIII36xIII", 0, 0, 0, free, free, free, 0, 0, 0)) * (directory_sectors * 4 - len(entries))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack(
        "<HHHHH6xIIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, 1 + directory_sectors, minifat_sectors, end, 0, 0
    )  # fmt: skip
    header += struct.pack("<I", free) * 108
    tables = [struct.pack(f"<{len(t)}I", *t).ljust(n * 512, b"\xff") for t, n in ((fat, 1), (minifat, minifat_sectors))]
    return header + tables[0] + directory + tables[1] + mini.ljust(mini_sectors * 512, b"\0")


def encrypted_office() -> bytes:
    """What Office writes for a workbook with a password: an OLE container around the encrypted package."""
    return compound({"EncryptionInfo": b"\4\0\4\0" + bytes(60), "EncryptedPackage": bytes(200)})


def zip_of(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, content)
    return data.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return data.getvalue()


def sevenzip(files: dict[str, bytes], password: str | None = None) -> bytes:
    import py7zr

    data = io.BytesIO()
    with py7zr.SevenZipFile(data, "w", password=password) as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return data.getvalue()


def odp(path: Path) -> None:
    from tests import opendocument

    opendocument.write_odp(path)


def ods(path: Path) -> None:
    from tests import opendocument

    opendocument.write_ods(path)


def xls(path: Path) -> None:
    import xlwt

    book = xlwt.Workbook()
    fees, berths = book.add_sheet("Fees"), book.add_sheet("Berths")
    fees.write(0, 0, "Fees of the harbour")
    for i, row in enumerate((HEADER, *ROWS), 2):
        for j, cell in enumerate(row):
            fees.write(i, j, cell)
    for at, cell in enumerate(("Berth", "Depth", "North", "4")):
        berths.write(at // 2, at % 2, cell)
    book.save(str(path))


#: How to make a file of each format at a path.
WRITERS: dict[str, Callable[[Path], object]] = {
    "txt": lambda p: p.write_text(f"{TITLE}\n\n{SENTENCE}\n\n{SECOND}\n", encoding="utf-8"),
    "md": lambda p: p.write_text(markdown(), encoding="utf-8"),
    "rst": lambda p: p.write_text(rst(), encoding="utf-8"),
    "html": lambda p: p.write_text(html(), encoding="utf-8"),
    "py": lambda p: p.write_text(f'"""{SENTENCE}"""\n\n\n{CODE}\n\n\ndef other():\n    return "{SECOND}"\n', encoding="utf-8"),
    "csv": lambda p: p.write_text(csv(), encoding="utf-8"),
    "tsv": lambda p: p.write_text(csv("\t"), encoding="utf-8"),
    "json": lambda p: p.write_text(json.dumps(records()), encoding="utf-8"),
    "jsonl": lambda p: p.write_text("\n".join(map(json.dumps, records())), encoding="utf-8"),
    "pdf": pdf,
    "docx": docx,
    "pptx": pptx,
    "xlsx": xlsx,
    "eml": lambda p: p.write_bytes(eml()),
    "msg": msg,
    "xml": lambda p: p.write_text(xml(), encoding="utf-8"),
    "svg": lambda p: p.write_text(svg(), encoding="utf-8"),
    "ipynb": lambda p: p.write_text(json.dumps(notebook()), encoding="utf-8"),
    "vtt": lambda p: p.write_text(f"WEBVTT\n\n00:01.000 --> 00:04.000\n<v Master>{SENTENCE}</v>\n", encoding="utf-8"),
    "po": lambda p: p.write_text(f'msgid "permit"\nmsgstr ""\n"{SENTENCE}"\n', encoding="utf-8"),
    "ics": lambda p: p.write_text(
        f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:{SENTENCE}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", encoding="utf-8"
    ),
    "vcf": lambda p: p.write_text(f"BEGIN:VCARD\r\nNOTE:{SENTENCE}\r\nEND:VCARD\r\n", encoding="utf-8"),
    "tex": lambda p: p.write_text(latex(), encoding="utf-8"),
    "org": lambda p: p.write_text(f"* {TITLE}\n{SENTENCE}\n** {SECTION}\n{SECOND}\n", encoding="utf-8"),
    "adoc": lambda p: p.write_text(f"= {TITLE}\n\n{SENTENCE}\n\n== {SECTION}\n\n{SECOND}\n", encoding="utf-8"),
    "epub": lambda p: pandoc(p, "epub"),
    "odt": lambda p: pandoc(p, "odt"),
    "odp": odp,
    "ods": ods,
    "xls": xls,
    "rtf": lambda p: pandoc(p, "rtf"),
}


def write(folder: Path, kind: str, name: str = "") -> Path:
    """A sample file of `kind` (a key of WRITERS) in `folder`."""
    path = folder / (name or f"sample.{kind}")
    WRITERS[kind](path)
    return path
