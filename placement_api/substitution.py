"""Puts this package's modules in the place of Placement's state layer, when Placement is imported.

`install` adds a finder to `sys.meta_path`. `import placement.objects.trait` then gives
`vacancy.placement_api.objects.trait`. Three modules stay Placement's own, with some of their names replaced
(`PATCHED`). Nothing of Placement is edited or copied.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from vacancy.resources.model.errors import UsageError

OURS = "vacancy.placement_api"

REPLACED: Mapping[str, str] = {
    "placement.db_api": f"{OURS}.objects.db_api",
    "placement.attribute_cache": f"{OURS}.objects.attribute_cache",
    **{
        f"placement.objects.{name}": f"{OURS}.objects.{name}"
        for name in (
            *("resource_provider", "inventory", "allocation", "consumer", "consumer_type"),
            *("project", "user", "trait", "resource_class", "usage"),
        )
    },
}
"""Placement's module -> the module that stands in for it."""

PATCHED: Mapping[str, tuple[str, ...]] = {
    "placement.objects.research_context": (
        *("provider_ids_from_uuid", "get_providers_with_resource", "get_providers_with_root"),
        *("_get_trees_with_traits", "_get_roots_with_traits", "provider_ids_matching_aggregates"),
        *("provider_ids_matching_required_traits", "get_provider_ids_having_any_trait"),
        *("get_sharing_providers", "anchors_for_sharing_providers", "_has_provider_trees"),
        "get_usages_by_provider_trees",
    ),
    "placement.objects.allocation_candidate": ("_provider_ids_from_root_ids",),
    "placement.schemas.inventory": (),
    "placement.util": (),
}
"""Placement's module -> its functions that ask SQL; `candidate_queries` has one of the same name for each."""

EXTENDED: Mapping[str, str] = {
    "placement.objects.allocation_candidate": f"{OURS}.search.limited_search",
    "placement.schemas.inventory": f"{OURS}.inventory_schema",
    "placement.util": f"{OURS}.schema_validation",
}
"""Placement's module -> the module whose `install` changes something else in it."""

UPSTREAM_RELEASE = "16"
"""The first number of the release of openstack-placement that these modules were written for."""


class _ReplacingLoader(Loader):
    """Gives another module under the name that was asked for."""

    def __init__(self, target: str) -> None:
        self._target = target

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self._target)


class _PatchingLoader(Loader):
    """Loads Placement's module, then replaces functions in it."""

    def __init__(self, loader: Loader, functions: Sequence[str]) -> None:
        self._loader = loader
        self._functions = functions

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        ours = importlib.import_module(f"{OURS}.search.candidate_queries")
        for name in self._functions:
            if not hasattr(module, name):
                raise UsageError(
                    f"{module.__name__} has no function {name}: this release of openstack-placement is not supported; "
                    f"install openstack-placement=={UPSTREAM_RELEASE}.*"
                )
            setattr(module, name, getattr(ours, name))
        if module.__name__ in EXTENDED:
            importlib.import_module(EXTENDED[module.__name__]).install(module)


class _Finder(MetaPathFinder):
    def __init__(self, replaced: Mapping[str, str]) -> None:
        self.replaced = replaced

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.replaced:
            return ModuleSpec(fullname, _ReplacingLoader(self.replaced[fullname]))
        if fullname in PATCHED:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _PatchingLoader(spec.loader, PATCHED[fullname])
            return spec
        return None


def install(also: Mapping[str, str] | None = None) -> None:
    """Makes later imports of Placement use this package's modules. Further calls do nothing.

    also: more modules to replace, for tests.
    Raises UsageError if Placement is not installed, has another release, or has been imported already.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    check_release()
    replaced = {**REPLACED, **(also or {})}
    early = sorted(name for name in (*replaced, *PATCHED) if name in sys.modules)
    if early:
        raise UsageError(
            f"{early[0]} was imported before vacancy.placement_api: import and install the substitution first"
        )
    sys.meta_path.insert(0, _Finder(replaced))


def check_release() -> None:
    """Raises UsageError if Placement is not installed, or in another release than these modules need."""
    try:
        found = version("openstack-placement")
    except PackageNotFoundError:
        raise UsageError(
            "openstack-placement is not installed: run `pip install 'vacancy[placement]'`"
        ) from None
    if found.partition(".")[0] != UPSTREAM_RELEASE:
        raise UsageError(
            f"openstack-placement {found} is installed, and this build needs {UPSTREAM_RELEASE}.*: "
            f"run `pip install 'openstack-placement=={UPSTREAM_RELEASE}.*'`"
        )
