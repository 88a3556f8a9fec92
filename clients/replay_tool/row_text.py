"""Rows of tables for people and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from vacancy.resources.state.tables import DEAD_LETTERS, Table


def key_text(key: bytes) -> str:
    """The key of a row: the cell and the id, separated by a slash. Other bytes are escaped."""
    return key.replace(b"\0", b"/").decode("utf-8", "backslashreplace")


def row_fields(row: Any) -> Any:
    """A decoded row as JSON: objects for rows, text for bytes."""
    if row is None or isinstance(row, str | int | float):
        return row
    if isinstance(row, bytes):
        return row.decode("utf-8", "backslashreplace")
    if hasattr(row, "__struct_fields__"):
        return {name: row_fields(getattr(row, name)) for name in row.__struct_fields__}
    if hasattr(row, "_asdict"):
        return {name: row_fields(value) for name, value in row._asdict().items()}
    if hasattr(row, "model_dump"):
        return row.model_dump(mode="json")
    if isinstance(row, Mapping):
        return {str(name): row_fields(value) for name, value in row.items()}
    if isinstance(row, list | tuple | set | frozenset):
        return [row_fields(one) for one in row]
    return str(row)


def comparable_bytes(table: Table[Any], row: Any) -> bytes | None:
    """The encoded row (None: no row) without what may differ between builds: the reason of a dead letter, as in the digest."""
    if row is None:
        return None
    return table.encode(replace(row, reason="") if table is DEAD_LETTERS else row)
