"""URLs as they may be shown, and hosts that are this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit


def mask_url(url: str) -> str:
    """`url` without its password, a user that stands alone, and the values of its query.

    Of several, separated by `;` as for Sentinels, each without its own.
    """
    if len(several := re.split(r";(?=[\w+.-]+://)", url)) > 1:
        return ";".join(map(mask_url, several))
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where a password has a `/` or a `#` as it is
    except ValueError:  # not a URL, so nobody knows where its password is
        return "****"
    if not (parts.query or parts.fragment or "@" in parts.netloc):
        return url
    user, at, host = parts.netloc.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        # A user alone is a token, as model servers and receivers of traces have them.
        host = f"{name}:****@{host}" if colon else f"****@{host}"
    query = "&".join(f"{part.partition('=')[0]}=****" if "=" in part else "****" for part in parts.query.split("&") if part)
    return urlunsplit(parts._replace(netloc=host, query=query, fragment="****" if parts.fragment else ""))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
