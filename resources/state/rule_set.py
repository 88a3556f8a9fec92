"""A version of the rules as one value, and the set of versions that a build supports.

A partition of the log names the version in force (`log.opened`, `rules.activated`). The fold looks the version up
once a record and asks the `RuleSet` for everything that may differ between versions: which events there are and what
each does, which tables and standard classes there are, which canonical bytes are written. So a new version is a new
entry in `fold.rules_versions.RULES_VERSIONS`, and no other code branches on a version's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from vacancy.resources.model.encoding.canonical_bytes import CanonicalForm
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.events import event_parser
from vacancy.resources.model.limits import NO_LIMIT, Limits
from vacancy.resources.state.tables import Table

if TYPE_CHECKING:
    from vacancy.resources.classes.resource_class import ResourceClass
    from vacancy.resources.model.record import Record
    from vacancy.resources.state.transaction import Transaction

Handler = Callable[["Transaction", Any], None]
"""Applies an event to the state, or raises `InvalidRecord`."""

ExpiryHandler = Callable[["Transaction", int, bytes], None]
"""Ends something whose deadline has passed: the deadline in ms of log time, and the key of what ends."""


SignatureCheck = Callable[["Transaction", "Record", Any], None]
"""Checks who signed a record with this event, or raises `InvalidRecord`."""


class Upcaster(NamedTuple):
    """Turns an older form of an event into the next one, without loss of meaning: `convert` returns a `to`."""

    to: type[Any]
    convert: Callable[[Any], Any]


class RuleSet:
    """One version of the rules. Immutable.

    `handlers` maps the newest form of each event (its model) to the function that applies it. `upcasters` maps an older
    form to the next one. These are the only events that this version allows: any other is a dead letter. `expiries` maps
    each kind of deadline (`tables.deadline_key`) to the function that is called when log time has passed it. `tables` are
    all tables of a partition except those of its classes. `classes` are the names of the standard classes. `ask_fields` maps
    a class to those of its `added_ask_fields` that this version allows. `limits`
    say what a record may cost. `first_error_only`: see `event_parser`. `keeps_grants`: see `fold.claims.moves`. Raises
    `ValueError` if the upcasters of an event do not lead to a handler.
    """

    def __init__(
        self,
        version: int,
        summary: str,
        *,
        handlers: Mapping[type[Any], Handler],
        upcasters: Mapping[type[Any], Upcaster] | None = None,
        expiries: Mapping[bytes, ExpiryHandler],
        tables: Sequence[Table[Any]],
        classes: frozenset[str],
        ask_fields: Mapping[str, frozenset[str]] | None = None,
        canonical: CanonicalForm,
        limits: Limits,
        first_error_only: bool = False,
        keeps_grants: bool = False,
        excludes_items: bool = False,
        counts_domains: bool = False,
        has_transactions: bool = False,
        check_signature: SignatureCheck | None = None,
    ) -> None:
        self.version = version
        self.summary = summary
        self.handlers = dict(handlers)
        self.upcasters = dict(upcasters or {})
        self.expiries = dict(expiries)
        self.tables = tuple(tables)
        self.classes = classes
        self.ask_fields = dict(ask_fields or {})
        self.canonical = canonical
        self.limits = limits
        self.counts_quotas = limits.quota_entries != NO_LIMIT
        """Whether amounts are counted for quotas (`fold.claims.quotas`)."""

        self.keeps_grants = keeps_grants
        """Whether a consumer keeps the grants of asks that a move or a resize does not change (`fold.claims.moves`)."""

        self.excludes_items = excludes_items
        """Whether operators may exclude named items of an inventory, such as one device (`fold.operator_settings`)."""

        self.counts_domains = counts_domains
        """Whether the domains over which server groups are spread are counted (`fold.nodes.domains`)."""

        self.has_transactions = has_transactions
        """Whether there are transactions, and generations of providers that they check (`fold.transactions`)."""

        self.check_signature = check_signature
        """Checks the signature of a record before its event is applied (`fold.signatures`). None: signatures are ignored."""

        self.fingerprint = canonical.fingerprint
        """The fingerprint of a claim's content, in the form that this version writes."""

        self.spec_bytes = canonical.spec
        """The bytes of a RequestSpec, in the form that this version stores."""

        self.event_models: tuple[type[Any], ...] = (*self.handlers, *self.upcasters)
        self._first_error_only = first_error_only
        self.actions: Mapping[type[Any], Handler] = {
            model: self._applied(model) for model in self.event_models
        }
        """Event model -> the function that applies an event that `parse` returned. It includes the upcasters."""

    @cached_property
    def parse(self) -> Callable[[bytes], Any]:
        """Parses a record's value. Raises `InvalidRecord` if this version does not allow it. It is made at its first use:
        most processes need that of one version, and each takes megabytes."""
        return event_parser(self.event_models, first_error_only=self._first_error_only)

    def known_ask(self, resource_class: ResourceClass[Any], ask: Any) -> Any:
        """The ask, or None if it has a field that this version does not allow: no class grants None."""
        added = resource_class.added_ask_fields
        if type(ask) is not dict or added.isdisjoint(ask):
            return ask
        allowed = self.ask_fields.get(resource_class.name, frozenset())
        return ask if (added & ask.keys()) <= allowed else None

    @property
    def event_types(self) -> frozenset[str]:
        """The types of the events that this version allows."""
        return frozenset(model.model_fields["type"].default for model in self.event_models)

    def _applied(self, model: type[Any]) -> Handler:
        """The function that applies an event of this form: all upcasters in order, then the handler."""
        steps: list[Callable[[Any], Any]] = []
        passed = [model]
        while passed[-1] not in self.handlers:
            upcaster = self.upcasters.get(passed[-1])
            if upcaster is None or upcaster.to in passed:
                raise ValueError(
                    f"rules version {self.version}: {model.__name__} has no handler, and no upcaster leads to one"
                )
            steps.append(upcaster.convert)
            passed.append(upcaster.to)
        if passed[-1] in self.upcasters:
            raise ValueError(
                f"rules version {self.version}: {passed[-1].__name__} has a handler and an upcaster"
            )
        handler = self.handlers[passed[-1]]
        if not steps:
            return handler

        def upcast(transaction: Transaction, event: Any) -> None:
            for convert in steps:
                event = convert(event)
            handler(transaction, event)

        return upcast


class RulesVersions:
    """The versions of the rules that a build supports, 1 to `newest`. Immutable.

    A version may only add to the version before, because logs and stores may contain everything that it had. Raises
    `ValueError` unless the numbers are 1, 2, 3 and so on, and each version has all events, classes and kinds of deadlines of
    the version before, and its tables at the beginning.
    """

    def __init__(self, rule_sets: Sequence[RuleSet]) -> None:
        numbers = [one.version for one in rule_sets]
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"rules versions are not 1, 2, 3 and so on: {numbers}")
        for before, after in pairwise(rule_sets):
            lost = {str(kind) for kind in before.expiries.keys() - after.expiries.keys()}
            lost |= (before.event_types - after.event_types) | (before.classes - after.classes)
            lost |= {
                name
                for name, fields in before.ask_fields.items()
                if fields - after.ask_fields.get(name, set())
            }
            if lost or after.tables[: len(before.tables)] != before.tables:
                raise ValueError(
                    f"rules version {after.version} lacks what version {before.version} has:"
                    f" {', '.join(sorted(lost)) or 'its tables in their order'}"
                )
        self._by_number = {one.version: one for one in rule_sets}
        self.newest = rule_sets[-1]

    def __iter__(self) -> Iterator[RuleSet]:
        return iter(self._by_number.values())

    def __contains__(self, version: int) -> bool:
        return version in self._by_number

    def of(self, version: int) -> RuleSet:
        """The rules of that version. Raises `Halt` if this build does not support it."""
        found = self._by_number.get(version)
        if found is None:
            raise Halt(
                f"the log's rules are version {version}, this build supports up to {self.newest.version}",
                do="upgrade vacancy on this host, then start again",
            )
        return found
