"""Taints and tolerations as text: `dedicated=gpu`, `dedicated`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, plain_fields
from vacancy.resources.model.taints import (
    TAINT_KEY_PATTERN,
    TAINT_VALUE_PATTERN,
    TOLERATIONS_MAX,
    Effect,
    Taint,
    Toleration,
)


def parse_taint(text: str, where: str, *, effect: Effect = "no_schedule") -> Taint:
    """`KEY` or `KEY=VALUE`. Raises `UsageError`."""
    key, value = _parts(text, where)
    return Taint(key=key, value=value or "", effect=effect)


def parse_toleration(text: str, where: str) -> Toleration:
    """`KEY` for all taints of a key, `KEY=VALUE` for one of them; `KEY=` for the one without value. Raises `UsageError`."""
    key, value = _parts(text, where)
    return Toleration(key=key, value=value)


def tolerating(spec: RequestSpec, tolerations: Iterable[Toleration], where: str) -> RequestSpec:
    """The request, with these tolerations besides its own. Raises `UsageError` where they are too many."""
    more = tuple(tolerations)
    if not more:
        return spec
    own = spec.tolerations if isinstance(spec, RequestSpecV2) else ()
    every = tuple(dict.fromkeys((*own, *more)))
    if len(every) > TOLERATIONS_MAX:
        raise UsageError(
            f"the request has {len(every)} tolerations",
            where=where,
            do=f"name {TOLERATIONS_MAX} at most; one without a value is for all taints of its key",
        )
    if isinstance(spec, RequestSpecV2):
        return spec.model_copy(update={"tolerations": every})
    return RequestSpecV2.model_construct(**plain_fields(spec), tolerations=every)


def _parts(text: str, where: str) -> tuple[str, str | None]:
    key, named, value = text.partition("=")
    if not re.fullmatch(TAINT_KEY_PATTERN, key) or not re.fullmatch(TAINT_VALUE_PATTERN, value):
        raise UsageError(
            f"{text!r} is no taint",
            where=where,
            do="write KEY or KEY=VALUE: a key has letters, digits, '.', '_', '-' and '/', a value also ':', '@' and '+',"
            " each up to 128",
        )
    return key, value if named else None
