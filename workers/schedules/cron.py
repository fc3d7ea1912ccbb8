"""When a cron expression is due: the slot before a moment, and the one after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, read as Debian's cron does, on the clocks of one time zone.

    Where clocks go forward, a time that does not exist is moved to the hour after; where they go back, a time that exists
    twice means the first. Slots are seconds since the epoch.
    """

    expression: str
    timezone: str  #: a name of the tz database, such as Europe/Berlin

    @classmethod
    def parse(cls, expression: str, timezone: str) -> Cron:
        """Raises ConfigError for an expression or a time zone that means nothing."""
        if len(expression.split()) != 5:
            raise ConfigError(f"{expression!r} is no cron expression: five fields are wanted, minute hour day month weekday")
        try:
            found = cls(" ".join(expression.split()), timezone)
            found.after(datetime.now(UTC).timestamp())
        except CronSimError as error:
            raise ConfigError(f"{expression!r} is no cron expression: {str(error).lower()}") from error
        except (StopIteration, OverflowError):
            raise ConfigError(f"{expression!r} is never due") from None
        except (KeyError, OSError, ValueError) as error:  # no such zone, the folder of a continent, or no name at all
            raise ConfigError(f"there is no time zone {timezone!r}; name one such as Europe/Berlin or UTC") from error
        return found

    def last(self, now: float) -> int:
        """The latest slot at or before `now`."""
        # The slot that is searched for lies before the given moment.
        return round(next(CronSim(self.expression, self._local(int(now) + 1), reverse=True)).timestamp())

    def after(self, now: float) -> int:
        """The first slot after `now`."""
        return round(next(CronSim(self.expression, self._local(int(now)))).timestamp())

    def _local(self, moment: int) -> datetime:
        return datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(self.timezone))
