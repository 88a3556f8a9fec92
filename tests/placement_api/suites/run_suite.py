"""Runs suites of upstream, from the installed packages, on a backend: `python -m tests.placement_api.suites.run_suite sqlite [MODULE …]`.

Without a module it is Placement's HTTP suite: 79 YAML files. A package stands for all its modules `test_…`. The last line is
`passed: N of M`; before it there is a line `failed: NAME: REASON` for each test that did not pass, and `not loaded: MODULE: REASON`
for each module that cannot be imported here. With `--private-names` the modules also get what `private_names` has.
"""

from __future__ import annotations

import pkgutil
import sys
import unittest
from collections.abc import Iterator
from importlib.util import find_spec

HTTP_SUITE = "placement.tests.functional.test_api"
PRIVATE = "--private-names"


def main(kind: str, *names: str) -> int:
    """kind: `placement` for real Placement on SQLite in memory, else a backend of `tests.placement_api.backends`."""
    if kind != "placement":
        from vacancy.placement_api import substitution

        substitution.install(also={"placement.tests.fixtures": "tests.placement_api.suites.database_fixture"})
        from tests.placement_api import backends
        from tests.placement_api.suites import database_fixture

        database_fixture.make_backend.append(backends.MAKERS[kind])
        if PRIVATE in names:
            from tests.placement_api.suites import private_names

            private_names.install()
    suite = unittest.TestSuite()
    wanted = [name for name in names if name != PRIVATE] or [HTTP_SUITE]
    for module in (one for name in wanted for one in modules_of(name)):
        try:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromName(module))
        except AttributeError as error:  # it uses tables of SQL when it is imported
            sys.stdout.write(f"not loaded: {module}: {error}\n")
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    failed = [*result.failures, *result.errors, *result.skipped]
    for test, text in failed:
        sys.stdout.write(f"failed: {test.id()}: {text.strip().splitlines()[-1]}\n")
    wrong = len(failed)
    sys.stdout.write(f"passed: {result.testsRun - wrong} of {result.testsRun}\n")
    return 1 if wrong else 0


def modules_of(name: str) -> Iterator[str]:
    """The modules of tests in a package; a module is its own."""
    spec = find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        yield name
        return
    for module in pkgutil.iter_modules(spec.submodule_search_locations):
        if module.name.startswith("test_"):
            yield f"{name}.{module.name}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
