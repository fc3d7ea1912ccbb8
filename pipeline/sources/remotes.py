"""The sources that are neither folders nor object stores: each is opened when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.settings import Settings
from pipeline.sources.discover import Omitted, Patterns
from pipeline.sources.freshness import DAY_S, is_fresh
from pipeline.sources.git import Git
from pipeline.sources.gitprogram import GitProgram
from pipeline.sources.pages import is_page
from pipeline.sources.repositories import is_repository
from pipeline.types import SourceFile

if TYPE_CHECKING:
    from pipeline.sources.web import Web


class Remotes:
    """Lists and copies files of remote sources; a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.public_only = False  #: whether hosts with addresses that are not public are refused

    def __enter__(self) -> Remotes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what was opened."""
        if "_git" in self.__dict__:
            self._git.close()
        if "_web" in self.__dict__:
            self._web.close()

    def listed(self, root: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
        """Every wanted file below a root that is remote. Raises SourceError, ConfigError."""
        return self._git.listed(root, patterns) if is_repository(root) else self._web.listed(root, patterns)

    def is_fresh(self, file: SourceFile, validators: str) -> bool:
        """Whether a page that was listed need not be asked for, by what was kept of its last answer."""
        return is_page(file.uri) and is_fresh(file, validators, self._settings.web_check_days * DAY_S, time.time())

    def copy(self, file: SourceFile, target: Path) -> tuple[str, SourceFile]:
        """Copy a file that was listed to `target`; return its sha256, and the file as it was copied.

        The sha256 is empty where a server says that the validators of `file` still hold. Raises FileGone, DocumentError;
        SourceError where the source cannot be read any more.
        """
        return self._git.copy(file, target) if is_repository(file.uri) else self._web.copy(file, target)

    @cached_property
    def _git(self) -> Git:
        settings = self._settings
        program = GitProgram(settings.git_credentials, settings.git_timeout_s, public_only=self.public_only)
        return Git(settings.data_dir / "git", program)

    @cached_property
    def _web(self) -> Web:
        from pipeline.sources.client import Manners  # not for every command: it needs an HTTP client
        from pipeline.sources.web import Web

        settings = self._settings
        manners = Manners(settings.web_user_agent, settings.web_requests_per_s, settings.web_timeout_s, self.public_only)
        return Web(manners, settings.max_file_bytes)
