"""A request: the nodes that can serve it, or what each constraint removes and who missed by least."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vacancy.clients.request_language.placement_syntax import RequestText, parse
from vacancy.projections.diagnostics.summary import Explanation
from vacancy.projections.query.model import Candidate
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.ui.health import Health
from vacancy.ui.heat_map.fleet import class_name
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

ORDERS = ("random", "pack", "spread")
_FIELDS = ("resources", "required", "member_of", "in_tree", "where", "group")
_REDACTED = ("resources", "required")
_LIMIT, _LIMIT_MAX = 10, 1_000
_SEED = 0
"""So that a link shows what its sender saw."""


@dataclass(frozen=True)
class Answer:
    """What the tables say: `candidates`, or an `explanation` where there is none. `took_ms` is how long the query took."""

    candidates: list[Candidate]
    gave_up: int
    explanation: Explanation | None
    as_of: dict[int, int]
    as_of_ms: int
    took_ms: float


async def page(site: Site, ask: Ask) -> Page:
    """The form, and the answer where something was asked for."""
    fields = {name: ask.get(name) for name in _FIELDS}
    if site.options.redacted and any(fields[name] for name in fields if name not in _REDACTED):
        raise UsageError("this page answers by resources and traits only", do="leave out the rest")
    limit, order = ask.count("limit", _LIMIT, _LIMIT_MAX), ask.get("order", "random")
    if order not in ORDERS:
        raise UsageError(f"there is no order {order!r} here", do=f"choose one of {', '.join(ORDERS)}")
    asked = any(fields.values())

    def read(tables: Tables) -> tuple[Answer | None, list[str], Health]:
        answer = _answer(tables, site.registry, fields, limit, order) if asked else None
        return answer, tables.nodes.classes(), tables.health(site.ends)

    answer, classes, health = await site.read(ask.as_of, read)
    redacted = site.options.redacted
    if answer is not None and redacted:
        answer = _without_names(answer)
    return Page(
        "request",
        "Request",
        None if answer is None else _as_json(answer, redacted=redacted),
        _words(fields, limit, order) if asked else (),
        {
            "health": health,
            "fields": fields,
            "limit": limit,
            "order": order,
            "orders": ORDERS,
            "answer": answer,
            "classes": classes,
            "bars": [] if answer is None or answer.explanation is None else bars(answer.explanation),
            "shown_fields": _REDACTED if redacted else _FIELDS,
        },
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _answer(tables: Tables, registry: Registry, fields: dict[str, str], limit: int, order: str) -> Answer:
    class_name(tables, "")
    text = RequestText(
        resources=_lines(fields["resources"]),
        required=_lines(fields["required"]),
        member_of=_lines(fields["member_of"]),
        in_tree=fields["in_tree"] or None,
        where=_lines(fields["where"]),
        groups=_lines(fields["group"]),
    )
    query = tables.query
    request = query.compile(parse(text, registry).spec)
    query.rng = np.random.default_rng(_SEED)
    began = time.perf_counter()
    found, as_of, as_of_ms, gave_up = query.candidates(request, limit=limit, order=order)
    took_ms = (time.perf_counter() - began) * 1000
    why = None if found or gave_up else query.explain(request, newest=False)
    return Answer(found, gave_up, why, as_of, as_of_ms, round(took_ms, 2))


def _without_names(answer: Answer) -> Answer:
    """An answer for tenants: how many, and what removes them."""
    why = answer.explanation
    return Answer(
        answer.candidates,
        answer.gave_up,
        None if why is None else why._replace(nearest=(), alternatives=()),
        answer.as_of,
        answer.as_of_ms,
        answer.took_ms,
    )


def _as_json(answer: Answer, *, redacted: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"as_of": answer.as_of, "as_of_ms": answer.as_of_ms, "gave_up": answer.gave_up}
    if redacted:
        found["fits"] = bool(answer.candidates)
    else:
        found["candidates"] = [
            {"cell": one.cell, "root": one.root, "allocations": one.allocations} for one in answer.candidates
        ]
    if answer.explanation is not None:
        found["explanation"] = answer.explanation
    return found


def _words(fields: dict[str, str], limit: int, order: str) -> tuple[str, ...]:
    words = ["candidates"]
    for name, text in fields.items():
        for line in _lines(text):
            words += [f"--{name.replace('_', '-')}", line]
    words += ["--limit", str(limit), "--order", order, "--seed", str(_SEED)]
    return tuple(words)


@dataclass(frozen=True)
class Bar:
    """What one constraint removes: of `nodes`, `alone` by itself (None: not computed), and `in_order` after those before
    it. `before` is how many were left before it. Shares are in percent of all nodes."""

    group: str
    constraint: str
    alone: int | None
    in_order: int
    before: int
    left_percent: float
    removed_percent: float
    alone_percent: float


def bars(explanation: Explanation) -> list[Bar]:
    """The constraints that remove nodes, in order: what was left before each, and what it took of that."""
    found = []
    whole, left = max(explanation.nodes, 1), explanation.nodes
    for one in explanation.constraints:
        if not one.alone and not one.in_order:
            continue
        found.append(
            Bar(
                one.group,
                one.constraint,
                one.alone,
                one.in_order,
                left,
                round(100 * (left - one.in_order) / whole, 2),
                round(100 * one.in_order / whole, 2),
                round(100 * (one.alone or 0) / whole, 2),
            )
        )
        left -= one.in_order
    return found
