"""The control words that the reader knows: characters, properties of text, rows and cells, and groups that hold text or none."""

from __future__ import annotations

from dataclasses import replace

from pipeline.parse.rtf.fonts import page_codec
from pipeline.parse.rtf.groups import GROUPS, SILENT_GROUPS
from pipeline.parse.rtf.reader import CHARACTERS, MAX_FALLBACK, Action, Reader
from pipeline.parse.rtf.story import Properties
from pipeline.parse.rtf.tables import RowShape
from pipeline.parse.rtf.tokens import Token
from pipeline.types import LossKind


def _character(reader: Reader, token: Token) -> None:
    reader.say(CHARACTERS[token.word])


def _silent(reader: Reader, token: Token) -> None:
    if reader.depth > 1:
        reader.pass_over()


def _group(reader: Reader, token: Token) -> None:
    if reader.depth > 1 and reader.state.end is None:
        GROUPS[token.word](reader)


def _unicode(reader: Reader, token: Token) -> None:
    if token.number is not None:
        reader.unicode(token.number)


def _binary(reader: Reader, token: Token) -> None:
    if token.number is not None and token.number > 0 and not reader.tokens.skip_bytes(token.number):
        reader.losses.add(LossKind.UNREADABLE_PART, "binary data", "it is longer than the file")


def _fallback(reader: Reader, token: Token) -> None:
    reader.state.fallback = min(max(0, 1 if token.number is None else token.number), MAX_FALLBACK)


def _font(reader: Reader, token: Token) -> None:
    if reader.in_fonts:
        reader.end_entry()
    reader.state.font = token.number or 0


def _default_font(reader: Reader, token: Token) -> None:
    reader.fonts.default = reader.state.font = token.number or 0


def _charset(reader: Reader, token: Token) -> None:
    reader.fonts.font(reader.state.font).charset = token.number or 0


def _font_page(reader: Reader, token: Token) -> None:
    if (codec := page_codec(token.number or 0)) is None:
        reader.fonts.unknown.add(token.number or 0)
    else:
        reader.fonts.font(reader.state.font).codec = codec


def _page(number: int | None = None) -> Action:
    def action(reader: Reader, token: Token) -> None:
        reader.fonts.set_page((token.number or 0) if number is None else number)

    return action


def _plain(reader: Reader, token: Token) -> None:
    reader.state.font = reader.fonts.default
    reader.state.hidden = reader.state.deleted = False


def _hidden(reader: Reader, token: Token) -> None:
    reader.state.hidden = token.number != 0


def _deleted(reader: Reader, token: Token) -> None:
    reader.state.deleted = token.number != 0


def _endnote(reader: Reader, token: Token) -> None:
    reader.note = "Endnote"


def _box(reader: Reader, token: Token) -> None:
    """The state of a check box, 25 where it is not known, or the state at the beginning."""
    known = token.number != 25 if token.word == b"ffres" else reader.checked is None
    if known:
        reader.checked = token.number != 0


def _html(reader: Reader, token: Token) -> None:
    if reader.html is None and token.number != 0:
        reader.html = reader.state.into = []


def _muted(reader: Reader, token: Token) -> None:
    reader.state.muted = token.number != 0 and reader.html is not None


def _paragraph(reader: Reader, token: Token) -> None:
    reader.end_paragraph()


def _defaults(reader: Reader, token: Token) -> None:
    reader.state.paragraph = Properties()


def _style(reader: Reader, token: Token) -> None:
    reader.state.paragraph = replace(reader.state.paragraph, style=token.number or 0)


def _no_style(reader: Reader, token: Token) -> None:
    if reader.in_sheet:
        reader.state.paragraph = replace(reader.state.paragraph, style=-1)


def _based_on(reader: Reader, token: Token) -> None:
    if reader.in_sheet and token.number is not None:
        reader.sheet.based_on[reader.state.paragraph.style] = token.number


def _outline(reader: Reader, token: Token) -> None:
    reader.state.paragraph = replace(reader.state.paragraph, outline=token.number or 0)


def _in_table(reader: Reader, token: Token) -> None:
    reader.state.paragraph = replace(reader.state.paragraph, in_table=True)


def _depth(reader: Reader, token: Token) -> None:
    depth = 1 if token.number is None else token.number
    reader.state.paragraph = replace(reader.state.paragraph, in_table=depth > 0, depth=max(1, depth))


def _hangs(reader: Reader, token: Token) -> None:
    reader.state.paragraph = replace(reader.state.paragraph, hangs=(token.number or 0) < 0)


def _row_begins(reader: Reader, token: Token) -> None:
    reader.state.row = RowShape()
    if reader.state.paragraph.depth == 1:
        reader.state.story.in_row = True


def _row_left(reader: Reader, token: Token) -> None:
    reader.state.row.left = token.number or 0


def _row_heads(reader: Reader, token: Token) -> None:
    reader.state.row.heads = True


def _edge(reader: Reader, token: Token) -> None:
    reader.state.row.add(token.number or 0)


def _joins_left(reader: Reader, token: Token) -> None:
    reader.state.row.joins_left = True


def _joins_above(reader: Reader, token: Token) -> None:
    reader.state.row.joins_above = True


def _cell_ends(reader: Reader, token: Token) -> None:
    state = reader.state
    if state.into is state.story.pieces:
        state.story.end_cell(state.paragraph, 1 if token.word == b"cell" else max(2, state.paragraph.depth))


def _row_ends(reader: Reader, token: Token) -> None:
    state = reader.state
    if state.into is state.story.pieces:
        state.story.end_row(state.paragraph, 1 if token.word == b"row" else max(2, state.paragraph.depth), state.row)


#: What the reader does at each word; the other ones describe how text looks.
WORDS: dict[bytes, Action] = {
    **dict.fromkeys(CHARACTERS.keys() - {b"{", b"}"}, _character),
    **dict.fromkeys(SILENT_GROUPS, _silent),
    **dict.fromkeys(GROUPS, _group),
    b"u": _unicode,
    b"uc": _fallback,
    b"bin": _binary,
    b"f": _font,
    b"deff": _default_font,
    b"fcharset": _charset,
    b"cpg": _font_page,
    b"ansicpg": _page(),
    b"mac": _page(10000),
    b"pc": _page(437),
    b"pca": _page(850),
    b"plain": _plain,
    b"v": _hidden,
    **dict.fromkeys((b"deleted", b"mvf"), _deleted),
    b"fromhtml": _html,
    b"htmlrtf": _muted,
    b"ftnalt": _endnote,
    **dict.fromkeys((b"ffres", b"ffdefres"), _box),
    **dict.fromkeys((b"par", b"sect", b"\n", b"\r"), _paragraph),
    b"pard": _defaults,
    b"s": _style,
    **dict.fromkeys((b"cs", b"ds", b"ts"), _no_style),
    b"sbasedon": _based_on,
    b"outlinelevel": _outline,
    b"intbl": _in_table,
    b"itap": _depth,
    b"fi": _hangs,
    b"trowd": _row_begins,
    b"trleft": _row_left,
    b"trhdr": _row_heads,
    b"cellx": _edge,
    b"clmrg": _joins_left,
    b"clvmrg": _joins_above,
    **dict.fromkeys((b"cell", b"nestcell"), _cell_ends),
    **dict.fromkeys((b"row", b"nestrow"), _row_ends),
}
