"""Numbers as a spreadsheet shows them: number formats of ECMA-376, part 1, section 18.8.31.

Names of months and days are English, and the separators are those of the format, because the file does not say where it is
opened. Dates whose format depends on the reader's country are written as ISO 8601.
"""

from __future__ import annotations

import datetime
import math
import operator
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import lru_cache

#: Formats that files refer to by number alone. Those that depend on the reader's country are replaced by ISO 8601.
BUILTIN = {
    0: "General",
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: "#,##0",
    6: "#,##0",
    7: "#,##0.00",
    8: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    # 27 to 36 and 50 to 58 are dates and times of Chinese, Japanese and Korean versions.
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
    32: "h:mm",
    33: "h:mm:ss",
    **dict.fromkeys((34, 35, 55, 56), "[<1]h:mm;yyyy-mm-dd"),
    37: "#,##0;-#,##0",
    38: "#,##0;-#,##0",
    39: "#,##0.00;-#,##0.00",
    40: "#,##0.00;-#,##0.00",
    41: "#,##0",
    42: "#,##0",
    43: "#,##0.00",
    44: "#,##0.00",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}

_TOKEN = re.compile(
    r'"(?P<text>[^"]*)"?|\\(?P<escaped>.)|_.|\*.|\[(?P<bracket>[^\]\[]{0,60})\]|(?P<half>AM/PM|A/P)|(?P<general>General)'
    r"|(?P<exponent>E[+-])|(?P<date>[yY]+|[mM]+|[dD]+|[hH]+|[sS]+)|(?P<other>.)",
    re.S | re.I,
)
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)$")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "<>": operator.ne}
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EPOCHS = {False: datetime.datetime(1899, 12, 30), True: datetime.datetime(1904, 1, 1)}
#: The last day that spreadsheets can show is at the end of the year 9999.
_MAX_SERIAL = 2_958_466
_EXACT = Context(prec=40)


@dataclass(frozen=True, slots=True)
class _Section:
    """One of up to four parts of a format."""

    tokens: tuple[tuple[str, str], ...]  #: kind and text
    condition: tuple[str, float] | None
    is_date: bool


def shown(value: float, code: str, *, since_1904: bool = False) -> str:
    """`value` in the format `code`; as a plain number where the format cannot be used. `since_1904`: days count from 1904."""
    try:
        sections = _sections(code)
        section, number = _choose(sections, value)
        if section.is_date:
            return _date(section, value, since_1904) if 0 <= value < _MAX_SERIAL else plain(value)
        return _number(section, number).strip()
    except (ValueError, ArithmeticError, IndexError):
        return plain(value)


def is_date(code: str) -> bool:
    """Whether `code` shows dates or times."""
    return _sections(code)[0].is_date


def plain(value: float) -> str:
    """A number without a format."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(float(f"{value:.15g}"))


@lru_cache(maxsize=512)
def _sections(code: str) -> tuple[_Section, ...]:
    parts: list[list[tuple[str, str]]] = [[]]
    for match in _TOKEN.finditer(code):
        kind = match.lastgroup or ""
        if kind == "other" and match.group() == ";":
            parts.append([])
        elif kind:
            parts[-1].append((kind, match.group(kind)))
    return tuple(map(_section, parts[:4]))


def _section(tokens: list[tuple[str, str]]) -> _Section:
    kept: list[tuple[str, str]] = []
    condition, dates = None, False
    for kind, text in tokens:
        if kind == "bracket":
            if found := _CONDITION.match(text):
                condition = found.group(1), float(found.group(2))
            elif text.startswith("$"):
                kept.append(("text", text[1:].partition("-")[0]))
            elif text.lower() in ("h", "hh", "m", "mm", "s", "ss"):
                kept.append(("elapsed", text.lower()))
                dates = True
        elif kind == "escaped":
            kept.append(("text", text))
        else:
            dates = dates or kind == "date"
            kept.append((kind, text.lower() if kind == "date" else text))
    return _Section(tuple(kept), condition, dates)


def _choose(sections: tuple[_Section, ...], value: float) -> tuple[_Section, float]:
    """The section for `value`, and the number that it shows: a section for negative numbers writes its own sign."""
    if any(section.condition for section in sections):
        for section in sections:
            if section.condition is None or _COMPARE[section.condition[0]](value, section.condition[1]):
                return section, value
        return sections[-1], value
    if value < 0 and len(sections) > 1:
        return sections[1], -value
    if value == 0 and len(sections) > 2:
        return sections[2], value
    return sections[0], value


def _date(section: _Section, value: float, since_1904: bool) -> str:
    digits = sum(1 for kind, text in section.tokens if kind == "other" and text == "0")
    seconds = round(value * 86_400, digits)
    if not digits:
        seconds = float(round(seconds))
    moment = _EPOCHS[since_1904] + datetime.timedelta(seconds=seconds)
    if not since_1904 and value < 60:  # the year 1900 is treated as a leap year
        moment += datetime.timedelta(days=1)
    twelve = any(kind == "half" for kind, _ in section.tokens)
    dated = any(kind == "date" and text[0] == "y" for kind, text in section.tokens)
    told: list[str] = []
    tokens = [(kind, text) for kind, text in section.tokens]
    for at, (kind, text) in enumerate(tokens):
        if kind == "date":
            if text.startswith("m") and _is_minute(tokens, at):
                told.append(f"{moment.minute:0{min(len(text), 2)}}")
            else:
                # Next to a date, hours have two digits, so that a search for an ISO 8601 time finds them.
                told.append(_date_part("hh" if dated and text == "h" and not twelve else text, moment, twelve))
        elif kind == "elapsed":
            unit = {"h": 3600, "m": 60, "s": 1}[text[0]]
            told.append(f"{int(seconds // unit):0{len(text)}}")
        elif kind == "half":
            told.append(("AM" if moment.hour < 12 else "PM")[: 1 if len(text) == 3 else 2])
        elif kind == "other" and text == "0":
            told.append(_second_digit(tokens, at, moment))
        elif kind == "other" and text in "ge":  # years of an emperor are told as those of the calendar
            told.append(f"{moment.year:04}" if text == "e" and tokens[at - 1][1] != "e" else "")
        elif kind in ("text", "other") and text != "@":
            told.append(text)
    return "".join(told).strip()


def _second_digit(tokens: list[tuple[str, str]], at: int, moment: datetime.datetime) -> str:
    place = 0
    while at - place - 1 >= 0 and tokens[at - place - 1] == ("other", "0"):
        place += 1
    return f"{moment.microsecond:06}"[min(place, 5)]


def _is_minute(tokens: list[tuple[str, str]], at: int) -> bool:
    """Whether an `m` stands for minutes: after an hour or before a second."""
    if len(tokens[at][1]) > 2:
        return False
    times = [(kind, text) for kind, text in tokens[:at] if kind in ("date", "elapsed")]
    below = next((text for kind, text in tokens[at + 1 :] if kind in ("date", "elapsed")), "")
    return bool(times and times[-1][1].startswith("h")) or below.startswith("s")


def _date_part(text: str, moment: datetime.datetime, twelve: bool) -> str:
    size = len(text)
    match text[0]:
        case "y":
            return f"{moment.year:04}" if size > 2 else f"{moment.year % 100:02}"
        case "m":
            name = _MONTHS[moment.month - 1]
            return {1: str(moment.month), 2: f"{moment.month:02}", 3: name[:3], 5: name[0]}.get(size, name)
        case "d":
            name = _DAYS[moment.weekday()]
            return {1: str(moment.day), 2: f"{moment.day:02}", 3: name[:3]}.get(size, name)
        case "h":
            hour = (moment.hour - 1) % 12 + 1 if twelve else moment.hour
            return f"{hour:0{min(size, 2)}}"
        case _:
            return f"{moment.second:0{min(size, 2)}}"


def _number(section: _Section, value: float) -> str:
    """A number that is not a date: its digits go to the places of the format, everything else stands as it is."""
    tokens = section.tokens
    if any(kind == "general" for kind, _ in tokens):
        return "".join(plain(value) if kind == "general" else text for kind, text in tokens if kind in ("general", "text", "other"))
    places = [at for at, (kind, text) in enumerate(tokens) if kind == "other" and text in "0#?"]
    if not places:
        return "".join(text for kind, text in tokens if kind == "text" or (kind == "other" and text != "@")) or plain(value)
    first, last = places[0], places[-1]
    if (slash := tokens.index(("other", "/")) if ("other", "/") in tokens else -1) == last + 1:  # a denominator in digits
        while last + 1 < len(tokens) and (last + 1 == slash or tokens[last + 1][1].isdecimal()):
            last += 1
    head = "".join(text for kind, text in tokens[:first] if kind in ("text", "other"))
    core = [token for token in tokens[first : last + 1] if token[0] in ("other", "exponent", "text")]
    tail = "".join(text for kind, text in tokens[last + 1 :] if kind in ("text", "other") and text != ",")
    scaled = value * 100 ** sum(1 for kind, text in tokens if kind == "other" and text == "%")
    for kind, text in tokens[last + 1 :]:
        if (kind, text) != ("other", ","):
            break
        scaled /= 1000
    digits = _digits(core, abs(scaled))
    sign = "-" if value < 0 and any(c in "123456789" for c in digits) else ""
    return f"{sign}{head}{digits}{tail}"


def _digits(core: list[tuple[str, str]], value: float) -> str:
    text = "".join(text for kind, text in core if kind == "other")
    if any(kind == "exponent" for kind, _ in core):
        return _scientific(core, value)
    if "/" in text:
        return _fraction(text, value)
    whole, _, decimals = text.partition(".")
    kept = sum(1 for c in decimals if c in "0#?")
    rounded = Decimal(repr(float(f"{value:.15g}"))).quantize(Decimal(1).scaleb(-kept), ROUND_HALF_UP, _EXACT)
    integer, _, fraction = f"{rounded:f}".partition(".")
    integer = integer.lstrip("0").rjust(whole.count("0"), "0")
    optional = len(decimals.replace("?", "#")) - len(decimals.replace("?", "#").rstrip("#"))
    while optional and fraction.endswith("0"):
        fraction, optional = fraction[:-1], optional - 1
    literals = [text for kind, text in core if kind == "text" or (kind == "other" and text not in "0#?,.")]
    if "," in whole:
        integer = f"{int(integer):,}" if integer else ""
    elif literals:
        integer = _placed(core, integer)
    return f"{integer}.{fraction}" if fraction else integer


def _placed(core: list[tuple[str, str]], integer: str) -> str:
    """Digits around the literals between their places, as in `000-00-0000`."""
    whole: list[tuple[str, str]] = []
    for kind, text in core:
        if (kind, text) == ("other", "."):
            break
        whole.append((kind, text))
    told: list[str] = []
    left = list(integer)
    for at, (kind, text) in enumerate(reversed(whole)):
        if kind == "other" and text in "0#?":
            rest = all(k != "other" or t not in "0#?" for k, t in whole[: len(whole) - at - 1])
            told.append("".join(left) if rest else (left.pop() if left else ""))
        else:
            told.append(text)
    return "".join(reversed(told))


def _scientific(core: list[tuple[str, str]], value: float) -> str:
    at = next(at for at, (kind, _) in enumerate(core) if kind == "exponent")
    mantissa = "".join(text for kind, text in core[:at] if kind == "other")
    decimals = sum(1 for c in mantissa.partition(".")[2] if c in "0#?")
    digits, _, power = f"{value:.{decimals}e}".partition("e")
    sign = "-" if int(power) < 0 else ("+" if core[at][1].endswith("+") else "")
    return f"{digits}E{sign}{abs(int(power)):0{sum(1 for _, t in core[at + 1 :] if t in '0#?')}}"


def _fraction(text: str, value: float) -> str:
    below = text.partition("/")[2].strip()
    mixed = " " in text.partition("/")[0]
    whole = int(value) if mixed else 0
    if below.isdigit() and below.strip("0"):  # quarters stay quarters: 2/4
        parts = round((value - whole) * int(below))
        whole, parts = (whole + 1, 0) if mixed and parts == int(below) else (whole, parts)
        return f"{whole} {parts}/{below}" if whole and parts else f"{parts}/{below}" if parts else str(whole)
    rest = Fraction(value - whole).limit_denominator(max(10 ** min(len(below), 4) - 1, 1))
    if mixed and rest == 1:
        return str(whole + 1)
    if not rest.numerator:
        return str(whole)
    return f"{whole} {rest.numerator}/{rest.denominator}" if whole else f"{rest.numerator}/{rest.denominator}"
