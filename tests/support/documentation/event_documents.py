"""Writes what other programs need to send and read events: `make docs`.

docs/reference/events.schema.json is the JSON Schema (2020-12) of all events, docs/reference/asyncapi.json describes the
log as an AsyncAPI 3.0 document, and docs/reference/event-schemas.md lists the types with the programs that send them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, get_args

from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events

REFERENCE: Final = Path(__file__).parents[3] / "docs/reference"
SENDERS: Final = {
    "publisher": ("node.reported", "node.changed", "node.heartbeat", "node.retired", "node.running"),
    "scheduler": (
        *("claims.requested", "gang.requested", "requests.received", "requests.closed"),
        *("consumer.replaced", "consumer.confirmed", "consumers.released"),
        *("cell.move.begun", "cell.move.withdrawn", "cell.move.ended"),
        *("quota.share.planned", "quota.share.set", "quota.share.settled", "quota.parent.set", "tick"),
    ),
    "worker": ("tick", "rules.supported", "state.marked", "state.digested"),
    "operator": (
        *("signing.policy.set", "signing.keys.set"),
        *("log.opened", "rules.proposed", "rules.activated", "rules.withdrawn", "facts.set", "node.adopted"),
        *("node.renamed", "node.counted", "node.retired", "quota.limit.set", "quota.parent.planned"),
        *("quota.counted", "consumer.updated", "consumers.released", "consumer.confirmed"),
    ),
    "client of transactions (Placement's API)": ("transaction.requested",),
}
"""Program -> the events that it sends: the type without `vacancy.` and without its version."""


def models() -> dict[str, Any]:
    """Type -> the model of the event."""
    return {one.model_fields["type"].default: one for one in get_args(events.Event)}


def senders_of(type_: str) -> list[str]:
    """Who sends events of a type."""
    name = type_.removeprefix("vacancy.").rpartition(".")[0]
    return [sender for sender, names in SENDERS.items() if name in names]


def first_version_of(type_: str) -> int:
    """The first version of the rules that allows events of a type."""
    return min(rules.version for rules in RULES_VERSIONS if type_ in rules.event_types)


def schema() -> dict[str, Any]:
    """The JSON Schema of all events."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of vacancy",
        **events.json_schema(),
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document. Its one channel is the topic, or the SQLite log."""
    whole = events.json_schema()
    names = {type_: at.rpartition("/")[2] for type_, at in whole["discriminator"]["mapping"].items()}
    schemas = json.loads(
        json.dumps(whole["$defs"]).replace("#/$defs/", "#/components/schemas/"),
        object_hook=_without_discriminator,
    )
    messages = {
        names[type_]: {
            "name": type_,
            "title": type_,
            "summary": f"Sent by: {', '.join(senders_of(type_))}. Rules version {first_version_of(type_)} and later.",
            "contentType": "application/cloudevents+json",
            "payload": {"$ref": f"#/components/schemas/{names[type_]}"},
            "bindings": {
                "kafka": {"key": {"type": "string", "description": "The cell, which decides the partition."}}
            },
        }
        for type_ in sorted(names)
    }
    operations = {
        sender.partition(" ")[0]: {
            "action": "send",
            "title": f"What a {sender} sends",
            "channel": {"$ref": "#/channels/log"},
            "messages": [
                {"$ref": f"#/channels/log/messages/{names[type_]}"}
                for type_ in sorted(names)
                if sender in senders_of(type_)
            ],
        }
        for sender in SENDERS
    }
    operations["fold"] = {
        "action": "receive",
        "title": "Every worker and every tool reads all events",
        "channel": {"$ref": "#/channels/log"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "vacancy",
            "version": str(RULES_VERSIONS.newest.version),
            "description": "The events of the log. The version is that of the newest rules.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "log": {
                "address": "vacancy",
                "title": "The log",
                "description": "One topic with a fixed number of partitions, by murmur2 of the key. Never compacted.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "kafka": {"topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": -1}},
                },
            }
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _without_discriminator(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without `discriminator`: pydantic's has OpenAPI's form. `oneOf` and the constants in it say the same."""
    return (
        {key: value for key, value in schema.items() if key != "discriminator"}
        if "oneOf" in schema
        else schema
    )


def page() -> str:
    """The page that lists the types."""
    rows = [
        f"| [`{type_}`](../events.md#{type_.replace('.', '')}) | {first_version_of(type_)} | {', '.join(senders_of(type_))} "
        f"| `{model.__name__}` |"
        for type_, model in sorted(models().items())
    ]
    return (
        """# Event schemas

Made from the code by `make docs`; do not edit it. [Events](../events.md) explains each field, with an example.

* [events.schema.json](events.schema.json): the JSON Schema (2020-12) of all events. `type` says which of its variants one is.
* [asyncapi.json](asyncapi.json): the log as an AsyncAPI 3.0 document, with who sends what.

The schemas say what an event must look like. The rules of the log ([limits](../limits.md), order, references) say more, and the fold
checks them.

| type | rules version | sent by | schema |
|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


def documents() -> dict[str, str]:
    """The name of each file in docs/reference/, and its text."""
    return {
        "events.schema.json": json.dumps(schema(), indent=1, sort_keys=True) + "\n",
        "asyncapi.json": json.dumps(asyncapi(), indent=1, sort_keys=True) + "\n",
        "event-schemas.md": page(),
    }


def main() -> None:
    """Write the files."""
    for name, text in documents().items():
        (REFERENCE / name).write_text(text)


if __name__ == "__main__":
    main()
