"""Cron expressions: when they are due, on clocks that are set forward and back too."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import ConfigError
from workers.schedules.cron import Cron


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("expression", "now", "last", "after"),
    [
        ("0 2 * * *", "2026-05-04 01:59:59", "2026-05-03 02:00", "2026-05-04 02:00"),
        ("0 2 * * *", "2026-05-04 02:00:00", "2026-05-04 02:00", "2026-05-05 02:00"),
        ("0 2 * * *", "2026-05-04 02:00:01", "2026-05-04 02:00", "2026-05-05 02:00"),
        ("*/15 * * * *", "2026-05-04 12:07:30", "2026-05-04 12:00", "2026-05-04 12:15"),
        ("30 6 * * MON-FRI", "2026-05-03 12:00", "2026-05-01 06:30", "2026-05-04 06:30"),
        ("0 0 1 1 *", "2026-05-04 12:00", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("0 12 L * *", "2026-05-04 12:00", "2026-04-30 12:00", "2026-05-31 12:00"),
    ],
)
def test_slots_before_and_after_a_moment(expression: str, now: str, last: str, after: str) -> None:
    cron = Cron.parse(expression, "UTC")
    assert (cron.last(at(now)), cron.after(at(now))) == (at(last), at(after))


@pytest.mark.parametrize("night", ["2026-03-29", "2026-10-25", "2026-06-01"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 3 * * *", "*/20 * * * *", "15 1-3 * * *"])
def test_looking_forward_and_back_meets_the_same_slots(night: str, expression: str) -> None:
    cron = Cron.parse(expression, "Europe/Berlin")
    began = at(f"{night} 00:00", "Europe/Berlin") - 7200
    ended = began + 8 * 3600
    slots, moment = [], began
    while (moment := cron.after(moment)) < ended:
        slots.append(moment)
    assert slots
    assert [cron.last(slot) for slot in slots] == slots
    # At every minute of the night nothing is due that lies ahead, and nothing that does not exist.
    for now in range(int(began), int(ended), 60):
        assert cron.last(now) <= now
        assert cron.last(now) in slots or cron.last(now) < slots[0]


def test_a_night_with_two_hours_of_the_same_name_has_one_slot() -> None:
    cron = Cron.parse("30 2 * * *", "Europe/Berlin")
    first = cron.after(at("2026-10-25 00:00", "Europe/Berlin"))
    assert datetime.fromtimestamp(first, UTC).isoformat() == "2026-10-25T00:30:00+00:00"
    assert cron.after(first) == at("2026-10-26 02:30", "Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("0 2 * *", "UTC", "five fields"),
        ("0 0 2 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("60 2 * * *", "UTC", "bad minute"),
        ("0 2 * * FREITAG", "UTC", "bad day-of-week"),
        ("0 0 31 4,6 *", "UTC", "bad day-of-month"),
        ("0 2 * * *", "Europe/Nowhere", "unknown time zone"),
        ("0 2 * * *", "Europe", "unknown time zone"),
        ("0 2 * * *", "../etc/passwd", "unknown time zone"),
        ("0 2 * * *", "", "unknown time zone"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Cron.parse(expression, zone)
