"""Which pages need not be asked for: by the lastmod of their list, the time of their last answer, and what it said."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from pipeline.sources.freshness import DAY_S, MAX_VALIDATOR_CHARS, Answer, answered, is_fresh
from pipeline.types import SourceFile

URI = "https://host.example/page"
NOON = datetime(2024, 5, 1, 12, 1, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC).timestamp()


def page(modified: float | None, uri: str = URI) -> SourceFile:
    return SourceFile(uri, None, -1, 0, modified)


@pytest.mark.parametrize(
    ("modified", "kept", "expected"),
    [
        (NOON, Answer(lastmod=NOON, asked_at=NOON + 2 * 3600), True),
        (NOON, Answer(lastmod=NOON, asked_at=NOON + 60), False),
        (MIDNIGHT, Answer(lastmod=MIDNIGHT, asked_at=NOON), False),
        (MIDNIGHT, Answer(lastmod=MIDNIGHT, asked_at=MIDNIGHT + 2 * DAY_S), True),
        (MIDNIGHT - 7200, Answer(lastmod=MIDNIGHT - 7200, asked_at=NOON), False),
        (MIDNIGHT - 20_700, Answer(lastmod=MIDNIGHT - 20_700, asked_at=NOON), False),
        (MIDNIGHT - 7200, Answer(lastmod=MIDNIGHT - 7200, asked_at=MIDNIGHT + 2 * DAY_S), True),
        (NOON, Answer(lastmod=NOON - 1, asked_at=NOON + 2 * 3600), False),
        (NOON, Answer(lastmod=NOON + 1, asked_at=NOON + 2 * 3600), False),
        (None, Answer(lastmod=None, asked_at=NOON + 2 * 3600), False),
        (NOON, Answer("tag"), False),
        (NOON, Answer(lastmod=NOON, asked_at=NOON + 2 * 3600, misled=True), False),
        (NOON + 5 * DAY_S, Answer(lastmod=NOON + 5 * DAY_S, asked_at=NOON + 2 * 3600), False),
        (NOON, Answer(lastmod=NOON, asked_at=NOON + 4 * DAY_S), False),
    ],
    ids=["unchanged", "just changed", "a day alone", "a day long ago", "midnight in Berlin", "midnight in Kathmandu",
         "midnight long ago", "newer", "older", "none", "an earlier version",
         "misled before", "in the future", "asked in the future"],
)  # fmt: skip
def test_a_page_is_fresh_if_its_list_says_so(modified: float | None, kept: Answer, expected: bool) -> None:
    assert is_fresh(page(modified), str(kept), 7 * DAY_S, NOON + 3 * DAY_S) is expected


def test_every_page_is_asked_for_now_and_then_and_not_all_on_one_day() -> None:
    kept = str(Answer(lastmod=MIDNIGHT - 30 * DAY_S, asked_at=NOON))
    pages = [page(MIDNIGHT - 30 * DAY_S, f"{URI}/{number}") for number in range(1000)]
    due = [sum(not is_fresh(one, kept, 8 * DAY_S, NOON + day * DAY_S) for one in pages) for day in range(9)]
    assert due[:5] == [0] * 5
    assert all(180 < after - before < 320 for before, after in pairwise(due[4:]))
    assert due[8] == 1000
    assert not any(is_fresh(one, kept, 0, NOON) for one in pages)


def test_what_is_kept_of_an_answer() -> None:
    first = answered(page(NOON), {"etag": '"1"', "last-modified": "Wed"}, NOON + 9000, changed=True)
    assert Answer.read(first) == Answer('"1"', "Wed", NOON, NOON + 9000)
    before = SourceFile(URI, None, -1, 0, NOON, validators=first)
    same = Answer.read(answered(before, {}, NOON + 9999, changed=False))
    assert (same.etag, same.last_modified, same.misled) == ('"1"', "Wed", False)
    other = Answer.read(answered(before, {"etag": "x" * (MAX_VALIDATOR_CHARS + 1), "last-modified": "\xe4"}, NOON, changed=True))
    assert (other.conditions, other.misled) == ({}, True)
    assert answered(page(None), {}, NOON, changed=True) == "{}"
    assert Answer.read('{"etag": "old"}').conditions == {"If-None-Match": "old"}
