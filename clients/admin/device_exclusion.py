"""Taking single devices out of service, and bringing them back: `vacancy provider device`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from vacancy.clients.admin.operator import CurrentSettings, exclude, set_operator_settings
from vacancy.clients.inspection.answers import ExcludedAnswer, TreeAnswer
from vacancy.clients.inspection.lookup import NotFound, show_provider
from vacancy.clients.scheduler.needed_rules import check_rules
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.state.tables import key
from vacancy.streams.log import Log

_WITHOUT_DOMAIN: Final = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class DeviceChange(NamedTuple):
    """A device after the change. `holders` are the consumers that hold it, or a function of it."""

    settings: CurrentSettings
    resource_class: str
    name: str
    holders: list[str]


def set_device_excluded(
    log: Log,
    reader: StoreReader,
    provider: str,
    device: str,
    *,
    reason: str | None,
    cell: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> DeviceChange:
    """Exclude a device of a provider, or of the tree below it, from all grants; `reason` None offers it again. A PCI address may be
    without its domain, as lspci prints it: 81:00.0 is 0000:81:00.0 where there is no device of the shorter name.

    Raises `NotFound` where no provider has the device, `UsageError` where several have it or the log's rules cannot exclude
    devices, and as `set_operator_settings` does.
    """
    check_rules(reader, lambda rules: rules.excludes_items, "excluding one device needs")
    tree = show_provider(reader, provider, cell=cell)
    at, resource_class, name = _place(reader, tree, device)
    now = set_operator_settings(
        log,
        reader,
        at,
        exclude(resource_class, name, reason),
        cell=tree.cell,
        timeout_s=timeout_s,
        wait=wait,
    )
    holders: list[str] = []
    if reason is not None and now.applied:
        excluded: list[ExcludedAnswer] = show_provider(reader, at, cell=tree.cell).excluded
        holders = [
            consumer
            for one in excluded
            if (one.provider, one.resource_class, one.name) == (at, resource_class, name)
            for consumer in one.holders
        ]
    return DeviceChange(now, resource_class, name, holders)


def _place(reader: StoreReader, tree: TreeAnswer, device: str) -> tuple[str, str, str]:
    """(provider, class, name) of a device. An excluded device that is no longer reported is where it was excluded."""
    names = (device, f"0000:{device}") if _WITHOUT_DOMAIN.fullmatch(device) else (device,)
    found = next((places for name in names if (places := _places(reader, tree, name))), set())
    if not found:
        raise NotFound(
            f"{tree.id} reports no device {device!r}, and none of that name is excluded",
            where=f"cell {tree.cell}",
            do=f"look with `vacancy show provider {tree.id} --json`",
        )
    if len(found) > 1:
        where = " and ".join(f"{resource_class} of {id_}" for id_, resource_class, _ in sorted(found))
        raise UsageError(f"{device} is a device of {where}", do="give the provider that has it, not its node")
    return found.pop()


def _places(reader: StoreReader, tree: TreeAnswer, name: str) -> set[tuple[str, str, str]]:
    """(provider, class, name) of each device of this name in a tree."""
    found = {(one.provider, one.resource_class, name) for one in tree.excluded if one.name == name}
    for one in tree.providers:
        for inventory in one.inventories:
            table = reader.registry.table(inventory.resource_class)
            row = reader.get(table, table.prefix + key(tree.cell, one.id), cell=tree.cell)
            of = table.resource_class
            if row is not None and of.excludes_items and name in of.names(row.record):
                found.add((one.id, inventory.resource_class, name))
    return found
