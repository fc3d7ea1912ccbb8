"""Who looks at the page: a token in a cookie, which is checked as the API checks one, on every request."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from pipeline.ledger.tokens import Grant, Scope
from workers.api.access import EngineOf, bearer, engine_of, keys_of, permitted
from workers.api.page.render import PageRoute, page
from workers.api.problems import Refusal

router = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Holds the token, percent-encoded: a KB_API_KEY may have characters that cookies cannot.
COOKIE = "kb_token"

#: Where a visitor may be sent after signing in: a path of this service, without characters that browsers drop or turn round.
_PATH = re.compile(r"/(?:[\w.~%?=&+:@*,;!$'()-][\w.~%?=&+:@*,;!$'()/-]*)?", re.ASCII)


async def _visitor(request: Request) -> Grant:
    if request.method == "POST":
        refuse_other_sites(request)
    secret = unquote(request.cookies.get(COOKIE, "")) or None
    if secret is not None and await engine_of(request).run(keys_of(request).is_open):
        secret = None  # nobody needs a token any more
    grant = await bearer(request, secret)
    request.state.visitor, request.state.signed_in = grant, secret is not None
    return grant


def visitor(scope: Scope) -> Callable[..., Coroutine[Any, Any, Grant]]:
    """A dependency: the visitor, who must have a scope."""

    async def check(grant: Annotated[Grant, Depends(_visitor)]) -> Grant:
        return permitted(grant, scope)

    return check


#: Who looks at a page, or loads documents by it.
Reading = Annotated[Grant, Depends(visitor("search"))]
Writing = Annotated[Grant, Depends(visitor("ingest"))]


def refuse_other_sites(request: Request) -> None:
    """Raise Refusal unless a form of our own page was sent.

    SameSite=Strict alone is not enough: pages of other ports of a host are of the same site. Browsers send Sec-Fetch-Site to
    secure addresses and to localhost only, and Origin with every form.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_own = site == "same-origin" if site else bool(origin) and urlsplit(origin).netloc == request.headers.get("host")
    if not is_own:
        raise Refusal(403, "foreign_origin", "this request does not come from a page of this service")


@router.post("/sign-in")
async def sign_in(
    request: Request,
    engine: EngineOf,
    token: Annotated[str, Form(max_length=1000)] = "",
    following: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Keep a token that is right in a cookie, until the browser is closed."""
    refuse_other_sites(request)
    secret, following = token.strip(), following if _PATH.fullmatch(following) else "/"
    if not secret or await engine.run(lambda: keys_of(request).grant(secret)) is None:
        wrong = "This token is unknown, revoked or expired."
        return page(request, "sign_in.html", {"following": following, "wrong": wrong}, 401)
    response = RedirectResponse(following, 303)
    response.set_cookie(COOKIE, quote(secret, safe=""), httponly=True, samesite="strict", secure=_is_encrypted(request))
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Forget the token."""
    refuse_other_sites(request)
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_is_encrypted(request))
    return response


def _is_encrypted(request: Request) -> bool:
    """Whether the browser sees https: the service itself speaks http, behind a proxy that ends TLS.

    Who lies about it changes the attributes of their own cookie only.
    """
    told = (request.headers.get("x-forwarded-proto", ""), urlsplit(request.headers.get("origin", "")).scheme)
    return "https" in (request.url.scheme, *told)
