"""The order that leaves devices least fragmented."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from vacancy.projections.ranking.fragmentation_index import FragmentationIndex
from vacancy.projections.ranking.orders import Floats, Order
from vacancy.projections.ranking.workload import Needs, Workload, needs_of
from vacancy.projections.view.columns import Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestSpec

_KNOWN_MAX = 1024


class LeastFragmentation(Order):
    """Places a request, and within a tree its share of a device, where it takes least from what typical requests
    could use: the gradient descent of Weng et al. (see `fragments`). `settings` says which class is that of
    devices, and what is typical."""

    name = "least_fragmentation"

    def __init__(self, settings: Workload) -> None:
        self.settings = settings
        self._known: dict[int, tuple[RequestSpec, Needs]] = {}
        self._views: WeakKeyDictionary[FleetView, FragmentationIndex] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[LeastFragmentation], tuple[Workload]]:
        return LeastFragmentation, (self.settings,)

    def measure(self, view: FleetView, roots: Ints) -> Floats:
        """F_n: how much of what is free on each tree's devices a typical request cannot use, in the mean."""
        return self._fragments(view).measure(roots)

    def trees(self, view: FleetView, spec: RequestSpec, roots: Ints) -> Floats:
        """See `Order`."""
        return self._fragments(view).tree_losses(self._needs(spec), roots)

    def providers(self, view: FleetView, spec: RequestSpec, rows: Ints) -> Floats:
        """See `Order`."""
        needs = self._needs(spec)
        if len(needs.devices) == 1:
            return self._fragments(view).device_losses(needs, rows)
        return self.trees(view, spec, view.root[rows])

    def parts(self, view: FleetView, spec: RequestSpec, group: int, rows: Ints) -> Floats:
        """See `Order`. Several devices are taken by best fit, as the measure supposes."""
        needs = self._needs(spec)
        if len(needs.devices) == 1 and self.settings.device in spec.groups[group].resources:
            return self._fragments(view).device_losses(needs, rows)
        return super().parts(view, spec, group, rows)

    def _fragments(self, view: FleetView) -> FragmentationIndex:
        found = self._views.get(view)
        if found is None:
            found = self._views[view] = FragmentationIndex(view, self.settings)
        return found

    def _needs(self, spec: RequestSpec) -> Needs:
        known = self._known.get(id(spec))
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            # The request is kept with its needs, so that no other can come to have its id.
            known = self._known[id(spec)] = (spec, needs_of(spec, self.settings.device))
        return known[1]
