"""Pages of websites: listed by sitemaps and llms.txt, fetched politely, and not fetched again while they are unchanged."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DocumentError, SourceError
from pipeline.sources import client, sitemaps
from pipeline.sources.addresses import public_addresses
from pipeline.sources.client import Manners
from pipeline.sources.discover import Omitted, Patterns, check_root, exists
from pipeline.sources.freshness import Answer
from pipeline.sources.pages import page_uri, site
from pipeline.sources.uris import folder_of, is_url, member_uri, name_of, parent_uri, root_of, root_uri, shown_path
from pipeline.sources.web import Web
from pipeline.types import Reason, SourceFile
from tests.website import Website, html, make_certificate, website


@pytest.fixture
def server() -> Iterator[Website]:
    with website() as found:
        yield found


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(Manners(requests_per_s=1000, timeout_s=10), max_file_bytes=10_000)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.02)


def listed(web: Web, server: Website, location: str = "/", patterns: Patterns | None = None) -> tuple[set[str], dict[str, str]]:
    """Paths of the pages, and why others were left out."""
    found = list(web.listed(server.url + location, patterns or Patterns()))
    omitted = {item.uri.removeprefix(server.url): item.why for item in found if isinstance(item, Omitted)}
    return {item.uri.removeprefix(server.url) for item in found if isinstance(item, SourceFile)}, omitted


def fetch(web: Web, server: Website, path: str, folder: Path, validators: str = "") -> tuple[str, SourceFile] | None:
    """The page as it is now; None: its validators still hold."""
    found = web.copy(SourceFile(server.url + path, None, -1, 0, validators=validators), folder / "copy")
    if not found[0]:
        return None
    data = (folder / "copy").read_bytes()
    assert (found[0], found[1].size) == (hashlib.sha256(data).hexdigest(), len(data))
    return found


@pytest.mark.parametrize(
    ("location", "root", "list_"),
    [
        ("https://Host.org", "https://host.org", ""),
        ("https://host.org:443/docs/", "https://host.org/docs", ""),
        ("http://host.org:8080/docs/guide", "http://host.org:8080/docs/guide", ""),
        ("https://host.org/sitemap.xml", "https://host.org", "https://host.org/sitemap.xml"),
        ("https://host.org/a%20b/sitemap-1.xml.gz", "https://host.org/a%20b", "https://host.org/a%20b/sitemap-1.xml.gz"),
        ("https://host.org/docs/llms.txt", "https://host.org/docs", "https://host.org/docs/llms.txt"),
    ],
)
def test_a_url_names_a_website(location: str, root: str, list_: str) -> None:
    assert (site(location).root, site(location).list) == (root, list_)
    assert is_url(location)
    assert root_uri(root_of(location)) == root_uri(root_of(root)) == root


@pytest.mark.parametrize(
    "location", ["https://me:hidden@host/", "https://hidden@host/", "https://host/?token=hidden", "https:///x"]
)
def test_urls_that_are_refused(location: str) -> None:
    with pytest.raises(ConfigError) as raised:
        root_of(location)
    assert "hidden" not in str(raised.value)


def test_pages_have_one_uri_each() -> None:
    of = site("https://host.org/")
    for url in ("/a#part", "https://HOST.org/a", "http://host.org/a", "https://host.org:443/a", " https://host.org/a\n"):
        assert page_uri(url, "https://host.org/sitemap.xml", of) == "https://host.org/a", url
    assert page_uri("ä/b c?x=/y!&z=1", "https://host.org/d/", of) == "https://host.org/d/%C3%A4/b%20c?x=%2Fy%21&z=1"
    assert page_uri("", "https://host.org", of) == "https://host.org/"
    for url in ("https://other.org/a", "https://www.host.org/a", "mailto:a@host.org", "https://x@host.org/a", "https://[/a"):
        assert page_uri(url, "https://host.org/sitemap.xml", of) == "", url
    uri = "https://host.org/d/index.php?x=%2Fy"
    assert (name_of(uri), folder_of(uri), shown_path(uri)) == ("index.php.html", "https://host.org/d", uri)
    names = [name_of(f"https://host.org{path}") for path in ("/", "/d/", "/a.pdf", "/b%20c.md")]
    assert names == ["host.org", "d", "a.pdf", "b c.md"]
    inside = member_uri("https://host.org/get?file=1", "x/b c.md")
    assert (name_of(inside), parent_uri(inside)) == ("b c.md", "https://host.org/get?file=1")
    assert not exists(uri)  # what is in no sitemap is gone, although it may still be there
    check_root("https://host.invalid/")  # asks nobody


def test_sitemaps_in_all_forms(web: Web, server: Website) -> None:
    server.sitemap("/a", "/docs/b", "https://elsewhere.invalid/c", at="/pages.xml")
    server.put("/more.xml.gz", gzip.compress(b"<urlset><url><loc>/docs/z</loc></url></urlset>"))
    server.put("/plain.txt", f"{server.url}/t\n\n{server.url}/docs/t\nnonsense\n")
    server.sitemap("/pages.xml", "/more.xml.gz", "/plain.txt", "/index.xml", kind="sitemapindex", at="/index.xml")
    assert listed(web, server, "/index.xml") == ({"/a", "/docs/b", "/docs/z", "/t", "/docs/t"}, {})
    assert listed(web, server, "/more.xml.gz") == ({"/docs/z"}, {})
    with pytest.raises(SourceError, match=r"/no\.xml does not exist"):
        listed(web, server, "/no.xml")


def test_the_list_of_a_website_is_looked_for(web: Web, server: Website) -> None:
    server.put("/robots.txt", f"Sitemap: {server.url}/named.xml\n")
    server.sitemap("/docs/a", "/b", at="/named.xml")
    server.sitemap("/docs/own", at="/docs/sitemap.xml")
    assert listed(web, server) == ({"/docs/a", "/b"}, {})
    assert listed(web, server, "/docs/") == ({"/docs/a"}, {})
    server.sitemap("/b", at="/named.xml")
    assert listed(web, server, "/docs/") == ({"/docs/own"}, {})
    del server.pages["/docs/sitemap.xml"]
    server.put(
        "/docs/llms.txt", f"# Docs\n\n- [A](a.md): about a\n- [B]({server.url}/docs/b)\n- [C](https://elsewhere.invalid/c)\n"
    )
    assert listed(web, server, "/docs/") == ({"/docs/a.md", "/docs/b"}, {})
    with pytest.raises(SourceError, match="needs a sitemap or"):
        listed(web, server, "/nowhere/")


def test_patterns_and_times(web: Web, server: Website) -> None:
    server.sitemap("/", "/d/a.html", "/d/b.pdf", "/tags/x", "/.well-known/y", lastmod="2024-05-01T12:00:00+02:00")
    assert listed(web, server, "/", Patterns(exclude=("tags/*", "*.pdf"))) == ({"/", "/d/a.html"}, {})
    assert listed(web, server, "/d", Patterns(include=("*.pdf",))) == ({"/d/b.pdf"}, {})
    times = {item.modified for item in web.listed(server.url, Patterns()) if isinstance(item, SourceFile)}
    assert times == {datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()}
    server.sitemap("/", lastmod="yesterday")
    assert [item.modified for item in web.listed(server.url, Patterns()) if isinstance(item, SourceFile)] == [None]


@pytest.mark.parametrize(
    "data",
    [
        b"<urlset><url><loc>/a</loc>",
        b"<html><body>not found</body></html>",
        b"no list at all",
        gzip.compress(b"<urlset/>")[:-12],
        gzip.compress(b"<urlset>" + b" " * (sitemaps.MAX_BYTES + 1)),
        b'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
        + b"]><urlset><url><loc>&a11;</loc></url></urlset>",
        gzip.compress(b"<urlset><url>" + b"<a/>" * (sitemaps.MAX_ELEMENTS + 1) + b"</url></urlset>"),
    ],
    ids=["cut", "html", "text", "cut gzip", "bomb", "entities", "elements"],
)  # fmt: skip
def test_what_is_no_sitemap_is_refused(data: bytes, web: Web, server: Website) -> None:
    server.put("/list.xml", data)
    with pytest.raises(SourceError, match="cannot list"):
        listed(web, server, "/list.xml")


def test_a_list_that_is_cut_off_is_not_taken_for_a_shorter_one() -> None:
    whole = gzip.compress(b"".join(b"https://host.example/%d\n" % number for number in range(999)))
    assert len(sitemaps.read(whole, "list.txt.gz").pages) == 999
    for size in (len(whole) - 1, len(whole) // 2):
        with pytest.raises(ValueError, match="is cut off"):
            sitemaps.read(whole[:size], "list.txt.gz")


def test_entities_and_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    data = f'<!DOCTYPE x [<!ENTITY s SYSTEM "file://{secret}">]><urlset><url><loc>/a&s;</loc></url></urlset>'.encode()
    assert "hidden" not in str(sitemaps.read(data, "sitemap.xml").pages)


def test_a_sitemap_that_is_missing_is_a_gap(web: Web, server: Website) -> None:
    server.sitemap("/a", at="/one.xml")
    server.put("/two.xml", status=500)
    server.sitemap("/one.xml", "/two.xml", "/three.xml", kind="sitemapindex")
    pages, omitted = listed(web, server)
    assert (pages, set(omitted)) == ({"/a"}, {"/two.xml", "/three.xml"})
    gaps = [item for item in web.listed(server.url, Patterns()) if isinstance(item, Omitted)]
    assert all(gap.folder for gap in gaps)  # so that nothing is deleted


def test_robots_are_obeyed(server: Website, tmp_path: Path) -> None:
    server.put(
        "/robots.txt",
        "User-agent: *\nDisallow: /\n\nUser-agent: kb-ingest\nDisallow: /private\nDisallow: /*.cgi$\nCrawl-delay: 0.2\n",
    )
    server.sitemap("/a", "/private/b", "/c.cgi")
    server.put("/a", html("A", "text"))
    server.put("/b", status=302, headers={"Location": "/private/b"})
    web = Web(Manners("kb-ingest/1.0 (+https://example.org)", 1000), 10_000)
    pages, omitted = listed(web, server)
    assert (pages, omitted) == ({"/a"}, dict.fromkeys(("/private/b", "/c.cgi"), "is disallowed by robots.txt"))
    with pytest.raises(DocumentError, match="disallows"):
        fetch(web, server, "/b", tmp_path)
    server.asked.clear()
    for _ in range(3):
        fetch(web, server, "/a", tmp_path)
    times = [one.at for one in server.asked]
    assert min(after - before for before, after in pairwise(times)) > 0.15
    assert {one.headers["User-Agent"] for one in server.asked} == {"kb-ingest/1.0 (+https://example.org)"}
    web.close()
    other = Web(Manners("another", 1000), 10_000)
    assert listed(other, server)[0] == set()
    other.close()


def test_robots_that_cannot_be_read_forbid_everything(web: Web, server: Website) -> None:
    server.put("/robots.txt", status=500)
    server.sitemap("/a")
    with pytest.raises(SourceError, match=r"cannot read .*robots\.txt: HTTP 500"):
        listed(web, server)


def test_the_rate_of_requests_is_limited(server: Website, tmp_path: Path) -> None:
    server.put("/a", "text")
    web = Web(Manners(requests_per_s=10), 10_000)
    began = time.monotonic()
    for _ in range(4):
        fetch(web, server, "/a", tmp_path)
    assert time.monotonic() - began > 0.39
    web.close()


def test_an_unchanged_page_is_not_sent_again(web: Web, server: Website, tmp_path: Path) -> None:
    server.put("/a", "text", headers={"Last-Modified": "Wed, 01 May 2024 10:00:00 GMT"})
    first = fetch(web, server, "/a", tmp_path)
    assert first is not None
    assert fetch(web, server, "/a", tmp_path, first[1].validators) is None
    assert server.asked[-1].headers["If-Modified-Since"] == "Wed, 01 May 2024 10:00:00 GMT"
    server.put("/a", "other")
    second = fetch(web, server, "/a", tmp_path, first[1].validators)
    assert second is not None
    assert second[1].mtime_ns != first[1].mtime_ns
    server.put("/c", "text", headers={"ETag": "\xe4\xf6"}, etag=False)
    third = fetch(web, server, "/c", tmp_path)
    assert third is not None
    assert Answer.read(third[1].validators).conditions == {}
    server.put("/b", status=304)  # although nobody asked for that
    with pytest.raises(DocumentError, match="HTTP 304"):
        fetch(web, server, "/b", tmp_path)


def test_redirects_stay_on_the_host(web: Web, server: Website, tmp_path: Path) -> None:
    server.put("/new", "text")
    server.put("/old", status=301, headers={"Location": "/new"})
    server.put("/away", status=302, headers={"Location": "http://localhost:1/private"})
    server.put("/file", status=302, headers={"Location": "file:///etc/passwd"})
    server.put("/round", status=302, headers={"Location": "/round"})
    found = fetch(web, server, "/old", tmp_path)
    assert found is not None
    assert found[1].uri.endswith("/old")
    server.put("/tls", status=301, headers={"Location": f"https://127.0.0.1:{server.port}/tls"})
    server.put("/broken", status=301, headers={"Location": "http://[/"})
    reasons = {
        "/away": "to http://localhost:1, which is another website", "/file": "to file://, which is another website",
        "/tls": "to https://", "/broken": "to no URL", "/round": "more than 5 times",
    }  # fmt: skip
    for path, why in reasons.items():
        with pytest.raises(DocumentError, match=why) as raised:
            fetch(web, server, path, tmp_path)
        assert raised.value.reason is Reason.UNREADABLE


def test_requests_are_repeated_where_that_may_help(web: Web, server: Website, tmp_path: Path) -> None:
    server.put("/busy", "text", status=429, headers={"Retry-After": "1"}, times=1)
    server.put("/date", "text", status=503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    server.put("/down", status=503)
    server.put("/gone", status=404)
    began = time.monotonic()
    assert fetch(web, server, "/busy", tmp_path)
    assert time.monotonic() - began > 0.9
    server.paths()
    for path, tries, why in (("/date", 1, "HTTP 503"), ("/down", client.TRIES, "HTTP 503"), ("/gone", 1, "HTTP 404")):
        with pytest.raises(DocumentError, match=why):
            fetch(web, server, path, tmp_path)
        assert len(server.paths()) == tries


def test_limits_of_a_page(web: Web, server: Website, tmp_path: Path) -> None:
    for path, body, reason in (("/large", b"x" * 10_001, Reason.TOO_LARGE), ("/empty", b"", Reason.EMPTY_FILE)):
        server.put(path, body)
        with pytest.raises(DocumentError) as raised:
            fetch(web, server, path, tmp_path)
        assert raised.value.reason is reason
    server.put("/bomb", gzip.compress(b"x" * 100_000_000), headers={"Content-Encoding": "gzip"})
    with pytest.raises(DocumentError) as raised:
        fetch(web, server, "/bomb", tmp_path)
    assert raised.value.reason is Reason.TOO_LARGE
    server.put("/brotli", b"x", headers={"Content-Encoding": "br"})
    with pytest.raises(DocumentError, match="packed as 'br'"):
        fetch(web, server, "/brotli", tmp_path)


def test_a_host_that_falls_silent_is_given_up(web: Web, tmp_path: Path) -> None:
    with website() as server:
        server.put("/a", "text")
        fetch(web, server, "/a", tmp_path)
    with pytest.raises(DocumentError):
        fetch(web, server, "/a", tmp_path)
    with pytest.raises(SourceError, match="does not answer any more"):
        fetch(web, server, "/b", tmp_path)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1", "0.0.0.0"],
)
def test_addresses_that_are_not_public(host: str) -> None:
    with pytest.raises(SourceError, match="no public address"):
        public_addresses(host)


def test_the_service_does_not_reach_the_network_around_it(server: Website) -> None:
    server.sitemap("/a")
    web = Web(Manners(requests_per_s=1000, public_only=True), 10_000)
    with pytest.raises(SourceError, match="no public address"):
        listed(web, server)
    assert not server.asked
    web.close()


def test_the_address_that_was_checked_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name means by then: it is looked up by nobody else here, and named to the server and in its certificate."""
    monkeypatch.setattr(client, "public_addresses", lambda host: {"site.example": ["127.0.0.1"]}[host])
    certificate = make_certificate(tmp_path, "DNS:site.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with website(certificate) as server:
        server.put("/b", "text")
        web = Web(Manners(requests_per_s=1000, public_only=True), 10_000)
        assert web.copy(SourceFile(f"https://site.example:{server.port}/b", None, -1, 0), tmp_path / "copy")
        assert server.asked[-1].headers["Host"] == f"site.example:{server.port}"
        monkeypatch.setattr(client, "public_addresses", lambda _: ["127.0.0.1"])
        with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
            web.copy(SourceFile(f"https://other.example:{server.port}/b", None, -1, 0), tmp_path / "copy")
        web.close()
