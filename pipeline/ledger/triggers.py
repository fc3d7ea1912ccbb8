"""Triggers with which the database itself records every change of a document's state, and forgets losses and metadata with
their document.

Many statements change documents, some of them thousands of rows at once; with triggers, no statement can omit the event.
"""

from __future__ import annotations

from sqlalchemy import Connection

#: Columns of `events` that are filled from the new row; figures only if a document became searchable.
_FIGURES = ("size", "chunks", "embedded", "tokens", "parse_s", "embed_s")
_COLUMNS = ", ".join(("document", "run", "at", "state", "owner", "reason", "detail", *_FIGURES))


def _values(old_lease: str) -> str:
    lease = f"COALESCE(NEW.lease, {old_lease})"
    figures = ", ".join(f"CASE WHEN NEW.state = 'indexed' THEN NEW.{name} END" for name in _FIGURES)
    # The process that holds the document now, or held it until now.
    owner = f"(SELECT owner FROM leases WHERE id = {lease})"
    return f"NEW.id, NEW.run, NEW.updated_at, NEW.state, {owner}, NEW.reason, NEW.detail, {figures}"


#: Condition for an event. A document that is staged again while it waits keeps its state, but this is an event too.
_NEWS = "NEW.state <> OLD.state OR NEW.content_hash <> OLD.content_hash OR NEW.run <> OLD.run"

_SQLITE = (
    f"""CREATE TRIGGER IF NOT EXISTS documents_begun AFTER INSERT ON documents BEGIN
        INSERT INTO events ({_COLUMNS}) SELECT {_values("NULL")}; END""",
    f"""CREATE TRIGGER IF NOT EXISTS documents_moved AFTER UPDATE OF state ON documents WHEN {_NEWS} BEGIN
        INSERT INTO events ({_COLUMNS}) SELECT {_values("OLD.lease")}; END""",
    """CREATE TRIGGER IF NOT EXISTS documents_gone AFTER DELETE ON documents BEGIN
        DELETE FROM losses WHERE document = OLD.id; END""",
    """CREATE TRIGGER IF NOT EXISTS documents_without_fields AFTER DELETE ON documents BEGIN
        DELETE FROM document_fields WHERE document = OLD.id; END""",
)

_POSTGRESQL = (
    f"""CREATE OR REPLACE FUNCTION documents_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO events ({_COLUMNS}) SELECT {_values("NULL")};
        ELSIF {_NEWS} THEN
            INSERT INTO events ({_COLUMNS}) SELECT {_values("OLD.lease")};
        END IF;
        RETURN NULL;
    END $$""",
    "DROP TRIGGER IF EXISTS documents_event ON documents",
    """CREATE TRIGGER documents_event AFTER INSERT OR UPDATE OF state ON documents
        FOR EACH ROW EXECUTE FUNCTION documents_event()""",
    """CREATE OR REPLACE FUNCTION documents_gone() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM losses WHERE document = OLD.id;
        DELETE FROM document_fields WHERE document = OLD.id;
        RETURN NULL;
    END $$""",
    "DROP TRIGGER IF EXISTS documents_gone ON documents",
    "CREATE TRIGGER documents_gone AFTER DELETE ON documents FOR EACH ROW EXECUTE FUNCTION documents_gone()",
)


#: Names of the triggers, by database.
_NAMES = {
    "sqlite": ("documents_begun", "documents_moved", "documents_gone", "documents_without_fields"),
    "postgresql": ("documents_event", "documents_gone"),
}


def pause(connection: Connection) -> None:
    """Drop the triggers, for a copy whose events come with it; `make` creates them again."""
    for name in _NAMES[connection.dialect.name]:
        on = " ON documents" if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{on}")


def make(connection: Connection) -> None:
    """Create the triggers; existing ones are kept, or recreated unchanged."""
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        connection.exec_driver_sql(statement)
