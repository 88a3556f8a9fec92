"""Attributes as columns: each column has one code for each row, and a second array for whole numbers.

A code gives the type of the value. For text it also identifies the text: each column interns its texts, so a query
compares integers. A fleet without attributes has no columns. As all columns (`columns`), those of an attribute that few
rows have are sparse, and they go with the last row that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.view.admission import LeftOut
from vacancy.projections.view.columns import NAME_BYTES, Meter, RowNames, grown
from vacancy.projections.view.sparse_rows import (
    SPARSE_BYTES,
    Bools,
    Ints,
    SparseColumn,
    SparseRows,
    is_frequent,
    is_rare,
)
from vacancy.resources.state.rows import ProviderRow

Value = str | int | bool
Codes = NDArray[np.int32] | SparseColumn

ABSENT, NUMBER, FALSE, TRUE, FIRST_TEXT = 0, 1, 2, 3, 4
"""Codes with the same meaning in every column. Codes from `FIRST_TEXT` on are texts."""

TYPE_NAMES: Final = ("text", "numbers", "true or false")

_TABLES_MAX = 64
_TEXTS_SPARE = (16, 1024)
"""How many texts that no row has any more a column keeps: at least, and at most. Between them, one for each 4 rows."""

_TEXT_BYTES = 150
"""About what a text and its places need, without its characters."""

_COLUMN_BYTES = NAME_BYTES + 300

_CODES, _NUMBERS = range(2)
_SPARSE_COLUMNS: Final = ("codes", "numbers")
_NO_ROWS: Final = np.zeros(0, dtype=np.int64)


class AttributeColumn:
    """One attribute of all rows. `numbers` has the value where the code is `NUMBER`; it is None until the first number.
    `count` is the number of rows that have the attribute."""

    def __init__(self, slots: int, meter: Meter | None = None) -> None:
        self.count = 0
        self._slots = slots
        self._meter = meter or Meter()
        self._bytes = 0
        self.sparse: SparseRows | None = SparseRows(_SPARSE_COLUMNS)
        self.codes: Codes = self.sparse["codes"]
        self.numbers: Ints | SparseColumn | None = None
        self.texts: list[str] = []
        self._code_of: dict[str, int] = {}
        self._texts_max = _TEXTS_SPARE[0]
        self._text_bytes = 0
        self._tables: dict[object, Bools] = {}

    def grow(self, slots: int) -> None:
        """Extend to `slots` rows."""
        self._slots = slots
        if self.sparse is None:
            self.codes = grown(np.asarray(self.codes), slots)
            if self.numbers is not None:
                self.numbers = grown(np.asarray(self.numbers), slots)
        self._settle()

    def code(self, value: Value) -> int:
        """The code of a value, or `ABSENT` for a text that no row has."""
        if isinstance(value, str):
            return self._code_of.get(value, ABSENT)
        return (TRUE if value else FALSE) if isinstance(value, bool) else NUMBER

    def of(self, row: int) -> Value | None:
        """The value of one row, or None."""
        code = int(self.codes[row])
        if code >= FIRST_TEXT:
            return self.texts[code - FIRST_TEXT]
        if code == NUMBER and self.numbers is not None:
            return int(self.numbers[row])
        return None if code == ABSENT else code == TRUE

    @property
    def rows(self) -> Ints:
        """The rows that have the attribute, ascending. Do not write to it."""
        return self.sparse.rows if self.sparse is not None else np.flatnonzero(self.codes[: self._slots])

    def set(self, row: int, value: Value | None) -> None:
        """Set one row. None removes the value."""
        if value is not None:
            code = self._encoded(value)
            self._write(row, code, value if code == NUMBER else 0)
        elif self.sparse is not None:
            self.sparse.remove(row)
            self.count = self.sparse.count
        elif self.codes[row] != ABSENT:
            self.codes[row] = ABSENT
            self.count -= 1
        self._settle()

    def set_many(self, rows: list[int], values: list[Value]) -> None:
        """Set these rows, each given once."""
        if len(rows) == 1:
            self.set(rows[0], values[0])
            return
        codes, numbers = self._codes_of(values)
        if self.sparse is not None and is_frequent(self.count + len(rows), self._slots):
            self._make_dense()
        if self.sparse is not None:
            self.sparse.set_many(np.asarray(rows, dtype=np.int64), np.stack([codes, numbers]))
            self.count = self.sparse.count
        else:
            self.count += int(np.count_nonzero(self.codes[rows] == ABSENT))
            np.asarray(self.codes)[rows] = codes
            if self.numbers is not None:
                np.asarray(self.numbers)[rows] = numbers
        self._settle()

    def _codes_of(self, values: list[Value]) -> tuple[Ints, Ints]:
        """The codes of these values, and the numbers among them. New texts get codes."""
        kinds, count = set(map(type, values)), len(values)
        numbers = np.zeros(count, dtype=np.int64)
        if kinds == {str}:
            for text in dict.fromkeys(values):
                self._encoded(text)
            return np.fromiter(map(self._code_of.__getitem__, values), np.int64, count), numbers  # type: ignore[arg-type]
        if kinds == {int}:
            self._has_numbers()
            return np.full(count, NUMBER, dtype=np.int64), np.array(values, dtype=np.int64)
        if kinds == {bool}:
            return np.where(np.array(values, dtype=np.bool_), TRUE, FALSE), numbers
        codes = np.fromiter(map(self._encoded, values), np.int64, count)
        if int in kinds:
            self._has_numbers()
            numbers[codes == NUMBER] = [value for value in values if type(value) is int]
        return codes, numbers

    def _encoded(self, value: Value) -> int:
        """The code of a value. A new text gets one."""
        if not isinstance(value, str):
            return self.code(value)
        code = self._code_of.get(value)
        return self._intern(value) if code is None else code

    def _write(self, row: int, code: int, number: Value) -> None:
        if code == NUMBER:
            self._has_numbers()
        if self.sparse is not None:
            self.sparse.set(row, (code, int(number)))
            self.count = self.sparse.count
            return
        self.count += bool(self.codes[row] == ABSENT)
        self.codes[row] = code
        if self.numbers is not None:
            self.numbers[row] = int(number)

    def _has_numbers(self) -> None:
        if self.numbers is None:
            slots = self._slots
            self.numbers = np.zeros(slots, np.int64) if self.sparse is None else self.sparse["numbers"]

    def _settle(self) -> None:
        """After each change: the form that suits the number of rows, and no more texts than may be kept."""
        if self.sparse is not None:
            if is_frequent(self.count, self._slots):
                self._make_dense()
        elif is_rare(self.count, self._slots):
            self._make_sparse()
        if len(self.texts) > self._texts_max:
            self._forget_texts()
        self._weigh()

    def _make_dense(self) -> None:
        assert self.sparse is not None  # noqa: S101 - the callers ask
        codes, numbers, slots = self.sparse["codes"], self.sparse["numbers"], self._slots
        self.codes = codes.dense(slots).astype(np.int32)
        self.numbers = None if self.numbers is None else numbers.dense(slots)
        self.sparse = None

    def _make_sparse(self) -> None:
        rows = self.rows
        codes = self.codes[rows].astype(np.int64)
        numbers = np.zeros_like(rows) if self.numbers is None else self.numbers[rows]
        self.sparse = SparseRows(_SPARSE_COLUMNS)
        if len(rows):
            self.sparse.set_many(rows, np.stack([codes, numbers]))
        self.codes = self.sparse["codes"]
        self.numbers = None if self.numbers is None else self.sparse["numbers"]

    def forget(self) -> None:
        """No longer count the bytes of this column: it is dropped."""
        self._meter.bytes -= self._bytes
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the column."""
        if self.sparse is not None:
            arrays = SPARSE_BYTES + self.sparse.nbytes
        else:
            arrays = np.asarray(self.codes).nbytes + (
                0 if self.numbers is None else np.asarray(self.numbers).nbytes
            )
        return _COLUMN_BYTES + arrays + self._text_bytes

    def _weigh(self) -> None:
        now = self.nbytes
        self._meter.bytes += now - self._bytes
        self._bytes = now

    def table(self, key: object, holds: Callable[[str], bool]) -> Bools:
        """The result of `holds` for each text, by code, False for what is none; asked once a text, remembered by `key`."""
        table = self._tables.get(key)
        known = FIRST_TEXT if table is None else len(table)
        end = FIRST_TEXT + len(self.texts)
        if table is None or known < end:
            more = np.fromiter(map(holds, self.texts[known - FIRST_TEXT :]), np.bool_, end - known)
            table = np.concatenate([np.zeros(FIRST_TEXT, np.bool_) if table is None else table, more])
            if len(self._tables) >= _TABLES_MAX:
                self._tables.clear()
            self._tables[key] = table
        return table

    def types(self, size: int) -> dict[str, tuple[int, int]]:
        """Each type that occurs -> (number of rows with it, the first of these rows)."""
        rows = self.sparse.rows if self.sparse is not None else None
        codes = self.codes[:size] if rows is None else self.codes[rows]
        masks = (codes >= FIRST_TEXT, codes == NUMBER, (codes == FALSE) | (codes == TRUE))
        return {
            name: (count, int(mask.argmax()) if rows is None else int(rows[mask.argmax()]))
            for name, mask in zip(TYPE_NAMES, masks, strict=True)
            if (count := int(np.count_nonzero(mask)))
        }

    def _intern(self, text: str) -> int:
        code = self._code_of[text] = FIRST_TEXT + len(self.texts)
        self.texts.append(text)
        self._text_bytes += _TEXT_BYTES + len(text)
        return code

    def _forget_texts(self) -> None:
        """Drop texts that no row has any more, so that values that were used once do not fill the memory."""
        codes = self.codes[: self._slots] if self.sparse is None else self.codes[self.sparse.rows]
        used, places = np.unique(codes, return_inverse=True)
        texts = [self.texts[code - FIRST_TEXT] for code in used.tolist() if code >= FIRST_TEXT]
        first = int(np.searchsorted(used, FIRST_TEXT))
        renamed = np.concatenate([used[:first], np.arange(FIRST_TEXT, FIRST_TEXT + len(texts))])
        made = renamed[places].reshape(codes.shape)
        if self.sparse is None:
            self.codes = made.astype(np.int32)
        else:
            self.sparse.data[_CODES, :-1] = made
        self.texts, self._code_of, self._text_bytes = [], {}, 0
        self._tables.clear()
        for text in texts:
            self._intern(text)
        least, most = _TEXTS_SPARE
        self._texts_max = 2 * len(texts) + min(most, least + self.count // 4)


class AttributeColumns:
    """The attributes of all rows, one column for each name. `left_out`: names that no row has here."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.columns: dict[str, AttributeColumn] = {}
        self.left_out = LeftOut()
        self._meter = meter or Meter()
        self._names = RowNames(self._meter)

    def grow(self, slots: int) -> None:
        """Extend to `slots` rows."""
        for column in self.columns.values():
            column.grow(slots)

    def set_new(self, rows: Iterable[int], attributes: Iterable[dict[str, Value]], slots: int) -> None:
        """Set the attributes of rows that have no attributes yet."""
        by_name: dict[str, tuple[list[int], list[Value]]] = {}
        rows_of: dict[tuple[str, ...], list[int]] = {}
        for row, every in zip(rows, attributes, strict=True):
            values = self._admitted(every) if every else every
            if not values:
                continue
            rows_of.setdefault(tuple(values), []).append(row)
            for name, value in values.items():
                found = by_name.get(name)
                if found is None:
                    found = by_name[name] = ([], [])
                found[0].append(row)
                found[1].append(value)
        for names, having in rows_of.items():
            self._names.set_new(having, names)
        for name, (having, of_name) in by_name.items():
            self._column(name, slots).set_many(having, of_name)

    def set(self, row: int, attributes: dict[str, Value], slots: int) -> bool:
        """Replace the attributes of one row. Returns whether a column was added or dropped."""
        attributes = self._admitted(attributes)
        before, after = self._names.of(row), tuple(attributes)
        known = len(self.columns)
        changed = False
        if before != after:
            self._names.set(row, after)
            for name in before:
                if name not in attributes:
                    changed = self._remove(name, row) or changed
        for name, value in attributes.items():
            column = self._column(name, slots)
            found = column.of(row) if column.count else None
            if value != found or type(value) is not type(found):
                column.set(row, value)
        return changed or len(self.columns) > known

    def drop(self, names: Iterable[str]) -> None:
        """Remove these names from all rows."""
        gone = frozenset(names)
        rows = {row for name in gone for row in self.columns[name].rows.tolist()}
        self._names.remove(rows, gone)
        for name in gone:
            self.columns.pop(name).forget()

    def of(self, row: int) -> dict[str, Value]:
        """The attributes of one row."""
        found = ((name, self.columns[name].of(row)) for name in self._names.of(row))
        return {name: value for name, value in found if value is not None}

    def _admitted(self, attributes: dict[str, Value]) -> dict[str, Value]:
        if self.left_out.is_empty:
            return attributes
        return {name: attributes[name] for name in self.left_out.admitted(tuple(attributes), self.columns)}

    def _column(self, name: str, slots: int) -> AttributeColumn:
        found = self.columns.get(name)
        if found is None:
            found = self.columns[name] = AttributeColumn(slots, self._meter)
        return found

    def _remove(self, name: str, row: int) -> bool:
        """Remove the attribute of one row. Returns whether the column was dropped with it."""
        column = self.columns[name]
        column.set(row, None)
        if column.count:
            return False
        column.forget()
        del self.columns[name]
        return True


def attributes_of(provider: ProviderRow) -> dict[str, Value]:
    """The attributes of a provider: reported ones and those of the operator."""
    if not provider.reported_attributes and not provider.operator_attributes:
        return {}
    return provider.attributes
