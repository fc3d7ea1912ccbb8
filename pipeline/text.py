"""Untrusted text made safe to read: it hides nothing and sends no control sequences to a terminal. Also: plurals."""

from __future__ import annotations

import re

#: Controls, line separators, marks that reverse the following text, zero-width characters, and lone surrogates, which no page
#: and no file can hold. The joiners U+200C and U+200D are left out: some languages need them for spelling.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def visible(text: str, kept: str = "") -> str:
    """`text` with invisible characters escaped, as in `\\u001b`; characters in `kept` stay unchanged."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in kept else f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """`text` on one line: white space becomes single spaces, the rest follows `visible`. For errors, which may span lines."""
    return visible(" ".join(text.split()))


def well_formed(text: str) -> str:
    """`text` with lone surrogates, as in file names that are not UTF-8, escaped: JSON, protobuf and databases reject them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plural(number: int, noun: str) -> str:
    """`1 document`, `2,000 documents`; for nouns whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
