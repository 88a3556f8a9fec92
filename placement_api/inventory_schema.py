"""An inventory under a name that no resource class can have is checked as every other inventory.

Placement's schema leaves it unchecked, and the handler answers 500 where it is not an object with numbers. The reshaper's schemas
contain this one.
"""

from __future__ import annotations

from types import ModuleType

from vacancy.placement_api.substitution import UPSTREAM_RELEASE
from vacancy.resources.model.errors import UsageError


def install(module: ModuleType) -> None:
    """Completes the schema of `placement.schemas.inventory`. Raises UsageError if it has another form."""
    try:
        inventories = module.PUT_INVENTORY_SCHEMA["properties"]["inventories"]
        (of_class,) = inventories["patternProperties"].values()
    except (AttributeError, KeyError, ValueError):
        raise UsageError(
            f"{module.__name__} has another schema of inventories: this release of openstack-placement is not supported; "
            f"install openstack-placement=={UPSTREAM_RELEASE}.*"
        ) from None
    inventories.setdefault("additionalProperties", of_class)
