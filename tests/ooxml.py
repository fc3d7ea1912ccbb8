"""Office files from the XML of their parts, for what the formats' own libraries do not write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.documents import zip_of

_MAIN = {
    "docx": ("word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"),
    "docm": ("word/document.xml", "application/vnd.ms-word.document.macroEnabled.main+xml"),
    "dotx": ("word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml"),
    "dotm": ("word/document.xml", "application/vnd.ms-word.template.macroEnabledTemplate.main+xml"),
    "pptx": ("ppt/presentation.xml", "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"),
    "pptm": ("ppt/presentation.xml", "application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml"),
    "ppsx": ("ppt/presentation.xml", "application/vnd.openxmlformats-officedocument.presentationml.slideshow.main+xml"),
    "potx": ("ppt/presentation.xml", "application/vnd.openxmlformats-officedocument.presentationml.template.main+xml"),
    "xlsx": ("xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"),
    "xlsm": ("xl/workbook.xml", "application/vnd.ms-excel.sheet.macroEnabled.main+xml"),
    "xltx": ("xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.template.main+xml"),
}
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    f'xmlns:r="{_OFFICE}" xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    'xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" '
    'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
)


def package(kind: str, main: str, parts: Mapping[str, tuple[str, str]] | None = None, *, place: str = "") -> bytes:
    """A file whose main part is `main`; `parts`: name relative to the main part -> kind of relation and XML, related as rId1, rId2.

    `place` is another name for the main part than the usual one.
    """
    usual, content_type = _MAIN[kind]
    name = place or usual
    folder = name.rpartition("/")[0]
    related = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{relation}" Target="{part}"/>'
        for number, (part, (relation, _)) in enumerate((parts or {}).items(), 1)
    )
    own = f'<Relationships xmlns="{_RELATIONS}">{related}</Relationships>'
    return zip_of(
        {
            "[Content_Types].xml": (
                '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" '
                f'ContentType="application/xml"/><Override PartName="/{name}" ContentType="{content_type}"/></Types>'
            ).encode(),
            "_rels/.rels": (
                f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="{name}"/>'
                "</Relationships>"
            ).encode(),
            name: main.encode(),
            f"{folder}/_rels/{name.rpartition('/')[2]}.rels": own.encode(),
            **{f"{folder}/{part}": text.encode() for part, (_, text) in (parts or {}).items()},
        }
    )


def word(body: str, parts: Mapping[str, tuple[str, str]] | None = None, *, kind: str = "docx", place: str = "") -> bytes:
    """A Word file with this body."""
    return package(kind, f"<w:document {NAMES}><w:body>{body}</w:body></w:document>", parts, place=place)


def para(text: str, properties: str = "") -> str:
    """A paragraph with one run."""
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}<w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


def row(*cells: str, properties: str = "") -> str:
    """A row of a table; cells are texts, or XML that begins with an angle bracket."""
    told = "".join(cell if cell.startswith("<w:tc") else f"<w:tc>{para(cell)}</w:tc>" for cell in cells)
    return f"<w:tr>{f'<w:trPr>{properties}</w:trPr>' if properties else ''}{told}</w:tr>"


def workbook(sheets: Mapping[str, str], *, styles: str = "", kind: str = "xlsx", states: Mapping[str, str] | None = None) -> bytes:
    """A workbook of sheets; each is the XML inside its `worksheet`."""
    names = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}" state="{(states or {}).get(name, "visible")}"/>'
        for number, name in enumerate(sheets, 1)
    )
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    parts = {
        f"worksheets/sheet{number}.xml": ("worksheet", f"<worksheet {space} {NAMES}>{text}</worksheet>")
        for number, text in enumerate(sheets.values(), 1)
    }
    parts["styles.xml"] = ("styles", f"<styleSheet {space}>{styles}</styleSheet>")
    return package(kind, f"<workbook {space} {NAMES}><sheets>{names}</sheets></workbook>", parts)


def deck(*slides: str, kind: str = "pptx") -> bytes:
    """A presentation of slides; each is the XML inside its `spTree`."""
    ids = "".join(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>' for number in range(1, len(slides) + 1))
    parts = {
        f"slides/slide{number}.xml": ("slide", f"<p:sld {NAMES}><p:cSld><p:spTree>{text}</p:spTree></p:cSld></p:sld>")
        for number, text in enumerate(slides, 1)
    }
    return package(kind, f"<p:presentation {NAMES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>", parts)


def shape(text: str, placeholder: str = "") -> str:
    """A shape of a slide with paragraphs, one a line."""
    lines = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("\n"))
    kind = f'<p:ph type="{placeholder}"/>' if placeholder else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="2" name="Shape"/><p:cNvSpPr/><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:spPr/>'
        f"<p:txBody><a:bodyPr/>{lines}</p:txBody></p:sp>"
    )


def written(folder: Path, name: str, data: bytes) -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path
