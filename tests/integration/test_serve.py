"""`kb-ingest serve` as a process over a loaded collection, asked over HTTP; with both stores."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.embed_server import WORDS_MODEL
from tests.services import Cli, embed_server, qdrant_stand_in, wait_until
from tests.serving import TEXTS, Service, docs, problem, search, token

pytestmark = [pytest.mark.integration, pytest.mark.slow]

API_KEY = "a-key-of-qdrant"


@pytest.fixture(scope="module", params=["embedded", "server"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Documents of two folders in one collection, and another collection."""
    place = tmp_path_factory.mktemp(request.param)
    model = embed_server(place / "model")
    model.start()
    environment = {
        "KB_EMBED_URL": f"http://127.0.0.1:{model.port}",
        "KB_EMBED_API": "openai",
        "KB_EMBED_MODEL": WORDS_MODEL,
        "KB_API_KEY": API_KEY,
        "KB_CHUNK_TOKENS": "64",
    }
    servers = [model]
    if request.param == "server":
        qdrant = qdrant_stand_in(place / "qdrant", api_key=API_KEY)
        qdrant.start()
        servers.append(qdrant)
        environment["KB_QDRANT_URL"] = f"http://127.0.0.1:{qdrant.port}"
    for name, text in TEXTS.items():
        (place / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "docs" / name).write_text(text)
    cli = Cli(place / "data", **environment)
    cli.run("load", str(place / "docs"))
    cli.run("load", str(place / "docs" / "a" / "soil.txt"), "--collection", "other")
    yield cli
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def service(loaded: Cli) -> Iterator[Service]:
    with Service(loaded) as running:
        yield running
    assert "Traceback" not in running.said


@pytest.fixture
def everything(service: Service) -> Iterator[httpx.Client]:
    """A client that may do all."""
    with service.client(API_KEY) as client:
        yield client


@pytest.fixture(scope="module")
def limited(service: Service) -> Iterator[httpx.Client]:
    """A client for which only the documents of folder `a` exist."""
    folder = service.cli.data_dir.parent / "docs" / "a"
    secret = token(service.cli, "limited", "--collections", "documents", "--filter", f"folder={folder}*")
    with service.client(secret) as client:
        yield client


def test_a_search_finds_what_the_command_finds(service: Service, everything: httpx.Client) -> None:
    hits = search(everything, "nectar for bees", limit=3)
    command = service.cli.answer("search", "nectar for bees", "--limit", "3", "-c", "documents")
    assert [(hit["chunk_id"], hit["score"]) for hit in hits] == [(hit["chunk_id"], pytest.approx(hit["score"])) for hit in command]
    assert hits[0]["matched_words"] == ["nectar", "bees"]
    assert hits[0]["heading_path"] == ["Bees", "Food"]


def test_parts_of_hits_and_their_neighbours(everything: httpx.Client) -> None:
    (hit,) = search(everything, "hive", mode="sparse", limit=1, fields=["uri", "ordinal", "before", "after"], neighbours=2)
    assert hit.keys() == {"uri", "ordinal", "before", "after"}
    document = docs(everything)["bees.md"]
    chunks = everything.get(f"/v1/documents/{document['id']}").json()["chunk_list"]
    assert [chunk["ordinal"] for chunk in chunks] == list(range(document["chunks"]))
    assert hit["before"] == [chunk["text"] for chunk in chunks[hit["ordinal"] - 2 : hit["ordinal"]]]
    assert hit["after"] == [chunk["text"] for chunk in chunks[hit["ordinal"] + 1 : hit["ordinal"] + 3]]
    part = everything.get(f"/v1/documents/{document['id']}", params={"chunk_after": 0, "chunk_limit": 2}).json()["chunk_list"]
    assert part == chunks[1:3]


def test_refined_searches(service: Service, everything: httpx.Client) -> None:
    found = everything.post("/v1/search", json={"query": "hive nectar", "limit": 3}).json()
    assert (found["reranked"], found["note"]) == (False, "")
    text = found["hits"][0]["text"]
    words = {text[start:end].casefold() for start, end in found["hits"][0]["highlights"]}
    assert words & {"hive", "nectar"}
    several = search(everything, "hive nectar", limit=10)
    one_each = search(everything, "hive nectar", limit=10, per_document=1)
    assert len({hit["document_id"] for hit in several}) == len(one_each) < len(several)
    best = several[0]["score"]
    assert all(hit["score"] >= best for hit in search(everything, "hive nectar", limit=10, min_score=best))
    unlike = search(everything, "hive nectar", limit=3, diversity=1)
    assert unlike[0]["chunk_id"] == several[0]["chunk_id"]
    assert [hit["chunk_id"] for hit in unlike] != [hit["chunk_id"] for hit in several[:3]]
    command = service.cli.answer("search", "hive nectar", "-c", "documents", "--per-document", "1", "--context", "1", "-n", "10")
    assert [hit["chunk_id"] for hit in command] == [hit["chunk_id"] for hit in one_each]
    assert any(hit["before"] or hit["after"] for hit in command)
    for wrong in ({"per_document": 0}, {"diversity": 2}, {"neighbours": 99}):
        problem(everything.post("/v1/search", json={"query": "hive", **wrong}), 422, "invalid")


def test_filters_and_modes(everything: httpx.Client) -> None:
    soil = docs(everything)["soil.txt"]
    assert {hit["uri"] for hit in search(everything, "nectar", filter={"document_id": soil["id"]}, mode="dense")} == {soil["uri"]}
    assert search(everything, "nectar", filter={"document_id": soil["id"]}, mode="sparse") == []
    assert "colour" in problem(everything.post("/v1/search", json={"query": "x", "filter": {"colour": "red"}}), 422, "invalid")


def test_questions_that_cannot_be_asked(everything: httpx.Client) -> None:
    def ask(**asked: Any) -> httpx.Response:
        return everything.post("/v1/search", json=asked)

    assert problem(ask(query=" "), 422, "invalid") == "the query is empty"
    assert "KB_SERVE_QUERY_CHARS" in problem(ask(query="x" * 4001), 422, "query_too_long")
    assert "limit" in problem(ask(query="x", limit=1000), 422, "invalid")
    assert "colour" in problem(ask(query="x", colour="red"), 422, "invalid")
    detail = problem(ask(query="x", collection="letters"), 404, "collection_missing")
    assert detail == "there is no collection 'letters'; existing: 'documents', 'other'"
    problem(everything.get("/v1/nothing"), 404, "not_found")
    problem(everything.put("/v1/search"), 405, "method_not_allowed")


def test_collections_are_counted(everything: httpx.Client) -> None:
    found = {one["name"]: one for one in everything.get("/v1/collections").json()}
    assert found.keys() >= {"documents", "other"}
    assert found["other"]["states"] == {"indexed": 1}
    chunks = sum(one["chunks"] for one in docs(everything).values())
    assert (found["documents"]["documents"], found["documents"]["chunks"]) == (3, chunks)


def test_dify(everything: httpx.Client, service: Service) -> None:
    def ask(client: httpx.Client = everything, **changes: Any) -> httpx.Response:
        asked = {"knowledge_id": "documents", "query": "nectar", "retrieval_setting": {"top_k": 2, "score_threshold": 0.0}}
        return client.post("/retrieval", json=asked | changes)

    records = ask(metadata_condition=None).raise_for_status().json()["records"]
    assert len(records) == 2
    for record in records:
        assert record.keys() == {"content", "score", "title", "metadata"}
        assert 0 <= record["score"] <= 1
        assert isinstance(record["metadata"], dict)
    high = ask(retrieval_setting={"top_k": 9, "score_threshold": 0.99}).json()["records"]
    assert [record["score"] >= 0.99 for record in high] == [True] * len(high)
    uri = docs(everything)["soil.txt"]["uri"]
    for name in ("uri", ["uri"]):
        conditions = {"logical_operator": "and", "conditions": [{"name": name, "comparison_operator": "is", "value": uri}]}
        assert {one["metadata"]["uri"] for one in ask(metadata_condition=conditions).json()["records"]} == {uri}
    unsupported = {"conditions": [{"name": "uri", "comparison_operator": "contains", "value": "x"}]}
    assert ask(metadata_condition=unsupported).status_code == 400
    gone = ask(knowledge_id="letters")
    assert (gone.status_code, gone.json()["error_code"]) == (404, 2001)
    with service.client("wrong") as stranger:
        refused = ask(stranger)
    assert (refused.status_code, refused.json()["error_code"]) == (403, 1002)
    malformed = httpx.post(f"{service.url}/retrieval", headers={"authorization": "Basic x"}, json={}, trust_env=False)
    assert (malformed.status_code, malformed.json()["error_code"]) == (403, 1001)
    assert set(malformed.json()) == {"error_code", "error_msg"}


def test_health_and_metrics(service: Service, everything: httpx.Client) -> None:
    with service.client() as nobody:
        assert nobody.get("/livez").text == "ok\n"
        ready = nobody.get("/readyz").json()
        assert ready == {"status": "ready", "parts": dict.fromkeys(("ledger", "store", "broker", "model"), "ok")}
        problem(nobody.get("/metrics"), 401, "unauthorized")
    text = everything.get("/metrics").text
    assert 'kb_ingest_http_requests_total{route="/v1/search",status="200"}' in text
    assert "kb_ingest_query_batch_size_count" in text


# What a token's filter leaves out does not exist, on any path.


def test_a_limited_token_searches_in_its_documents_only(limited: httpx.Client, everything: httpx.Client) -> None:
    secret = docs(everything)["wages.txt"]
    for mode in ("hybrid", "dense", "sparse"):
        hits = search(limited, "wages of gardeners nectar", mode=mode, limit=50)
        assert hits
        assert all("/docs/a/" in hit["uri"] for hit in hits)
        assert search(limited, "wages", mode=mode, filter={"document_id": secret["id"]}) == []
        assert (
            search(limited, "wages", mode=mode, filter={"folder": secret["uri"].removeprefix("file://").rpartition("/")[0]}) == []
        )
        assert search(limited, "wages", mode=mode, filter={"uri": "*"}, limit=50) == search(limited, "wages", mode=mode, limit=50)


def test_a_limited_token_sees_no_foreign_neighbours(limited: httpx.Client) -> None:
    hits = search(limited, "nectar", neighbours=10, limit=50)
    assert not [text for hit in hits for text in (*hit["before"], *hit["after"]) if "wages" in text]
    assert any(hit["before"] or hit["after"] for hit in hits)


def test_a_limited_token_lists_and_counts_its_documents_only(limited: httpx.Client, everything: httpx.Client) -> None:
    own = {name for name in docs(everything) if name != "wages.txt"}
    assert docs(limited).keys() == own
    for params in ({"state": "indexed"}, {"uri": "*"}, {"folder": "*"}, {"limit": 1000}):
        found = limited.get("/v1/documents", params=params).json()
        assert {one["uri"].rpartition("/")[2] for one in found["documents"]} == own
        assert found["next"] is None
    (collection,) = limited.get("/v1/collections").json()
    every = docs(everything)
    assert collection["name"] == "documents"
    assert collection["documents"] == sum(collection["states"].values()) == len(own)
    assert collection["chunks"] == sum(every[name]["chunks"] for name in own)


def test_a_foreign_id_is_like_one_that_does_not_exist(service: Service, limited: httpx.Client, everything: httpx.Client) -> None:
    foreign, nothing = docs(everything)["wages.txt"]["id"], "00000000-0000-5000-8000-000000000000"
    elsewhere = docs(everything, "other")["soil.txt"]["id"]
    folder = service.cli.data_dir.parent / "docs" / "a"
    writer = token(
        service.cli, "writer", "--scopes", "search,ingest", "--collections", "documents", "--filter", f"folder={folder}*"
    )
    with service.client(writer) as deleter:
        for client, method in ((limited, "GET"), (deleter, "GET"), (deleter, "DELETE")):
            details = {
                problem(client.request(method, f"/v1/documents/{one}"), 404, "document_missing")
                for one in (foreign, elsewhere, nothing)
            }
            assert details == {"there is no document with this id"}
    assert {foreign} <= {one["id"] for one in docs(everything).values()}


def test_a_foreign_collection_is_like_one_that_does_not_exist(limited: httpx.Client) -> None:
    for name in ("other", "nothing"):
        expected = f"there is no collection {name!r}; existing: 'documents'"
        assert problem(limited.post("/v1/search", json={"query": "x", "collection": name}), 404, "collection_missing") == expected
        assert problem(limited.get("/v1/documents", params={"collection": name}), 404, "collection_missing") == expected
        asked = {"knowledge_id": name, "query": "x", "retrieval_setting": {"top_k": 1, "score_threshold": 0}}
        assert limited.post("/retrieval", json=asked).json() == {"error_code": 2001, "error_msg": expected}


def test_dify_with_a_limited_token(limited: httpx.Client) -> None:
    asked = {"knowledge_id": "documents", "query": "wages nectar", "retrieval_setting": {"top_k": 50, "score_threshold": 0}}
    records = limited.post("/retrieval", json=asked).json()["records"]
    assert records
    assert all("/docs/a/" in record["metadata"]["uri"] for record in records)


def test_jobs_of_others_do_not_exist(service: Service, limited: httpx.Client, everything: httpx.Client) -> None:
    job = everything.post(
        "/v1/documents", files={"file": ("note.txt", b"A note about wages.")}, data={"collection": "notes"}
    ).json()
    assert limited.get("/v1/jobs").json() == []
    for number in (job["id"], 999_999):
        assert problem(limited.get(f"/v1/jobs/{number}"), 404, "job_missing") == "there is no job with this id"
        problem(limited.get(f"/v1/jobs/{number}/events"), 404, "job_missing")
    assert everything.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()["status"] == "done"


def test_scopes(limited: httpx.Client, service: Service) -> None:
    assert "lacks the scope ingest" in problem(limited.post("/v1/documents", files={"file": ("a.txt", b"x")}), 403, "forbidden")
    problem(limited.post("/v1/jobs/1/cancel"), 403, "forbidden")
    with service.client(token(service.cli, "ingests", "--scopes", "ingest")) as client:
        problem(client.post("/v1/search", json={"query": "x"}), 403, "forbidden")
        problem(client.post("/v1/documents", json={"uri": "/etc/passwd"}), 403, "forbidden")


def test_tokens_end(service: Service) -> None:
    cli = service.cli
    secret = token(cli, "short", "--expires", "1h")
    with service.client(secret) as client:
        assert client.get("/v1/collections").status_code == 200
        listed = {one["name"]: one for one in cli.answer("token", "list")}
        assert listed["short"]["used_at"] is not None
        assert secret not in json.dumps(listed)
        cli.run("token", "revoke", "short")
        problem(client.get("/v1/collections"), 401, "unauthorized")
    cli.run("token", "revoke", "short", status=1)


# Loading.


def test_an_upload_is_loaded_and_can_be_deleted(everything: httpx.Client, service: Service) -> None:
    files = [("file", ("harbour.md", b"# Harbour\n\nShips wait for the pilot.")), ("file", ("empty.txt", b""))]
    sent = everything.post("/v1/documents", files=files, data={"collection": "uploads", "folder": "sea/north"})
    assert sent.status_code == 202
    number = sent.json()["id"]
    events = []
    with everything.stream("GET", f"/v1/jobs/{number}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")]
    assert events[-1]["status"] == "done"
    assert events[-1]["states"] == {"indexed": 1, "skipped": 1}
    found = docs(everything, "uploads")
    assert (found["empty.txt"]["state"], found["empty.txt"]["reason"]) == ("skipped", "empty_file")
    assert found["harbour.md"]["uri"] == "upload://sea/north/harbour.md"
    assert len(search(everything, "pilot", collection="uploads", filter={"folder": "upload://sea/*"})) == 1
    assert everything.delete(f"/v1/documents/{found['harbour.md']['id']}").status_code == 204
    assert search(everything, "pilot", collection="uploads") == []
    assert docs(everything, "uploads").keys() == {"empty.txt"}
    assert not [path for path in (service.cli.data_dir / "staging" / "tmp").iterdir() if path.is_file()]


def test_a_repeated_request_makes_no_second_job(everything: httpx.Client) -> None:
    def send(content: bytes, key: str = "k1") -> httpx.Response:
        return everything.post(
            "/v1/documents",
            files={"file": ("once at 3\u202fpm.txt", content)},
            data={"collection": "once"},
            headers={"idempotency-key": key},
        )

    first, again, other = send(b"one text"), send(b"one text"), send(b"another text")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    problem(other, 422, "key_reused")
    (found,) = docs(everything, "once").values()
    assert unquote(found["uri"]) == "upload://once at 3\u202fpm.txt"
    assert everything.get(f"/v1/jobs/{first.json()['id']}", params={"wait": 60}).json()["status"] == "done"


@pytest.mark.parametrize(
    ("name", "folder"), [("..", ""), ("x.txt", "a\x07b"), ("x.txt", "../up"), ("x.txt", "a//b"), ("x.txt", "/a")]
)
def test_names_that_are_refused(everything: httpx.Client, name: str, folder: str) -> None:
    problem(everything.post("/v1/documents", files={"file": (name, b"text")}, data={"folder": folder}), 422, "invalid")


def test_bodies_that_are_no_uploads(everything: httpx.Client) -> None:
    problem(everything.post("/v1/documents", content=b"x", headers={"content-type": "text/plain"}), 415, "unsupported")
    problem(everything.post("/v1/documents", content=b"x", headers={"content-type": "multipart/form-data"}), 422, "invalid")
    form = {"content-type": "multipart/form-data; boundary=b"}
    problem(everything.post("/v1/documents", content=b"garbage", headers=form), 422, "invalid")
    starred = b"--b\r\nContent-Disposition: form-data; name=f; filename*=UTF-8''%E2%80%AF.txt\r\n\r\nx\r\n--b--\r\n"
    problem(everything.post("/v1/documents", content=starred, headers=form), 422, "invalid")
    problem(everything.post("/v1/documents", files={"file": ("a.txt", b"x")}, data={"colour": "red"}), 422, "invalid")
    problem(everything.post("/v1/documents", json={"uri": ""}), 422, "invalid")


def test_a_uri_is_loaded(everything: httpx.Client, service: Service) -> None:
    folder = service.cli.data_dir.parent / "docs" / "b"
    sent = everything.post("/v1/documents", json={"uri": str(folder), "collection": "named"})
    assert sent.status_code == 202, sent.text
    done = everything.get(f"/v1/jobs/{sent.json()['id']}", params={"wait": 60}).json()
    assert (done["status"], done["states"]) == ("done", {"indexed": 1})
    missing = everything.post("/v1/documents", json={"uri": str(folder / "nothing"), "collection": "named"})
    job = everything.get(f"/v1/jobs/{missing.json()['id']}", params={"wait": 60}).json()
    assert (job["status"], "nothing" in job["detail"]) == ("failed", True)


def test_metadata_and_filters_on_every_path(service: Service, everything: httpx.Client, tmp_path: Path) -> None:
    for name in ("law", "sales"):
        (tmp_path / f"{name}.txt").write_text(f"Gulls nest on the cliffs, says {name}.\n\n" * 3)
        os.utime(tmp_path / f"{name}.txt", (0, 1_500_000_000))
    (tmp_path / "law.txt.meta.json").write_text('{"team": ["law", "board"], "year": 2020, "draft": false}')
    service.cli.run("load", str(tmp_path), "--collection", "nests", "--meta", "kept=2024-05-31")
    both = {"collection": "nests"}
    times = {"kept": "2024-05-31T00:00:00Z", "modified": "2017-07-14T02:40:00Z"}
    law = {"team": ["law", "board"], "year": 2020, "draft": False, **times}

    def names(client: httpx.Client, wanted: object, mode: str = "hybrid") -> set[str]:
        return {hit["uri"].rpartition("/")[2] for hit in search(client, "gulls", filter=wanted, mode=mode, **both)}

    for mode in ("hybrid", "dense", "sparse"):
        assert names(everything, "year >= 2020 and team in (law, x)", mode) == {"law.txt"}
        assert names(everything, {"kept": {"<": "2025-01-01"}, "not": {"draft": False}}, mode) == {"sales.txt"}
        assert names(everything, "modified < 2018-01-01 and team missing", mode) == {"sales.txt"}
    (hit,) = search(everything, "gulls", filter="team = board", limit=1, **both)
    assert hit["metadata"] == law
    listed = everything.get("/v1/documents", params={**both, "filter": "team exists"}).json()["documents"]
    assert [one["metadata"] for one in listed] == [law]
    assert "character 1: year is a whole number" in problem(
        everything.post("/v1/search", json={"query": "x", "filter": "year = soon", **both}), 422, "invalid"
    )
    problem(everything.get("/v1/documents", params={**both, "filter": "colour >"}), 422, "invalid")
    (found,) = service.cli.answer("search", "gulls", "-n", "1", "-c", "nests", "--filter", "team = law", "--filter", "year=2020")
    assert found["metadata"] == law
    assert (
        "team: law, board; year: 2020" in service.cli.run("search", "gulls", "-c", "nests", "--filter", "not team missing").stdout
    )
    assert service.cli.answer("status", "--document", str(tmp_path / "law.txt"))[0]["metadata"] == law
    dify = {"knowledge_id": "nests", "query": "gulls", "retrieval_setting": {"top_k": 9, "score_threshold": 0}}
    conditions = [{"name": "year", "comparison_operator": "\u2265", "value": 2020}]
    records = everything.post("/retrieval", json={**dify, "metadata_condition": {"conditions": conditions}}).json()["records"]
    assert {record["metadata"]["uri"] for record in records} == {listed[0]["uri"]}
    with service.client(token(service.cli, "lawyer", "--filter", "team = law and not draft = true")) as lawyer:
        assert names(lawyer, {}) == {"law.txt"}
        assert names(lawyer, "team missing or year > 0 or year < 0") == {"law.txt"}
        assert docs(lawyer, "nests").keys() == {"law.txt"}
        fields = lawyer.get("/v1/fields", params=both).json()["fields"]
        assert {"name": "team", "type": "keyword", "documents": 1} in fields
        values = lawyer.get("/v1/fields/team", params=both).json()["values"]
        assert values == [{"value": "board", "documents": 1}, {"value": "law", "documents": 1}]
        assert lawyer.get("/v1/fields/folder", params=both).json()["values"] == [{"value": str(tmp_path), "documents": 1}]
        counted = {one["name"]: one["documents"] for one in lawyer.get("/v1/collections").json()}
        assert (counted["nests"], counted["documents"]) == (1, 0)
        others = docs(everything, "nests")["sales.txt"]["id"]
        problem(lawyer.get(f"/v1/documents/{others}"), 404, "document_missing")
        records = lawyer.post("/retrieval", json=dify).json()["records"]
        assert {record["metadata"]["uri"] for record in records} == {listed[0]["uri"]}
    with service.client(token(service.cli, "seller", "--filter", "kept exists and team missing")) as seller:
        # That other documents have the field is not told.
        detail = problem(seller.get("/v1/fields/team", params=both), 404, "field_missing")
        assert detail == "there is no field 'team'; existing: kept, modified, folder, media_type"
    assert everything.get("/v1/fields/year", params={**both, "filter": "team = sales"}).json()["values"] == []
    assert service.cli.run("facets", "year", "-c", "nests").stdout == "       1  2020\nfrom 2020 to 2020\n"
    assert "team        keyword   1 document\n" in service.cli.run("facets", "-c", "nests").stdout
    assert service.cli.answer("facets", "team", "-c", "nests", "--limit", "1")["distinct"] == 2
    service.cli.run("load", str(tmp_path), "--collection", "nests", "--meta", "kept=1999-01-01")
    assert names(everything, "kept > 2000-01-01") == set()
    assert names(everything, "kept = 1999-01-01") == {"law.txt", "sales.txt"}


def test_an_upload_lies_within_the_filter_of_its_token(service: Service) -> None:
    secret = token(
        service.cli, "team", "--scopes", "search,ingest", "--collections", "teams", "--filter", "folder=upload://team-a*"
    )
    with service.client(secret) as client:

        def send(folder: str, collection: str = "teams") -> httpx.Response:
            return client.post(
                "/v1/documents", files={"file": ("x.txt", b"Ours.")}, data={"folder": folder, "collection": collection}
            )

        assert "filter leaves out" in problem(send("team-b"), 403, "forbidden")
        problem(send(""), 403, "forbidden")
        problem(send("team-a", "documents"), 403, "forbidden")
        job = send("team-a").json()["id"]
        assert client.get(f"/v1/jobs/{job}", params={"wait": 60}).json()["status"] == "done"
        assert [one["id"] for one in client.get("/v1/jobs").json()] == [job]
        assert docs(client, "teams").keys() == {"x.txt"}


def test_a_load_by_command_beside_the_service(service: Service, everything: httpx.Client, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"The lighthouse number {number} stands on a rock.\n")
    done = threading.Event()

    def load() -> None:
        service.cli.run("load", str(tmp_path), "--collection", "lights")
        done.set()

    thread = threading.Thread(target=load)
    thread.start()
    answered = 0
    while not done.is_set():
        assert search(everything, "nectar", limit=1)
        answered += 1
        time.sleep(0.2)
        assert thread.is_alive() or done.is_set()
    thread.join()
    assert answered
    assert len(search(everything, "lighthouse", collection="lights", limit=50)) == 20


def test_a_stopped_service_finishes_what_it_has_begun(loaded: Cli) -> None:
    with Service(loaded) as other:
        announced = json.loads((loaded.data_dir / "serve.json").read_text())
        assert (announced["url"], (loaded.data_dir / "serve.json").stat().st_mode & 0o777) == (other.url, 0o600)
        with other.client(API_KEY) as client:
            job = client.post("/v1/documents", files={"file": ("late.txt", b"Late words.")}, data={"collection": "late"}).json()[
                "id"
            ]
            answers: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: answers.append(client.get(f"/v1/jobs/{job}", params={"wait": 60})))
            waiting.start()
            time.sleep(0.3)
            assert other.stop() == 128 + signal.SIGTERM
            waiting.join()
            assert answers[0].status_code == 200
        assert "Traceback" not in other.said
    with Service(loaded) as again, again.client(API_KEY) as client:
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "done", "the next service ends the job", 120)
