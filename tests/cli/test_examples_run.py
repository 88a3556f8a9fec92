"""Each example of the help does what its comment says: all of them are run, on hosts that have what they are about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.documentation.example_runs import GROUPS
from tests.support.documentation.example_site import REPLACED, ExampleSite, make_bases
from vacancy.cli.examples import EXAMPLES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleSite]:
    """A host; it begins again for each group."""
    bases = tmp_path_factory.mktemp("bases")
    make_bases(bases)
    with ExampleSite(tmp_path_factory.mktemp("host"), bases) as made:
        yield made


def test_each_example_is_run() -> None:
    runs = {command: len(some) for group in GROUPS.values() for command, some in group.runs.items()}
    assert sum(len(group.runs) for group in GROUPS.values()) == len(runs), "a command is in two groups"
    assert runs == {command: len(examples) for command, examples in EXAMPLES.items()}, (
        "say in tests/support/documentation/example_runs.py how the example is run"
    )


def test_all_that_is_replaced_is_in_an_example() -> None:
    lines = [f" {line}" for examples in EXAMPLES.values() for _, line in examples]
    assert [text for text in REPLACED if not any(text in line for line in lines)] == []


@pytest.mark.parametrize("name", GROUPS)
def test_the_examples_do_what_they_say(name: str, site: ExampleSite) -> None:
    site.begin_group(GROUPS[name])
    for command, runs in GROUPS[name].runs.items():
        for (_, line), how in zip(EXAMPLES[command], runs, strict=True):
            site.run(line, how)
