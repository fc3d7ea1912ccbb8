"""Access tokens of the service: who may ask it for what, and until when."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Column, Engine, Float, Row, String, Table, Text, delete, select, update

from pipeline.errors import ConfigError
from pipeline.filters import Filter, Granted, conditions, tree_of
from pipeline.ledger.schema import metadata, reading, writing

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the secret, which is not stored
    Column("scopes", Text, nullable=False),  # JSON lists, as the next two
    Column("collections", Text, nullable=False),  # empty: all
    Column("filters", Text, nullable=False),  # texts of the filter language; of older versions, pairs of field and value
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("used_at", Float),
)

#: What a token can be for: reading, uploading, and everything else, such as deleting and loading from this host's folders.
Scope = Literal["search", "ingest", "admin"]
SCOPES: tuple[Scope, ...] = ("search", "ingest", "admin")

#: Beginning of every token, so that scanners of repositories recognise one.
PREFIX = "kbi_"

#: Bytes of randomness in a token.
SECRET_BYTES = 32

#: Seconds between two records of a token's use: not every request should write.
USED_EVERY_S = 60.0

#: The fields that are known of a file before it is loaded.
UPLOAD_FILTERS = ("uri", "folder")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller of the service may do, and the part of the documents that exists for it."""

    name: str  #: of its token
    scopes: tuple[Scope, ...]
    collections: tuple[str, ...] = ()  #: empty: all
    filters: tuple[Granted, ...] = ()  #: conditions that every document it sees meets
    since: float = 0.0  #: when its token was made; what an earlier token of the name did is not its own

    def allows(self, scope: Scope) -> bool:
        """Whether it has this scope; `admin` includes the others."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, collection: str) -> bool:
        """Whether a collection exists for it."""
        return not self.collections or collection in self.collections


#: The caller of a service without tokens, which listens on loopback only.
EVERYTHING = Grant("anonymous", SCOPES)

#: Names of callers without a token of the ledger.
RESERVED = (EVERYTHING.name, "local", "KB_API_KEY")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the ledger keeps it, without its secret."""

    name: str
    scopes: tuple[Scope, ...]
    collections: tuple[str, ...]
    filters: tuple[str | tuple[str, str], ...]
    created_at: float
    expires_at: float | None
    used_at: float | None

    @property
    def is_expired(self) -> bool:
        """Whether it is of no use any more."""
        return self.expires_at is not None and self.expires_at <= time.time()

    @property
    def is_used(self) -> bool:
        """Whether its use was recorded a moment ago."""
        return self.used_at is not None and time.time() - self.used_at < USED_EVERY_S

    @property
    def grant(self) -> Grant:
        """What its bearer may do."""
        return Grant(self.name, self.scopes, self.collections, tuple(map(Granted, self.filters)), self.created_at)


class Tokens:
    """The table of tokens. It holds the SHA-256 of each secret: 32 random bytes need no slower hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        name: str,
        scopes: Sequence[Scope],
        collections: Sequence[str] = (),
        filters: Sequence[str | tuple[str, str]] = (),
        expires_at: float | None = None,
    ) -> str:
        """Make a token and return its secret, which is stored nowhere. Raises ConfigError for a taken name or useless filters."""
        _check(name, scopes, filters)
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        row = {
            "name": name,
            "digest": digest_of(secret),
            "scopes": json.dumps(list(scopes)),
            "collections": json.dumps(list(collections)),
            "filters": json.dumps(filters),
            "created_at": time.time(),
            "expires_at": expires_at,
        }
        with writing(self._engine) as connection:
            if connection.execute(select(tokens.c.name).where(tokens.c.name == name)).first() is not None:
                raise ConfigError(f"there is a token {name!r} already; revoke it first, or use another name")
            connection.execute(tokens.insert().values(row))
        return secret

    def all(self) -> list[Token]:
        """All tokens by name, expired ones included."""
        with reading(self._engine) as connection:
            return [_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.name))]

    def any(self) -> bool:
        """Whether there is any token; an expired one counts, or its end would open the service to everybody."""
        with reading(self._engine) as connection:
            return connection.execute(select(tokens.c.name).limit(1)).first() is not None

    def bearer(self, secret: str) -> Token | None:
        """The token with this secret, unless it has expired; records its use."""
        digest = digest_of(secret)
        with reading(self._engine) as connection:
            row = connection.execute(select(tokens).where(tokens.c.digest == digest)).first()
        # The index finds digests, of which a caller cannot choose the beginning; the comparison itself takes constant time.
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        found = _token(row)
        if found.is_expired:
            return None
        if not found.is_used:
            found = replace(found, used_at=time.time())
            with writing(self._engine) as connection:
                connection.execute(update(tokens).where(tokens.c.name == found.name).values(used_at=found.used_at))
        return found

    def revoke(self, name: str) -> bool:
        """Remove a token, whose next request is refused; whether it existed."""
        with writing(self._engine) as connection:
            return bool(connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount)


def digest_of(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _check(name: str, scopes: Sequence[Scope], filters: Sequence[Filter]) -> None:
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise ConfigError(f"token name {name!r}: use 1 to 100 printable characters")
    if name in RESERVED:
        raise ConfigError(f"the name {name!r} is reserved; use another one")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise ConfigError(f"scopes of a token: use one or more of {', '.join(SCOPES)}")
    fields = {one.field for one in conditions(tree_of(filters))}
    if filters and "admin" in scopes:
        raise ConfigError("a token with a filter cannot have the scope admin, which reaches every document; leave one of them out")
    if "ingest" in scopes and not fields <= set(UPLOAD_FILTERS):
        raise ConfigError(
            f"a token with the scope ingest can be limited by {' and '.join(UPLOAD_FILTERS)} only: nothing else is known of a file "
            "before it is loaded"
        )


def _token(row: Row[tuple[object, ...]]) -> Token:
    fields = row._mapping
    return Token(
        name=fields["name"],
        scopes=tuple(json.loads(fields["scopes"])),
        collections=tuple(json.loads(fields["collections"])),
        filters=tuple(one if isinstance(one, str) else (one[0], one[1]) for one in json.loads(fields["filters"])),
        created_at=fields["created_at"],
        expires_at=fields["expires_at"],
        used_at=fields["used_at"],
    )
