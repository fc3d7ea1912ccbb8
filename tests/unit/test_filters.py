"""The filter language: what is read, and what cannot be."""

from __future__ import annotations

import pytest

from pipeline.errors import FilterError
from pipeline.filters import All, Bare, Condition, Either, Node, Not, Op, shown, tree_of


def one(text: str) -> Node:
    (found,) = tree_of([text]).parts  # type: ignore[union-attr]
    return found


def is_in(field: str, *values: str) -> Condition:
    return Condition(field, Op.IN, tuple(Bare(value) for value in values))


def test_and_binds_more_than_or_and_not_more_than_and() -> None:
    a, b, c = is_in("a", "1"), is_in("b", "2"), is_in("c", "3")
    assert one("a=1 or b=2 and c=3") == Either((a, All((b, c))))
    assert one("(a=1 or b=2) AND c=3") == All((Either((a, b)), c))
    assert one("not a=1 and not(b=2 or c=3)") == All((Not(a), Not(Either((b, c)))))
    assert one("a = 1and") == is_in("a", "1and")


def test_values_are_bare_or_quoted() -> None:
    assert one(r'team = "say \"no\" (now), \\ and go"') == Condition("team", Op.IN, ('say "no" (now), \\ and go',))
    assert one("team='O\\'Hara'") == Condition("team", Op.IN, ("O'Hara",))
    assert one("team in (a, 'b c',d/e:f=g)") == Condition("team", Op.IN, (Bare("a"), "b c", Bare("d/e:f=g")))
    assert one("due>=2024-05-31T12:00:00+02:00") == Condition("due", Op.AT_LEAST, (Bare("2024-05-31T12:00:00+02:00"),))
    assert one("Due_Date missing") == one("due_date  MISSING") == Not(Condition("due_date", Op.EXISTS))
    assert one("in in (in)") == is_in("in", "in")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("folder=/srv/My Documents", "folder", "/srv/My Documents"),
        ("folder=/srv/Search and Rescue", "folder", "/srv/Search and Rescue"),
        ("folder=/srv/rock or roll (2)", "folder", "/srv/rock or roll (2)"),
        ("uri=s3://bucket/a=b,c", "uri", "s3://bucket/a=b,c"),
        ("uri=file:///it's", "uri", "file:///it's"),
        ("document_id=", "document_id", ""),
        ("media_type=text/*", "media_type", "text/*"),
    ],
)
def test_pairs_mean_what_they_meant(text: str, field: str, value: str) -> None:
    assert one(text) == is_in(field, value)
    assert tree_of([(field, value)]) == All((is_in(field, value),))


def test_a_star_after_a_bare_uri_or_folder_makes_a_prefix() -> None:
    begins = Condition("folder", Op.BEGINS, ("/srv/a b",))
    assert one("folder=/srv/a b*") == one("folder ~ '/srv/a b*'") == begins
    assert tree_of([("folder", "/srv/a b*")]) == tree_of([{"folder": "/srv/a b*"}]) == All((begins,))
    assert one("folder != /a* and uri = *") == All(
        (Not(Condition("folder", Op.BEGINS, ("/a",))), Condition("uri", Op.BEGINS, ("",)))
    )
    assert one("folder = '/a*'") == Condition("folder", Op.IN, ("/a*",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("year", "character 5: expected =, !=.* found the end"),
        ("year >> 2020", "character 7: expected a value, found '> 2020'"),
        ("year == 2020", "character 7: expected a value"),
        ("year = ", "character 8: expected a value, found the end"),
        ("year 2020", "character 6: expected ="),
        ("= 2020", "character 1: expected a field"),
        ("a = 1 and", "character 10: expected a field, found the end"),
        ("a = 1 and or", "character 11: expected a field"),
        ("a = 1 b = 2", "character 7: expected `and`, `or` or the end"),
        ("(a = 1", "character 7: expected `and`, `or` or `\\)`"),
        ("a = 1)", "character 6: expected `and`"),
        ("a in b", "character 6: expected `\\(`"),
        ("a in (b c)", "character 9: expected `,` or `\\)`"),
        ("a in ()", "character 7: expected a value"),
        ("a not b", "character 7: expected `in`"),
        ("a = 'b", "character 5: expected a value"),
        ("a ~ b", "character 5: expected a pattern with one `\\*`, at its end"),
        ("a ~ *b*", "character 5: expected a pattern"),
        ("folder=/a b and year >> 2", "character 11: expected `and`, `or` or the end"),
        ("(" * 60 + "a=1" + ")" * 60, "50 parentheses"),
        (" or ".join(["a=1"] * 300), "200 conditions"),
        ("a in (" + ",".join("x" * 501) + ")", "no more than 500 values"),
        ("a=" + "x" * 10_001, "10,003 characters"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str, why: str) -> None:
    with pytest.raises(FilterError, match=why):
        tree_of([text])


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"year": {">>": 1}}, r"at year.>>: expected one of ="),
        ({"year": {}}, "at year: the object is empty"),
        ({"year": [1, 2]}, "at year: expected a text, a number"),
        ({"year": None}, "at year: expected"),
        ({"year": {"in": 3}}, "at year.in: expected a list"),
        ({"year": {"not in": []}}, "at year.not in: expected a list with at least one"),
        ({"year": {"in": [1] * 501}}, "up to 500"),
        ({"year": {"exists": 1}}, "at year.exists: expected true or false"),
        ({"team": {"~": "a*b"}}, "at team.~: expected a pattern"),
        ({"and": {"a": 1}}, "at and: expected a list"),
        ({"or": [{"a": 1}, 7]}, r"at or\[1\]: expected an object or a text"),
        ({"or": [{"a": 1}, "b >"]}, r"or\[1\]: the filter cannot be read at character 4"),
        ({"or": [{"a": n} for n in range(300)]}, "too many conditions"),
    ],
)
def test_objects_that_cannot_be_read_are_named_with_their_path(wanted: dict[str, object], why: str) -> None:
    with pytest.raises(FilterError, match=why):
        tree_of(wanted)


def test_an_object_inside_too_many_others() -> None:
    deep: dict[str, object] = {"a": 1}
    for _ in range(80):
        deep = {"not": deep}
    with pytest.raises(FilterError, match="more than 50 objects"):
        tree_of(deep)


def test_filters_of_tokens_as_people_read_them() -> None:
    assert shown([("folder", "/a*"), "year > 3"]) == ["folder=/a*", "year > 3"]
