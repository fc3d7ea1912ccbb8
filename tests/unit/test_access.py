"""Tokens of the service, and requests that are repeated."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from sqlalchemy import text, update

from pipeline.errors import ConfigError
from pipeline.filters import Granted
from pipeline.ledger import Ledger
from pipeline.ledger.schema import writing
from pipeline.ledger.submissions import submissions
from pipeline.ledger.tokens import Scope, tokens


def test_a_token_is_stored_as_a_hash_and_found_by_its_secret(ledger: Ledger) -> None:
    secret = ledger.tokens.add("reader", ["search"], ["docs"], [("folder", "/a*")])
    found = ledger.tokens.bearer(secret)
    assert found is not None
    grant = found.grant
    assert (grant.name, grant.collections, grant.filters) == ("reader", ("docs",), (Granted(("folder", "/a*")),))
    assert (grant.allows("search"), grant.allows("ingest"), grant.sees("docs"), grant.sees("other")) == (True, False, True, False)
    with ledger.tokens._engine.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM tokens")).all())
    assert secret not in stored
    assert secret.removeprefix("kbi_") not in stored
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "kbi_", stored):
        assert ledger.tokens.bearer(wrong) is None


def test_the_last_use_is_kept_to_the_minute(ledger: Ledger) -> None:
    secret = ledger.tokens.add("reader", ["search"])
    assert ledger.tokens.all()[0].used_at is None
    ledger.tokens.bearer(secret)
    used = ledger.tokens.all()[0].used_at
    assert used is not None
    ledger.tokens.bearer(secret)
    assert ledger.tokens.all()[0].used_at == used
    with writing(ledger.tokens._engine) as connection:
        connection.execute(update(tokens).values(used_at=used - 120))
    ledger.tokens.bearer(secret)
    assert (ledger.tokens.all()[0].used_at or 0) >= used


def test_a_token_ends_when_it_expires_or_is_revoked(ledger: Ledger) -> None:
    expired = ledger.tokens.add("old", ["search"], expires_at=time.time() - 1)
    later = ledger.tokens.add("new", ["search"], expires_at=time.time() + 3600)
    assert ledger.tokens.bearer(expired) is None
    assert ledger.tokens.bearer(later) is not None
    assert ledger.tokens.revoke("new")
    assert not ledger.tokens.revoke("new")
    assert ledger.tokens.bearer(later) is None
    assert ledger.tokens.any(), "an expired one must not open a service on loopback to everybody"


@pytest.mark.parametrize(
    ("name", "scopes", "filters", "why"),
    [
        ("", ["search"], [], "printable"),
        ("a\nb", ["search"], [], "printable"),
        ("KB_API_KEY", ["search"], [], "reserved"),
        ("x", [], [], "one or more"),
        ("x", ["read"], [], "one or more"),
        ("x", ["search"], ["team >> x"], "cannot be read at character 7"),
        ("x", ["admin"], [("uri", "x")], "every document"),
        ("x", ["ingest"], [("media_type", "text/plain")], "before it is loaded"),
    ],
)
def test_tokens_that_would_be_useless_or_dangerous(
    ledger: Ledger, name: str, scopes: Sequence[Scope], filters: Sequence[str | tuple[str, str]], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        ledger.tokens.add(name, scopes, (), filters)
    assert ledger.tokens.all() == []


def test_a_name_is_used_once(ledger: Ledger) -> None:
    ledger.tokens.add("x", ["search"])
    with pytest.raises(ConfigError, match="already"):
        ledger.tokens.add("x", ["search"])


def test_a_key_belongs_to_one_caller_and_to_a_request_that_made_a_run(ledger: Ledger) -> None:
    ident, earlier = ledger.submissions.begin("a", "key")
    assert earlier is None
    assert ledger.submissions.begin("b", "key")[1] is None
    _, running = ledger.submissions.begin("a", "key")
    assert running is not None
    assert running.run is None
    ledger.submissions.made(ident, "d", 7)
    ledger.submissions.failed(ident)  # too late: it has made a run
    _, done = ledger.submissions.begin("a", "key")
    assert done is not None
    assert (done.run, done.digest) == (7, "d")


def test_a_request_that_made_no_run_can_be_repeated(ledger: Ledger) -> None:
    ident, _ = ledger.submissions.begin("a", "key")
    ledger.submissions.failed(ident)
    assert ledger.submissions.begin("a", "key")[1] is None
    with writing(ledger.submissions._engine) as connection:  # its service died two hours ago
        connection.execute(update(submissions).values(at=time.time() - 7200))
    assert ledger.submissions.begin("a", "key")[1] is None
