"""Checks of queries and bodies against Placement's schemas, with a validator that is made once for each schema.

`placement.util` calls `jsonschema.validate`, which checks the schema itself and makes a validator at each request: two thirds of the
time of a query. The schemas are constants of Placement's modules, so here that is done at the first request that needs a schema.
The checks, and the errors that they raise, are those of jsonschema.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, Final

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for

from vacancy.placement_api.substitution import UPSTREAM_RELEASE
from vacancy.resources.model.errors import UsageError

_SCHEMAS_MAX: Final = 1_000
"""More than Placement has. A release that makes schemas at each request would otherwise fill the memory."""


class KeptValidators:
    """Stands in for the module `jsonschema` in `placement.util`. What it does not define is that of jsonschema."""

    FormatChecker = staticmethod(cache(jsonschema.FormatChecker))
    """The same one each time: `validate_query_params` makes one for each request."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(jsonschema, name)

    def validate(self, instance: Any, schema: Any, *, format_checker: Any) -> None:
        """As `jsonschema.validate`: raises `ValidationError` for the best match, `SchemaError` where the schema is invalid."""
        # A kept validator has its schema and its format checker, so neither identity is used again.
        key = id(schema), id(format_checker)
        validator = self._kept.get(key)
        if validator is None:
            kind: Any = validator_for(schema)
            kind.check_schema(schema)
            validator = kind(schema, format_checker=format_checker)
            if len(self._kept) < _SCHEMAS_MAX:
                self._kept[key] = validator
        error = best_match(validator.iter_errors(instance))
        if error is not None:
            raise error


def install(module: ModuleType) -> None:
    """Puts kept validators in the place of the name `jsonschema` in `placement.util`.

    Raises UsageError if it has no such name.
    """
    if not hasattr(module, "jsonschema"):
        raise UsageError(
            f"{module.__name__} does not use jsonschema: this release of openstack-placement is not supported; "
            f"install openstack-placement=={UPSTREAM_RELEASE}.*"
        )
    module.jsonschema = KeptValidators()  # type: ignore[attr-defined]
