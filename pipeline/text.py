"""Texts of strangers as people may read them: nothing in them is hidden, and nothing drives a terminal."""

from __future__ import annotations

import re

#: Controls; separators of lines; marks that turn around what follows; what takes no room; halves of characters, which no
#: page and no file can hold. The joiners U+200C and U+200D are not among them: languages are spelled with them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def visible(text: str, kept: str = "") -> str:
    """`text` with what would not be seen written out, as in `\\u001b`; what is in `kept` stays as it is."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in kept else f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """`text` on one line: white space becomes single spaces, the rest as in `visible`. For errors, which may have several lines."""
    return visible(" ".join(text.split()))


def well_formed(text: str) -> str:
    """`text` with lone surrogates, as in file names that are no UTF-8, written out: JSON, protobuf and databases take none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plural(number: int, noun: str, form: str = "") -> str:
    """`1 document`, `2 documents`; `form` formats the number, as `,` does in `1,300 chunks`."""
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"
