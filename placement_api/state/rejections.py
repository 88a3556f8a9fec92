"""The reason of a refused transaction as the exception that Placement's handlers expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import webob.exc
from oslo_db import exception as db_exc
from placement import exception, util

from vacancy.placement_api.state import names
from vacancy.placement_api.state.backend import Rejection, Transaction
from vacancy.placement_api.state.view import View


def translate(rejection: Rejection, transaction: Transaction, view: View) -> NoReturn:
    """Raises Placement's exception for the rejection of a transaction; the view completes its text."""
    if rejection.reason in ("no_inventory", "constraints", "capacity"):
        rejection = _with_all_classes(rejection, transaction, view)
    if rejection.reason == "inventory_in_use":
        rejection = _with_classes_in_use(rejection, transaction, view)
    kind = _EXCEPTIONS.get(rejection.reason)
    raise _refused(rejection) if kind is None else kind(rejection)


def _refused(rejection: Rejection) -> Exception:
    """An answer 409 for what Placement has no rule about: a disabled node, a quota, a provider that a node reports."""
    concerned = " ".join((rejection.subject, *rejection.resource_classes)).strip()
    error: Exception = webob.exc.HTTPConflict(
        f"Refused by vacancy: {rejection.reason} ({concerned})", json_formatter=util.json_error_formatter
    )
    return error


def _with_classes_in_use(rejection: Rejection, transaction: Transaction, view: View) -> Rejection:
    """Placement names all classes that are in use, in the order of their numbers."""
    wanted = (
        next((one.inventories for one in transaction.providers if one.uuid == rejection.subject), None) or {}
    )
    in_use = {name for name, used in view.used(rejection.subject).items() if used and name not in wanted}
    return replace(rejection, resource_classes=tuple(in_use)) if in_use else rejection


def _with_all_classes(rejection: Rejection, transaction: Transaction, view: View) -> Rejection:
    """Before it judges amounts, Placement refuses providers that have none of the classes of the request, and names all.

    In a reshape a provider has its old and its new inventories then.
    """
    amounts = [amount for consumer in transaction.consumers for amount in consumer.amounts]
    asked = {amount.resource_class for amount in amounts}
    reshaped = {one.uuid: one.inventories for one in transaction.providers if one.inventories is not None}
    without = [
        uuid
        for uuid in dict.fromkeys(amount.provider for amount in amounts)
        if uuid in view.providers
        and not asked & (view.providers[uuid].inventories.keys() | reshaped.get(uuid, {}).keys())
    ]
    return Rejection("no_inventory", ", ".join(without), tuple(asked)) if without else rejection


def _class_of(rejection: Rejection) -> str:
    return ", ".join(sorted(rejection.resource_classes, key=names.class_order))


def _action(action: str, reason: str) -> Callable[[Rejection], Exception]:
    return lambda _: exception.ObjectActionError(action=action, reason=reason)


def _named(kind: Callable[..., Exception], keyword: str) -> Callable[[Rejection], Exception]:
    return lambda one: kind(**{keyword: one.subject})


def _inventory(kind: Callable[..., Exception]) -> Callable[[Rejection], Exception]:
    return lambda one: kind(resource_class=_class_of(one), resource_provider=one.subject)


_EXCEPTIONS: dict[str, Callable[[Rejection], Exception]] = {
    "provider_unknown": lambda one: exception.NotFound(f"No resource provider with uuid {one.subject} found"),
    "provider_exists": lambda _: db_exc.DBDuplicateEntry(columns=["uuid"]),
    "name_exists": lambda _: db_exc.DBDuplicateEntry(columns=["name"]),
    "parent_unknown": _action("create", "parent provider UUID does not exist."),
    "parent_below": _action("update", "creating loop in the provider tree is not allowed."),
    "parent_changed": _action("update", "re-parenting a provider is not currently allowed."),
    "provider_has_children": lambda _: exception.CannotDeleteParentResourceProvider(),
    "provider_in_use": lambda _: exception.ResourceProviderInUse(),
    "provider_generation": lambda _: exception.ResourceProviderConcurrentUpdateDetected(),
    "consumer_generation": lambda _: exception.ConcurrentUpdateDetected(),
    "inventory_in_use": lambda one: exception.InventoryInUse(
        resource_classes=_class_of(one), resource_provider=one.subject
    ),
    "no_inventory": _inventory(exception.InvalidInventory),
    "constraints": _inventory(exception.InvalidAllocationConstraintsViolated),
    "capacity": _inventory(exception.InvalidAllocationCapacityExceeded),
    "class_unknown": _named(exception.ResourceClassNotFound, "name"),
    "class_exists": _named(exception.ResourceClassExists, "resource_class"),
    "class_in_use": _named(exception.ResourceClassInUse, "resource_class"),
    "trait_unknown": _named(exception.TraitNotFound, "name"),
    "trait_exists": _named(exception.TraitExists, "name"),
    "trait_in_use": _named(exception.TraitInUse, "name"),
}
"""Each reason of `Rejection` has one entry."""
