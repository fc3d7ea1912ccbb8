"""Text for machines inside documents: base64 and long hexadecimal numbers, which no search should find."""

from __future__ import annotations

import re

#: Shorter runs are keys, hashes and names, which people look for.
MIN_RUN = 200

#: Every pattern except the armour needs a run of characters of this length without white space.
_MIN_WORD = 50
_DATA_ADDRESS = re.compile(r"data:[\w.+/-]{0,100}(?:;[\w=.-]{1,100}){0,5},[A-Za-z0-9+/=%_-]{50,}")
#: How pictures, PDFs and zips begin in base64.
_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "JVBERi0", "UEsDB", "PHN2Zy")
_RUN = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{MIN_RUN},}}={{0,2}}")
_LINES = re.compile(r"(?:^[ \t>]*[A-Za-z0-9+/]{60,100}[ \t]*\r?\n){3,}(?:[ \t>]*[A-Za-z0-9+/]{2,100}={1,2})?", re.M)
_ARMOUR = re.compile(
    r"-----BEGIN [A-Z0-9 ]{1,60}-----[ \t]{0,20}\r?\n(?:[A-Za-z-]{1,30}: [^\n]{0,200}\n){0,5}"
    r"[A-Za-z0-9+/=\s]{40,}-----END [A-Z0-9 ]{1,60}-----"
)


def without_machine_text(text: str) -> tuple[str, int]:
    """`text` without runs of machine text, and their number."""
    if "-----BEGIN" not in text and (len(text) < MIN_RUN or max(map(len, text.split()), default=0) < _MIN_WORD):
        return text, 0
    removed = 0

    def checked(match: re.Match[str]) -> str:
        nonlocal removed
        certain = match.re is _ARMOUR or ";base64," in match.group()[:200]
        if not certain and not _is_encoded(match.group()):
            return match.group()
        removed += 1
        return " "

    for pattern in (_DATA_ADDRESS, _ARMOUR, _LINES, _RUN):
        text = pattern.sub(checked, text)
    return text, removed


def _is_encoded(run: str) -> bool:
    """Whether a run has the mixture of characters that encoded bytes have: words and genes do not."""
    if run.startswith(_BEGINNINGS):
        return True
    sample = run[-4000:]
    kinds = (any(c.isupper() for c in sample), any(c.islower() for c in sample), any(c.isdigit() for c in sample))
    if all(kinds):
        return len(set(sample)) >= 24 and sum(1 for c in sample if c in "_-") < 0.1 * len(sample)
    letters = {c for c in sample.lower() if c.isalpha()}
    return len(sample) >= 2 * MIN_RUN and kinds[2] and letters <= set("abcdef") and len(set(sample)) >= 14
