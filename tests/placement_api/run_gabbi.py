"""Runs upstream's HTTP suite, from the installed wheel, on a backend of this project: `python -m tests.placement_api.run_gabbi`."""

from __future__ import annotations

import sys
import unittest

from vacancy.placement_api import substitution

substitution.install(also={"placement.tests.fixtures": "tests.placement_api.database_fixture"})

from tests.placement_api import database_fixture
from tests.placement_api.memory_backend import MemoryBackend


def main() -> int:
    names = sys.argv[1:] or ["placement.tests.functional.test_api"]
    database_fixture.make_backend.append(lambda: (MemoryBackend(), lambda: None))
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    wrong = len(result.failures) + len(result.errors)
    print(f"gabbi: {result.testsRun - wrong - len(result.skipped)} of {result.testsRun}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
