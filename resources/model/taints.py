"""Taints of providers, and the tolerations of requests: nodes that only who asks for them may use.

A taint is a key and a value. A provider takes no new claim that does not tolerate all its taints; those of a root apply to
its tree. A taint with the effect `prefer_no_schedule` orders candidates and repels no claim. The terms are those of
Kubernetes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

TAINT_KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
TAINT_VALUE_PATTERN = r"^[A-Za-z0-9._:/@+-]{0,128}$"
TOLERATIONS_MAX = 32
"""The limit of tolerations of one request."""

TaintKey = Annotated[str, Field(pattern=TAINT_KEY_PATTERN)]
TaintValue = Annotated[str, Field(pattern=TAINT_VALUE_PATTERN)]
Effect = Literal["no_schedule", "prefer_no_schedule"]


class Taint(BaseModel):
    """A taint as an operator sets it. `no_schedule` repels claims; `prefer_no_schedule` only orders candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: TaintKey
    value: TaintValue = ""
    effect: Effect = "no_schedule"


class Toleration(BaseModel):
    """Taints that a request tolerates: those of a key, with this value, or with any if `value` is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: TaintKey
    value: TaintValue | None = None


class RowTaint(NamedTuple):
    """A taint in the row of a provider."""

    key: str
    value: str = ""
    effect: str = "no_schedule"

    @property
    def repels(self) -> bool:
        """Whether it repels claims that do not tolerate it."""
        return self.effect == "no_schedule"

    @property
    def text(self) -> str:
        """`dedicated=gpu`, or `dedicated` where it has no value."""
        return f"{self.key}={self.value}" if self.value else self.key


Tolerated = Collection[tuple[str, str | None]]
"""The tolerations of a request as pairs, to look them up."""


def tolerated_of(tolerations: Iterable[Toleration]) -> frozenset[tuple[str, str | None]]:
    """Tolerations as pairs of key and value."""
    return frozenset((one.key, one.value) for one in tolerations)


def is_tolerated(taint: RowTaint, tolerated: Tolerated) -> bool:
    """Whether one of these tolerations is for this taint."""
    return (taint.key, None) in tolerated or (taint.key, taint.value) in tolerated


def first_repelling(taints: Iterable[RowTaint], tolerated: Tolerated) -> RowTaint | None:
    """The first of these taints that repels a claim with these tolerations, or None."""
    return next((one for one in taints if one.repels and not is_tolerated(one, tolerated)), None)
