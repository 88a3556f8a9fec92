"""Runs suites of upstream, from the installed wheel, on a backend: `python -m tests.placement_api.run_gabbi sqlite [MODULE …]`.

Without a module it is the HTTP suite: 79 YAML files. Its last line is `gabbi: N of 1316`; before it there is a line
`failed: NAME: REASON` for each test that did not pass, and `not loaded: MODULE: REASON` for each module that needs SQL.
"""

from __future__ import annotations

import sys
import unittest

SUITE = "placement.tests.functional.test_api"


def main(kind: str, *modules: str) -> int:
    """kind: `placement` for real Placement on SQLite in memory, else a backend of `tests.placement_api.backends`."""
    if kind != "placement":
        from vacancy.placement_api import substitution

        substitution.install(also={"placement.tests.fixtures": "tests.placement_api.database_fixture"})
        from tests.placement_api import backends, database_fixture

        database_fixture.make_backend.append(backends.MAKERS[kind])
    suite = unittest.TestSuite()
    for module in modules or [SUITE]:
        try:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromName(module))
        except AttributeError as error:  # it uses tables of SQL when it is imported
            sys.stdout.write(f"not loaded: {module}: {error}\n")
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    failed = [*result.failures, *result.errors, *result.skipped]
    for test, text in failed:
        sys.stdout.write(f"failed: {test.id()}: {text.strip().splitlines()[-1]}\n")
    wrong = len(failed)
    sys.stdout.write(f"gabbi: {result.testsRun - wrong} of {result.testsRun}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
