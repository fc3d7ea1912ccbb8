"""The group's options, and how every command uses them."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.text import visible
from workers import logs

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Options given before the command."""

    data_dir: Path | None
    log_level: str | None
    log_format: str | None = None

    def settings(self, default_level: str | None = None, **overrides: object) -> Settings:
        """Load the settings, override them with the command's options, and set up logging and the umask.

        `default_level` is for commands whose own output is sufficient. JSON log lines ignore it: they are the only output.
        """
        # Imported here: `--help` must not wait for pydantic.
        from pipeline.files.private import restrict
        from pipeline.settings import load_settings

        level = self.log_level
        settings = load_settings(data_dir=self.data_dir, log_level=level, log_format=self.log_format, **overrides)
        restrict(settings.umask)
        chosen = level is not None or "log_level" in settings.model_fields_set or settings.log_format == "json"
        if default_level is not None and not chosen:
            settings = settings.model_copy(update={"log_level": default_level})
        logs.set_up(settings.log_level, log_format=settings.log_format)
        return settings

    @contextmanager
    def ledger(self, default_level: str | None = "error", **overrides: object) -> Iterator[tuple[Settings, Ledger]]:
        """Load the settings as `settings` does, create the data folder and open the ledger; closes the ledger at the end."""
        from pipeline.ledger import Ledger

        settings = self.settings(default_level, **overrides).prepare()
        with Ledger.open(settings.ledger_url) as ledger:
            yield settings, ledger


def say(text: str, level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Write a message to stderr: as text or, with JSON log lines, as a log record with the traceback of `error`."""
    if logs.structured():
        logging.getLogger(logs.COMMAND).log(level, "%s", text, exc_info=error)
    else:
        click.echo(visible(text, kept="\t\n"), err=True)


def teller(every_s: float = 5.0) -> Callable[[str], None]:
    """A `say` for progress that is silent most of the time: it speaks at most every `every_s` seconds, and not at once."""
    told = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= every_s:
            told = time.monotonic()
            say(text)

    return tell


def print_json(value: object) -> None:
    """Print one JSON value on stdout; dataclasses become objects."""
    # JSON reads these escapes as the same characters.
    click.echo(visible(json.dumps(value, default=_plain, ensure_ascii=False, indent=2), kept="\n"))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
