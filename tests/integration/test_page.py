"""The page of `kb-ingest serve`, read over HTTP: what it shows, to whom, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape, unescape

import httpx
import pytest

from tests.services import Cli
from tests.serving import HOSTILE, HOSTILE_NAME, Service, documents_to_look_at, token
from workers.api.page.render import POLICY

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with documents_to_look_at(tmp_path_factory.mktemp("page")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def service(cli: Cli) -> Iterator[Service]:
    """A service with tokens."""
    token(cli, "first")
    with Service(cli) as running:
        yield running
    assert "Traceback" not in running.said


@pytest.fixture(scope="module")
def reader(service: Service) -> Iterator[httpx.Client]:
    """A signed-in visitor who may read and upload everything."""
    with signed_in(service, token(service.cli, "reader", "--scopes", "search,ingest")) as client:
        yield client


@pytest.fixture(scope="module")
def limited(service: Service) -> Iterator[httpx.Client]:
    """A signed-in visitor for whom only the documents of folder `a` exist."""
    folder = service.cli.data_dir.parent / "docs" / "a"
    secret = token(service.cli, "limited", "--collections", "documents", "--filter", f"folder={folder}*")
    with signed_in(service, secret) as client:
        yield client


@contextmanager
def signed_in(service: Service, secret: str) -> Iterator[httpx.Client]:
    with service.client() as client:
        client.headers["origin"] = service.url
        assert client.post("/sign-in", data={"token": secret, "following": "/"}).status_code == 303
        yield client


def ids(service: Service, client: httpx.Client) -> dict[str, str]:
    """Ids of the documents that a visitor finds in the list, by the path that is shown."""
    found = re.findall(r'<a href="/documents/([0-9a-f-]{36})">.*?<small><bdi>(.*?)</bdi>', client.get("/documents").text)
    root = f"{service.cli.data_dir.parent}/docs/"
    return {unescape(path).removeprefix(root): ident for ident, path in found}


def test_a_search_without_a_script(reader: httpx.Client, service: Service) -> None:
    form = reader.get("/").text
    assert '<form method="get" action="/" role="search">' in form
    assert "autofocus" in form
    empty = {"collection": "", "folder": "", "uri": "", "media_type": "", "document_id": ""}  # as a browser sends them
    found = reader.get("/", params={"q": "keys crane", "mode": "sparse", "limit": "10", **empty})
    assert found.status_code == 200
    assert '<h2 id="results">1 hit in <bdi>documents</bdi></h2>' in found.text
    harbour = ids(service, reader)["a/harbour.pdf"]
    assert f'href="/documents/{harbour}?chunk=0&amp;q=keys%20crane#chunk-0"' in found.text
    assert "<mark>keys</mark> of the <mark>crane</mark>" in found.text
    assert "<bdi>Harbour Handbook</bdi>" in found.text
    assert "page 1 ·" in found.text
    assert '<option value="sparse" selected>' in found.text
    api = service.client(token(service.cli, "api"))
    with api:
        (hit,) = api.post("/v1/search", json={"query": "keys crane", "mode": "sparse"}).json()["hits"]
    assert f"score {hit['score']:.3f}" in found.text


def test_filters_of_a_search(reader: httpx.Client, service: Service) -> None:
    soil = ids(service, reader)["a/soil.txt"]
    only = reader.get("/", params={"q": "nectar", "document_id": soil}).text
    assert set(re.findall(r'href="/documents/([0-9a-f-]{36})', only)) == {soil}
    assert "<details open>" in only
    folder = str(service.cli.data_dir.parent / "docs" / "b")
    assert "bees.md" not in reader.get("/", params={"q": "nectar", "folder": folder}).text
    assert "0 hits" in reader.get("/", params={"q": "nectar", "media_type": "text/vtt"}).text
    for params, status in (({"q": "x", "collection": "letters"}, 404), ({"q": "x", "limit": "x"}, 422), ({"q": "x" * 4001}, 422)):
        refused = reader.get("/", params=params)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert '<p class="note bad" role="alert">' in refused.text


def test_every_page_has_the_policy_and_names_no_other_site(reader: httpx.Client, service: Service) -> None:
    some = ids(service, reader)["a/bees.md"]
    paths = ["/", "/?q=nectar", "/documents", f"/documents/{some}", f"/documents/{some}?chunk=3&q=nectar", "/jobs"]
    paths += ["/jobs/999", "/documents/0", "/static/page.css", "/static/page.js", "/static/icon.svg", "/static/nothing"]
    for path in paths:
        found = reader.get(path)
        assert found.headers["content-security-policy"] == POLICY, path
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"
        if found.headers["content-type"].startswith("text/html"):
            assert not re.search(r"(?:src|href|action)=[\"']?(?:https?:)?//", found.text)
            assert not re.search(r"<script(?! src=\"/static/)|<style|<[^>]*\s(?:style|on\w+)=", found.text)
            assert found.text.count("<h1") == 1
            assert '<html lang="en">' in found.text
    assert "unsafe" not in POLICY


def test_texts_of_documents_are_shown_and_not_carried_out(reader: httpx.Client, service: Service) -> None:
    some = ids(service, reader)[f"a/{HOSTILE_NAME}"]
    for path in (f"/documents/{some}?chunk=0&q=thistle", "/?q=thistle&mode=sparse", "/documents"):
        text = reader.get(path).text
        assert "<img src=x" not in text
        assert "<script>" not in text
        assert escape(HOSTILE_NAME, quote=False) in text.replace("&#39;", "'").replace("&#34;", '"')
    shown = unescape(re.sub(r"</?mark>", "", reader.get(f"/documents/{some}?chunk=0&q=thistle").text))
    for part in ("Thistle <script>document.title='owned'</script>", "&amp; {{ 7 * 7 }} javascript:alert(1)"):
        assert part in shown
    asked = reader.get("/", params={"q": HOSTILE, "collection": HOSTILE, "folder": HOSTILE})
    assert "<script>" not in asked.text
    for field in ("q", "folder", "uri", "media_type", "document_id"):
        text = reader.get("/", params={"q": "nectar", "mode": "sparse", field: '"><script>x</script>'}).text
        assert "<script>" not in text
        assert "&#34;&gt;&lt;script&gt;" in text


def test_a_document_with_its_chunks_and_losses(reader: httpx.Client, service: Service) -> None:
    known = ids(service, reader)
    bees = reader.get(f"/documents/{known['a/bees.md']}", params={"chunk": 3, "q": "nectar"}).text
    chosen = re.findall(r'<li id="(chunk-\d+)" tabindex="-1" class="chosen" aria-current="true">', bees)
    assert chosen == ["chunk-3"]
    assert "<mark>nectar</mark>" in bees
    assert "1 page without text, <bdi>page 2</bdi>" in reader.get(f"/documents/{known['a/half.pdf']}").text
    assert "What did not become text" not in bees
    harbour = f"/documents/{known['a/harbour.pdf']}"
    assert f'<img src="{harbour}/pages/1?chunk=0"' in reader.get(harbour, params={"chunk": 0}).text
    plain, marked = (reader.get(f"{harbour}/pages/1{query}") for query in ("", "?chunk=0"))
    for drawn in (plain, marked):
        assert (drawn.headers["content-type"], drawn.content[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
    assert plain.content != marked.content
    assert reader.get(f"{harbour}/pages/3").status_code == 422
    assert reader.get(f"/documents/{known['a/bees.md']}/pages/1").status_code == 404


def test_visitors_sign_in_with_a_token_and_out(service: Service) -> None:
    secret = token(service.cli, "visits")
    with service.client() as client:
        form = client.get("/documents?collection=documents&state=")
        assert (form.status_code, "<h1>Sign in</h1>" in form.text) == (401, True)
        assert '<input type="hidden" name="following" value="/documents?collection=documents&amp;state=">' in form.text
        assert "Bees" not in form.text
        client.headers["origin"] = service.url
        for wrong in ("", "kbi_wrong", secret + "x"):
            refused = client.post("/sign-in", data={"token": wrong, "following": "/jobs"})
            assert (refused.status_code, refused.headers.get("set-cookie")) == (401, None)
            assert "unknown, revoked or expired" in refused.text
        entered = client.post("/sign-in", data={"token": secret, "following": "/documents?collection=documents&state="})
        assert (entered.status_code, entered.headers["location"]) == (303, "/documents?collection=documents&state=")
        cookie = entered.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert "expires" not in cookie.lower()
        assert "Signed in as <bdi>visits</bdi>" in client.get("/").text
        left = client.post("/sign-out")
        assert (left.status_code, 'kb_token=""' in left.headers["set-cookie"]) == (303, True)
        assert client.get("/").status_code == 401
        behind = {"x-forwarded-proto": "https"}
        assert "Secure" in client.post("/sign-in", data={"token": secret}, headers=behind).headers["set-cookie"]
    service.cli.run("token", "revoke", "visits")
    with service.client() as client:
        client.cookies.set("kb_token", secret)
        assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:x", ""]
)
def test_signing_in_leads_to_no_other_site(service: Service, target: str) -> None:
    with service.client() as client:
        secret = token(service.cli, f"to {target!a}")
        entered = client.post("/sign-in", data={"token": secret, "following": target}, headers={"origin": service.url})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")


def test_a_token_opens_the_page_by_cookie_only(service: Service) -> None:
    secret = token(service.cli, "header")
    with service.client(secret) as client:
        assert client.get("/v1/collections").status_code == 200
        assert client.get("/").status_code == 401
    with service.client() as client:  # and the cookie opens no endpoint of the API
        client.cookies.set("kb_token", secret)
        assert client.get("/").status_code == 200
        assert client.get("/v1/collections").status_code == 401


def test_what_a_token_leaves_out_does_not_exist(service: Service, limited: httpx.Client, reader: httpx.Client) -> None:
    every, own = ids(service, reader), ids(service, limited)
    assert every.keys() - own.keys() == {"b/wages.txt"}
    foreign, nothing = every["b/wages.txt"], "00000000-0000-5000-8000-000000000000"
    for end in ("", "?chunk=0&q=wages", "/pages/1"):
        pages = [limited.get(f"/documents/{one}{end}") for one in (foreign, nothing)]
        assert [one.status_code for one in pages] == [404, 404]
        assert pages[0].text == pages[1].text
    assert "secret" not in limited.get("/", params={"q": "wages of gardeners nectar", "limit": 50}).text
    assert "0 hits" in limited.get("/", params={"q": "wages", "document_id": foreign}).text
    assert "other" not in limited.get("/").text.partition("<select")[2].partition("</select>")[0]
    assert limited.get("/", params={"q": "x", "collection": "other"}).status_code == 404


def test_uploads_need_a_scope_and_end_as_jobs(service: Service, limited: httpx.Client, reader: httpx.Client) -> None:
    assert '<form method="post" action="/upload"' not in limited.get("/jobs").text
    assert limited.post("/upload", files={"file": ("a.txt", b"x")}).status_code == 403
    sent = reader.post(
        "/upload", files={"file": ("lighthouse.txt", b"The lighthouse stands on a rock.")}, data={"collection": "", "folder": "sea"}
    )
    assert sent.status_code == 303
    job = sent.headers["location"]
    with reader.stream("GET", f"{job}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        assert '"status":"done"' in list(filter(None, events.iter_lines()))[-1]
    page = reader.get(job).text
    assert "Done: 1 of 1 document processed." in page
    assert "<noscript>" not in page
    assert f'<a href="{job}">' in reader.get("/jobs").text
    assert limited.get(job).status_code == limited.get(f"{job}/events").status_code == 404
    assert "sea/lighthouse.txt" in reader.get("/", params={"q": "lighthouse", "mode": "sparse"}).text
    bad = reader.post("/upload", files={"file": ("..", b"x")})
    assert (bad.status_code, "a file or folder cannot have the name" in bad.text) == (422, True)


def test_forms_of_other_sites_are_refused(service: Service, reader: httpx.Client) -> None:
    foreign: list[dict[str, str]] = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": service.url.replace(str(service.port), "1")},
        {"origin": service.url, "sec-fetch-site": "same-site"},
        {"origin": service.url, "sec-fetch-site": "cross-site"},
    ]
    before = reader.get("/jobs").text
    for headers in foreign:
        for path in ("/upload", "/jobs/1/cancel", "/sign-in", "/sign-out"):
            files = {"file": ("x.txt", b"x")} if path == "/upload" else None
            refused = reader.post(path, files=files, headers=headers)
            assert (refused.status_code, "foreign_origin" in refused.text) == (403, True), (headers, path)
    assert reader.get("/jobs").text == before


def test_a_service_without_tokens_shows_the_page_to_this_host(cli: Cli) -> None:
    for name in [one["name"] for one in cli.answer("token", "list")]:
        cli.run("token", "revoke", name)
    with Service(cli) as open_service, open_service.client() as client:
        client.cookies.set("kb_token", "kbi_of-earlier")
        found = client.get("/")
        assert (found.status_code, "Sign out" in found.text) == (200, False)
        assert '<form method="post" action="/upload"' in client.get("/jobs").text
        for headers in ({"host": "rebound.example"}, {"sec-fetch-site": "cross-site"}):
            assert client.get("/", headers=headers).status_code == 403
        assert client.post("/upload", files={"file": ("x.txt", b"x")}).status_code == 403
