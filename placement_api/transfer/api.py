"""A Placement that runs, through its HTTP API: its own one, or `vacancy placement serve`.

Who asks comes from the environment, as for the `openstack` command: `OS_TOKEN`, or `OS_AUTH_URL` with the options of `OS_AUTH_TYPE`
(`password` without it). Without both, requests carry the token `admin`, which a Placement with `noauth2` takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from keystoneauth1 import loading, token_endpoint
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException
from keystoneauth1.session import Session

from vacancy.placement_api.state.backend import ABSENT, Consumer, Inventory, Provider
from vacancy.placement_api.state.names import is_custom
from vacancy.placement_api.transfer.comparison import INVENTORY_FIELDS
from vacancy.placement_api.transfer.deployment import Deployment, Finding
from vacancy.placement_api.transfer.endpoint import EndpointError, Progress, Refusal, without_password
from vacancy.placement_api.transfer.plan import ClosingStep, ConsumerStep, Inventories, Plan, ProviderStep
from vacancy.resources.model.errors import UsageError

_NEWEST: Final = 39
_OLDEST: Final = 28
"""The first microversion in which consumers have generations."""
_WITH_TYPES: Final = 38
_TIMEOUT_S: Final = 60
_READS: Final = 5
"""How often a provider that changes while it is read is read again."""
_UNKNOWN_TYPE: Final = "unknown"


class _MissingField(Exception):
    """An object in an answer lacks a field that each Placement gives. The text is its name."""


class _Object(dict[str, Any]):
    """A JSON object of an answer."""

    def __missing__(self, key: str) -> Any:
        raise _MissingField(key)


class _Answer(NamedTuple):
    status: int
    body: Any
    """The JSON object; None where there is none."""

    @property
    def text(self) -> str:
        """The text of an error, in one line."""
        errors = None if self.body is None else self.body.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        detail = first.get("detail", "") if isinstance(first, dict) else ""
        return " ".join(f"{self.status} {detail}".split())[:300]


class PlacementApi:
    """One API of Placement, as source and as target. Raises `UsageError` for a URL that has a user or a password."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        if urlsplit(url).username is not None:
            raise UsageError(
                f"{without_password(url)} has a user",
                do="give OS_AUTH_URL, OS_USERNAME and so on in the environment",
            )
        self._adapter: Adapter | None = None
        self._minor = _NEWEST

    @property
    def name(self) -> str:
        return without_password(self._url)

    # -- requests -------------------------------------------------------------------------------------------------

    def _connect(self) -> Adapter:
        """Open a session, and find the newest version that both sides have."""
        if self._adapter is None:
            try:
                auth = _credentials(self._url, os.environ)
            except (ClientException, TypeError, ValueError) as error:
                raise EndpointError(
                    f"the credentials in the environment are incomplete: {error}",
                    do="set OS_AUTH_URL and its options",
                ) from None
            verify: str | bool = os.environ.get("OS_CACERT") or True
            session = Session(auth=auth, verify=verify, timeout=_TIMEOUT_S)
            self._adapter = Adapter(session, endpoint_override=self._url, raise_exc=False)
            self._minor = self._find_version()
        return self._adapter

    def _find_version(self) -> int:
        body = self._ask("GET", "/").body
        try:
            (version,) = body["versions"]
            minor = int(version["max_version"].partition(".")[2])
        except (_MissingField, AttributeError, TypeError, ValueError):
            raise self._not_placement("its root has no version") from None
        if minor < _OLDEST:
            raise EndpointError(f"it has version 1.{minor}, and 1.{_OLDEST} is needed", where=self.name)
        return min(minor, _NEWEST)

    def _send(self, method: str, path: str, body: Any = None, *, minor: int = _NEWEST) -> _Answer:
        """The answer to a request, whatever its status. Raises `EndpointError` if there is none, and where it is 401, 403, or 502 to 504."""
        adapter = self._connect()
        version = f"placement 1.{min(minor, self._minor)}"
        headers = {"Accept": "application/json", "OpenStack-API-Version": version}
        try:
            answer = adapter.request(
                path, method, headers=headers, **({} if body is None else {"json": body})
            )
        except ClientException as error:
            raise EndpointError(f"no answer: {_one_line(error)}", where=self.name) from None
        found = _Answer(answer.status_code, _json(answer))
        if found.status == 401:
            raise EndpointError(
                "it does not accept the credentials (401)",
                where=self.name,
                do="set OS_TOKEN, or OS_AUTH_URL and so on",
            )
        if found.status == 403:
            raise EndpointError(f"this user may not {method} {path} (403)", where=self.name)
        if found.status > 500:
            raise EndpointError(f"{method} {path} is answered {found.text}", where=self.name)
        if found.status < 400 and found.body is None and (answer.content or method == "GET"):
            raise self._not_placement(f"{method} {path} is answered {found.status} without a JSON object")
        return found

    def _not_placement(self, what: str) -> EndpointError:
        return EndpointError(
            f"this is no API of Placement: {what}",
            where=self.name,
            do="check the URL, and the proxies on the way",
        )

    def _ask(self, method: str, path: str, body: Any = None, *, absent: bool = False) -> _Answer:
        """As `_send`, for a request that must succeed; `absent`: or be answered 404."""
        answer = self._send(method, path, body)
        if answer.status >= 400 and not (absent and answer.status == 404):
            raise EndpointError(
                f"{method} {path} is answered {answer.text}", where=self.name, do="check the URL"
            )
        return answer

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, progress: Progress | None = None) -> Deployment:
        """There is no snapshot: each provider is read until it stands still, consumers after all providers."""
        self._connect()
        try:
            return self._read(progress)
        except _MissingField as error:
            raise self._not_placement(f"an answer has no `{error}`") from None

    def _read(self, progress: Progress | None) -> Deployment:
        listed = self._ask("GET", "/resource_providers").body["resource_providers"]
        reading = _Reading(self._ask, len(listed), progress)
        for one in listed:
            reading.provider(one)
        for uuid in tuple(reading.held):
            reading.consumer(uuid)
        classes = self._ask("GET", "/resource_classes").body["resource_classes"]
        traits = self._ask("GET", "/traits?name=startswith:CUSTOM_").body["traits"]
        return Deployment(
            reading.providers,
            reading.consumers,
            tuple(one["name"] for one in classes if is_custom(one["name"])),
            tuple(traits),
            reading.usages,
            tuple(reading.findings),
        )

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, plan: Plan, progress: Progress | None = None) -> list[Refusal]:
        self._connect()
        refusals: list[Refusal] = []
        done = 0

        def take(subject: str, answer: _Answer | None) -> None:
            nonlocal done
            done += 1
            if answer is not None and answer.status >= 400:
                refusals.append(Refusal(subject, answer.text))
            if progress is not None:
                progress(done, plan.steps)

        for name in plan.classes:
            take(f"class {name}", self._send("PUT", f"/resource_classes/{name}"))
        for name in plan.traits:
            take(f"trait {name}", self._send("PUT", f"/traits/{name}"))
        for step in plan.providers:
            take(f"provider {step.provider.uuid}", self._put_provider(step))
        for consumer in plan.consumers:
            take(f"consumer {consumer.consumer.uuid}", self._put_consumer(consumer))
        for closing in plan.closings:
            take(f"provider {closing.provider}", self._close(closing))
        return refusals

    def _put_provider(self, step: ProviderStep) -> _Answer | None:
        """Returns the first answer that is a refusal, or the last one."""
        provider = step.provider
        path = f"/resource_providers/{provider.uuid}"
        place = {"name": provider.name, "parent_provider_uuid": provider.parent}
        answer: _Answer | None = None
        if step.create:
            answer = self._send("POST", "/resource_providers", {"uuid": provider.uuid, **place})
        elif step.place:
            answer = self._send("PUT", path, place)
        if answer is not None and answer.status >= 400:
            return answer
        for part in self._parts(step):
            generation = self._generation(path)
            answer = self._send(
                "PUT", f"{path}/{part[0]}", {"resource_provider_generation": generation, **part[1]}
            )
            if answer.status >= 400:
                return answer
        return answer

    def _generation(self, path: str) -> int | None:
        """The generation of a provider; None where there is no such provider."""
        body = self._send("GET", path).body
        return None if body is None else body.get("generation")

    @staticmethod
    def _parts(step: ProviderStep) -> Iterable[tuple[str, dict[str, Any]]]:
        if step.inventories or (step.inventories is not None and not step.create):
            yield "inventories", {"inventories": _bodies(step.inventories)}
        if step.traits or (step.traits is not None and not step.create):
            yield "traits", {"traits": sorted(step.traits)}
        if step.aggregates or (step.aggregates is not None and not step.create):
            yield "aggregates", {"aggregates": list(step.aggregates)}

    def _put_consumer(self, step: ConsumerStep) -> _Answer:
        consumer = step.consumer
        body = {
            "allocations": {uuid: {"resources": dict(held)} for uuid, held in consumer.allocations.items()},
            "project_id": consumer.project,
            "user_id": consumer.user,
            "consumer_generation": None if step.generation == ABSENT else step.generation,
        }
        minor = _NEWEST
        if consumer.consumer_type is None:
            minor = _WITH_TYPES - 1  # a later version needs a type
        elif self._minor >= _WITH_TYPES:
            body["consumer_type"] = consumer.consumer_type
        return self._send("PUT", f"/allocations/{quote(consumer.uuid, safe='')}", body, minor=minor)

    def _close(self, step: ClosingStep) -> _Answer | None:
        """Generations cannot be set through the API: only the inventories."""
        if step.inventories is None:
            return None
        path = f"/resource_providers/{step.provider}"
        generation = self._generation(path)
        body = {"resource_provider_generation": generation, "inventories": _bodies(step.inventories)}
        return self._send("PUT", f"{path}/inventories", body)


class _Reading:
    """The parts of a deployment that were read so far."""

    def __init__(self, ask: Callable[..., _Answer], providers: int, progress: Progress | None) -> None:
        self._ask, self._listed, self._progress = ask, providers, progress
        self.providers: dict[str, Provider] = {}
        self.consumers: dict[str, Consumer] = {}
        self.held: dict[str, None] = {}
        """The consumers that providers name."""
        self.usages: dict[str, dict[str, int]] = {}
        self.findings: list[Finding] = []

    def _advance(self) -> None:
        if self._progress is not None:
            self._progress(len(self.providers) + len(self.consumers), self._listed + len(self.held))

    def provider(self, listed: Mapping[str, Any]) -> None:
        """Read one provider that is in the list of providers."""
        uuid = listed["uuid"]
        path = f"/resource_providers/{uuid}"
        parts: dict[str, Any] = {}
        one = listed
        for attempt in range(_READS):
            if attempt:
                found = self._ask("GET", path, absent=True)
                if found.status == 404:
                    break
                one = found.body
            answers = {
                name: self._ask("GET", f"{path}/{name}", absent=True)
                for name in ("inventories", "traits", "aggregates", "allocations", "usages")
            }
            if any(answer.status == 404 for answer in answers.values()):
                continue
            parts = {name: answer.body for name, answer in answers.items()}
            generations = {body["resource_provider_generation"] for body in parts.values()}
            if generations == {one["generation"]}:
                break
        else:
            self.findings.append(Finding(f"provider {uuid}", "changed each time it was read"))
        if not parts:
            self.findings.append(Finding(f"provider {uuid}", "was deleted while it was read"))
            return
        self.providers[uuid] = _provider(one, parts)
        used = {name: amount for name, amount in parts["usages"]["usages"].items() if amount}
        if used:
            self.usages[uuid] = used
        self.held.update(dict.fromkeys(parts["allocations"]["allocations"]))
        self._advance()

    def consumer(self, uuid: str) -> None:
        """Read one consumer."""
        body = self._ask("GET", f"/allocations/{quote(uuid, safe='')}").body
        if not body["allocations"]:
            self.findings.append(Finding(f"consumer {uuid}", "was deleted while it was read"))
            return
        kind = body.get("consumer_type", _UNKNOWN_TYPE)
        self.consumers[uuid] = Consumer(
            uuid=uuid,
            generation=body["consumer_generation"],
            project=body["project_id"],
            user=body["user_id"],
            consumer_type=None if kind == _UNKNOWN_TYPE else kind,
            allocations={provider: one["resources"] for provider, one in body["allocations"].items()},
        )
        self._advance()


def _provider(one: Mapping[str, Any], parts: Mapping[str, Any]) -> Provider:
    return Provider(
        uuid=one["uuid"],
        name=one["name"],
        generation=one["generation"],
        root=one["root_provider_uuid"],
        parent=one["parent_provider_uuid"],
        inventories={
            name: Inventory(**{key: found[key] for key in INVENTORY_FIELDS})
            for name, found in parts["inventories"]["inventories"].items()
        },
        traits=frozenset(parts["traits"]["traits"]),
        aggregates=tuple(parts["aggregates"]["aggregates"]),
    )


def _bodies(inventories: Inventories) -> dict[str, dict[str, Any]]:
    return {name: {key: getattr(one, key) for key in INVENTORY_FIELDS} for name, one in inventories.items()}


def _credentials(url: str, environment: Mapping[str, str]) -> Any:
    """Who asks, from the variables that the `openstack` command reads."""
    token = environment.get("OS_TOKEN")
    if token:
        return token_endpoint.Token(url, token)
    if not environment.get("OS_AUTH_URL"):
        return token_endpoint.Token(url, "admin")
    loader: Any = loading.get_plugin_loader(environment.get("OS_AUTH_TYPE", "password"))
    values = {
        option.dest: environment[name]
        for option in loader.get_options()
        if (name := f"OS_{option.dest.upper()}") in environment
    }
    return loader.load_from_options(**values)


def _json(answer: Any) -> _Object | None:
    """The JSON object of an answer; None where it has none."""
    try:
        found = answer.json(object_hook=_Object) if answer.content else None
    except ValueError:
        return None
    return found if isinstance(found, _Object) else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
