"""Columns of attributes: what was set is what is there, however texts come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vacancy.projections.view.attribute_columns import FIRST_TEXT, AttributeColumn, AttributeColumns, Value

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(("", "a", "b", "1", "true")))


@given(st.lists(st.tuples(st.integers(0, 5), VALUES), max_size=30))
def test_a_row_has_what_was_set_last_and_of_its_type(steps: list[tuple[int, Value | None]]) -> None:
    column = AttributeColumn(6)
    expected: dict[int, Value | None] = dict.fromkeys(range(6))
    for row, value in steps:
        column.set(row, value)
        expected[row] = value
    for row, value in expected.items():
        found = column.of(row)
        assert (found, type(found)) == (value, type(value))
    kinds = {"text": str, "numbers": int, "true or false": bool}
    counted = {name: sum(type(value) is kind for value in expected.values()) for name, kind in kinds.items()}
    assert {name: count for name, (count, _) in column.types(6).items()} == {
        n: c for n, c in counted.items() if c
    }
    for name, (_, row) in column.types(6).items():
        assert type(expected[row]) is kinds[name]


def test_texts_that_no_row_has_any_more_go() -> None:
    """Values that never come again must not fill the memory: a time, say, that someone reports as text."""
    column = AttributeColumn(8)
    table = column.table("ends in 7", lambda text: text.endswith("7"))
    for number in range(10_000):
        column.set(number % 4, f"at {number}")
        assert bool(column.table("ends in 7", lambda text: text.endswith("7"))[column.codes[number % 4]]) == (
            number % 10 == 7
        )
    assert len(column.texts) < 2_000
    assert [column.of(row) for row in range(5)] == ["at 9996", "at 9997", "at 9998", "at 9999", None]
    assert column.code("at 1") == 0
    assert FIRST_TEXT <= column.code("at 9999") < FIRST_TEXT + len(column.texts)
    assert len(table) == FIRST_TEXT


def test_what_is_asked_of_texts_is_asked_once_a_text() -> None:
    column = AttributeColumn(4)
    column.set_many([0, 1, 2], ["a", "b", "a"])
    asked: list[str] = []

    def says(text: str) -> bool:
        asked.append(text)
        return text == "a"

    for _ in range(3):
        assert column.table("is a", says)[column.codes[:4]].tolist() == [True, False, True, False]
    column.set(3, "c")
    assert column.table("is a", says)[column.codes[:4]].tolist() == [True, False, True, False]
    assert asked == ["a", "b", "c"]


def test_columns_grow_and_a_row_loses_what_is_not_said_again() -> None:
    columns = AttributeColumns()
    assert columns.set(1, {"a": 1, "b": "x"}, 2)
    columns.grow(4)
    assert columns.set(3, {"c": True}, 4)
    assert not columns.set(3, {"c": False}, 4)
    assert columns.set(1, {"b": 2}, 4)  # nobody has the attribute a any more
    assert sorted(columns.columns) == ["b", "c"]
    assert [columns.of(row) for row in range(4)] == [{}, {"b": 2}, {}, {"c": False}]
