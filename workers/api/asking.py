"""Asks a running service instead of opening the store and loading the model, which takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.errors import ServiceRefused, ServiceUnavailable
from pipeline.types import PLAIN, Hit, Refinement, Results, SearchMode
from workers.api import ANNOUNCEMENT

if TYPE_CHECKING:
    from pipeline.settings import Settings

#: Seconds that a service gets to accept a connection, and to answer.
CONNECT_S, ANSWER_S = 2.0, 60.0

#: Parts of a hit that the command prints or passes on.
FIELDS = tuple(Hit.__dataclass_fields__)

#: Those that are lists.
LISTS = ("heading_path", "copies", "before", "after")


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what opens it."""

    url: str
    token: str
    is_ours: bool  #: it serves this data folder; if it does not answer, the command does the work itself

    def search(
        self,
        collection: str | None,
        query: str,
        limit: int,
        filters: Sequence[str],
        mode: SearchMode | None,
        refinement: Refinement = PLAIN,
    ) -> Results:
        """What `Searcher.search` returns. Raises ServiceUnavailable, and ServiceRefused with the service's own sentence."""
        asked = {
            "query": query,
            "collection": collection,
            "limit": limit,
            "mode": mode,
            "filter": {"and": [*filters]},
            "fields": FIELDS,
        }
        asked |= {name: value for name, value in asdict(refinement).items() if value != getattr(PLAIN, name)}
        found = self.post("/v1/search", {name: value for name, value in asked.items() if value is not None})
        hits = [Hit(**{**hit, **{name: tuple(hit.get(name, ())) for name in LISTS}}) for hit in found["hits"]]
        return Results(hits, reranked=bool(found.get("reranked")), note=str(found.get("note", "")))

    def post(self, path: str, body: object, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The value that a request is answered with. Raises ServiceUnavailable and ServiceRefused."""
        import httpx

        headers = {**headers, "authorization": f"Bearer {self.token}"} if self.token else dict(headers)
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            response = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=timeout, trust_env=not self.is_ours)
            said = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ServiceUnavailable(f"the service at {self.url} does not answer: {str(error) or type(error).__name__}") from error
        if response.status_code == 200:
            return said
        detail = str(said.get("detail", response.reason_phrase)) if isinstance(said, dict) else response.reason_phrase
        # A key of ours that is refused has met another service, which was given the port of a dead one.
        away = response.status_code in ((401, 429, 503, 504) if self.is_ours else (429, 503, 504))
        raise (ServiceUnavailable if away else ServiceRefused)(detail)


def named_service(settings: Settings, url: str) -> Service:
    """The service at a URL, asked with KB_TOKEN."""
    return Service(url.rstrip("/"), settings.token.get_secret_value(), is_ours=False)


def own_service(settings: Settings) -> Service | None:
    """The service that runs over this data folder and store, if one says so."""
    from pipeline.urls import mask_url

    try:
        said = json.loads((settings.data_dir / ANNOUNCEMENT).read_bytes())
        return Service(str(said["url"]), str(said["key"]), is_ours=True) if said["store"] == mask_url(settings.qdrant_url) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
