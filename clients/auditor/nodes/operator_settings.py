"""What an operator set for a provider, as the auditor reads it; anything invalid is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vacancy.clients.auditor.classes.built_in import ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import Refused


class AuditedSettings(NamedTuple):
    """Settings of one provider. `overrides`: class -> the fields of its inventory that are overridden. `taints`: key ->
    (value, whether it repels)."""

    revision: int = 0
    enabled: bool = True
    aggregates: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    overrides: Mapping[str, Mapping[str, Any]] = {}
    attributes: Mapping[str, Any] = {}
    taints: Mapping[str, tuple[str, bool]] = {}

    def override(self, name: str) -> Mapping[str, Any]:
        """What is overridden of a class."""
        return self.overrides.get(name, _NONE)


_NONE: Mapping[str, Any] = {}
_DEVICE = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,200}")
NO_SETTINGS = AuditedSettings()


def read_settings(
    data: Mapping[str, Any], knows: Callable[[str], bool], classes: ClassAuditors, *, excluding: bool
) -> AuditedSettings:
    """The settings of a `facts.set` event, of either form; `excluding`: they may exclude devices. Raises `Refused` where they override an
    unknown class or are invalid."""
    facts = data["facts"]
    overrides = {}
    for name, override in facts.get("overrides", {}).items():
        if not knows(name):
            raise Refused
        auditor = classes.of(name)
        if excluding and auditor.names_items and "excluded" in override:
            _check_excluded(override["excluded"])
            auditor.check_override({field: value for field, value in override.items() if field != "excluded"})
        else:
            auditor.check_override(override)
        # To exclude no device is to say nothing.
        overrides[name] = {field: value for field, value in override.items() if value not in (None, {})}
    return AuditedSettings(
        data["revision"],
        facts.get("status", "enabled") == "enabled",
        frozenset(facts.get("aggregates", ())),
        frozenset(facts.get("traits", ())),
        overrides,
        facts.get("attributes", {}),
        {
            taint["key"]: (taint.get("value", ""), taint.get("effect", "no_schedule") == "no_schedule")
            for taint in facts.get("taints", ())
        },
    )


def _check_excluded(names: Any) -> None:
    """Raise `Refused` unless these are names of devices, each with a reason."""
    if not isinstance(names, dict) or len(names) > 4096:
        raise Refused
    for name, reason in names.items():
        if not _DEVICE.fullmatch(name) or not isinstance(reason, str) or len(reason) > 1000:
            raise Refused
