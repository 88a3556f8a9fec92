"""Specs as they stand in the log."""

from __future__ import annotations

from msgspec import Raw

from vacancy.resources.model.request import RequestSpec


class SpecWires:
    """Specs as JSON, each made once: of many requests at a time most ask for the same."""

    KEPT_MAX = 256

    def __init__(self) -> None:
        self._known: dict[int, tuple[RequestSpec, Raw]] = {}

    def of(self, spec: RequestSpec) -> Raw:
        """A spec as it stands in the log."""
        known = self._known.get(id(spec))
        if known is None:
            if len(self._known) >= self.KEPT_MAX:
                self._known.clear()
            made = Raw(spec.model_dump_json(exclude_defaults=True))
            # With the spec itself, so that its identity is nobody else's.
            known = self._known[id(spec)] = (spec, made)
        return known[1]
