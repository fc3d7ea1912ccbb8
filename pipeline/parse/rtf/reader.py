"""RTF files: paragraphs, headings, lists and tables in their order, notes and comments after the paragraph they belong to.

One pass over the tokens, with a stack of what holds in each open group. Deleted and hidden text is no text. Groups that
are not known to hold text are passed over without being split into tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.parse.html import html_parsed
from pipeline.parse.parsed import Losses, Share
from pipeline.parse.rtf.equations import Equation
from pipeline.parse.rtf.fonts import NO_FONT, Fonts
from pipeline.parse.rtf.story import MAX_PARAGRAPH_CHARS, Properties, Sheet, Story
from pipeline.parse.rtf.tables import RowShape
from pipeline.parse.rtf.tokens import Token, Tokens
from pipeline.types import Element, LossKind

#: Groups nested deeper keep their text, but share what holds in them.
MAX_GROUPS = 20_000
#: Maximum number of characters that stand for one in programs that know no Unicode.
MAX_FALLBACK = 100
#: Text is decoded in pieces of about this many bytes.
MAX_BYTES = 1 << 16
#: The value of a property keeps this many pieces of text, each of at most as many characters.
MAX_VALUE = 1_000

#: Words and symbols that stand for a character.
CHARACTERS = dict(
    zip(
        b"emdash endash lquote rquote ldblquote rdblquote bullet emspace enspace qmspace zwj zwnj zwbo ltrmark rtlmark ~ _".split(),
        "\u2014\u2013\u2018\u2019\u201c\u201d\u2022\u2003\u2002\u2005\u200d\u200c\u200b\u200e\u200f\u00a0-",
        strict=True,
    )
)
CHARACTERS |= {b"tab": "\t", b"\t": "\t"} | dict.fromkeys((b"line", b"lbr", b"page", b"column", b"softline"), "\n")


@dataclass(slots=True)
class Shape:
    """A drawing or an embedded object that is being read."""

    description: str = ""
    pictures: int = 0
    silent: bool = False  #: whether its pictures show what is told elsewhere


@dataclass(slots=True)
class State:
    """What holds in a group until its end."""

    story: Story
    into: list[str]  #: where text goes: the story's paragraph, or the value of a property
    font: int = 0
    fallback: int = 1  #: number of characters after a Unicode character that stand for it
    hidden: bool = False
    deleted: bool = False
    muted: bool = False  #: in a page of HTML, what only programs without HTML show
    paragraph: Properties = field(default_factory=Properties)
    row: RowShape = field(default_factory=RowShape)
    shape: Shape | None = None
    equation: Equation | None = None
    end: Callable[[], None] | None = None  #: to be called at the end of the group

    def inner(self) -> State:
        """The state at the start of a group in this one."""
        return State(
            self.story,
            self.into,
            self.font,
            self.fallback,
            self.hidden,
            self.deleted,
            self.muted,
            self.paragraph,
            self.row,
            self.shape,
            self.equation,
        )


#: What the reader does at a control word.
Action = Callable[["Reader", Token], None]


class Reader:
    """A pass over one file."""

    def __init__(self, tokens: Tokens, words: Mapping[bytes, Action]) -> None:
        self.losses = Losses()
        self.share = Share()
        self.tokens = tokens
        self.title = ""
        self.fonts = Fonts()
        self.in_fonts = False  #: whether the font table is being read
        self.sheet = Sheet()
        self.in_sheet = False
        self.body = Story(self.sheet)
        self.nesting = 0  #: stories around the current one
        self.state = State(self.body, self.body.pieces)
        self.html: list[str] | None = None  #: the page that the file stands for
        self.running: dict[str, None] = {}  #: texts of headers and footers
        self.nothing: list[str] = []  #: where data goes that is no text, such as a picture's
        self.author = self.date = ""  #: of the next comment
        self.property = ""  #: name of the property of a shape whose value comes next
        self.object = ""  #: class of the current object
        self.note = ""  #: kind of the current note
        self.checked: bool | None = None  #: state of the current check box
        self.optional = False  #: whether the next word begins a group that may be unknown
        self._words = words
        self._stack: list[State] = []
        self._fresh = False  #: whether the current group has just begun
        self._deeper = 0  #: open groups beyond MAX_GROUPS
        self._bytes = bytearray()  #: text of the current font that is not decoded yet
        self._raw = False
        self._skip = 0  #: characters left that stand for a Unicode character
        self._complete = False  #: whether the outermost group has ended
        self._high = 0  #: the first half of a character that is written as two

    def elements(self) -> Iterator[Element]:
        """All elements; texts of headers and footers come last, each once."""
        for token in self.tokens:
            word = token.word
            if not word or word == b"'":
                self._text(token)
            elif word == b"{":
                self._open()
            elif word == b"}":
                self._close()
            elif word == b"*":
                self.optional = True
            elif self._skip and word in CHARACTERS:
                self._skip -= 1
            elif (action := self._words.get(word)) is not None:
                self.flush()
                action(self, token)
                self.optional = False
            elif self.optional:
                self.optional = False
                if self.depth > 1:
                    self.pass_over()
            elif self._fresh and self.state.equation is not None and word[:1] == b"m":
                self.flush()
                self.state.equation = self.state.equation.inner(word[1:].decode("ascii"))
                self._fresh = False
            if self.body.out:
                yield from self.body.out
                self.body.out.clear()
                self.share.count(*self.tokens.position())
        yield from self._rest()

    def say(self, text: str) -> None:
        """Text of the current group."""
        state = self.state
        if state.hidden or state.deleted or state.muted:
            return
        if state.equation is not None:
            state.equation.say(text)
            return
        story, into = state.story, state.into
        into.append(text)
        if into is story.pieces:
            if not story.proportional and state.font not in self.fonts.fixed and not text.isspace():
                story.proportional = True
            story.size += len(text)
            if story.size > MAX_PARAGRAPH_CHARS:
                story.cut(state.paragraph)
        elif into is not self.html:
            into[-1] = text[:MAX_VALUE]
            del into[MAX_VALUE:]

    def unicode(self, code: int) -> None:
        """A character by its number; the next ones stand for it."""
        self.flush()
        code = code + 0x10000 if code < 0 else code
        high, self._high = self._high, 0
        if 0xD800 <= code <= 0xDBFF:
            self._high = code
        elif high and 0xDC00 <= code <= 0xDFFF:
            self.say(chr(0x10000 + ((high & 0x3FF) << 10 | code & 0x3FF)))
        elif 0xF000 <= code <= 0xF0FF:
            self.say(self.fonts.sign(code, self.state.font))
        elif 0 < code <= 0x10FFFF:
            self.say(chr(code))
        self._skip = self.state.fallback

    def flush(self) -> None:
        """Decode what has been read in the current font."""
        self._skip = 0
        if self._bytes:
            self._decode(len(self._bytes))
            self._raw = False

    def capture(self, done: Callable[[str], None]) -> None:
        """Collect the text of the current group, and hand it over at its end; it belongs to no paragraph."""
        into: list[str] = []
        self.state.into = into
        self.state.end = lambda: done("".join(into))

    def begin_story(self, done: Callable[[list[Element]], None]) -> None:
        """Read the current group as a story of its own."""
        story, state = Story(self.sheet), self.state
        state.story, state.into, state.paragraph, state.row = story, story.pieces, Properties(), RowShape()
        self.nesting += 1

        def end() -> None:
            self.nesting -= 1
            done(story.end(state.paragraph))

        state.end = end

    def end_paragraph(self) -> None:
        """The current paragraph ends; in the value of a property, a line."""
        state = self.state
        if state.into is state.story.pieces and self.html is None:
            state.story.end_paragraph(state.paragraph)
        else:
            self.say("\n")

    def end_entry(self) -> None:
        """An entry of the font table or of the style sheet ends: its text is its name."""
        into, state = self.state.into, self.state
        name = "".join(into).partition(";")[0].strip()
        into.clear()
        if name and self.in_fonts:
            self.fonts.name(state.font, name)
        elif name and state.paragraph.style >= 0:
            self.sheet.names[state.paragraph.style] = name
            if state.paragraph.outline is not None:
                self.sheet.outlines[state.paragraph.style] = state.paragraph.outline

    def before_two_forms(self) -> list[str] | None:
        """Where text went before the current place."""
        return next((state.into for state in reversed(self._stack[-9:]) if state.into is not self.state.into), None)

    def pass_over(self) -> None:
        """Leave out the rest of the current group."""
        self._bytes.clear()
        self.state.end = None
        self.tokens.skip_group()
        self._close()

    @property
    def depth(self) -> int:
        """Number of open groups."""
        return len(self._stack)

    def _text(self, token: Token) -> None:
        if self.state.into is self.nothing:
            self.tokens.skip_data()
            return
        data = token.text
        if self._skip:
            left = len(data) - self._skip
            self._skip = max(0, -left)
            if left <= 0:
                return
            data = data[-left:]
        if self._complete and not (data.isascii() and data.decode("ascii").isprintable()):
            return  # what some programs leave behind the end
        self._high = 0
        self.optional = False
        self._raw = self._raw or (not token.word and not data.isascii())
        self._bytes += data
        if len(self._bytes) > MAX_BYTES:  # a space is no part of another character
            self._decode(self._bytes.rfind(b" ") + 1 or len(self._bytes))

    def _decode(self, length: int) -> None:
        font = NO_FONT if self.in_fonts or self.in_sheet else self.state.font  # names of symbol fonts are letters
        text = self.fonts.decode(bytes(self._bytes[:length]), font, raw=self._raw)
        del self._bytes[:length]
        self.say(text)

    def _open(self) -> None:
        self.flush()
        self.optional = False
        if len(self._stack) >= MAX_GROUPS:
            self._deeper += 1
            return
        self._stack.append(self.state)
        self.state = self.state.inner()
        self._fresh = True

    def _close(self) -> None:
        self.flush()
        self.optional = False
        if self._deeper:
            self._deeper -= 1
        elif len(self._stack) == 1:  # the file is complete; a brace too many does not change what follows
            self._complete = True
        elif self._stack:
            if self.in_fonts or self.in_sheet:
                self.end_entry()
            ended, self.state = self.state, self._stack.pop()
            if ended.end is not None:
                ended.end()

    def _rest(self) -> Iterator[Element]:
        """What is left at the end of the file."""
        self.flush()
        if self._stack and not self._complete:
            self.losses.add(LossKind.UNREADABLE_PART, "end of the file", "it ends inside a group; the rest is missing")
        while self._deeper or len(self._stack) > 1:
            self._close()
        yield from self.body.end(self.state.paragraph)
        if self.html is not None:
            page = html_parsed("".join(self.html))
            self.title = page.title or self.title
            for loss in page.losses.all():
                self.losses.add(loss.kind, loss.place, loss.detail, loss.count)
            yield from page.elements
        for text in self.running:
            if any(c.isalpha() for c in text):  # numbers of pages say nothing
                yield Element(text)
        for number in sorted(self.fonts.unknown):
            self.losses.add(LossKind.UNREADABLE_PART, f"code page {number}", "is not known; its text may be wrong")
