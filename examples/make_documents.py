"""Writes the example documents in office formats: `python examples/make_documents.py FOLDER`.

The bytes are the same in every run, so that loading them a second time finds nothing new.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import docx
import openpyxl
import pptx
import pypandoc
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.platypus import ListFlowable, Paragraph, SimpleDocTemplate, Spacer, Table

from texts import GETTING_STARTED, GLOSSARY, HANDBOOK, MODEL_GUIDE, QUICK_REFERENCE, SIZING, SLIDES, STATES, Section

#: The date of every document and of every file inside one: seconds of 2026-01-01 since the epoch.
DATE = datetime(2026, 1, 1)
EPOCH_S = 1767225600


def write_docx(path: Path, title: str, sections: Sequence[Section]) -> None:
    """A document with headings and lists."""
    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.created = document.core_properties.modified = DATE
    document.add_heading(title, level=0)
    for section in sections:
        document.add_heading(section.title, level=1)
        for paragraph in section.paragraphs:
            document.add_paragraph(paragraph)
        for point in section.points:
            document.add_paragraph(point, style="List Bullet")
    document.save(str(path))


def write_pptx(path: Path, sections: Sequence[Section]) -> None:
    """A title and its points on each slide."""
    deck = pptx.Presentation()
    deck.core_properties.title = sections[0].title
    deck.core_properties.created = deck.core_properties.modified = DATE
    for section in sections:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = section.title
        frame = slide.placeholders[1].text_frame
        frame.text, *rest = section.paragraphs + section.points
        for line in rest:
            frame.add_paragraph().text = line
    deck.save(str(path))


def write_xlsx(path: Path, sheets: dict[str, Sequence[Sequence[str]]]) -> None:
    """A sheet for each table."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.properties.created = DATE
    book.save(path)


def write_pdf(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Headings, paragraphs, lists and tables."""
    styles = getSampleStyleSheet()
    story = [Paragraph(title, styles["Title"])]
    for section in sections:
        story.append(Paragraph(section.title, styles["Heading2"]))
        story.extend(Paragraph(text, styles["BodyText"]) for text in section.paragraphs)
        if section.points:
            story.append(ListFlowable([Paragraph(point, styles["BodyText"]) for point in section.points], bulletType="bullet"))
        if section.table:
            cells = [[Paragraph(cell, styles["BodyText"]) for cell in row] for row in section.table]
            story.append(Table(cells, colWidths=[8 * cm, 8 * cm], repeatRows=1))
        story.append(Spacer(1, 0.3 * cm))
    # invariant: no clock and no random id in the file.
    SimpleDocTemplate(str(path), pagesize=A4, title=title, author="kb-ingest", invariant=1).build(story)


def write_pandoc(path: Path, title: str, markdown: str) -> None:
    """`markdown` in the format of the suffix of `path`."""
    extra = ["--standalone", f"--metadata=title:{title}", "--metadata=lang:en-GB", f"--metadata=identifier:kb-ingest:{path.stem}"]
    pypandoc.convert_text(markdown, to=path.suffix[1:], format="markdown", outputfile=str(path), extra_args=extra)


def make_reproducible(path: Path) -> None:
    """Write the zip file `path` again without the times at which it was made.

    The libraries stamp each member, and openpyxl the properties too, with the clock.
    """
    stamp = DATE.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    rewritten = path.with_suffix(".tmp")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(rewritten, "w") as copy:
        for member in source.infolist():
            data = source.read(member)
            if member.filename == "docProps/core.xml":
                data = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, data)
            info = zipfile.ZipInfo(member.filename, DATE.timetuple()[:6])
            info.compress_type = member.compress_type
            copy.writestr(info, data)
    rewritten.replace(path)


def main(folder: Path) -> None:
    """Write all documents into `folder`, which is made when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = str(EPOCH_S)  # pandoc's clock
    write_docx(folder / "operations-handbook.docx", "Operations handbook", HANDBOOK)
    write_pptx(folder / "release-0.1.pptx", SLIDES)
    write_xlsx(folder / "states-and-sizing.xlsx", {"States": STATES, "Sizing": SIZING})
    write_pdf(folder / "quick-reference.pdf", "kb-ingest quick reference", QUICK_REFERENCE)
    write_pandoc(folder / "getting-started.epub", "Getting started with kb-ingest", GETTING_STARTED)
    write_pandoc(folder / "choosing-a-model.odt", "Choosing a model", MODEL_GUIDE)
    write_pandoc(folder / "glossary.rtf", "Glossary", GLOSSARY)
    for path in sorted(folder.iterdir()):
        if zipfile.is_zipfile(path):
            make_reproducible(path)
    print(f"{len(list(folder.iterdir()))} documents in {folder}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_documents.py FOLDER")
    main(Path(sys.argv[1]))
