"""Pages from templates: every value is escaped, and every response has the headers that keep the browser from other sites."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.ledger.losses import told
from pipeline.metadata import shown
from pipeline.sources.uris import name_of, shown_path
from pipeline.store.marks import marks
from pipeline.text import local_time, number, plural, size, visible, well_formed
from workers.api.engine import Engine
from workers.api.models import JobOut
from workers.api.problems import of

#: Neither scripts nor styles in a page itself: a text that were not escaped could do nothing.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

#: Headers of all responses. With `no-referrer`, browsers would send `Origin: null` with the page's own forms.
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "same-origin", "cross-origin-resource-policy": "same-origin"}

#: Headers of a problem that a page passes on.
_PASSED_ON = ("retry-after", "connection")


class PageRoute(APIRoute):
    """An endpoint that answers people: its errors are pages, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint's own handler, with its errors shown and the headers added."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except Exception as error:
                response = _refused(request, error)
            response.headers.update(HEADERS)
            return response

        return answer


def page(request: Request, template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """A page; `values` are what its template names."""
    state = request.state
    common = {"visitor": getattr(state, "visitor", None), "signed_in": getattr(state, "signed_in", False), "path": request.url.path}
    return HTMLResponse(well_formed(_templates.get_template(template).render({**common, **values})), status)


async def made(request: Request, engine: Engine, template: str, read: Callable[[], Mapping[str, object]]) -> HTMLResponse:
    """A page of what `read` returns, read and made in a thread: marking the words of many long texts takes a while."""
    return await engine.run(lambda: page(request, template, read()))


def marked(text: str, query: str) -> Markup:
    """A text with the words of a query marked."""
    parts, at = [], 0
    for start, end in marks(query, text).places if query else ():
        parts += [escape(visible(text[at:start], "\n\t")), Markup("<mark>{}</mark>").format(visible(text[start:end]))]
        at = end
    return Markup("").join([*parts, escape(visible(text[at:], "\n\t"))])


def _refused(request: Request, error: Exception) -> HTMLResponse:
    problem = of(error)
    if problem.status_code == 401:
        following = request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method == "GET" else "/"
        return page(request, "sign_in.html", {"following": following, "wrong": ""}, 401)
    response = page(request, "problem.html", {"problem": problem}, problem.status_code)
    response.headers.update({name: value for name, value in problem.headers.items() if name in _PASSED_ON})
    return response


def _is_web_link(uri: str) -> bool:
    """Whether a browser may follow this: never `javascript:` or `data:`."""
    return uri.lower().startswith(("http://", "https://"))


def _pages(one: Any) -> str:
    """`page 3`, `pages 3–4`, or nothing."""
    if one.page_first is None:
        return ""
    several = one.page_last not in (None, one.page_first)
    return f"pages {one.page_first}–{one.page_last}" if several else f"page {one.page_first}"


def _finished(job: JobOut) -> int:
    """Documents of a job that need no more work."""
    return sum(job.states.get(state, 0) for state in ("indexed", "quarantined", "skipped"))


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bytes": size,
        "finished": _finished,
        "losses": told,
        "marked": marked,
        "metadata": shown,
        "name": name_of,
        "number": number,
        "pages": _pages,
        "path": shown_path,
        "plural": plural,
        "time": local_time,
        "visible": visible,
    }
    made.tests["web_link"] = _is_web_link
    return made


_templates = _environment()
