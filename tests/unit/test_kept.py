"""What is kept of the ledger holds until somebody changes something."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.kept import MOST
from pipeline.ledger.tokens import EVERYTHING, USED_EVERY_S
from pipeline.settings import load_settings
from workers.api.access import Keys
from workers.api.engine import Engine


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """In SQLite: of other databases nothing is kept."""
    with Ledger.open(url_of(tmp_path)) as opened:
        yield opened


@pytest.fixture
def other(ledger: Ledger, tmp_path: Path) -> Iterator[Ledger]:
    """The same ledger, as another process has it open."""
    with Ledger.open(url_of(tmp_path)) as opened:
        yield opened


@pytest.fixture
def keys(ledger: Ledger, tmp_path: Path) -> Keys:
    engine = SimpleNamespace(ledger=ledger, settings=load_settings(data_dir=tmp_path))
    return Keys(cast(Engine, engine), "the key of this host")


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'kb.db'}"


def names(ledger: Ledger) -> list[str]:
    """Names of tokens as they are kept."""
    return ledger.kept.get("names", lambda: [one.name for one in ledger.tokens.all()])


def test_a_value_is_read_again_only_after_a_commit(ledger: Ledger, other: Ledger) -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    assert [ledger.kept.get("key", read) for _ in range(3)] == [1, 1, 1]
    assert ledger.kept.look("key") == 1
    other.tokens.all()
    assert ledger.kept.look("key") == 1, "reading is no change"
    other.tokens.add("one", ["search"])
    assert ledger.kept.look("key") is None
    assert ledger.kept.get("key", read) == 2
    ledger.tokens.add("two", ["search"])
    assert ledger.kept.get("key", read) == 3, "its own commits count too"


def test_a_commit_while_a_value_is_read_makes_it_old(ledger: Ledger, other: Ledger) -> None:
    def read() -> str:
        other.tokens.add("one", ["search"])
        return "as it was before"

    assert ledger.kept.get("key", read) == "as it was before"
    assert ledger.kept.look("key") is None


def test_nothing_is_kept_of_a_folder_that_was_replaced(ledger: Ledger, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    ledger.copy(backup / "kb.db")
    ledger.tokens.add("newer than the backup", ["search"])
    assert names(ledger) == ["newer than the backup"]
    for one in tmp_path.glob("kb.db*"):
        one.unlink()
    shutil.copy(backup / "kb.db", tmp_path / "kb.db")
    assert names(ledger) == []


def test_values_that_do_not_exist_and_values_without_end_take_no_memory(ledger: Ledger) -> None:
    assert ledger.kept.read("missing", lambda: None) is None
    for number in range(MOST + 1):
        ledger.kept.get(number, lambda: "value")
    assert len(ledger.kept._values) == 1


def test_a_revoked_token_is_refused_at_once(ledger: Ledger, other: Ledger, keys: Keys) -> None:
    secret = other.tokens.add("reader", ["search"], ["docs"])
    assert keys.known(secret) is None
    for _ in range(2):  # the first use is recorded, which is a commit
        granted = keys.grant(secret)
    assert granted is not None
    assert granted.collections == ("docs",)
    assert keys.known(secret) == granted
    other.tokens.revoke("reader")
    assert keys.known(secret) is None
    assert keys.grant(secret) is None


def test_a_known_token_expires_and_its_use_is_recorded(ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    secret = ledger.tokens.add("reader", ["search"], expires_at=now + 3600)
    for _ in range(2):
        assert keys.grant(secret)
    monkeypatch.setattr(time, "time", lambda: now + 2 * USED_EVERY_S)
    assert keys.known(secret) is None, "its use has to be recorded"
    for _ in range(2):
        assert keys.grant(secret)
    assert ledger.tokens.all()[0].used_at == now + 2 * USED_EVERY_S
    assert keys.known(secret)
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert keys.known(secret) is None
    assert keys.grant(secret) is None


def test_the_first_token_closes_a_service_that_was_open(ledger: Ledger, other: Ledger, keys: Keys) -> None:
    assert keys.known(None) is None
    assert keys.grant(None) == EVERYTHING == keys.known(None)
    other.tokens.add("reader", ["search"])
    assert keys.known(None) is None
    assert keys.grant(None) is None


def test_the_key_of_this_host_needs_no_look(keys: Keys) -> None:
    granted = keys.known("the key of this host")
    assert granted is not None
    assert granted.name == "local"
