"""Templates of the service's page: what becomes a link, what is marked, and where a visitor is sent."""

from __future__ import annotations

import pytest

from workers.api.models import DocumentResponse, LossOut
from workers.api.page.render import _templates, marked
from workers.api.page.visitor import _PATH


def document_page(**fields: object) -> str:
    known: dict[str, object] = {
        "id": "0a6f6f8e-3b9f-5b0e-9c39-7a1f0c1f5c11",
        "uri": "file:///srv/a.md",
        "title": "",
        "media_type": "text/markdown",
        "size": 10,
        "state": "indexed",
        "reason": "",
        "detail": "",
        "searchable": True,
        "chunks": 0,
        "metadata": {},
        "parent": "",
        "updated_at": 0.0,
        "collection": "documents",
        "losses": [],
        "chunk_list": [],
    }
    values: dict[str, object] = {"document": DocumentResponse.model_validate(known | fields), "chosen": None, "pages": (), "q": ""}
    common = {"visitor": None, "signed_in": False, "path": "/documents/x", "earlier": None, "later": None}
    return _templates.get_template("document.html").render(values | common)


@pytest.mark.parametrize("uri", ["https://example.com/a?b=1&c=2", "HTTP://example.com/a"])
def test_web_addresses_are_links(uri: str) -> None:
    assert f'<a href="{uri.replace("&", "&amp;")}" rel="noopener noreferrer">' in document_page(uri=uri)


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "JavaScript://example.com/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        " https://x",
        "file:///a",
        "s3://a/b",
    ],
)
def test_other_places_are_no_links(uri: str) -> None:
    page = document_page(uri=uri)
    assert "noopener" not in page
    assert "<script>" not in page


def test_every_text_of_a_document_is_escaped() -> None:
    bad = "<i>\"'&</i>"
    loss = LossOut(kind="attachment", place=bad, detail=bad, count=1)
    page = document_page(
        title=bad, detail=bad, reason=bad, media_type=bad, collection=bad, parent=bad, losses=[loss], metadata={bad: [bad, bad]}
    )
    assert "<i>" not in page
    assert page.count("&lt;i&gt;&#34;&#39;&amp;&lt;/i&gt;") >= 10


def test_words_are_marked_in_escaped_text() -> None:
    assert marked("a <b>bee</b> & bees", "bee") == "a &lt;b&gt;<mark>bee</mark>&lt;/b&gt; &amp; <mark>bees</mark>"
    assert marked("b & b", "b") == "<mark>b</mark> &amp; <mark>b</mark>"
    assert marked("a\x1b[31m\u202eb\nc", "") == "a\\u001b[31m\\u202eb\nc"


@pytest.mark.parametrize("path", ["/", "/?q=notice%20period&collection=a", "/documents/0a6f?chunk=3", "/jobs/1"])
def test_paths_of_the_service_are_followed(path: str) -> None:
    assert _PATH.fullmatch(path)


@pytest.mark.parametrize("path", ["", "//x", "/\\x", "/\t/x", "/a\n", "https://x", "x", "/a#b", "/a\\b"])
def test_other_places_are_not_followed(path: str) -> None:
    assert not _PATH.fullmatch(path)
