"""Attributes as columns: each column has one code for each row, and a second array for whole numbers.

A code gives the type of the value. For text it also identifies the text: each column interns its texts, so a query
compares integers. A fleet without attributes has no columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.view.columns import Bools, Ints, grown
from vacancy.resources.state.rows import ProviderRow

Value = str | int | bool
Codes = NDArray[np.int32]

ABSENT, NUMBER, FALSE, TRUE, FIRST_TEXT = 0, 1, 2, 3, 4
"""Codes with the same meaning in every column. Codes from `FIRST_TEXT` on are texts."""

TYPE_NAMES: Final = ("text", "numbers", "true or false")

_TABLES_MAX = 64
_TEXTS_SPARE = 1024


class AttributeColumn:
    """One attribute of all rows. `numbers` has the value where the code is `NUMBER`; it is None until the first number."""

    def __init__(self, size: int) -> None:
        self.codes: Codes = np.zeros(size, dtype=np.int32)
        self.numbers: Ints | None = None
        self.texts: list[str] = []
        self._code_of: dict[str, int] = {}
        self._texts_max = _TEXTS_SPARE
        self._tables: dict[object, Bools] = {}

    def grow(self, size: int) -> None:
        """Extend to `size` rows."""
        self.codes = grown(self.codes, size)
        if self.numbers is not None:
            self.numbers = grown(self.numbers, size)

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

    def set(self, row: int, value: Value | None) -> None:
        """Set one row. None removes the value."""
        if value is None:
            self.codes[row] = ABSENT
        else:
            self.set_many([row], [value])

    def set_many(self, rows: list[int], values: list[Value]) -> None:
        """Set these rows."""
        kinds = set(map(type, values))
        if len(kinds) > 1:
            for kind in kinds:
                places = [at for at, value in enumerate(values) if type(value) is kind]
                self.set_many([rows[at] for at in places], [values[at] for at in places])
        elif str in kinds:
            codes = self._code_of
            for text in dict.fromkeys(values):
                if text not in codes:
                    self._intern(str(text))
            self.codes[rows] = [codes[text] for text in values]  # type: ignore[index]
            if len(self.texts) > self._texts_max:
                self._forget_texts()
        elif bool in kinds:
            self.codes[rows] = [TRUE if value else FALSE for value in values]
        else:
            if self.numbers is None:
                self.numbers = np.zeros(len(self.codes), dtype=np.int64)
            self.codes[rows] = NUMBER
            self.numbers[rows] = values

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
        codes = self.codes[:size]
        masks = (codes >= FIRST_TEXT, codes == NUMBER, (codes == FALSE) | (codes == TRUE))
        return {
            name: (count, int(mask.argmax()))
            for name, mask in zip(TYPE_NAMES, masks, strict=True)
            if (count := int(np.count_nonzero(mask)))
        }

    def _intern(self, text: str) -> None:
        self._code_of[text] = FIRST_TEXT + len(self.texts)
        self.texts.append(text)

    def _forget_texts(self) -> None:
        """Drop texts that no row has any more, so that values that were used once do not fill the memory."""
        used, places = np.unique(self.codes, return_inverse=True)
        texts = [self.texts[code - FIRST_TEXT] for code in used.tolist() if code >= FIRST_TEXT]
        first = int(np.searchsorted(used, FIRST_TEXT))
        renamed = np.concatenate([used[:first], np.arange(FIRST_TEXT, FIRST_TEXT + len(texts))])
        self.codes = renamed.astype(np.int32)[places].reshape(self.codes.shape)
        self.texts, self._code_of = [], {}
        self._tables.clear()
        for text in texts:
            self._intern(text)
        self._texts_max = 2 * len(texts) + _TEXTS_SPARE


class AttributeColumns:
    """The attributes of all rows, one column for each name."""

    def __init__(self) -> None:
        self.columns: dict[str, AttributeColumn] = {}

    def grow(self, size: int) -> None:
        """Extend to `size` rows."""
        for column in self.columns.values():
            column.grow(size)

    def set_new(self, rows: Iterable[int], providers: Iterable[ProviderRow], size: int) -> None:
        """Set the attributes of rows that have no attributes yet."""
        by_name: dict[str, tuple[list[int], list[Value]]] = {}
        for row, provider in zip(rows, providers, strict=True):
            if not provider.reported_attributes and not provider.operator_attributes:
                continue
            for name, value in provider.attributes.items():
                found = by_name.get(name)
                if found is None:
                    found = by_name[name] = ([], [])
                found[0].append(row)
                found[1].append(value)
        for name, (having, values) in by_name.items():
            self._column(name, size).set_many(having, values)

    def update(self, row: int, provider: ProviderRow, size: int) -> bool:
        """Set a row from its changed provider. Returns whether a column was added."""
        if not provider.reported_attributes and not provider.operator_attributes and not self.columns:
            return False
        return self.set(row, provider.attributes, size)

    def set(self, row: int, attributes: dict[str, Value], size: int) -> bool:
        """Replace the attributes of one row. Returns whether a column was added."""
        before = len(self.columns)
        for name in attributes:
            self._column(name, size)
        for name, column in self.columns.items():
            value = attributes.get(name)
            found = column.of(row)
            if value != found or type(value) is not type(found):
                column.set(row, value)
        return len(self.columns) > before

    def of(self, row: int) -> dict[str, Value]:
        """The attributes of one row."""
        return {name: value for name, c in self.columns.items() if (value := c.of(row)) is not None}

    def _column(self, name: str, size: int) -> AttributeColumn:
        found = self.columns.get(name)
        if found is None:
            found = self.columns[name] = AttributeColumn(size)
        return found
