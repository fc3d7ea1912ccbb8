"""Whether a host is on the public internet: requests of others must not reach the network around this machine."""

from __future__ import annotations

import ipaddress
import socket

from pipeline.errors import SourceError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def public_addresses(host: str) -> list[str]:
    """The addresses of a host. Raises SourceError if it has none, or one that is not public."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        raise SourceError(f"the host {host} is not known: {error.strerror or error}") from error
    if not found or not all(map(_is_public, found)):
        raise SourceError(f"the host {host} has no public address; KB_WEB_PRIVATE=true lets the service load from it")
    return found


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo or address in _NAT64
    ):
        return False  # it stands for an IPv4 address, and leads wherever a gateway takes it
    return address.is_global and not address.is_multicast
