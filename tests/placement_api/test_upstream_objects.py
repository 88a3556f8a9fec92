"""Upstream's functional tests that speak to objects, from the installed wheel, on a log in SQLite.

They are written for the SQL of Placement's objects. Those that cannot pass here are listed with the reason; all others must pass.
Some only look something up by SQL or name a table: `private_names` gives them that.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

pytestmark = pytest.mark.long
"""`test_gabbi.py` is the short form: upstream's tests that speak HTTP."""

FUNCTIONAL = "placement.tests.functional."
SQL = "it writes rows by SQL"
NUMBERS = "it compares ids that are numbers; here they are uuids and names"
RETRY = "it counts Placement's retries of a transaction of SQL; one of the log needs none"
CANNOT = {
    "test_allocation.TestAllocationListCreateDelete": {
        "test_create_and_clear": "two allocations of one class and provider for a consumer; HTTP has no words for that, here they add up",
        "test_set_allocations_retry": RETRY,
    },
    "test_attribute_cache.TestAttributeCache": {
        "test_no_super_instance": "it wants the text of an assertion about a table in a private class"
    },
    "test_attribute_cache.TestResourceClassCache": {"test_rc_cache_custom": SQL},
    "test_consumer.ConsumerTestCase": {"test_create_and_get": NUMBERS},
    "test_consumer.CreateIncompleteConsumersTestCase": {"test_create_incomplete_consumers": SQL},
    "test_project.ProjectTestCase": {"test_create_and_get": NUMBERS},
    "test_user.UserTestCase": {"test_create_and_get": NUMBERS},
    "test_resource_class.ResourceClassListTestCase": {"test_get_all_with_custom": SQL},
    "test_resource_class.ResourceClassTestCase": {
        "test_create_duplicate_id_retry": "it makes the numbers of classes collide; a class is its name here",
        "test_create_duplicate_id_retry_failing": "it makes the numbers of classes collide; a class is its name here",
    },
    "test_resource_provider.ResourceProviderTestCase": {
        "test_create_resource_provider": NUMBERS,
        "test_set_traits_for_resource_provider": NUMBERS,
        "test_destroy_foreign_key": "it looks at a row of SQL inside a private function",
    },
    "test_resource_provider.TestEnsureAggregateRetry": {
        "test_retry_failsover": RETRY,
        "test_retry_happens": RETRY,
    },
}
"""Class of functional/db -> test -> why it cannot pass. `test_migrations` and `cmd` are about Placement's tables, and are not run."""

DB_MODULES = (
    *(
        "allocation",
        "allocation_candidates",
        "attribute_cache",
        "base",
        "consumer",
        "consumer_type",
        "project",
    ),
    *("reshape", "resource_class", "resource_provider", "trait", "usage", "user"),
)
MODULES = ("allocation", "allocation_candidates", "direct", "lib_sync", "verify_policy")


@pytest.mark.parametrize(
    ("folder", "modules", "cannot", "count"),
    [("db.", DB_MODULES, CANNOT, 166), ("", MODULES, {}, 31)],
    ids=["functional-db", "functional"],
)
def test_all_but_the_listed_ones_pass(
    folder: str, modules: tuple[str, ...], cannot: Mapping[str, Mapping[str, str]], count: int
) -> None:
    command = [sys.executable, "-m", "tests.placement_api.suites.run_suite", "sqlite", "--private-names"]
    names = [f"{FUNCTIONAL}{folder}test_{name}" for name in modules]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    failed = set(re.findall(r"^failed: (\S+?): ", done.stdout, re.M))
    expected = {f"{FUNCTIONAL}{folder}{kind}.{test}" for kind, tests in cannot.items() for test in tests}
    assert failed == expected, done.stderr[-5_000:]
    last = done.stdout.splitlines()[-1]
    assert last == f"passed: {count - len(expected)} of {count}"
    sys.stdout.write(f"functional/{folder.rstrip('.')} {last}\n")
