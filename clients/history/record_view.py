"""A record of the log as people and programs see it: what it is, by whom, when, and what is in it.

Everything here reads the record alone, so it also works for records that the rules refuse and for bytes that are no event.
The fold decides what a record did: see `vacancy.clients.history.record_outcome` and `vacancy.clients.history.history`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic_core import from_json

from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import EVENT_MODELS, Event, event_parser
from vacancy.resources.model.record import Record
from vacancy.streams.clocks.clock import utc_text

PREFIX: Final = "vacancy."
"""All types of events begin with it. It is left out in texts for people, and may be left out by them."""

SHOWN_ITEMS: Final = 10
"""Items of a list or an object that are shown unless everything is asked for."""

_TEXT_MAX: Final = 400
_SUMMARY_MAX: Final = 160
_NAMED_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Names:
    """What a record names, by kind. `providers` include the roots of nodes in `nodes`. A record that is no event names
    nothing; one that the rules refuse names what stands in it."""

    nodes: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    consumers: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record. `timestamp_ms` is that of the log (milliseconds since 1970, UTC), `time` what the event says itself.

    `event` is the whole envelope where the value is a JSON object, else None. `error` is why the value is none of the events
    that this build can read; '' if it is one. `text` are the bytes of a value that is no JSON object, with escapes. `node`,
    `incarnation` and `sequence` are those of an event of a node. `summary` is one line for people.
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: str
    type: str
    id: str
    source: str
    time: str
    node: str
    incarnation: str
    sequence: int | None
    size: int
    summary: str
    error: str
    event: dict[str, Any] | None
    text: str

    @property
    def line(self) -> str:
        """The record as one line for people: place, time, type, key and summary."""
        place = f"{self.partition}:{self.offset}"
        kind = short_type(self.type) or "no event"
        return f"{place:<10}  {time_text(self.timestamp_ms)}  {kind:<22}  {self.key}  {self.summary}"

    def as_json(self) -> dict[str, Any]:
        """The record as plain data: its place, and the whole envelope."""
        shown: dict[str, Any] = {
            "partition": self.partition,
            "offset": self.offset,
            "timestamp_ms": self.timestamp_ms,
            "timestamp": time_text(self.timestamp_ms),
            "key": self.key,
            "size": self.size,
            "summary": self.summary,
            "error": self.error,
            "event": self.event,
        }
        return shown if self.event is not None else {**shown, "value": self.text}


def view_record(record: Record) -> RecordView:
    """A record as people and programs see it. It never fails, whatever the record's bytes are."""
    event = json_object(record.value)
    error = ""
    try:
        parse_event(record.value)
    except InvalidRecord as invalid:
        error = invalid.what
    fields = event or {}
    data = fields.get("data")
    data = data if isinstance(data, dict) else {}
    sequence = data.get("sequence")
    return RecordView(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=record.key.decode("utf-8", "backslashreplace"),
        type=_text(fields.get("type")),
        id=_text(fields.get("id")),
        source=_text(fields.get("source")),
        time=_text(fields.get("time")),
        node=_text(data.get("root")),
        incarnation=_text(data.get("incarnation")),
        sequence=sequence if type(sequence) is int else None,
        size=len(record.value),
        summary=_cut(_summary(_text(fields.get("type")), data, error), _SUMMARY_MAX),
        error=error,
        event=event,
        text="" if event is not None else record.value.decode("utf-8", "backslashreplace"),
    )


def parse_event(value: bytes) -> Event:
    """Parse a record's value as any event that this build can read, whatever the rules of the log are. Raises `InvalidRecord`.
    Unlike `events.parse` it stops at the first error of each list: hostile records have many."""
    event: Event = _parser()(value)
    return event


@cache
def _parser() -> Callable[[bytes], Any]:
    return event_parser(EVENT_MODELS, first_error_only=True)


def json_object(value: bytes) -> dict[str, Any] | None:
    """The JSON object that a record's value is, or None."""
    try:
        found = from_json(value, allow_inf_nan=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def time_text(ms: int) -> str:
    """A timestamp of the log as ISO 8601 in UTC; `?` for one that is outside of the calendar. Kafka has -1 for none."""
    try:
        return utc_text(ms)
    except (ValueError, OverflowError, OSError):
        return "?"


def short_type(type_: str) -> str:
    """The type of an event without its common prefix."""
    return type_.removeprefix(PREFIX)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# -- for people -----------------------------------------------------------------------------------------------------


def record_lines(view: RecordView, *, full: bool = False) -> Iterator[str]:
    """A record for people, in lines. Long lists are cut, with a count, unless `full`. The lines may have any character: they
    must pass `printable` on their way to a terminal."""
    yield f"record {view.partition}:{view.offset}: {short_type(view.type) or 'no event'}"
    yield f"time:     {time_text(view.timestamp_ms)}{f' (its sender says {view.time})' if view.time else ''}"
    yield f"key:      {view.key}"
    if view.source:
        yield f"source:   {view.source}, event {view.id}"
    if view.incarnation:
        yield f"node:     {view.node}, incarnation {view.incarnation}, sequence {view.sequence}"
    yield f"summary:  {view.summary}"
    yield f"size:     {view.size} bytes"
    if view.error:
        yield f"invalid:  {view.error}"
    if view.event is None:
        yield "content:"
        yield f"  {view.text if full else _cut(view.text, _TEXT_MAX)}"
    elif view.event.get("data"):
        yield "content:"
        yield from content_lines(view.event["data"], "  ", full=full)


def content_lines(value: Any, indent: str = "", *, full: bool = False) -> Iterator[str]:
    """Any JSON value for people: one line for each value, indented. Long lists, objects and texts are cut unless `full`."""
    if isinstance(value, dict):
        named = list(value.items())
        for name, one in named if full else named[:SHOWN_ITEMS]:
            yield from _item_lines(f"{name}:", one, indent, full=full)
    elif isinstance(value, list):
        named = [("-", one) for one in value]
        for name, one in named if full else named[:SHOWN_ITEMS]:
            yield from _item_lines(name, one, indent, full=full)
    else:
        yield f"{indent}{_scalar(value, full=full)}"
        return
    if not full and len(value) > SHOWN_ITEMS:
        yield f"{indent}… {len(value) - SHOWN_ITEMS} more"


def _item_lines(name: str, value: Any, indent: str, *, full: bool) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        short = json.dumps(value, ensure_ascii=False)
        if len(short) <= 60 and not any(isinstance(one, dict | list) for one in _inner(value)):
            yield f"{indent}{name} {short}"
            return
        if name == "-":  # as YAML: the first line of an item stands beside its dash
            lines = list(content_lines(value, "", full=full))
            yield f"{indent}- {lines[0]}"
            yield from (f"{indent}  {line}" for line in lines[1:])
            return
        yield f"{indent}{name}"
        yield from content_lines(value, f"{indent}  ", full=full)
    else:
        yield f"{indent}{name} {_scalar(value, full=full)}"


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _scalar(value: Any, *, full: bool) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if full else _cut(text, _TEXT_MAX)


# -- one line -------------------------------------------------------------------------------------------------------


def _summary(type_: str, data: Mapping[str, Any], error: str) -> str:
    """What an event says, in one line. `data` can be anything that JSON can be."""
    if error:
        return f"invalid: {error}"
    kind = short_type(type_).rpartition(".v")[0]
    subject, _, verb = kind.rpartition(".")
    if subject == "node":
        return _node_summary(verb, data)
    if kind == "transaction.requested":
        return _transaction_summary(data)
    for name in ("claims", "releases", "requests"):
        if name in data:
            return _list_summary(name, data[name])
    if kind in _SENTENCES:
        return _SENTENCES[kind].format_map(_Fields(data))
    return kind


class _Fields(dict[str, Any]):
    """The fields of an event for a sentence; one that is left out is empty."""

    def __missing__(self, key: str) -> str:
        return ""


_SENTENCES: Final = {
    "log.opened": "the log {log} begins here: partition {partition} of {partitions}",
    "rules.activated": "rules version {version} is in force from here on",
    "rules.proposed": "rules version {version} is proposed",
    "rules.supported": "store {store} answers proposal {proposal}",
    "rules.withdrawn": "proposal {proposal} is withdrawn",
    "state.marked": "store {store} asks all stores for their digests of here",
    "state.digested": "store {store} has digest {digest} at position {position}",
    "tick": "log time goes on",
    "facts.set": "operator settings of {provider}, revision {revision}",
    "consumer.confirmed": "{consumer} keeps what claim {claim} got",
    "consumer.updated": "{consumer} gets another project, user or type",
    "consumer.replaced": "claim {id} for {consumer}: a move or a resize",
    "cell.move.begun": "move {move} of {consumer} to cell {destination} begins",
    "cell.move.withdrawn": "move {move} of {consumer} is given up",
    "cell.move.ended": "move {move} ended: {outcome}",
    "quota.limit.set": "limit of {unit} for project {project}: {limit}",
    "quota.share.planned": "share of {unit} for project {project} in partition {partition}: {amount} is planned",
    "quota.share.set": "share of {unit} for project {project} here: {amount}",
    "quota.share.settled": "share of {unit} for project {project} in partition {partition}: {amount} is settled",
    "quota.parent.planned": "parent of project {project}: {parent} is planned",
    "quota.parent.set": "parent of project {project}: {parent}",
    "signing.policy.set": "who signs, revision {revision}",
    "signing.keys.set": "keys of node {root}, revision {revision}",
    "quota.counted": "allocations of consumers are counted for quotas",
}


def _node_summary(verb: str, data: Mapping[str, Any]) -> str:
    root = data.get("root")
    if verb == "reported":
        return f"{root}: full report, {counted(len(data['providers']), 'provider')}"
    if verb == "changed":
        parts = [
            f"{counted(len(data.get(field, ())), 'provider')} {what}"
            for field, what in (("providers", "changed"), ("removed", "removed"))
            if data.get(field)
        ]
        return f"{root}: {', '.join(parts) or 'nothing changed'}"
    if verb == "running":
        return f"{root}: runs {counted(len(data['consumers']), 'consumer')}"
    if verb == "renamed":
        return f"{root}: renamed to {data.get('to')}"
    if verb == "adopted":
        return f"{root}: is machine {data.get('machine')}"
    return f"{root}: {verb}"


def _transaction_summary(data: Mapping[str, Any]) -> str:
    parts = []
    for field, what in (("names", "name"), ("providers", "provider"), ("consumers", "consumer")):
        items = data.get(field, ())
        if items:
            shown = [str(one.get(what)) for one in items]
            parts.append(f"{counted(len(items), what)} ({_few(shown)})")
    return f"transaction {data.get('id')}: {', '.join(parts) or 'nothing'}"


def _list_summary(name: str, items: Any) -> str:
    """Claims, releases and requests are in lists: their number, and the first of them."""
    if name == "requests":
        outcomes = Counter(str(one.get("outcome", "received")) for one in items)
        said = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in outcomes.items())
        shown = [str(one.get("id")) for one in items]
        return f"{counted(len(items), 'request')} ({said}): {_few(shown)}"
    shown = [
        str(one.get("consumer")) + (f" on {_places(one['allocations'])}" if "allocations" in one else "")
        for one in items
    ]
    return f"{counted(len(items), name[:-1])}: {_few(shown)}"


def _places(allocations: Any) -> str:
    return ", ".join(dict.fromkeys(str(one.get("provider")) for one in allocations))


def counted(number: int, what: str) -> str:
    """`1 claim`, `2 claims`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more


# -- what a record names --------------------------------------------------------------------------------------------


def mentions(value: bytes, name: str) -> bool:
    """Whether the JSON text `value` may contain the string `name`. It is fast, and never False where a string of the JSON
    is `name`: where there are escapes, it is True and `names_of` decides."""
    return f'"{name}"'.encode() in value or b"\\" in value


def names_of(event: Mapping[str, Any] | None) -> Names:
    """What an event names, whether it is valid or not. It finds fields by their names, at any depth."""
    found: dict[str, set[str]] = {
        "nodes": set(),
        "providers": set(),
        "consumers": set(),
        "claims": set(),
        "requests": set(),
    }
    if event is not None:
        kind = short_type(_text(event.get("type")))
        _collect(event.get("data"), "", found)
        data = event.get("data")
        if kind.startswith("node.renamed.") and isinstance(data, dict):
            renamed = data.get("providers")
            if isinstance(renamed, dict):
                found["providers"] |= {*renamed, *(one for one in renamed.values() if isinstance(one, str))}
            if isinstance(data.get("to"), str):
                found["nodes"].add(data["to"])
        if kind.startswith("transaction.requested.") and isinstance(data, dict):
            _collect_transaction(data, found)
    found["providers"] |= found["nodes"]
    return Names(**{kind: frozenset(names) for kind, names in found.items()})


def _collect_transaction(data: Mapping[str, Any], found: dict[str, set[str]]) -> None:
    """Its id is that of a claim, and what a consumer holds is by provider."""
    if isinstance(data.get("id"), str):
        found["claims"].add(data["id"])
    consumers = data.get("consumers")
    for one in consumers if isinstance(consumers, list) else ():
        places = one.get("allocations") if isinstance(one, dict) else None
        found["providers"] |= set(places) if isinstance(places, dict) else set()


_FIELDS: Final = {
    "root": "nodes",
    "provider": "providers",
    "parent": "providers",
    "consumer": "consumers",
    "claim": "claims",
    "replaces": "claims",
    "move": "claims",
    "request": "requests",
}
"""A field whose text is a name of this kind. `parent` is one only in the report of a provider."""

_LISTS: Final = {"consumers": "consumers", "removed": "providers"}
_OBJECTS: Final = {"providers": "providers", "claims": "claims", "requests": "requests"}
"""A list of objects whose `id` is a name of this kind."""


def _collect(value: Any, within: str, found: dict[str, set[str]]) -> None:
    if isinstance(value, list):
        for one in value:
            if isinstance(one, str) and within in _LISTS:
                found[_LISTS[within]].add(one)
            elif isinstance(one, dict | list):
                _collect(one, within, found)
    elif isinstance(value, dict):
        kind = _OBJECTS.get(within)
        if kind is not None and isinstance(value.get("id"), str):
            found[kind].add(value["id"])
        elif not within and "consumer" in value and isinstance(value.get("id"), str):
            found["claims"].add(value["id"])  # a replacement is a claim itself
        for name, one in value.items():
            if isinstance(one, str):
                if name in _FIELDS and (name != "parent" or within == "providers"):
                    found[_FIELDS[name]].add(one)
            elif isinstance(one, dict | list):
                _collect(one, name, found)
