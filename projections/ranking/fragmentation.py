"""The order that leaves devices least fragmented."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.fragmentation_index import FragmentationIndex
from vacancy.projections.ranking.workload import Needs, Workload, needs_of
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reserved_view import ReservedView


class LeastFragmentation(Order):
    """Prefers the tree, and in it the device, where a placement least reduces the amount that typical requests can use.
    This is the gradient descent of Weng et al. (see `fragmentation_index`). `settings` has the device class and the
    typical requests."""

    name = "least_fragmentation"

    def __init__(self, settings: Workload) -> None:
        self.settings = settings
        self._views: WeakKeyDictionary[FleetView, FragmentationIndex] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[LeastFragmentation], tuple[Workload]]:
        return LeastFragmentation, (self.settings,)

    def measure(self, view: FleetView, roots: Ints) -> Floats:
        """F_n of each of these trees: the free amount on its devices that a typical request cannot use, on average."""
        return self._fragments(view).measure(roots)

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return self._fragments(view).tree_losses(self._needs(request), roots)

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """See `Order`."""
        needs = self._needs(request)
        if len(needs.devices) == 1:
            return self._fragments(view).device_losses(needs, rows)
        return self.trees(view, request, view.root[rows])

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """See `Order`. A request for several devices takes them by best fit, as the measure assumes."""
        needs = self._needs(request)
        if len(needs.devices) == 1 and self.settings.device in request.spec.groups[group].resources:
            return self._fragments(view).device_losses(needs, rows)
        return super().parts(view, request, group, rows)

    def _fragments(self, view: FleetView) -> FragmentationIndex:
        found = self._views.get(view)
        if found is None:
            if isinstance(view, ReservedView):
                found = self._fragments(view.base).derive(view)
            else:
                found = FragmentationIndex(view, self.settings)
            self._views[view] = found
        return found

    def _needs(self, request: CompiledRequest) -> Needs:
        device = self.settings.device
        return request.remember((needs_of, device), lambda: needs_of(request.spec, device))
