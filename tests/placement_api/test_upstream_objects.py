"""Upstream's functional tests that speak to objects, from the installed wheel, on a log in SQLite.

They are written for the SQL of Placement's objects. Those that cannot pass here are listed with the reason; all others must pass.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long
"""`test_gabbi.py` is the short form: upstream's tests that speak HTTP."""

DB = "placement.tests.functional.db."
NOT_LOADED = {"test_consumer": "it names the SQL tables of consumers when it is imported"}
SQL = "it needs SQL: a session, or a function that writes SQL"
NUMBERS = "it compares ids that are numbers; here they are uuids and names"
CANNOT = {
    "test_allocation.TestAllocationListCreateDelete": {
        "test_create_and_clear": "two allocations of one class and provider for a consumer; HTTP has no words for that, here they add up",
        "test_change_allocation_over_capacity_ratio": SQL,
        "test_change_allocation_over_capacity_reserved": SQL,
        "test_set_allocations_retry": "it counts Placement's retries; a transaction of the log needs none",
    },
    "test_attribute_cache.TestAttributeCache": {
        "test_no_super_instance": "it names a private class of Placement's"
    },
    "test_attribute_cache.TestResourceClassCache": {
        "test_rc_cache_custom": SQL,
        "test_rc_cache_std_db": SQL,
        "test_standard_has_time_fields": SQL,
    },
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
        "test_destroy_foreign_key": SQL,
    },
    "test_resource_provider.TestEnsureAggregateRetry": {
        "test_retry_failsover": SQL,
        "test_retry_happens": SQL,
    },
}
"""Class -> test -> why it cannot pass. `test_migrations` and `cmd` are about Placement's tables, and are not run."""

MODULES = (
    *(
        f"{DB}test_{name}"
        for name in ("allocation", "attribute_cache", "base", "consumer", "consumer_type", "project")
    ),
    *(
        f"{DB}test_{name}"
        for name in ("reshape", "resource_class", "resource_provider", "trait", "usage", "user")
    ),
    *(
        f"placement.tests.functional.test_{name}"
        for name in ("allocation", "direct", "lib_sync", "verify_policy")
    ),
)


def test_all_but_the_listed_ones_pass() -> None:
    command = [sys.executable, "-m", "tests.placement_api.run_gabbi", "sqlite", *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = set(re.findall(r"^failed: (\S+?): ", done.stdout, re.M))
    expected = {f"{DB}{kind}.{test}" for kind, tests in CANNOT.items() for test in tests}
    assert failed == expected, done.stderr[-5_000:]
    not_loaded = re.findall(r"^not loaded: (\S+?): ", done.stdout, re.M)
    assert not_loaded == [DB + name for name in NOT_LOADED]
    sys.stdout.write(done.stdout.splitlines()[-1] + "\n")
