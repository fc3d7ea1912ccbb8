"""The times at which a cron expression is due: the last slot before a moment, and the next one after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields in one time zone, interpreted as Debian's cron does.

    When clocks go forward, a time that does not exist moves to the hour after. When they go back, a time that exists twice
    means the first. Slots are seconds since the epoch.
    """

    expression: str
    timezone: str  #: a name from the tz database, e.g. Europe/Berlin

    @classmethod
    def parse(cls, expression: str, timezone: str) -> Cron:
        """Raises ConfigError for an invalid expression or an unknown time zone."""
        if len(expression.split()) != 5:
            raise ConfigError(f"invalid cron expression {expression!r}: use five fields, minute hour day month weekday")
        try:
            found = cls(" ".join(expression.split()), timezone)
            found.after(datetime.now(UTC).timestamp())
        except CronSimError as error:
            raise ConfigError(f"invalid cron expression {expression!r}: {str(error).lower()}") from error
        except (StopIteration, OverflowError):
            raise ConfigError(f"cron expression {expression!r} is never due") from None
        except (KeyError, OSError, ValueError) as error:  # unknown zone, a continent's folder, or no name at all
            raise ConfigError(f"unknown time zone {timezone!r}; use a name such as Europe/Berlin or UTC") from error
        return found

    def last(self, now: float) -> int:
        """The latest slot at or before `now`."""
        # CronSim searches strictly before the given moment.
        return round(next(CronSim(self.expression, self._local(int(now) + 1), reverse=True)).timestamp())

    def after(self, now: float) -> int:
        """The first slot after `now`."""
        return round(next(CronSim(self.expression, self._local(int(now)))).timestamp())

    def _local(self, moment: int) -> datetime:
        return datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(self.timezone))
