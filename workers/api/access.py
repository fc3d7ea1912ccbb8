"""Who asks: the token of a request, what it may do, and protection of a service without tokens against pages in browsers."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from pipeline.ledger.tokens import EVERYTHING, RESERVED, SCOPES, Grant, Scope, digest_of
from pipeline.urls import is_loopback
from workers.api.engine import Engine
from workers.api.problems import Refusal

#: Names of the bearer of KB_API_KEY, and of the commands of this host's user, which read the service's own key from its data
#: folder.
_, LOCAL, API_KEY = RESERVED

#: Name among what is kept of the ledger: whether there is any token. Tokens are kept by their digests.
_ANY = "any token"

#: What is said to the bearer of a token that opens nothing.
UNKNOWN = "this token is unknown, revoked or expired"

_bearer = HTTPBearer(auto_error=False, description="a token of `kb-ingest token add`, or KB_API_KEY")


def engine_of(request: Request) -> Engine:
    """What all requests share."""
    return cast(Engine, request.app.state.engine)


def keys_of(request: Request) -> Keys:
    """What finds callers by their secrets."""
    return cast(Keys, request.app.state.keys)


class Keys:
    """Finds what a caller may do by the secret that it sends."""

    def __init__(self, engine: Engine, local_key: str) -> None:
        self._ledger = engine.ledger
        api_key = engine.settings.api_key.get_secret_value()
        self._fixed = [(digest_of(local_key), LOCAL)] + ([(digest_of(api_key), API_KEY)] if api_key else [])
        self._may_be_open = is_loopback(engine.settings.host) and not api_key

    def is_open(self) -> bool:
        """Whether nobody needs a token. Only on loopback: elsewhere, revoking the last token must not open the service."""
        return self._may_be_open and not self._ledger.kept.get(_ANY, self._ledger.tokens.any)

    def known(self, secret: str | None) -> Grant | None:
        """What the bearer of a secret may do, if that can be told without reading the ledger; waits for nothing."""
        if secret is None:
            return EVERYTHING if self._may_be_open and self._ledger.kept.look(_ANY) is False else None
        digest = digest_of(secret)
        for fixed, name in self._fixed:
            if hmac.compare_digest(fixed, digest):
                return Grant(name, SCOPES)
        found = self._ledger.kept.look(digest)
        return found.grant if found is not None and found.is_used and not found.is_expired else None

    def grant(self, secret: str | None) -> Grant | None:
        """What the bearer of a secret may do; None if it is wrong, or missing where one is needed."""
        if secret is None:
            return EVERYTHING if self.is_open() else None
        if (known := self.known(secret)) is not None:
            return known
        found = self._ledger.kept.read(digest_of(secret), lambda: self._ledger.tokens.bearer(secret))
        return None if found is None else found.grant


async def _engine(request: Request) -> Engine:  # FastAPI would run a plain function in a thread
    return engine_of(request)


async def _caller(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Grant:
    header = request.headers.get("authorization")
    if header is not None and sent is None:
        raise Refusal(401, "bad_header", "the header Authorization must be `Bearer TOKEN`", {"WWW-Authenticate": "Bearer"})
    return await bearer(request, sent.credentials if sent else None)


async def bearer(request: Request, secret: str | None) -> Grant:
    """What the sender of a secret may do; None: it has sent none. Raises Refusal if this service does not answer it."""
    keys, engine = keys_of(request), engine_of(request)
    found = keys.known(secret) or await engine.run(lambda: keys.grant(secret))
    if found is None:
        wrong = "this service needs a token, as `Authorization: Bearer TOKEN`" if secret is None else UNKNOWN
        raise _unauthorized(f"{wrong}; `kb-ingest token add` makes one")
    if secret is None:
        _refuse_pages(request)
    request.state.token = found.name
    return found


def _unauthorized(detail: str) -> Refusal:
    return Refusal(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})


def _refuse_pages(request: Request) -> None:
    """Without tokens a browser is the danger: any page that it shows can send requests to this host.

    A page of another site is told by its Origin. One whose name was made to point at this host (DNS rebinding) has its own
    name as the Host.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    origin = request.headers.get("origin")
    if not is_loopback(host):
        raise Refusal(403, "foreign_host", "a service without tokens answers requests to localhost only; make a token")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refusal(403, "foreign_origin", "a service without tokens answers no page of another site; make a token")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "foreign_origin", "a service without tokens answers no page of another site; make a token")


def allowed(scope: Scope) -> Callable[..., Coroutine[Any, Any, Grant]]:
    """A dependency: the caller, who must have a scope."""

    async def check(grant: Annotated[Grant, Depends(_caller)]) -> Grant:
        return permitted(grant, scope)

    return check


def permitted(grant: Grant, scope: Scope) -> Grant:
    """The grant, if it has a scope. Raises Refusal."""
    if not grant.allows(scope):
        raise Refusal(403, "forbidden", f"the token {grant.name!r} lacks the scope {scope}")
    return grant


#: The caller of an endpoint that reads, writes documents, or does anything else.
Reader = Annotated[Grant, Depends(allowed("search"))]
Writer = Annotated[Grant, Depends(allowed("ingest"))]
Admin = Annotated[Grant, Depends(allowed("admin"))]
EngineOf = Annotated[Engine, Depends(_engine)]
