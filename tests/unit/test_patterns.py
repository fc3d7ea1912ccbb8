"""The time of every regular expression of the project grows in proportion to its input, for any input."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.host.machine import probes
from pipeline.store.words import compounds
from tests.growth import families, interruptible, ratio
from tests.patterns import Use, find

#: Examples of the patterns that are built at run time, by the expression that builds them.
MADE_AT_RUN_TIME: dict[str, list[Any]] = {
    "'@(' + '|'.join(parts) + ')@'": ["@(COLLECTION|FACTS|DATA)@"],
    "f'</{name}(?![\\\\w-])'": ["</script(?![\\w-])", "</head(?![\\w-])"],
    r'''f"""(?:(?<![^\\s(\\[{{<\\"'`=,;:])\\.(?=[^\\W\\d_]))?{part}(?:{joint}{part})*"""''': [
        compounds("ascii"),
        compounds("käse"),
    ],
    "probe['name']": [probe["name"] for probe in probes()],
    "probe['memory']": [probe["memory"] for probe in probes() if "memory" in probe],
}
USES, NEEDED = find(MADE_AT_RUN_TIME)
#: Largest factor by which a pattern may slow down on twice the input: 2 is linear, 4 is quadratic.
MAX_FACTOR = 3.0


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    with interruptible():
        yield


def scan(pattern: re.Pattern[Any], method: str) -> Callable[[Any], object]:
    """A call of `method`; for the methods that visit all matches, the visit alone, without the memory for their results."""
    if method in ("match", "fullmatch", "search"):
        return getattr(pattern, method)  # type: ignore[no-any-return]
    return lambda text: deque(pattern.finditer(text), maxlen=0)


def slowdown(pattern: re.Pattern[Any], method: str) -> str:
    """The first family whose time grows faster than allowed, in a sentence; empty where there is none."""
    binary = isinstance(pattern.pattern, bytes)
    for family in families(pattern):
        if binary and not family.text(1).isascii():
            continue
        factor = ratio(scan(pattern, method), family.binary if binary else family.text)
        if factor > MAX_FACTOR:
            return f"{factor:.1f} times as long for twice the input of {family}"
    return ""


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.where}-{use.method}")
def test_time_grows_in_proportion_to_the_input(use: Use) -> None:
    assert (found := slowdown(use.pattern, use.method)) == "", f"{use.where}: {use.pattern.pattern!r} .{use.method}: {found}"


def test_examples_are_needed() -> None:
    assert set(MADE_AT_RUN_TIME) == NEEDED


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(a+)+$", "match"),
        (r"(?:[A-Za-z][A-Za-z0-9-]{1,60}:[^\n]*\n(?:[ \t]+[^\n]*\n)*){3,}\s*\n", "match"),
        (r"(?s:<!--.{0,4000}?-->|\s)*<html\b", "match"),
        (r"(?ms:^From:.*^Date:)", "search"),
        (r"[\d.,]*\d[\d.,]*$", "match"),
        (r"\s+$", "sub"),
    ],
)
def test_slow_patterns_are_found(pattern: str, method: str) -> None:
    assert slowdown(re.compile(pattern), method)
