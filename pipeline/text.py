"""Text for people: untrusted text that hides nothing and controls no terminal; plurals, numbers, sizes and times."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

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


def number(value: float) -> str:
    """`12,345`, `3.2`, `0.004`."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3f}".rstrip("0")


def size(value: float) -> str:
    """Bytes of data: `820 B`, `1.5 kB`, `12.0 MB`."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit:
            return f"{value / unit:,.1f} {letters}"
    return f"{value:,.0f} B"


def memory(value: float, decimals: int = 1) -> str:
    """Bytes of memory in units of 2**30, as machines and Docker state them: `15.6 GB`."""
    return f"{value / (1 << 30):.{decimals}f} GB"


def utc(at: float) -> str:
    """Seconds since the epoch for programs: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float, *, rough: bool = False) -> str:
    """`0.25 s`, `41.2 s`, `12 min 3 s`, `2 h 5 min`; `rough` for estimates: whole seconds."""
    whole = int(seconds) if rough else round(seconds)
    if seconds < 60:
        return f"{whole} s" if rough else f"{seconds:.{2 if seconds < 10 else 1}f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def local_time(at: float, *, milliseconds: bool = False, zone: bool = False) -> str:
    """A time in this machine's time zone: `2026-11-29 09:05:00`; `zone` adds its name, for text that others read elsewhere."""
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + (f".{int(at * 1000) % 1000:03d}" if milliseconds else "")
    return text + time.strftime(" %Z", time.localtime(at)) if zone else text
