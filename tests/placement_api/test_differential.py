"""The same random requests to real Placement on SQLite and to this project's API on a log: equal answers, equal state.

`VACANCY_SEED` and `VACANCY_PLACEMENT_REQUESTS` choose other requests, and more.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from tests.placement_api.api_process import Answer, Api, api_process

SEED = int(os.environ.get("VACANCY_SEED", "1"))
REQUESTS = int(os.environ.get("VACANCY_PLACEMENT_REQUESTS", "250"))

CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GOLD", "CUSTOM_IRON", "CUSTOM_NOBODY")
TRAITS = ("HW_CPU_X86_AVX", "MISC_SHARES_VIA_AGGREGATE", "CUSTOM_A", "CUSTOM_B", "CUSTOM_NOBODY")
VERSIONS = ("1.10", "1.12", "1.18", "1.19", "1.27", "1.28", "1.34", "1.37", "1.38", "1.39")
Request = tuple[str, str, Any, str]
TAKEN = re.compile(
    r"(?s)Update conflict: (\(sqlite3\.IntegrityError\)|resource provider \S+ has an inventory of).*"
)
"""An inventory that is there already: Placement answers with the text of its SQL."""


class Requests:
    """Makes requests. It looks at the answers of real Placement for generations, and sometimes names a wrong one."""

    def __init__(self, rng: random.Random, known: Api) -> None:
        self._rng = rng
        self._known = known
        self._providers = [str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(6)]
        self._consumers = [str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(5)]
        self._aggregates = [str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(2)]

    def next(self) -> Request:
        rng = self._rng
        kinds = (
            *(self.create,) * 3,
            *(self.inventories,) * 6,
            *(self.traits, self.aggregates, self.name, self.delete, self.rename, self.one_inventory),
            *(self.allocations,) * 8,
            *(self.release, self.two_consumers, self.reshape),
            *(self.candidates, self.candidates_of_groups, self.candidates_of_groups),
            *(self.list_of_providers, self.list_of_names),
        )
        version = rng.choice(VERSIONS)
        method, path, body = rng.choice(kinds)()
        if method == "PUT" and path.startswith("/allocations") and rng.random() < 0.9:
            minor = int(version.partition(".")[2])
            unknown = ("consumer_type",) * (minor < 38) + ("consumer_generation",) * (minor < 28)
            body = {name: value for name, value in body.items() if name not in unknown}
        return method, path, body, version

    def provider(self) -> str:
        return f"/resource_providers/{self._rng.choice(self._providers)}"

    def generation(self, path: str) -> int:
        found = self._known.request("GET", path).body
        right = found.get("generation", 0) if isinstance(found, dict) else 0
        return right if self._rng.random() < 0.9 else right + self._rng.choice((-1, 1, 5))

    def create(self) -> tuple[str, str, Any]:
        uuid = self._rng.choice(self._providers)
        body = {"uuid": uuid, "name": f"name {self._rng.randrange(8)}"}
        if self._rng.random() < 0.5:
            body["parent_provider_uuid"] = self._rng.choice(self._providers)
        return "POST", "/resource_providers", body

    def rename(self) -> tuple[str, str, Any]:
        body: dict[str, Any] = {"name": f"name {self._rng.randrange(8)}"}
        if self._rng.random() < 0.5:
            body["parent_provider_uuid"] = self._rng.choice([*self._providers, None])
        return "PUT", self.provider(), body

    def delete(self) -> tuple[str, str, Any]:
        return "DELETE", self.provider() + self._rng.choice(("", "/inventories", "/traits")), None

    def inventory(self) -> dict[str, Any]:
        rng = self._rng
        total = rng.choice((1, 4, 16))
        return {
            "total": total,
            "reserved": rng.choice((0, 0, 1, total)),
            "max_unit": rng.choice((total, 2)),
            "step_size": rng.choice((1, 1, 2)),
            "allocation_ratio": rng.choice((1.0, 1.5, 0.5, 16.0, 1.1)),
        }

    def all_inventories(self, path: str) -> dict[str, Any]:
        names = self._rng.sample(CLASSES, self._rng.randrange(4))
        found = {name: self.inventory() for name in names}
        return {"resource_provider_generation": self.generation(path), "inventories": found}

    def inventories(self) -> tuple[str, str, Any]:
        path = self.provider()
        return "PUT", f"{path}/inventories", self.all_inventories(path)

    def one_inventory(self) -> tuple[str, str, Any]:
        path, name = self.provider(), self._rng.choice(CLASSES)
        one = {**self.inventory(), "resource_provider_generation": self.generation(path)}
        return self._rng.choice(
            (
                ("POST", f"{path}/inventories", {**one, "resource_class": name}),
                ("PUT", f"{path}/inventories/{name}", one),
                ("DELETE", f"{path}/inventories/{name}", None),
            )
        )

    def traits(self) -> tuple[str, str, Any]:
        path = self.provider()
        traits = self._rng.sample(TRAITS, self._rng.randrange(3))
        return (
            "PUT",
            f"{path}/traits",
            {"traits": traits, "resource_provider_generation": self.generation(path)},
        )

    def aggregates(self) -> tuple[str, str, Any]:
        path = self.provider()
        found = self._rng.sample(self._aggregates, self._rng.randrange(3))
        body = {"aggregates": found, "resource_provider_generation": self.generation(path)}
        return "PUT", f"{path}/aggregates", body

    def name(self) -> tuple[str, str, Any]:
        kind, names = self._rng.choice((("resource_classes", CLASSES[2:4]), ("traits", TRAITS[2:4])))
        return self._rng.choice(("PUT", "PUT", "DELETE")), f"/{kind}/{self._rng.choice(names)}", None

    def claim(self, consumer: str) -> dict[str, Any]:
        rng = self._rng
        # For a provider that does not exist, Placement answers 400 and leaves a consumer behind that nobody asked for.
        there = {
            one["uuid"]
            for one in self._known.request("GET", "/resource_providers").body["resource_providers"]
        }
        providers = sorted(there)
        held = self._known.request("GET", f"/allocations/{consumer}").body or {}
        generation = held.get("consumer_generation")
        found = {
            uuid: {
                "resources": {
                    name: rng.choice((1, 2, 3)) for name in rng.sample(CLASSES, rng.choice((1, 1, 2)))
                }
            }
            for uuid in rng.sample(providers, min(len(providers), rng.choice((1, 1, 2))))
        }
        return {
            "allocations": {} if generation is not None and rng.random() < 0.15 else found,
            "consumer_generation": generation if rng.random() < 0.9 else rng.choice((None, 3)),
            "consumer_type": rng.choice(("INSTANCE", "MIGRATION", "unknown")),
            "project_id": rng.choice(("p", "q")),
            "user_id": "u",
        }

    def allocations(self) -> tuple[str, str, Any]:
        consumer = self._rng.choice(self._consumers)
        claim = self.claim(consumer)
        there = claim["allocations"] or claim["consumer_generation"] is not None
        return ("PUT", f"/allocations/{consumer}", claim) if there else self.create()

    def two_consumers(self) -> tuple[str, str, Any]:
        return "POST", "/allocations", {one: self.claim(one) for one in self._rng.sample(self._consumers, 2)}

    def release(self) -> tuple[str, str, Any]:
        return "DELETE", f"/allocations/{self._rng.choice(self._consumers)}", None

    def reshape(self) -> tuple[str, str, Any]:
        rng = self._rng
        providers = rng.sample(self._providers, 2)
        inventories = {one: self.all_inventories(f"/resource_providers/{one}") for one in providers}
        consumers = rng.sample(self._consumers, 1)
        body = {"inventories": inventories, "allocations": {one: self.claim(one) for one in consumers}}
        return "POST", "/reshaper", body

    def candidates(self) -> tuple[str, str, Any]:
        rng = self._rng
        path = f"/allocation_candidates?resources={rng.choice(CLASSES)}:{rng.choice((1, 2))}"
        return "GET", path + rng.choice(("", f",{CLASSES[0]}:1", f"&required={rng.choice(TRAITS)}")), None

    def candidates_of_groups(self) -> tuple[str, str, Any]:
        """Of one to three groups, each with some conditions, and conditions of all of them."""
        rng = self._rng
        suffixes = rng.sample(("", "1", "2", "_NIC"), rng.choice((1, 2, 2, 3)))
        words = [word for suffix in suffixes for word in self._group(suffix)]
        if len(suffixes) > 1 and rng.random() < 0.9:
            words.append(f"group_policy={rng.choice(('none', 'isolate'))}")
        if rng.random() < 0.2:
            words.append(f"root_required={rng.choice(('', '!'))}{rng.choice(TRAITS)}")
        if rng.random() < 0.2:
            words.append(f"same_subtree={','.join(f'_{one}'.replace('__', '_') for one in suffixes if one)}")
        return "GET", f"/allocation_candidates?{'&'.join(words)}", None

    def _group(self, suffix: str) -> list[str]:
        rng = self._rng
        resources = [
            f"{name}:{rng.choice((1, 1, 2))}" for name in rng.sample(CLASSES[:4], rng.choice((1, 1, 2)))
        ]
        return [f"resources{suffix}={','.join(resources)}", *self._conditions(suffix)]

    def _conditions(self, suffix: str = "") -> list[str]:
        """On traits, aggregates and trees, each seldom."""
        rng = self._rng
        trait, other = rng.sample(TRAITS, 2)
        aggregate, another = self._aggregates
        conditions = (
            *(
                f"required{suffix}={trait}",
                f"required{suffix}=!{trait},{other}",
                f"required{suffix}=in:{trait},{other}",
            ),
            *(f"member_of{suffix}={aggregate}", f"member_of{suffix}=in:{aggregate},{another}"),
            *(f"member_of{suffix}=!{aggregate}", f"in_tree{suffix}={rng.choice(self._providers)}"),
        )
        return [one for one in conditions if rng.random() < 0.08]

    def list_of_providers(self) -> tuple[str, str, Any]:
        rng = self._rng
        words = self._conditions()
        if rng.random() < 0.5:
            words.append(f"resources={rng.choice(CLASSES)}:{rng.choice((1, 2))}")
        if rng.random() < 0.2:
            words.append(rng.choice((f"name=name {rng.randrange(8)}", f"uuid={rng.choice(self._providers)}")))
        return "GET", f"/resource_providers?{'&'.join(words)}".replace(" ", "%20"), None

    def list_of_names(self) -> tuple[str, str, Any]:
        rng = self._rng
        lists = (
            *("/resource_classes", "/traits?associated=true", "/traits?associated=false"),
            *(f"/traits?name=in:{','.join(TRAITS)}", f"/traits/{rng.choice(TRAITS)}"),
            *(f"/resource_classes/{rng.choice(CLASSES)}", f"/usages?project_id={rng.choice('pq')}&user_id=u"),
            f"/usages?project_id={rng.choice('pq')}&consumer_type={rng.choice(('all', 'unknown', 'INSTANCE'))}",
            self.provider(),
        )
        return "GET", rng.choice(lists), None

    def state(self) -> Iterator[Request]:
        """Requests that together show all state."""
        yield "GET", "/resource_providers", None, "1.39"
        for one in self._providers:
            for part in ("inventories", "traits", "aggregates", "allocations", "usages"):
                yield "GET", f"/resource_providers/{one}/{part}", None, "1.39"
        for one in self._consumers:
            yield "GET", f"/allocations/{one}", None, "1.39"
        yield "GET", "/resource_classes", None, "1.39"
        yield "GET", "/traits?name=startswith:CUSTOM_", None, "1.39"
        for project in ("p", "q"):
            yield "GET", f"/usages?project_id={project}", None, "1.39"
            yield "GET", f"/usages?project_id={project}", None, "1.37"


def comparable(found: Any) -> Any:
    """An answer without what may differ: ids of requests, and the order of lists."""
    if isinstance(found, dict):
        return {name: comparable(value) for name, value in found.items() if name != "request_id"}
    if isinstance(found, list):
        return sorted((comparable(one) for one in found), key=repr)
    if (
        isinstance(found, str) and "Conflicting resource provider" in found
    ):  # uuid or name, where both are taken
        return "Conflicting resource provider"
    if isinstance(found, str) and TAKEN.search(found):
        return TAKEN.sub("", found)
    if isinstance(found, str) and ", " in found:  # names of several classes, in the order of a set
        return sorted(re.split(r"[, ']+", found))
    return found


def answer_of(answer: Answer) -> tuple[int, Any]:
    return answer.status, comparable(answer.body)


def test_random_requests_are_answered_alike() -> None:
    with api_process("placement") as theirs, api_process("sqlite") as ours:
        requests = Requests(random.Random(SEED), theirs)
        for number in range(REQUESTS):
            request = requests.next()
            expected, found = (answer_of(one.request(*request)) for one in (theirs, ours))
            assert found == expected, (SEED, number, request)
        for request in requests.state():
            expected, found = (answer_of(one.request(*request)) for one in (theirs, ours))
            assert found == expected, (SEED, "state", request)
