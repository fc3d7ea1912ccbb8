"""Marks inside a paragraph of Markdown: links, emphasis, code, tags and escapes are reduced to the words that a page shows.

What Markdown takes literally is set aside first, so that no later step finds marks in it: code between backticks, escaped marks,
addresses and tags. The inline rules of markdown-it are not used because they take quadratic time on hostile input.
"""

from __future__ import annotations

import html
import re

#: The content of a picture in place of its address.
_DATA_ADDRESS = re.compile(r"data:[\w.+/-]{1,100}(?:;[\w=.-]{1,100}){0,5},[A-Za-z0-9+/=%_-]*")
_DEFINITION = re.compile(r"\s{0,3}\[[^\]\n^][^\]\n]{0,299}\]:\s*\S+(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*$")
#: Code between backticks, an escaped mark or line end, the start of a comment, an address in angle brackets, a tag.
_LITERAL = re.compile(
    r"``(?P<double>(?:[^`]|`(?!`)){1,4000})``|`(?P<code>[^`]{1,4000})`|\\(?P<escaped>[!-/:-@\[-`{-~\n])"
    r"|(?P<comment><!--)|<(?P<address>(?:https?://|mailto:)[^<>\s]{1,1000})>"
    r"|<[/!]?(?P<tag>[A-Za-z][A-Za-z0-9-]{0,20})(?P<attributes>(?:\s[^<>]{0,2000})?)/?>"
)
_ATTRIBUTES = re.compile(r"(?:\s++[A-Za-z_:@][\w:.@-]{0,60}+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'=`]++))?+)*+\s*+/?")
_ALT = re.compile(r"\salt\s{0,9}=\s{0,9}(?:\"([^\"]{0,1000})\"|'([^']{0,1000})'|([^\s\"'=>]{1,1000}))", re.I)
# Linear on any input: each stops at the next bracket.
_LINK = re.compile(
    r"!?\[((?:[^\[\]]|\[[^\[\]]{0,200}\]){0,1000}+)\](?:"
    r"\(\s{0,9}(?:<[^<>\n]{0,1000}>|[^()\s]{0,2000}|[^()\s]{0,1000}\([^()\s]{0,500}\)[^()\s]{0,500})"
    r"(?:\s+(?:\"[^\"]{0,300}\"|'[^']{0,300}'|\([^()]{0,300}\)))?\s{0,9}\)|\[[^\[\]\n]{0,200}\])"
)
# As on a page, letters may stand on both sides of stars. Between digits, a star is a sign of multiplication. Stars between
# a letter and a sign open nothing before the sign and close nothing after it: `log*.gz`, `f(*a, *b)`.
_STARS = r"(?<![\d*])(?:(?<![^\W_])\*(?=[^\s*])|\*(?=\w))([^*]{1,1000})(?:(?<=\w)\*|(?<=[^\s*])\*(?!\w))(?![\d*])"
_STAR = re.compile(_STARS)
_STRONG = re.compile(
    r"(?<!\d)(?:(?<![^\W_])\*\*(?=[^\s*])|\*\*(?=\w))([^*]{1,1000})(?:(?<=\w)\*\*|(?<=[^\s*])\*\*(?!\w))(?!\d)"
    r"|(?<!\w)__([^_\s][^_]{0,1000})(?<=[^\s_])__(?!\w)|~~([^~\s][^~]{0,1000})~~"
)
_EMPHASIS = re.compile(_STARS + r"|(?<![\w_])_([^_\s][^_]{0,1000})(?<=[^\s_])_(?![\w_])")
#: Names of HTML elements; other names in angle brackets are generics and placeholders, which are text.
_TAGS_NAMES = (
    "a abbr address article aside audio b bdi bdo blockquote body br button canvas caption center cite code col colgroup "
    "data dd del details dfn dialog div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head "
    "header hr html i iframe img input ins kbd label legend li link main map mark menu meta nav noscript object ol optgroup "
    "option p picture pre progress q rp rt ruby s samp script section select small source span strike strong style sub "
    "summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr"
)
_TAGS = frozenset(_TAGS_NAMES.split())
#: Elements that separate words.
_BREAKS_NAMES = "br p div li tr td th hr img"
_BREAKS = frozenset(_BREAKS_NAMES.split())
#: What is set aside stands in the text as its number between two characters that no text has.
_BEGIN, _END = "\ufdd0", "\ufdd1"
_ASIDE = re.compile(f"{_BEGIN}([0-9]{{1,9}}){_END}")
_MARKS = "`<\\&*_~[\ufdd0\ufdd1"


def shown_words(text: str) -> str:
    """`text` as a page shows it: links and pictures as their words, without tags, marks of emphasis and targets of links.

    Code between backticks stays as it is.
    """
    if "data:" in text:
        text = _DATA_ADDRESS.sub("data:", text)
    if not any(mark in text for mark in _MARKS):
        return text
    aside: list[str] = []
    text = _set_aside(text.replace(_BEGIN, "").replace(_END, ""), aside)
    if "[" in text:
        text = _LINK.sub(r"\1", _LINK.sub(r"\1", text))  # twice, for an image inside a link
        text = "\n".join(line for line in text.split("\n") if not _DEFINITION.match(line))
    if "*" in text or "_" in text or "~" in text:
        # Stars inside stars: emphasis in strong words, and strong words in emphasis.
        text = _EMPHASIS.sub(_inner, _STRONG.sub(_inner, _STAR.sub(_inner, text)))
    if "&" in text:
        text = html.unescape(text)
    return _ASIDE.sub(lambda found: aside[int(found.group(1))], text) if aside else text


def _set_aside(text: str, aside: list[str]) -> str:
    """`text` with numbers in place of what Markdown takes literally, which is appended to `aside`."""
    parts: list[str] = []
    position = end = 0
    closed = True  # whether a comment that begins here may have an end
    while (found := _LITERAL.search(text, end)) is not None:
        end = found.end()
        if found.group("comment"):
            close = text.find("-->", found.start() + 2) if closed else -1
            if not (closed := close >= 0):
                continue
            end = close + 3
        tag, attributes = (found.group("tag") or "").lower(), found.group("attributes") or ""
        if tag and (tag not in _TAGS or not _ATTRIBUTES.fullmatch(attributes)):
            continue
        parts += [text[position : found.start()], _BEGIN, str(len(aside)), _END]
        position = end
        if tag:
            words = _ALT.search(attributes) if tag == "img" else None
            aside.append(f" {_inner(words)} " if words is not None else " " * (tag in _BREAKS))
        else:
            aside.append(next((found.group(name) for name in ("double", "code", "escaped", "address") if found.group(name)), ""))
    return "".join(parts) + text[position:]


def _inner(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)
