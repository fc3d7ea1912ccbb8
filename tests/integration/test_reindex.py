"""Another model or chunk size for a collection that is searched and synced all the while."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import load_settings
from pipeline.store import open_store
from tests.embed_server import MODEL, WORDS_MODEL
from tests.services import Cli, Server, embed_server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGES = 40


def page(number: int, words: str = "") -> str:
    return f"# Page {number}\n\nThe word{number} of page{number} is explained by subject{number} alone. {words}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pages"
    made.mkdir()
    for number in range(PAGES):
        (made / f"{number}.md").write_text(page(number))
    return made


@pytest.fixture
def cli(tmp_path: Path, data_dir: Path) -> Iterator[Cli]:
    """A deployment whose workers run already, with a server of two models; searches compare vectors alone."""
    server = embed_server(tmp_path / "embed")
    server.start()
    made = Cli(
        data_dir, KB_EMBED_URL=f"http://127.0.0.1:{server.port}", KB_EMBED_MODEL=MODEL, KB_SEARCH_MODE="dense", KB_LEASE_S="6",
        KB_REQUEUE_S="3",
    )  # fmt: skip
    service = made.start("up")
    wait_until(lambda: bool(made.answer("status")["workers"]), "workers are there")
    yield made
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    server.stop()


def generations(cli: Cli) -> dict[str, str]:
    return {one["generation"]: one["state"] for one in cli.answer("collections")}


def first_hit(cli: Cli, number: int) -> str:
    (hit,) = cli.answer("search", page(number).partition("\n\n")[2].strip(), "--limit", "1")
    return str(hit["uri"]).rpartition("/")[2]


#: Asks again and again, and says how often, what went wrong, which generations answered, and how often two answered at once or
#: the old one after the new one: ids of documents tell of which generation a point is.
HAMMER = """
    import json, sys, time
    from pathlib import Path
    from pipeline.search import Searcher
    from pipeline.settings import load_settings
    from pipeline.store import open_store
    from pipeline.types import document_id

    settings, names = load_settings(), ("documents", "documents@2")
    stop, out = Path(sys.argv[1]), {"asked": 0, "failed": [], "empty": 0, "mixed": 0, "seen": []}
    searcher = Searcher(settings, open_store(settings))
    stopped = False
    while not stopped:
        stopped = stop.exists()  # before the search, so that the last one comes after whatever was waited for
        number = out["asked"] % int(sys.argv[2])
        try:
            hits = searcher.search("documents", f"word{number} page{number} subject{number}", 3, {}, "dense").hits
        except Exception as error:
            out["failed"].append(f"{type(error).__name__}: {error}")
        else:
            out["empty"] += not hits
            found = {name for hit in hits for name in names if document_id(name, hit.uri) == hit.document_id}
            out["mixed"] += len(found) != 1
            out["seen"] += [name for name in found if out["seen"][-1:] != [name]]
        out["asked"] += 1
        time.sleep(float(sys.argv[3]))
    print(json.dumps(out))
"""


class Hammer:
    """A process that searches all the while."""

    def __init__(self, cli: Cli, folder: Path, pages: int, pause_s: float) -> None:
        self._stop = folder / "stop"
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HAMMER), str(self._stop), str(pages), str(pause_s)], env=cli.environment,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def stop(self) -> dict[str, Any]:
        self._stop.touch()
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        return dict(json.loads(out))


def test_the_model_changes_under_searches_and_syncs(cli: Cli, folder: Path, tmp_path: Path) -> None:
    cli.answer("load", str(folder), "--sync")
    hammer = Hammer(cli, tmp_path, PAGES, 0.5)  # the embedded store serves one process at a time
    change = cli.start("reindex", "--model", WORDS_MODEL, "--rate", "5", "--json")
    wait_until(lambda: "documents@2" in generations(cli), "it has begun")
    # While it is being built: one more, one changed, one gone.
    (folder / "new.md").write_text(page(PAGES))
    (folder / "3.md").write_text(page(3, "Edited."))
    (folder / "5.md").unlink()
    synced = cli.answer("load", str(folder), "--sync")
    assert (synced["indexed"], synced["deleted"]) == (2, 1)
    out, err = change.communicate(timeout=120)
    assert change.returncode == 0, err
    result = json.loads(out)
    searched = hammer.stop()
    assert (result["swapped"], result["documents"], result["generation"]) == (True, PAGES, "documents@2")
    assert result["new"]["recall"] >= result["old"]["recall"]
    assert result["new"]["mrr"] > 0.95
    assert (searched["failed"], searched["empty"], searched["mixed"]) == ([], 0, 0)
    assert searched["seen"] == ["documents", "documents@2"]
    assert searched["asked"] > 5

    assert generations(cli) == {"documents": "superseded", "documents@2": "live"}
    assert cli.whole() == PAGES
    assert [first_hit(cli, number) for number in (0, 7, PAGES)] == ["0.md", "7.md", "new.md"]
    # Nothing was parsed again, and the configuration still names the old model.
    again = cli.answer("load", str(folder), "--sync")
    assert (again["unchanged"], again["indexed"]) == (PAGES, 0)
    (folder / "late.md").write_text(page(99))
    assert cli.answer("load", str(folder), "--sync")["indexed"] == 1
    assert first_hit(cli, 99) == "late.md"
    assert cli.answer("status")["documents"] == {"indexed": PAGES + 1}

    # Back, which is as it was then, and forth again.
    cli.run("rollback")
    assert generations(cli) == {"documents": "live", "documents@2": "superseded"}
    # It is served by its own model, also where the configuration names the new one by now.
    renamed = Cli(cli.data_dir, **{**cli.environment, "KB_MODEL": WORDS_MODEL, "KB_EMBED_MODEL": WORDS_MODEL})
    assert len(renamed.answer("search", "page")) == 5
    assert "is a generation of" in cli.run("load", str(folder), "--collection", "documents@2", status=1).stderr
    assert cli.answer("load", str(folder), "--sync")["indexed"] == 1
    assert cli.whole() == PAGES + 1
    cli.run("rollback")
    assert first_hit(cli, 99) == "late.md"
    assert cli.run("collections", "prune").stdout == "dropped: documents\n"
    assert generations(cli) == {"documents@2": "live"}
    assert "has no earlier generation" in cli.run("rollback", status=1).stderr
    assert cli.whole() == PAGES + 1


def test_an_interrupted_swap_is_completed(cli: Cli, folder: Path) -> None:
    cli.answer("load", str(folder))
    cli.answer("reindex", "--model", WORDS_MODEL)
    store = open_store(load_settings(data_dir=cli.data_dir))
    store.set_alias("documents", next(name for name in store.collections() if "@" not in name))  # as if it had not come to that
    store.close()
    done = cli.answer("reindex", "--model", WORDS_MODEL)
    assert (done["swapped"], done["generation"], done["queries"]) == (True, "documents@2", 0)
    assert first_hit(cli, 9) == "9.md"
    assert list(generations(cli)) == ["documents", "documents@2"]


def test_a_reindex_whose_generation_is_dropped_ends(cli: Cli, folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    cli.answer("load", str(folder.parent / "empty"), "--collection", "nothing")
    assert cli.answer("reindex", "--collection", "nothing", "--model", WORDS_MODEL)["swapped"]
    assert cli.answer("search", "page", "--collection", "nothing") == []
    cli.answer("load", str(folder))
    change = cli.start("reindex", "--model", WORDS_MODEL, "--rate", "4")
    wait_until(
        lambda: sum(one["indexed"] for one in cli.answer("collections") if one["state"] == "building") > 3, "it is under way"
    )
    assert cli.run("collections", "prune", "--refused").stdout == "dropped: documents@2\n"
    _, err = change.communicate(timeout=60)
    assert change.returncode == 1
    assert "replaced or dropped meanwhile" in err
    assert cli.answer("status")["documents"] == {"indexed": PAGES}
    assert cli.whole() == PAGES


def test_a_schedule_builds_a_collection_anew(cli: Cli, folder: Path) -> None:
    cli.run("source", "add", "pages", str(folder))
    cli.answer("sync", "pages")
    cli.run("schedule", "add", "fresh", "--cron", "0 0 1 1 *", "--source", "pages", "--action", "reindex")
    for generation in ("documents@2", "documents@3", "documents@4"):
        done = cli.answer("schedule", "run-now", "fresh")
        assert (done["outcome"], done["action"], done["figures"]["documents"]) == ("done", "reindex", PAGES)
        states = generations(cli)
        assert states[generation] == "live"
        assert list(states.values()).count("superseded") == 1  # the one before, for a rollback
    assert done["difference"]["documents"] == 0
    assert cli.whole() == PAGES


def test_two_thousand_documents_change_their_model_and_no_search_fails(cli: Cli, qdrant: Server, tmp_path: Path) -> None:
    many = 2000
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(many):
        (folder / f"{number}.md").write_text(page(number))
    # A deployment of its own beside the other, with a store that serves searches and writes at once.
    place = tmp_path / "served"
    own = {"KB_DATA_DIR": str(place), "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}"}
    served = Cli(place, **{**cli.environment, **own})
    assert served.answer("load", str(folder))["indexed"] == many
    hammer = Hammer(served, tmp_path, many, 0.002)
    result = served.answer("reindex", "--model", WORDS_MODEL, "--rate", "80")
    searched = hammer.stop()
    assert (result["swapped"], result["documents"]) == (True, many)
    assert (searched["failed"], searched["empty"], searched["mixed"]) == ([], 0, 0)
    assert searched["seen"] == ["documents", "documents@2"]
    assert searched["asked"] > 300
    assert first_hit(served, 1234) == "1234.md"
    assert served.whole() == many


def test_a_worse_model_is_not_swapped_in(cli: Cli, folder: Path, tmp_path: Path) -> None:
    cli.answer("load", str(folder))
    cli.answer("reindex", "--model", WORDS_MODEL)
    golden = tmp_path / "queries.jsonl"
    lines = [{"query": f"subject{n} word{n} page{n}", "relevant": [f"{n}.md"]} for n in range(0, PAGES, 3)]
    golden.write_text("".join(json.dumps(line) + "\n" for line in lines))
    refused = cli.answer("reindex", "--model", MODEL, "--queries", str(golden), "-k", "3", status=1)
    assert refused["why"].startswith("recall@3 would fall from 1.000 to ")
    assert (refused["swapped"], refused["queries"]) == (False, len(lines))
    assert first_hit(cli, 8) == "8.md"
    assert generations(cli)["documents@3"] == "building"
    note = next(one["note"] for one in cli.answer("collections") if one["state"] == "building")
    assert note == refused["why"]
    assert "is in progress" in cli.run("reindex", "--chunk-tokens", "32", status=1).stderr
    # Judged again, with what is there already, by somebody who accepts it.
    accepted = cli.answer("reindex", "--model", MODEL, "--queries", str(golden), "--max-regression", "1")
    assert (accepted["swapped"], accepted["generation"]) == (True, "documents@3")
    cli.run("rollback")
    assert cli.run("collections", "prune", "--refused").stdout == "dropped: nothing\n"
    assert first_hit(cli, 8) == "8.md"


def test_chunks_of_another_size_and_going_on_after_an_interruption(cli: Cli, folder: Path) -> None:
    long = "".join(f"## Part {n}\n\n" + f"Sentence number {n} about the matter of part{n}. " * 12 + "\n\n" for n in range(8))
    (folder / "long.md").write_text(f"# Long\n\n{long}")
    before = cli.answer("load", str(folder))["chunks"]
    change = cli.start("reindex", "--chunk-tokens", "48", "--rate", "8")
    wait_until(
        lambda: sum(one["indexed"] for one in cli.answer("collections") if one["state"] == "building") > 5, "it is under way"
    )
    change.send_signal(signal.SIGINT)
    change.communicate(timeout=60)
    assert change.returncode == 130
    assert cli.whole() == before
    done = cli.answer("reindex", "--chunk-tokens", "48", "--max-regression", "1")
    assert (done["swapped"], done["generation"]) == (True, "documents@2")
    assert cli.whole() == done["chunks"] > before
    assert cli.answer("load", str(folder))["unchanged"] == PAGES + 1
