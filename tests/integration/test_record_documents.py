"""Rows and lines as documents of their own: what a change costs, what is filtered by, and that sources go the same way again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embed_server import MODEL
from tests.services import Cli, embed_server

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COUNT = 60


def ticket(number: int, body: str = "") -> dict[str, Any]:
    return {"id": f"T-{number}", "title": f"Ticket {number}", "body": body or f"Subject{number} is open.", "prio": number % 3}


def write(path: Path, tickets: list[dict[str, Any]], *more: str) -> None:
    path.write_text("".join(f"{line}\n" for line in (*map(json.dumps, tickets), *more)))


@pytest.fixture
def cli(tmp_path: Path, data_dir: Path) -> Iterator[Cli]:
    server = embed_server(tmp_path / "embed")
    server.start()
    yield Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{server.port}", KB_EMBED_MODEL=MODEL, KB_SEARCH_MODE="sparse")
    server.stop()


def found(cli: Cli, query: str, *filters: str) -> list[str]:
    options = [option for one in filters for option in ("--filter", one)]
    return sorted(hit["uri"].rsplit("!/", 1)[-1] for hit in cli.answer("search", query, "--limit", "100", *options))


CHOICES = ("--record-id", "id", "--record-text", "title,body", "--record-metadata", "prio")


def test_one_changed_record_embeds_one_record(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    tickets = [ticket(number) for number in range(COUNT)]
    write(path, tickets)
    first = cli.answer("load", str(path), "--records", *CHOICES, "--meta", "origin=crm")
    assert (first["discovered"], first["indexed"], first["chunks"]) == (1, COUNT + 1, COUNT)
    assert cli.whole() == COUNT
    assert found(cli, "Subject7") == ["T-7"]
    assert len(found(cli, "Ticket", "prio = 1 and origin = crm")) == COUNT // 3
    second = cli.answer("load", str(path))
    assert (second["unchanged"], second["indexed"], second["chunks"]) == (1, 0, 0)

    # Changed, with other metadata, vanished, and new; in another order.
    tickets[1]["body"] = "The crane is broken."
    tickets[2]["prio"] = 99
    del tickets[3]
    write(path, [ticket(100, "The ferry is late."), *reversed(tickets)])
    assert [file["action"] for file in cli.answer("load", str(path), "--dry-run")["files"]] == ["changed"]
    third = cli.answer("load", str(path))
    assert third["chunks"] == 2
    assert cli.whole() == COUNT
    assert found(cli, "crane") == ["T-1"]
    assert found(cli, "Ticket", "prio = 99") == ["T-2"]
    assert found(cli, "Subject3") == []
    assert found(cli, "ferry", "origin = crm") == ["T-100"]

    # Metadata of all, without parsing the records or embedding them again.
    fourth = cli.answer("load", str(path), "--meta", "origin=web")
    assert fourth["chunks"] == 0
    assert len(found(cli, "Ticket", "origin = web")) == COUNT
    one = cli.answer("status", "--document", f"{path}!/T-2")[0]
    assert (one["state"], one["metadata"]) == ("indexed", {"origin": "web", "prio": 99})

    # As one document again: its records go.
    fifth = cli.answer("load", str(path), "--no-records")
    assert fifth["indexed"] == 1
    assert {uri.rsplit("/", 1)[1] for uri in found(cli, "Ticket")} == {path.name}
    assert cli.answer("verify")["documents"] == 1


def test_what_is_left_out_is_named_and_a_line_that_cannot_be_read_deletes_nothing(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    write(path, [ticket(1), ticket(2), ticket(1, "The other one.")], '{"title": "no id"}')
    assert cli.answer("load", str(path))["chunks"] == 4  # as one document at first
    first = cli.answer("load", str(path), *CHOICES, "--fail-on-loss", status=3)
    assert cli.whole() == 2
    assert first["losses"] == {"record": 2}
    write(path, [ticket(1)], '{"id": "T-2", "ti')
    second = cli.answer("load", str(path))
    assert second["losses"] == {"record": 2}
    told = cli.run("status", "--document", str(path)).stdout
    assert "at line 2 (it is not JSON" in told
    assert "stay until everything can be read" in told
    assert found(cli, "Ticket") == ["T-1", "T-2"]
    write(path, [ticket(1)])
    assert cli.answer("load", str(path))["losses"] == {}
    assert found(cli, "Ticket") == ["T-1"]
    # A wrong choice loads nothing, loses nothing, and another one makes it good.
    third = cli.answer("load", str(path), "--record-id", "key", status=3)
    assert third["quarantined"] == 1
    assert found(cli, "Ticket") == ["T-1"]
    assert cli.answer("load", str(path), *CHOICES)["quarantined"] == 0
    assert cli.whole() == 1


def test_a_source_goes_the_same_way_again_and_into_another_generation(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "notes.md").write_text("# Notes\n\nNothing about tickets.")
    (folder / "a.csv").write_text("key;note;size\n" + "".join(f"K{n};Berth {n} is free;{n}\n" for n in range(20)))
    cli.run("source", "add", "tables", str(folder), "--record-id", "key", "--record-metadata", "size")
    assert "records: documents of their own; id: key; metadata: size" in cli.run("source", "show", "tables").stdout
    planned = cli.answer("plan", "tables")["plan"]
    assert (planned["chunks"], planned["new_points"]) == (21, 21)
    first = cli.answer("sync", "tables")
    assert (first["discovered"], first["indexed"], first["chunks"]) == (2, 22, 21)
    assert found(cli, "berth", "size < 3") == ["K0", "K1", "K2"]
    # A file that comes later, and a change, of which a plan knows the cost.
    (folder / "b.csv").write_text("key;note;size\nB1;Berth of the ferry;700\n")
    (folder / "a.csv").write_text((folder / "a.csv").read_text().replace("Berth 5 is", "Berth 5 is not"))
    assert cli.answer("plan", "tables")["plan"]["chunks"] == 2
    assert cli.answer("sync", "tables")["chunks"] == 2
    assert found(cli, "ferry", "size = 700") == ["B1"]
    changed = cli.answer("reindex", "--chunk-tokens", "64")
    assert (changed["swapped"], changed["documents"]) == (True, 24)
    assert found(cli, "berth", "size < 3") == ["K0", "K1", "K2"]
    assert cli.answer("sync", "tables")["unchanged"] == 3
    (folder / "a.csv").unlink()
    assert cli.answer("sync", "tables", "--allow-delete")["deleted"] == 21
    assert cli.whole() == 2
