"""Any bytes at all, and good documents with damage: the gate and the parsers give elements or a reason, nothing else.

A few hundred examples a format in the whole suite; KB_TEST_FUZZ=20000 gives as many as one likes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import documents
from tests.fuzzing import check, read

EXAMPLES = int(os.environ.get("KB_TEST_FUZZ") or 60)

#: Parsers of our own, and those of libraries that cost little; pandoc starts a process for each document.
KINDS = (
    "txt",
    "md",
    "rst",
    "html",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "eml",
    "pdf",
    "docx",
    "xlsx",
    "pptx",
    "xml",
    "ipynb",
    "vtt",
    "po",
    "rtf",
    "odt",
    "odp",
    "ods",
    "xls",
)

INSERTED = [b"\0", b"\xff\xfe", b"<", b"]]>", b"%%EOF", b"{", b'"', b"\r\n", b"\xed\xa0\x80", b"\n# ", b"|"]

fuzz = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A document of each kind."""
    folder = tmp_path_factory.mktemp("good")
    for kind in KINDS:
        documents.write(folder, kind, f"a.{kind}")
    return {kind: (folder / f"a.{kind}").read_bytes() for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes(tmp_path: Path, kind: str) -> None:
    @fuzz
    @given(st.binary(max_size=3000))
    def once(content: bytes) -> None:
        path = tmp_path / "blob"
        path.write_bytes(content)
        check(read(path, f"a.{kind}"))

    once()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_documents(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    """Bytes changed, taken out and put in, pieces repeated, the end cut off."""
    whole = good[kind]
    places = st.integers(0, len(whole))
    damage = st.one_of(
        st.tuples(st.just("set"), places, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("put"), places, st.sampled_from(INSERTED)),
        st.tuples(st.just("cut"), places, st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("again"), places, st.binary(min_size=1, max_size=200)),
        st.tuples(st.just("end"), places, st.just(b"")),
    )  # fmt: skip

    @fuzz
    @given(st.lists(damage, min_size=1, max_size=6))
    def once(changes: list[tuple[str, int, bytes]]) -> None:
        content = whole
        for deed, at, data in changes:
            match deed:
                case "set":
                    content = content[:at] + data + content[at + len(data) :]
                case "put":
                    content = content[:at] + data + content[at:]
                case "cut":
                    content = content[:at] + content[at + len(data) :]
                case "again":
                    content = content[:at] + content[max(0, at - len(data)) :]
                case _:
                    content = content[:at]
        path = tmp_path / "blob"
        path.write_bytes(content)
        check(read(path, f"a.{kind}"))

    once()
