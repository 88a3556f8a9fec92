"""Proposals of rules, with all that can be said about them, in any order."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.events.mutations import changed
from tests.support.logs.events_json import event

RULES = (
    (3, ("PORTS",), True),
    (3, ("PORTS",), True),
    (3, (), True),
    (1, ("PORTS",), True),
    (99, ("PORTS",), False),
    (4, (), False),
    (3, ("NO_BUILD_HAS_IT", "PORTS"), False),
)
"""Versions and classes, and whether this build supports them. A store that claims to support others would halt all."""


class RulesEvents(Iterator[bytes]):
    """The events of operators and workers, without end."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._proposed: list[tuple[str, bool]] = [("none", True)]

    def __next__(self) -> bytes:
        rng = self._rng
        version, classes, supported = rng.choice(RULES)
        rules = {"version": version, "classes": list(classes)}
        kind = rng.randrange(8)
        if kind < 2:
            self._proposed.append((f"p{len(self._proposed)}", supported))
            return event("rules.proposed.v1", rules, self._proposed[-1][0])
        if kind < 4:
            proposal, supported = rng.choice(self._proposed[-4:])
            data: dict[str, object] = {"proposal": proposal, "store": f"s{rng.randrange(3)}"}
            if not supported or rng.random() < 0.2:
                data["missing"] = ["rules version 99"]
            return event("rules.supported.v1", data)
        if kind == 4 and rng.random() < 0.5:
            return event("rules.withdrawn.v1", {"proposal": rng.choice(self._proposed)[0]})
        if kind < 7:
            return event("rules.activated.v1", rules)
        about = rng.choice(("proposed", "activated", "withdrawn"))
        return changed(rng, event(f"rules.{about}.v1", {"proposal": "p1"} if about == "withdrawn" else rules))
