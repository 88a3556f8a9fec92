"""Validators that are kept: the schema is checked once, and the errors are those of jsonschema."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from jsonschema.validators import validator_for

from vacancy.placement_api.schema_validation import KeptValidators

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 3}, "uuid": {"type": "string", "format": "uuid"}},
    "required": ["name"],
    "additionalProperties": False,
}
INVALID: tuple[Any, ...] = (
    7,
    {},
    {"name": "long"},
    {"name": 1},
    {"name": "a", "more": 1},
    {"name": "a", "uuid": "x"},
)


@pytest.mark.parametrize("instance", INVALID, ids=str)
def test_errors_are_those_of_jsonschema(instance: Any) -> None:
    kept, checker = KeptValidators(), jsonschema.FormatChecker()
    with pytest.raises(jsonschema.ValidationError) as expected:
        jsonschema.validate(instance, SCHEMA, format_checker=checker)
    for _ in range(2):
        with pytest.raises(jsonschema.ValidationError) as found:
            kept.validate(instance, SCHEMA, format_checker=checker)
        assert str(found.value) == str(expected.value)


def test_a_schema_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Any] = []
    kind: Any = validator_for(SCHEMA)
    monkeypatch.setattr(kind, "check_schema", lambda schema: checked.append(schema))
    kept = KeptValidators()
    for _ in range(3):
        kept.validate({"name": "a"}, SCHEMA, format_checker=kept.FormatChecker())
    assert checked == [SCHEMA]


def test_an_invalid_schema_is_an_error_each_time() -> None:
    kept, checker = KeptValidators(), jsonschema.FormatChecker()
    for _ in range(2):
        with pytest.raises(jsonschema.SchemaError):
            kept.validate({}, {"type": 7}, format_checker=checker)


def test_format_checkers_are_not_mixed() -> None:
    """Two callers use one schema, with the format `uuid` known to one of them only."""
    kept = KeptValidators()
    strict = jsonschema.FormatChecker(formats=())
    strict.checks("uuid")(lambda _: False)
    kept.validate({"name": "a", "uuid": "x"}, SCHEMA, format_checker=jsonschema.FormatChecker(formats=()))
    with pytest.raises(jsonschema.ValidationError):
        kept.validate({"name": "a", "uuid": "x"}, SCHEMA, format_checker=strict)
