"""Receives files: each part of a multipart body goes to a temporary file of the staging area while it arrives."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pipeline.filters import OWN_TYPES, bind, meets, tree_of
from pipeline.ledger.tokens import Grant
from pipeline.sources.uris import folder_of, object_uri
from pipeline.staging import Staging
from pipeline.text import well_formed
from pipeline.types import SourceFile
from workers.api.engine import Engine
from workers.api.problems import Refusal

#: Protocol of the URIs of uploaded files: `upload://reports/q3.pdf`.
PROTOCOL = "upload"

#: Maximum number of files in one upload, bytes of a name with its folder, and bytes of a field that is not a file.
MAX_FILES, MAX_NAME_BYTES, MAX_FIELD_BYTES = 1000, 500, 4096

#: Fields that an upload may have besides files.
FIELDS = ("collection", "folder")


@dataclass(slots=True)
class _Part:
    """A part of the body that is being received."""

    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    file_name: str | None = None  #: None: a field that is not a file
    path: Path | None = None
    file: BinaryIO | None = None
    value: bytearray = field(default_factory=bytearray)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0


class Upload:
    """The files of a request; a context manager that removes what was received of them."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._done: list[_Part] = []
        self._part = _Part()
        self._header_name = self._header_value = b""
        self.fields: dict[str, str] = {}

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        for part in (*self._done, self._part):
            if part.file is not None:
                part.file.close()
            if part.path is not None:
                part.path.unlink(missing_ok=True)

    async def receive(self, request: Request, engine: Engine) -> None:
        """Read the whole body. Raises Refusal if it is not a form with files."""
        _, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise Refusal(422, "invalid", "the body is no multipart form: its Content-Type names no boundary")
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header,
                "on_headers_finished": self._headers,
            },
        )
        try:
            async for window in request.stream():
                # In a thread: the disk may be slow, and other requests go on meanwhile.
                await engine.run(lambda window=window: parser.write(window))  # type: ignore[misc]
            parser.finalize()
        except FormParserError as error:
            raise Refusal(422, "invalid", f"the body is no valid multipart form: {error}") from error
        if not self._done:
            raise Refusal(422, "invalid", "the form holds no file; send each as a part with a file name")

    def files(self, grant: Grant) -> list[SourceFile]:
        """The files under their URIs. Raises Refusal for a name that cannot be used, or lies outside of the caller's filter."""
        found: dict[str, SourceFile] = {}
        for part in self._done:
            name = (part.file_name or "").replace("\\", "/").rpartition("/")[2]
            uri = uri_of(grant, self.fields.get("folder", ""), name)
            if uri in found:
                raise Refusal(422, "invalid", f"the name {name!r} occurs twice in this upload")
            found[uri] = SourceFile(uri, part.path, part.size, time.time_ns())
        return list(found.values())

    def digest(self) -> str:
        """A hash of all that the request asked for."""
        parts = [*sorted(self.fields.items()), *sorted((str(part.file_name), part.digest.hexdigest()) for part in self._done)]
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def _begin(self) -> None:
        self._part = _Part()

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        self._part.headers[name] = self._header_value.decode("latin-1")  # byte by byte, as the parser of options wants it
        self._header_name = self._header_value = b""

    def _headers(self) -> None:
        part = self._part
        try:
            _, options = parse_options_header(part.headers.get("content-disposition", ""))
        except UnicodeEncodeError as error:  # of `filename*`, which forms must not use (RFC 7578)
            raise Refusal(422, "invalid", "a part has a name as `filename*`; send it as `filename`, in UTF-8") from error
        part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            part.file_name = options[b"filename"].decode("utf-8", "replace")
            part.path = self._staging.scratch()
            part.file = part.path.open("wb")
        elif part.name not in FIELDS:
            raise Refusal(422, "invalid", f"the form has a field {part.name!r}; besides files it may have {' and '.join(FIELDS)}")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part, window = self._part, data[start:end]
        if part.file is not None:
            part.file.write(window)
            part.digest.update(window)
            part.size += len(window)
        else:
            part.value += window
            if len(part.value) > MAX_FIELD_BYTES:
                raise Refusal(422, "invalid", f"the field {part.name!r} is too long")

    def _end(self) -> None:
        part = self._part
        if part.file is None:
            self.fields[part.name] = part.value.decode("utf-8", "replace")
            return
        part.file.close()
        self._done.append(part)
        if len(self._done) > MAX_FILES:
            raise Refusal(413, "too_large", f"the upload has more than {MAX_FILES} files; send them in several")


def uri_of(grant: Grant, folder: str, name: str) -> str:
    """The URI of an uploaded file. Raises Refusal for a name that cannot be used, or lies outside of the caller's filter."""
    parts = [*(folder.split("/") if folder else ()), name]
    uri = object_uri(PROTOCOL, "/".join(_segment(part) for part in parts))
    if len(uri) > MAX_NAME_BYTES:
        raise Refusal(422, "invalid", f"the name {name!r} is too long")
    known = {"uri": uri, "folder": folder_of(uri)}
    if not meets(bind(tree_of(grant.filters), OWN_TYPES), known):
        raise Refusal(403, "forbidden", f"the token {grant.name!r} may not write {uri}, which its filter leaves out")
    return uri


def _segment(name: str) -> str:
    """A name of a file or folder. Raises Refusal for one that could mean another place, or has control characters."""
    name = well_formed(name.strip())
    if not name or name in (".", "..") or "/" in name or any(unicodedata.category(one) == "Cc" for one in name):
        raise Refusal(422, "invalid", f"a file or folder cannot have the name {name!r}")
    return name
