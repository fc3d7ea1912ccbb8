"""Groups of an RTF file that hold more than text of a paragraph: notes, boxes, pictures, properties, styles."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from pipeline.parse.ooxml.drawing import said
from pipeline.parse.parsed import parts, squeeze
from pipeline.parse.rtf.equations import Equation
from pipeline.parse.rtf.reader import Reader, Shape
from pipeline.types import Element, ElementKind, LossKind

Group = Callable[[Reader], None]

#: Maximum depth of stories in stories, such as a box in a note; deeper ones are read as part of the one around them.
MAX_STORIES = 6
#: Groups with control data, and copies of something that is read elsewhere.
SILENT_GROUPS = frozenset(
    b"colortbl filetbl listtable listoverridetable revtbl rsidtbl generator template pntxta pntxtb nonshppict nonesttables "
    b"shprslt xe tc tcn rxe private falt panose fontemb fontfile mmathPr mmathPict operator company manager category keywords "
    b"doccomm hlinkbase author subject comment userprops docvar leveltext levelnumbers listname objalias objsect objtime ftnsep "
    b"ftnsepc ftncn aftnsep aftnsepc aftncn pgptbl latentstyles themedata colorschememapping datastore xmlnstbl wgrffmtfilter "
    b"background bkmkstart bkmkend".split()
)
_BOXES = ("[ ] ", "[x] ")
_WORD = re.compile(r"\w")


def _fonts(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.in_fonts = False
        reader.state.font = reader.fonts.default
        reader.sheet.marks_code = reader.fonts.default not in reader.fonts.fixed

    reader.in_fonts = True
    reader.capture(done)


def _sheet(reader: Reader) -> None:
    reader.in_sheet = True

    def done(text: str) -> None:
        reader.in_sheet = False

    reader.capture(done)


def _title(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.title = reader.title or (squeeze(text) if _WORD.search(text) else "")

    reader.capture(done)


def _passes(reader: Reader) -> None:
    """A group whose content is read as if it stood without one."""


def _note(reader: Reader) -> None:
    reader.note = "Footnote"
    _story(reader, lambda found: _labelled(reader, reader.note, found))


def _comment(reader: Reader) -> None:
    def done(found: list[Element]) -> None:
        _labelled(reader, said("Comment", squeeze(reader.author), reader.date or None), found)
        reader.author = reader.date = ""

    _story(reader, done)


def _labelled(reader: Reader, label: str, found: list[Element]) -> None:
    """Put a note after the paragraph that refers to it."""
    after = reader.state.story.after
    if found:
        found[0] = replace(found[0], text=f"{label}: {found[0].text}")
    after += (replace(e, kind=ElementKind.PARAGRAPH, level=0) if e.level else e for e in found)


def _author(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.author = text

    reader.capture(done)


def _date(reader: Reader) -> None:
    def done(text: str) -> None:
        packed = int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 12 else 0
        minute, hour, day, month, year = packed & 63, packed >> 6 & 31, packed >> 11 & 31, packed >> 16 & 15, packed >> 20 & 511
        if day and month:
            reader.date = f"{1900 + year}-{month:02}-{day:02}T{hour:02}:{minute:02}"

    reader.capture(done)


def _running(reader: Reader) -> None:
    """A header or footer; told once, at the end."""
    _story(reader, lambda found: reader.running.update(dict.fromkeys(e.text for e in found)))


def _box(reader: Reader) -> None:
    _story(reader, lambda found: reader.state.story.after.extend(found))


def _story(reader: Reader, done: Callable[[list[Element]], None]) -> None:
    if reader.nesting < MAX_STORIES and reader.html is None:
        reader.begin_story(done)


def _label(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.state.story.label = text

    reader.capture(done)


def _instruction(reader: Reader) -> None:
    """The instruction of a field; of a check box, its state is text."""
    reader.checked = None

    def done(text: str) -> None:
        if "FORMCHECKBOX" in text:
            reader.say(_BOXES[bool(reader.checked)])

    reader.capture(done)


def _shape(reader: Reader) -> None:
    """A drawing: its properties, its picture and its text."""
    shape = reader.state.shape = Shape()
    reader.state.end = lambda: _end_shape(reader, shape)


def _end_shape(reader: Reader, shape: Shape) -> None:
    outer = reader.state.shape
    if shape.pictures and shape.description:
        reader.state.story.after.append(Element(f"Picture: {shape.description}"))
    elif shape.pictures and (outer is None or not outer.silent):
        reader.losses.add(LossKind.PICTURE, "", "without alternative text", shape.pictures)


def _picture(reader: Reader) -> None:
    reader.state.into = reader.nothing
    if reader.state.shape is None:
        _shape(reader)
    if (shape := reader.state.shape) is not None:
        shape.pictures += 1


def _property_name(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.property = text.strip()

    reader.capture(done)


def _property_value(reader: Reader) -> None:
    name, shape = reader.property, reader.state.shape

    def done(text: str) -> None:
        if name == "wzDescription" and shape is not None:
            shape.description = squeeze(text)
        elif name == "gtextUNICODE":  # words drawn along a path
            reader.state.story.after += parts(squeeze(text))

    reader.capture(done)


def _object(reader: Reader) -> None:
    """An embedded file; a picture of it is no further loss."""
    reader.state.shape = Shape(silent=True)
    reader.object = ""
    reader.state.end = lambda: reader.losses.add(LossKind.EMBEDDED_OBJECT, "", reader.object or "an object")


def _object_class(reader: Reader) -> None:
    def done(text: str) -> None:
        reader.object = squeeze(text)

    reader.capture(done)


def _equation(reader: Reader) -> None:
    if reader.state.equation is None:
        equation = reader.state.equation = Equation.begin()
        reader.state.end = lambda: reader.say(equation.linear())


def _two_forms(reader: Reader) -> None:
    """Text in the document's code page, and the same in Unicode, which is the one that is read."""
    reader.state.into = []


def _unicode_form(reader: Reader) -> None:
    if (into := reader.before_two_forms()) is not None:
        reader.state.into = into


def _tag(reader: Reader) -> None:
    """Markup of the page of HTML that the file stands for."""
    if reader.html is not None:
        reader.state.into, reader.state.muted = reader.html, False
    else:
        reader.pass_over()


#: Groups by their first word.
GROUPS: dict[bytes, Group] = {
    b"fonttbl": _fonts,
    b"stylesheet": _sheet,
    b"title": _title,
    b"footnote": _note,
    **dict.fromkeys((b"listtext", b"pntext"), _label),
    **dict.fromkeys((b"header", b"headerl", b"headerr", b"headerf", b"footer", b"footerl", b"footerr", b"footerf"), _running),
    **dict.fromkeys((b"shptxt", b"dptxbxtext"), _box),
    **dict.fromkeys((b"shppict", b"do", b"moMathPara", b"formfield", b"picprop", b"nesttableprops"), _passes),
    b"pict": _picture,
    b"sn": _property_name,
    b"sv": _property_value,
    b"shpinst": _shape,
    b"object": _object,
    b"objclass": _object_class,
    b"annotation": _comment,
    b"atnauthor": _author,
    b"atndate": _date,
    b"fldinst": _instruction,
    b"moMath": _equation,
    b"upr": _two_forms,
    b"ud": _unicode_form,
    b"htmltag": _tag,
}
