"""Compiles requests: checks them against the resource classes, and computes once what queries and claims need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vacancy.clients.request_language.expressions.cel_compiler import compile_condition
from vacancy.clients.request_language.expressions.expression_predicates import most
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.resources.classes.registry import CLASSES_1, OWN_CLASSES, Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.names import check_trait
from vacancy.resources.model.request import RequestSpec, choices_of, oldest_form, spec_bytes

_KEPT_MAX: Final = 1024


class RequestCompiler:
    """Compiles requests for one registry, and caches the results by content: most requests ask for the same as an earlier
    one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[bytes, CompiledRequest] = {}
        self._last: CompiledRequest | None = None

    def compile(self, request: RequestSpec | CompiledRequest) -> CompiledRequest:
        """Compile a request. A compiled request is returned unchanged. Raises `UsageError` for unknown classes and traits,
        invalid asks and invalid expressions."""
        if isinstance(request, CompiledRequest):
            return request
        last = self._last
        if last is not None and last.spec is request:
            return last
        key = spec_bytes(request)
        found = self._kept.get(key)
        if found is None:
            found = _compiled(oldest_form(request), key, self._registry)
            if len(self._kept) >= _KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        self._last = found
        return found


def compile_request(request: RequestSpec | CompiledRequest, registry: Registry) -> CompiledRequest:
    """As `RequestCompiler.compile`, without a cache."""
    if isinstance(request, CompiledRequest):
        return request
    return _compiled(oldest_form(request), spec_bytes(request), registry)


def _compiled(spec: RequestSpec, key: bytes, registry: Registry) -> CompiledRequest:
    choices = choices_of(spec)
    for one in choices:
        check_spec(one, registry)
    texts = {group.where: None for one in choices for group in one.groups if group.where}
    compiled = CompiledRequest(spec, {text: compile_condition(text, registry) for text in texts}, key)
    compiled.needs = frozenset(need for one in choices for need in _needs(one, registry))
    return compiled


def _needs(spec: RequestSpec, registry: Registry) -> Iterator[tuple[str, str]]:
    """What a request asks for that rules version 1 does not have: classes, and fields of asks."""
    for group in spec.groups:
        for name, ask in group.resources.items():
            if name in OWN_CLASSES and name not in CLASSES_1:
                yield name, ""
            if type(ask) is dict:
                yield from ((name, field) for field in registry.check(name).added_ask_fields & ask.keys())


def check_spec(spec: RequestSpec, registry: Registry) -> None:
    """Raise `UsageError` for unknown classes and traits, invalid asks, and requests that need too many predicates."""
    named = 0
    for group in spec.groups:
        for name, ask in group.resources.items():
            registry.check(name).check_ask(ask)
        traits = (
            *group.required,
            *group.forbidden,
            *(trait for any_of in group.any_traits for trait in any_of),
        )
        for trait in traits:
            check_trait(trait)
        servers = 1 if group.same_provider else len(group.resources)
        named += len(traits) * servers + (2 * len(group.not_member_of) + len(group.member_of) + 3) * servers
        if group.where:
            named += most(compile_condition(group.where, registry)) * servers
    for trait in (*spec.root_required, *spec.root_forbidden):
        check_trait(trait)
    named += len(spec.root_required) + len(spec.root_forbidden) + sum(map(len, spec.same_subtree))
    named *= spec.copies
    if named > events.PREDICATES_MAX:
        raise UsageError(
            f"the request may need {named} predicates, one for each trait, aggregate and attribute of each provider",
            do=f"name {events.PREDICATES_MAX} at most, or put what belongs together into an aggregate",
        )
