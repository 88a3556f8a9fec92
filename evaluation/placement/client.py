"""A client of Placement's API with one persistent connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, NamedTuple

from evaluation.placement.fleet import PlacementFleet, provider_uuid
from vacancy.resources.model.errors import VacancyError

MICROVERSION = "1.39"
_HEADERS = {
    "x-auth-token": "admin",
    "openstack-api-version": f"placement {MICROVERSION}",
    "accept": "application/json",
    "content-type": "application/json",
}
_TIMEOUT_S = 120.0
_TRIES = 50
_SERVER_ERROR = 500


class Answer(NamedTuple):
    """The HTTP status and the JSON body of an answer."""

    status: int
    body: Any


class PlacementClient:
    """A client of one API process. `errors` counts answers with status 5xx."""

    def __init__(self, port: int) -> None:
        self.errors = 0
        self._connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send one request. Raises `VacancyError` if there is no answer."""
        sent = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, sent, _HEADERS)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as error:
            raise VacancyError(f"Placement did not answer: {error!r}", where=f"{method} {path}") from error
        self.errors += response.status >= _SERVER_ERROR
        return Answer(response.status, json.loads(text) if text else None)

    def must(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request and return the body of a successful answer.

        A request that the server answers with 5xx is retried: with SQLite that happens when two processes write at the
        same time. Raises `VacancyError` on any other answer.
        """
        for _ in range(_TRIES):
            answer = self.call(method, path, body)
            if answer.status < _SERVER_ERROR:
                break
        if answer.status >= 300:
            raise VacancyError(
                f"Placement answered {answer.status}: {json.dumps(answer.body)[:300]}",
                where=f"{method} {path}",
            )
        return answer.body

    # -- providers ----------------------------------------------------------------------------------------------

    def has_providers(self) -> bool:
        """Whether there are any providers."""
        return bool(self.must("GET", "/resource_providers")["resource_providers"])

    def add_node(self, fleet: PlacementFleet, node: str) -> None:
        """Create a node of the fleet."""
        uuid = provider_uuid(node)
        provider = self.must("POST", "/resource_providers", {"name": node, "uuid": uuid})
        for part, content in (("inventories", fleet.inventories()), ("traits", [fleet.trait])):
            body = {part: content, "resource_provider_generation": provider["generation"]}
            answer = self.must("PUT", f"/resource_providers/{uuid}/{part}", body)
            provider["generation"] = answer["resource_provider_generation"]

    def overcommitted(self, node: str) -> int:
        """The amount by which a node's usage exceeds its capacity, summed over all classes."""
        path = f"/resource_providers/{provider_uuid(node)}"
        usages = self.must("GET", f"{path}/usages")["usages"]
        inventories = self.must("GET", f"{path}/inventories")["inventories"]
        excess = 0
        for name, used in usages.items():
            has = inventories[name]
            excess += max(0, used - int((has["total"] - has["reserved"]) * has["allocation_ratio"]))
        return excess

    # -- scheduling ---------------------------------------------------------------------------------------------

    def candidates(self, query: str) -> list[Any]:
        """The allocation requests that a query returns."""
        found: list[Any] = self.must("GET", query)["allocation_requests"]
        return found

    def allocate(self, consumer: str, allocation_request: Mapping[str, Any]) -> int:
        """Send a claim for a new consumer; returns the HTTP status."""
        body = {
            **allocation_request,
            "project_id": "beside",
            "user_id": "beside",
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
        }
        return self.call("PUT", f"/allocations/{consumer}", body).status

    def __enter__(self) -> PlacementClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
