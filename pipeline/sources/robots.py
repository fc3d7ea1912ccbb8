"""The rules that a website has for programs, in its robots.txt (RFC 9309)."""

from __future__ import annotations

from pipeline.errors import SourceError
from pipeline.sources.client import Client
from pipeline.sources.pages import Site

#: Bytes that are read of a robots.txt, and the longest pause between requests in seconds that is kept to.
MAX_BYTES, MAX_DELAY_S = 512 << 10, 60.0


class Robots:
    """The rules of a website for one name."""

    def __init__(self, text: str, agent: str) -> None:
        from protego import Protego  # the demo's environment does without it

        self._rules = Protego.parse(text)
        self._agent = agent.partition("/")[0]

    @property
    def sitemaps(self) -> list[str]:
        """URLs of sitemaps that it names."""
        return list(self._rules.sitemaps)

    @property
    def delay_s(self) -> float:
        """Seconds between two requests that it asks for."""
        return min(MAX_DELAY_S, max(0.0, self._rules.crawl_delay(self._agent) or 0.0))

    def allows(self, url: str) -> bool:
        """Whether it lets us read a URL."""
        return bool(self._rules.can_fetch(url, self._agent))


def robots_of(site: Site, client: Client, agent: str) -> Robots:
    """The rules of a website; none where it has no robots.txt. Raises SourceError where it may have some that cannot be read."""
    url = f"{site.host}/robots.txt"
    try:
        with client.answer(url, {}) as response:
            status = response.status_code
            if 400 <= status < 500:
                return Robots("", agent)
            if status != 200:
                raise SourceError(f"HTTP {status}")
            data = client.content(response, MAX_BYTES)
    except SourceError as error:
        raise SourceError(f"cannot read {url}: {error}") from error
    return Robots(data.decode("utf-8", "replace"), agent)
