"""The text syntax of asks for ports: `PORT:2`, `PORT:1[3002]`, `PORT:1[udp,20000-32000]`."""

from __future__ import annotations

import re
from typing import Final

from pydantic import JsonValue

from vacancy.clients.request_language.ask_syntax import AskSyntax
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask

_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROTOCOL: Final = re.compile(r"tcp|udp")


class PortSyntax(AskSyntax):
    """A number of ports; in brackets the ports that may be taken, and the protocol."""

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        ask: dict[str, JsonValue] = {"count": amount}
        ranges: list[JsonValue] = []
        for part in (part.strip() for part in conditions.split(",")):
            match = _RANGE.fullmatch(part)
            if match is not None:
                ranges.append([int(match[1]), int(match[2] or match[1])])
            elif _PROTOCOL.fullmatch(part) and "protocol" not in ask:
                ask["protocol"] = part
            else:
                raise UsageError(
                    f"{part!r} is neither a port, nor a range of ports, nor one protocol",
                    do=f"write {name}:1[3002] or {name}:1[udp,20000-32000]",
                )
        return {**ask, "ports": ranges} if ranges else ask
