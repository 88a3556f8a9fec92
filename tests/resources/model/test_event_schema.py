"""The JSON Schema of the events: for those who write events in other languages."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

from tests.support.logs.events_json import START_MS, claim, claims, provider, reported
from vacancy.resources.model import events

SCHEMA = events.json_schema()


def variants() -> dict[str, Any]:
    """The schema of each event, by its type."""
    return {type_: resolve(at) for type_, at in SCHEMA["discriminator"]["mapping"].items()}


def resolve(at: str) -> Any:
    found: Any = SCHEMA
    for part in at.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        here = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return here + [ref for value in schema.values() for ref in references(value)]
    return [ref for value in schema for ref in references(value)] if isinstance(schema, list) else []


def test_it_is_json_and_every_reference_leads_somewhere() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    for ref in references(SCHEMA):
        assert isinstance(resolve(ref), dict)


def test_every_event_is_in_it_by_its_versioned_type() -> None:
    types = {model.model_fields["type"].default for model in get_args(events.Event)}
    assert set(variants()) == types
    assert all(re.fullmatch(r"vacancy\.[a-z.]+\.v[123]", type_) for type_ in types)
    assert len(SCHEMA["oneOf"]) == len(types)


def test_it_asks_for_what_cloudevents_asks_for_and_refuses_unknown_data() -> None:
    for type_, schema in variants().items():
        assert {"id", "source"} <= set(schema["required"]), type_
        assert {"specversion", "type", "time", "data"} <= set(schema["properties"]), type_
    for name, schema in SCHEMA["$defs"].items():
        if name.endswith("Data") or name in ("Claim", "Facts", "Rules"):
            assert schema["additionalProperties"] is False, name


def test_it_describes_what_is_sent() -> None:
    """Names and types of a report and of a claim, followed through the schema by hand."""
    report = json.loads(reported("n1", [provider("n1", VCPU=8)]))
    data = resolve(variants()[report["type"]]["properties"]["data"]["$ref"])
    assert set(report["data"]) <= set(data["properties"])
    assert set(data["required"]) == {"root", "incarnation", "sequence", "providers"}
    sent = json.loads(claims(claim("c1", "i1", "n1", {"VCPU": 1}, START_MS)))["data"]["claims"][0]
    model = SCHEMA["$defs"]["Claim"]
    assert set(model["required"]) <= set(sent) <= set(model["properties"])
    assert model["properties"]["deadline_ms"]["maximum"] == 2**53 - 1
