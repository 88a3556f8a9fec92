"""Comparisons: strict about types, false for values of other types, and refused if they are invalid."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vacancy.resources.model.comparison import (
    OPERATORS,
    ORDERED,
    Comparison,
    Value,
    all_hold,
    comparison,
    comparisons,
)
from vacancy.resources.model.errors import UsageError

PYTHON = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 3), st.booleans(), st.sampled_from(["", "a", "b", "1"])
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.floats(), st.text(), st.integers(), st.booleans()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from([name for name in OPERATORS if name != "in"]), VALUES, VALUES)
def test_values_of_one_type_compare_and_others_never_do(name: str, wanted: Any, found: Any) -> None:
    if name in ORDERED and isinstance(wanted, bool):
        with pytest.raises(UsageError, match="no order"):
            comparison("x", name, wanted)
        return
    holds = comparison("x", name, wanted).holds(found)
    assert holds == (type(wanted) is type(found) and PYTHON[name](found, wanted))


@given(st.lists(VALUES, min_size=1, max_size=4), VALUES)
def test_in_is_any_of_the_equal_ones(choices: list[Any], found: Any) -> None:
    holds = comparison("x", "in", choices).holds(found)
    assert holds == any(comparison("x", "==", choice).holds(found) for choice in choices)


@given(st.text(max_size=3) | st.sampled_from(OPERATORS), ANYTHING, ANYTHING)
def test_nothing_raises_but_what_says_how_to_write_it(name: str, wanted: Any, found: Any) -> None:
    assert Comparison("x", name, wanted).holds(found) in (True, False)  # type: ignore[arg-type]
    told = ""
    made = Comparison("x", "in", ())
    try:
        made = comparison("x", name, wanted)
    except UsageError as error:
        told = error.do
    assert (told == "") is (made.value != () or made.operator != "in")
    assert not made.holds(None)


def test_where_is_a_conjunction() -> None:
    made = comparisons(
        {"vendor": "10de", "memory_mb": {">=": 40000, "<": 90000}, "model": {"in": ["A", "B"]}}
    )
    device: dict[str, Value] = {"vendor": "10de", "memory_mb": 40960, "model": "B"}
    assert all_hold(made, device)
    wrong: list[tuple[str, Value]] = [
        ("vendor", "8086"),
        ("memory_mb", 39999),
        ("memory_mb", 90000),
        ("model", "C"),
    ]
    for name, value in wrong:
        assert not all_hold(made, {**device, name: value})
    for name in device:
        assert not all_hold(made, {other: value for other, value in device.items() if other != name})
    assert comparisons({}) == ()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ([], "by an object"),
        ({"a": {}}, "it has no condition"),
        ({"a": {"~": 1}}, "unknown operator"),
        ({"a": None}, "neither a string"),
        ({"a": 1.5}, "neither a string"),
        ({"a": 2**60}, "neither a string"),
        ({"a": "x" * 1025}, "neither a string"),
        ({"a": {"in": "abc"}}, "takes a list"),
        ({"a": {"in": []}}, "takes a list"),
        ({"a": {"in": [[1]]}}, "neither a string"),
        ({"a": {"<": True}}, "no order"),
        ({f"a{n}": 1 for n in range(65)}, "too many"),
    ],
)
def test_what_is_invalid_is_refused(where: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        comparisons(where)
