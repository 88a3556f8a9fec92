"""The ask syntax of each resource class: the built-in ones, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from vacancy.clients.request_language.ask_syntax import AskSyntax
from vacancy.clients.request_language.device_syntax import DeviceSyntax, GpuShareSyntax, MigSyntax, VgpuSyntax
from vacancy.clients.request_language.numa_syntax import NumaSyntax
from vacancy.clients.request_language.port_syntax import PortSyntax
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask, RequestGroup

ASK_SYNTAXES: Final = "vacancy.ask_syntaxes"
"""The entry point group by which another package adds the ask syntax of its resource class: NAME = module:Class."""

_PLAIN: Final = AskSyntax()
_DEVICES: Final = DeviceSyntax()
_BUILT_IN: Final[Mapping[str, AskSyntax]] = {
    "PCI_DEVICE": _DEVICES,
    "SRIOV_NET_VF": _DEVICES,
    "PGPU": _DEVICES,
    "FPGA": _DEVICES,
    "VGPU": VgpuSyntax(),
    "GPU_SHARE": GpuShareSyntax(),
    "MIG": MigSyntax(),
    "NUMA_CELL": NumaSyntax(),
    "PORT": PortSyntax(),
}
_OPTIONS: Final = {syntax.option: syntax for syntax in _BUILT_IN.values() if syntax.option is not None}


def parse_ask(name: str, text: str, registry: Registry, where: str) -> Ask:
    """Parse an ask for one class. `text` is the part after `NAME:` in a list of resources. Raises `UsageError`."""
    try:
        resource_class = registry.check(name)
        syntax = _installed(name) if name in registry.plugins else _BUILT_IN.get(name, _PLAIN)
        ask = syntax.parse(name, text)
        resource_class.check_ask(ask)
    except UsageError as error:
        raise UsageError(error.what, where=where, do=error.do) from None
    return ask


def option_groups(option: str, text: str) -> tuple[RequestGroup, ...]:
    """Parse the value of a command-line option to request groups. Raises `UsageError`."""
    return tuple(_OPTIONS[option].parse_option(text))


@cache
def _installed(name: str) -> AskSyntax:
    """The syntax of a plugin's class. Raises `UsageError` if the entry point cannot be loaded."""
    for point in entry_points(group=ASK_SYNTAXES, name=name):
        try:
            made = point.load()()
        except Exception as error:
            raise UsageError(
                f"the ask syntax of {name} does not load: {error}",
                where=point.value,
                do="repair or remove its package",
            ) from error
        if not isinstance(made, AskSyntax):
            raise UsageError(
                f"the ask syntax of {name} is not an AskSyntax",
                where=point.value,
                do="derive its class from vacancy.clients.request_language.ask_syntax.AskSyntax",
            )
        return made
    return _PLAIN
