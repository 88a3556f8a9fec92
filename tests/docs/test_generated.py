"""What is generated in docs/ is up to date with its sources."""

from __future__ import annotations

from tests.support import api_reference, completion_table, flow_picture


def test_the_api_reference_is_up_to_date() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page(), "run `make docs`"


def test_the_picture_of_the_flow_is_up_to_date() -> None:
    assert flow_picture.PICTURE.read_text() == flow_picture.picture(), "run `make docs`"


def test_the_table_of_the_completion_is_up_to_date() -> None:
    assert completion_table.MODULE.read_text() == completion_table.module(), "run `make docs`"


def test_every_public_name_has_a_docstring() -> None:
    undocumented = [
        heading
        for heading, text in _sections(api_reference.page())
        if heading.startswith("`") and not text.partition("```\n")[2].strip() and "`from vacancy" not in text
    ]
    assert undocumented == []


def _sections(page: str) -> list[tuple[str, str]]:
    parts = [part.partition("\n") for part in page.split("\n#### ")[1:]]
    return [(heading, text.partition("\n##")[0]) for heading, _, text in parts]
