"""Which collection a command means: the one that is named, else the default, else the only one; and every ledger is closed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from pipeline.errors import CollectionMissing
from pipeline.ledger import Ledger
from pipeline.settings import load_settings
from pipeline.store.choice import MAX_NAMED, chosen, missing
from pipeline.store.edge import EdgeStore
from tests.made_points import made_document, made_points
from tests.unit.test_cli import COMMANDS
from workers.cli import run

#: Commands with `--collection` whose collection need not exist, and those where it only narrows what is shown.
MAKERS, FILTERS = {"load", "source add"}, {"quarantine list", "quarantine show"}

#: The others, each with what else it needs.
NEEDERS = {
    "search": "search words --mode sparse",
    "map": "map",
    "facets": "facets",
    "eval": "eval {queries} --mode sparse",
    "verify": "verify",
    "delete": "delete --prefix file:///nowhere --dry-run",
    "reindex": "reindex --max-regression 1",
    "rollback": "rollback",
    "collections prune": "collections prune",
    "promote": "promote --to http://127.0.0.1:1",
}


@pytest.mark.parametrize(
    ("named", "existing", "taken"),
    [
        ("papers", ["letters", "papers"], "papers"),
        (None, ["documents", "papers"], "documents"),
        (None, ["papers"], "papers"),
    ],
)
def test_the_collection_that_is_meant(data_dir: Path, named: str | None, existing: list[str], taken: str) -> None:
    assert chosen(load_settings(collection=named), existing).collection == taken


@pytest.mark.parametrize(
    ("named", "existing", "words"),
    [
        ("papers", ["letters", "books"], "there is no collection 'papers'; existing: 'books', 'letters'"),
        ("papers", [], "there is no collection 'papers', nor any other; `kb-ingest load PATH` makes one"),
        (None, [], "there is no collection yet; `kb-ingest load PATH` makes one"),
        (None, ["b", "a"], "there are several collections: 'a', 'b'; name one with --collection or KB_COLLECTION"),
        ("documents", ["papers"], "there is no collection 'documents'; existing: 'papers'"),
    ],
)
def test_what_cannot_be_meant(data_dir: Path, named: str | None, existing: list[str], words: str) -> None:
    with pytest.raises(CollectionMissing) as caught:
        chosen(load_settings(collection=named), existing)
    assert str(caught.value) == words


def test_a_variable_names_a_collection_as_an_option_does(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_COLLECTION", "documents")
    with pytest.raises(CollectionMissing, match="existing: 'papers'"):
        chosen(load_settings(), ["papers"])


def test_a_message_names_a_few_of_many() -> None:
    text = str(missing("x", map(str, range(1000))))
    assert text.endswith(f" and {1000 - MAX_NAMED} more")


def test_no_command_has_a_rule_of_its_own() -> None:
    having = {
        name.removeprefix("kb-ingest ")
        for name, command in COMMANDS.items()
        if any(isinstance(one, click.Option) and "--collection" in one.opts for one in command.params)
    }
    assert having == MAKERS | FILTERS | NEEDERS.keys()


@pytest.fixture
def command(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; gives its status and what it said."""
    (tmp_path / "queries.jsonl").write_text('{"query": "words", "relevant": ["a.md"]}\n')

    def ask(line: str, *more: str) -> tuple[int, str, str]:
        status = run([*line.format(queries=tmp_path / "queries.jsonl").split(), *more])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ask


@pytest.fixture
def make(command: Callable[..., tuple[int, str, str]], data_dir: Path, tmp_path: Path) -> Callable[[str], None]:
    """Makes a collection with a document that no worker has parsed yet, and with points in the embedded store."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("# Words\n\nSome words.\n")

    def make(name: str) -> None:
        assert command(f"load {tmp_path / 'texts'} --no-wait --collection {name}")[0] == 0
        with Ledger.open(f"sqlite:///{data_dir / 'kb.db'}") as ledger:
            made = ledger.collections.live(name)
        assert made is not None
        store = EdgeStore(data_dir / "qdrant", role="owner")
        store.create(made.physical, made.dimension)
        store.set_alias(name, made.physical)
        store.upsert(made.physical, made_points(made_document("tomatoes"), 2, dimension=made.dimension))
        store.close()

    return make


def test_what_needs_a_collection_names_those_that_exist_and_takes_the_only_one(
    command: Callable[..., tuple[int, str, str]], make: Callable[[str], None]
) -> None:
    for line in NEEDERS.values():
        assert command(line) == (1, "", "error: there is no collection yet; `kb-ingest load PATH` makes one\n"), line
    make("papers")
    for line in NEEDERS.values():
        wrong = "error: there is no collection 'other'; existing: 'papers'\n"
        assert command(line, "--collection", "other") == (1, "", wrong), line
    for name in ("search", "map", "eval", "verify", "delete", "collections prune"):
        only, named = command(NEEDERS[name]), command(NEEDERS[name], "--collection", "papers")
        assert only == named, name
        # Points that nobody knows of are orphans.
        assert (only[0], only[2]) == (1 if name == "verify" else 0, ""), name
    make("letters")
    several = "error: there are several collections: 'letters', 'papers'; name one with --collection or KB_COLLECTION\n"
    for line in NEEDERS.values():
        assert command(line) == (1, "", several), line
    for name in FILTERS:
        assert command(name)[0] == command(name, "--collection", "papers")[0] == 0, name
        assert "existing: 'letters', 'papers'" in command(name, "--collection", "other")[2], name


def test_a_search_by_a_collection_s_name_needs_no_ledger(
    command: Callable[..., tuple[int, str, str]], make: Callable[[str], None], data_dir: Path
) -> None:
    make("papers")
    for file in data_dir.glob("kb.db*"):
        file.unlink()
    (data_dir / "kb.db").mkdir()  # whoever opened it would fail
    assert json.loads(command("search words --mode sparse --json")[1])[0]["document_id"] == made_document("tomatoes").id
    assert command("search words --mode sparse --collection other")[2].endswith("existing: 'papers'\n")


def test_every_command_closes_the_ledger_that_it_opens(
    command: Callable[..., tuple[int, str, str]], make: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("papers")
    seen: Counter[str] = Counter()
    open_, close = Ledger.open, Ledger.close

    def opens(url: str) -> Ledger:
        seen["opened"] += 1
        return open_(url)

    def closes(self: Ledger) -> None:
        seen["closed"] += 1
        close(self)

    monkeypatch.setattr(Ledger, "open", opens)
    monkeypatch.setattr(Ledger, "close", closes)
    lines = [
        f"source add texts {tmp_path / 'texts'}",
        "source list",
        "source show texts",
        "sync texts --no-wait",
        "plan texts",
        "schedule add s --cron 0#2#*#*#* --source texts",
        "schedule list",
        "schedule pause s",
        "schedule resume s",
        "schedule remove s",
        "source remove texts",
        f"load {tmp_path / 'texts'} --sync --no-wait",
        "status",
        "status 1",
        "runs",
        "report 1",
        "logs --document a.md",
        "quarantine list",
        "quarantine show",
        "retry",
        "quarantine drop --all",
        "collections",
        "rollback",
        *(NEEDERS[name] for name in ("map", "facets", "verify", "delete", "collections prune")),
    ]
    for line in lines:
        seen.clear()
        status = run([word.replace("#", " ") for word in line.split()])
        assert status in (0, 1), line
        assert seen["opened"], line
        assert seen["opened"] == seen["closed"], line
