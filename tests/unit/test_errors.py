"""The tree of errors: complete in its own docstring, and able to travel between processes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from pipeline import errors
from pipeline.errors import DocumentError, KbError, PermanentError, TransientError
from pipeline.types import Reason

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, KbError)]


def drawn_tree() -> dict[str, str]:
    """Class name to the name of its parent, as drawn in the module's docstring."""
    parents: list[str] = []
    tree: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    (?P<lines>[│├└─ ]*)(?P<name>[A-Z][A-Za-z]+)\b", line)
        if found:
            depth = len(found["lines"]) // 4
            tree[found["name"]] = parents[depth - 1] if depth else "Exception"
            parents[depth:] = [found["name"]]
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn_tree() == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


def test_every_error_says_whether_a_retry_helps() -> None:
    roots = {KbError, TransientError, PermanentError}
    for cls in set(CLASSES) - roots:
        assert issubclass(cls, TransientError) != issubclass(cls, PermanentError), cls


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_travel_between_processes(cls: type[KbError]) -> None:
    error = DocumentError(Reason.TIMEOUT, "after 60 s") if cls is DocumentError else cls("Redis does not answer; start it")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert copy.args == error.args
    assert str(copy) == str(error)


@pytest.mark.parametrize("reason", Reason)
def test_a_document_error_carries_its_reason(reason: Reason) -> None:
    copy = pickle.loads(pickle.dumps(DocumentError(reason)))
    assert copy.reason is reason
    assert copy.detail == ""
    assert str(copy) == reason.value
    assert str(DocumentError(reason, "page 3")) == f"{reason.value}: page 3"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_its_own_line_of_documentation(cls: type[KbError]) -> None:
    others = {other.__doc__ for other in CLASSES if other is not cls}
    assert cls.__doc__
    assert cls.__doc__ not in others
