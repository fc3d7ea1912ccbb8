"""Names of collections: which names are valid, and the physical collection behind a name."""

from __future__ import annotations

from pipeline.errors import ConfigError
from pipeline.store.base import VectorStore
from pipeline.store.choice import missing


def check_name(name: str) -> str:
    """Return `name` if it can name a collection or an alias.

    The rule is the server's, narrowed to valid folder names for the embedded store. Raises ConfigError.
    """
    if not name or len(name.encode("utf-8", "surrogatepass")) > 200 or name.startswith(".") or name != name.strip():
        raise ConfigError(f"collection name {name!r}: use 1 to 200 bytes that do not begin with a dot or end in a space")
    if not name.isprintable() or set(name) & set('<>:"/\\|?*{}'):
        raise ConfigError(f'collection name {name!r}: leave out control characters and < > : " / \\ | ? * {{ }}')
    return name


def physical_name(collection: str, fingerprint: str) -> str:
    """The store's own name of a collection: one per embed fingerprint; the public name is an alias of it."""
    return f"{collection}-{fingerprint[:8]}"


def open_physical(store: VectorStore, collection: str) -> str:
    """The physical collection behind a name; raises CollectionMissing, which lists the existing ones."""
    aliases = store.aliases()
    if collection not in aliases:
        raise missing(collection, aliases)
    return aliases[collection]
