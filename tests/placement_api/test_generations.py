"""When the generations that clients see rise: what upstream's suites do not notice, checked on real Placement too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.placement_api.api_process import Api, api_process


@pytest.fixture(scope="module", params=["placement", "memory", "sqlite"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with api_process(request.param) as running:
        yield running


@dataclass
class Client:
    """Requests in few words, each with the status that it must have, on providers and consumers of one test."""

    api: Api

    def __post_init__(self) -> None:
        self.a, self.b, self.c1, self.c2, self.aggregate = (str(uuid4()) for _ in range(5))

    def ask(self, status: int, method: str, path: str, body: Any = None, version: str = "1.39") -> Any:
        answer = self.api.request(method, path, body, version)
        assert answer.status == status, (method, path, body, answer.body)
        return answer.body

    def generation(self, provider: str) -> int:
        found: int = self.ask(200, "GET", f"/resource_providers/{provider}")["generation"]
        return found

    def consumer_generation(self, consumer: str) -> int | None:
        found: int | None = self.ask(200, "GET", f"/allocations/{consumer}").get("consumer_generation")
        return found

    def allocate(
        self, consumer: str, status: int = 204, generation: int | None = None, **amounts: int
    ) -> None:
        providers = {"a": self.a, "b": self.b}
        body = self.claim(generation, {providers[name]: used for name, used in amounts.items()})
        self.ask(status, "PUT", f"/allocations/{consumer}", body)

    def claim(self, generation: int | None, amounts: dict[str, int]) -> dict[str, Any]:
        """What a consumer is to hold: provider -> VCPU."""
        return {
            "allocations": {uuid: {"resources": {"VCPU": used}} for uuid, used in amounts.items()},
            "consumer_generation": generation,
            "consumer_type": "INSTANCE",
            "project_id": "p",
            "user_id": "u",
        }


@pytest.fixture
def client(api: Api) -> Client:
    """Two providers with 10 VCPU each, at generation 1."""
    found = Client(api)
    for uuid in (found.a, found.b):
        found.ask(200, "POST", "/resource_providers", {"name": uuid, "uuid": uuid})
        found.ask(200, "PUT", f"/resource_providers/{uuid}/inventories", inventories(0, VCPU=10))
    return found


def inventories(generation: int, **totals: int) -> dict[str, Any]:
    found = {name: {"total": total} for name, total in totals.items()}
    return {"resource_provider_generation": generation, "inventories": found}


def test_an_inventory_raises_the_generation_also_when_it_is_identical(client: Client) -> None:
    for generation in (1, 2):
        client.ask(
            200, "PUT", f"/resource_providers/{client.a}/inventories", inventories(generation, VCPU=10)
        )
    assert client.generation(client.a) == 3
    for generation in (3, 4):
        client.ask(200, "PUT", f"/resource_providers/{client.a}/inventories", inventories(generation))
    assert client.generation(client.a) == 5


def test_each_change_of_one_inventory_raises_it_by_one(client: Client) -> None:
    """A new one compares nothing."""
    path = f"/resource_providers/{client.a}/inventories"
    one = {"total": 4, "resource_provider_generation": 1}
    client.ask(201, "POST", path, {**one, "resource_class": "MEMORY_MB", "resource_provider_generation": 0})
    for generation in (2, 3):
        client.ask(200, "PUT", f"{path}/MEMORY_MB", {**one, "resource_provider_generation": generation})
    assert client.generation(client.a) == 4
    client.ask(204, "DELETE", f"{path}/MEMORY_MB")
    assert client.generation(client.a) == 5
    client.ask(204, "DELETE", path)
    assert client.generation(client.a) == 6
    client.ask(204, "DELETE", path)
    assert client.generation(client.a) == 7


def test_a_generation_that_is_too_old_is_refused_and_raises_nothing(client: Client) -> None:
    path = f"/resource_providers/{client.a}"
    old = {"resource_provider_generation": 0}
    client.ask(409, "PUT", f"{path}/inventories", inventories(0, VCPU=10))
    client.ask(409, "PUT", f"{path}/inventories/VCPU", {**old, "total": 10})
    client.ask(409, "PUT", f"{path}/traits", {**old, "traits": ["HW_CPU_X86_AVX"]})
    client.ask(409, "PUT", f"{path}/traits", {**old, "traits": []})
    client.ask(409, "PUT", f"{path}/aggregates", {**old, "aggregates": []})
    for of_b in (0, 2):
        listed = {client.a: inventories(1, VCPU=10), client.b: inventories(of_b, VCPU=10)}
        client.ask(409, "POST", "/reshaper", {"inventories": listed, "allocations": {}})
    assert (client.generation(client.a), client.generation(client.b)) == (1, 1)


def test_aggregates_raise_it_from_1_19_on_also_identical_ones(client: Client) -> None:
    path = f"/resource_providers/{client.a}/aggregates"
    for generation in (1, 2):
        body = {"aggregates": [client.aggregate], "resource_provider_generation": generation}
        client.ask(200, "PUT", path, body)
    assert client.generation(client.a) == 3
    client.ask(200, "PUT", path, [], "1.18")
    assert client.generation(client.a) == 3
    client.ask(409, "PUT", path, {"aggregates": [], "resource_provider_generation": 2})


def test_traits_raise_it_only_where_the_set_changes(client: Client) -> None:
    path = f"/resource_providers/{client.a}/traits"
    for _ in range(2):
        body = {"traits": ["HW_CPU_X86_AVX"], "resource_provider_generation": client.generation(client.a)}
        client.ask(200, "PUT", path, body)
        assert client.generation(client.a) == 2
    client.ask(204, "DELETE", path)
    assert client.generation(client.a) == 3
    client.ask(204, "DELETE", path)
    assert client.generation(client.a) == 3


def test_a_name_and_a_parent_do_not_raise_it(client: Client) -> None:
    client.ask(200, "PUT", f"/resource_providers/{client.a}", {"name": f"other {client.a}"})
    client.ask(
        200,
        "PUT",
        f"/resource_providers/{client.a}",
        {"name": f"other {client.a}", "parent_provider_uuid": client.b},
    )
    assert (client.generation(client.a), client.generation(client.b)) == (1, 1)


def test_allocations_raise_each_provider_in_the_new_list_once(client: Client) -> None:
    client.allocate(client.c1, a=1, b=1)
    assert (
        client.generation(client.a),
        client.generation(client.b),
        client.consumer_generation(client.c1),
    ) == (2, 2, 1)


def test_two_classes_of_a_provider_raise_it_once(client: Client) -> None:
    client.ask(200, "PUT", f"/resource_providers/{client.a}/inventories", inventories(1, VCPU=10, DISK_GB=10))
    body = client.claim(None, {client.a: 1})
    body["allocations"][client.a]["resources"]["DISK_GB"] = 2
    client.ask(204, "PUT", f"/allocations/{client.c1}", body)
    assert client.generation(client.a) == 3


def test_before_1_28_a_consumer_is_replaced_whatever_its_generation(client: Client) -> None:
    for generation in (1, 2):
        body = client.claim(None, {client.a: generation})
        del body["consumer_generation"], body["consumer_type"]
        client.ask(204, "PUT", f"/allocations/{client.c1}", body, "1.27")
        assert (client.generation(client.a), client.consumer_generation(client.c1)) == (
            generation + 1,
            generation,
        )


def test_a_provider_that_is_left_behind_is_not_raised(client: Client) -> None:
    client.allocate(client.c1, a=1)
    client.allocate(client.c1, generation=1, b=1)
    assert (
        client.generation(client.a),
        client.generation(client.b),
        client.consumer_generation(client.c1),
    ) == (2, 2, 2)


def test_several_consumers_of_one_write_raise_a_provider_once(client: Client) -> None:
    one = client.claim(None, {client.a: 1})
    client.ask(204, "POST", "/allocations", {client.c1: one, client.c2: one})
    assert (
        client.generation(client.a),
        client.consumer_generation(client.c1),
        client.consumer_generation(client.c2),
    ) == (2, 1, 1)


def test_empty_allocations_raise_what_was_held_and_end_the_consumer(client: Client) -> None:
    client.allocate(client.c1, a=1, b=1)
    client.allocate(client.c1, generation=1)
    assert (
        client.generation(client.a),
        client.generation(client.b),
        client.consumer_generation(client.c1),
    ) == (3, 3, None)
    client.allocate(client.c1, a=1)
    assert client.consumer_generation(client.c1) == 1


def test_what_moves_from_one_consumer_to_another_raises_a_provider_once(client: Client) -> None:
    """As nova moves what an instance holds to its migration; the provider is full before and after."""
    client.allocate(client.c1, a=10)
    moved = {client.c1: client.claim(1, {}), client.c2: client.claim(None, {client.a: 10})}
    client.ask(204, "POST", "/allocations", moved)
    assert (
        client.generation(client.a),
        client.consumer_generation(client.c1),
        client.consumer_generation(client.c2),
    ) == (3, None, 1)
    back = {
        client.c1: client.claim(None, {client.a: 4, client.b: 1}),
        client.c2: client.claim(1, {client.a: 6}),
    }
    client.ask(204, "POST", "/allocations", back)
    assert (client.generation(client.a), client.generation(client.b)) == (4, 2)
    exchanged = {
        client.c1: client.claim(1, {client.a: 6}),
        client.c2: client.claim(2, {client.a: 5, client.b: 1}),
    }
    client.ask(409, "POST", "/allocations", exchanged)
    exchanged[client.c2] = client.claim(2, {client.a: 4, client.b: 1})
    client.ask(204, "POST", "/allocations", exchanged)
    assert (client.generation(client.a), client.generation(client.b)) == (5, 3)


def test_a_deletion_raises_nothing_and_the_consumer_begins_again(client: Client) -> None:
    client.allocate(client.c1, a=1)
    client.ask(204, "DELETE", f"/allocations/{client.c1}")
    assert client.generation(client.a) == 2
    client.allocate(client.c1, 409, generation=1, a=1)
    client.allocate(client.c1, a=1)
    assert (client.generation(client.a), client.consumer_generation(client.c1)) == (3, 1)


def test_a_reshape_raises_by_one_two_or_three(client: Client) -> None:
    client.ask(200, "POST", "/resource_providers", {"name": client.c2, "uuid": client.c2})
    client.allocate(client.c1, a=2)
    body = {
        "inventories": {
            client.a: inventories(2),
            client.b: inventories(1, VCPU=10),
            client.c2: inventories(0, DISK_GB=10),
        },
        "allocations": {client.c1: client.claim(1, {client.b: 1})},
    }
    client.ask(204, "POST", "/reshaper", body)
    assert [client.generation(one) for one in (client.a, client.b, client.c2)] == [3, 4, 2]
    assert client.consumer_generation(client.c1) == 2


def test_a_refused_write_raises_nothing(client: Client) -> None:
    client.allocate(client.c1, 409, a=11)
    assert (client.generation(client.a), client.consumer_generation(client.c1)) == (1, None)
    client.allocate(client.c1, a=1, b=1)
    client.allocate(client.c1, 409, generation=1, a=1, b=11)
    client.allocate(client.c1, 409, generation=7, a=1)
    assert (
        client.generation(client.a),
        client.generation(client.b),
        client.consumer_generation(client.c1),
    ) == (2, 2, 1)


def test_over_capacity_is_let_pass_where_the_use_does_not_rise(client: Client) -> None:
    for consumer, used in ((client.c1, 6), (client.c2, 4)):
        client.allocate(consumer, a=used)
    client.ask(200, "PUT", f"/resource_providers/{client.a}/inventories", inventories(3, VCPU=6))
    client.allocate(client.c1, 409, generation=1, a=7)
    client.allocate(client.c1, generation=1, a=5)
    client.allocate(client.c1, generation=2, a=5)
