"""What is generated in docs/ is up to date with its sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.documentation import (
    api_reference,
    completion_table,
    event_documents,
    flow_picture,
    metrics_reference,
    reference_pages,
)
from vacancy.streams.settings import Settings


def test_the_api_reference_is_up_to_date() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page(), "run `make docs`"


def test_the_picture_of_the_flow_is_up_to_date() -> None:
    assert flow_picture.PICTURE.read_text() == flow_picture.picture(), "run `make docs`"


def test_the_table_of_the_completion_is_up_to_date() -> None:
    assert completion_table.MODULE.read_text() == completion_table.module(), "run `make docs`"


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_the_pages_of_the_reference_are_up_to_date(name: str) -> None:
    assert (reference_pages.REFERENCE / name).read_text() == reference_pages.PAGES[name](), "run `make docs`"


def test_the_documents_of_the_events_are_up_to_date() -> None:
    for name, text in event_documents.documents().items():
        assert (event_documents.REFERENCE / name).read_text() == text, "run `make docs`"


def test_every_event_has_somebody_who_sends_it() -> None:
    types = event_documents.models()
    assert [type_ for type_ in types if not event_documents.senders_of(type_)] == [], "add it to SENDERS"
    names = {type_.removeprefix("vacancy.").rpartition(".")[0] for type_ in types}
    assert {name for sent in event_documents.SENDERS.values() for name in sent} == names


def test_references_in_the_asyncapi_document_lead_somewhere() -> None:
    document = event_documents.asyncapi()
    references = set(_references(document))
    assert len(references) > 100
    for reference in references:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    sent = {
        message["$ref"].rpartition("/")[2]
        for one in document["operations"].values()
        for message in one.get("messages", ())
    }
    assert sent == set(document["channels"]["log"]["messages"])


def _references(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if key == "$ref":
            yield inner
        elif isinstance(inner, dict | list):
            yield from _references(inner)


def test_every_command_option_setting_and_error_is_explained() -> None:
    for path, command in reference_pages.all_commands():
        assert command.help, path
        missing = [
            one.opts for one in command.params if one.opts[0][:1] == "-" and not one.hidden and not one.help
        ]
        assert missing == [], f"{path}: give the option a help text"
    texts = reference_pages.setting_texts()
    assert [name for name in Settings.model_fields if not texts[name]] == [], "give the field a docstring"
    assert [one.name for one in reference_pages.error_classes() if not one.text] == [], "give it a docstring"


def test_every_exit_code_of_an_error_is_in_the_table_of_exit_codes() -> None:
    page = (
        (api_reference.ROOT / "docs/operating.md")
        .read_text()
        .partition("## Exit codes")[2]
        .partition("\n## ")[0]
    )
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)}
    assert {one.exit_code for one in reference_pages.error_classes()} <= named


def test_the_reference_of_metrics_is_up_to_date() -> None:
    assert metrics_reference.PAGE.read_text() == metrics_reference.page(), "run `make docs`"


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
