"""Expressions: what compiles, what is refused and how, and what they mean, by the library's own evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import celpy
import numpy as np
import pytest
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from tests.docs import expression_page
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.models.memory_fleets import fleet_of
from tests.support.queries import find
from vacancy.clients.request_language.expressions.cel_compiler import compile_condition
from vacancy.clients.request_language.expressions.expression_predicates import expressed, most
from vacancy.projections.query import engine
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.predicate_ast import test
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.attributes import holds, version_key
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec

test.__test__ = False  # type: ignore[attr-defined]

REFUSED = [
    line.split("  ->  ")
    for line in """\
attributes.x >=  ->  the expression ends too early (where, character 16: )
attributes.x = 1  ->  the expression does not compile (where, character 14: = 1)
attributes.x == 'a  ->  the expression does not compile (where, character 17: 'a)
attributes.x == "a\\q"  ->  \\q is not an escape sequence (where, character 17: "a\\q")
attributes.x == "\\ud800"  ->  \\ud800 is not an escape sequence (where, character 17: "\\ud800")
  ->  the expression is empty (where)
attributes.v >= 8.2  ->  numbers with a fraction are not supported (where, character 17: 8.2); write a version
attributes.v >= version("apple")  ->  this is not a version (where, character 25: "apple")
attributes.v in [version("apple")]  ->  this is not a version (where, character 26: "apple")
attributes.v >= version(8)  ->  this is not a version (where, character 25: 8)
"apple" >= version("8.2")  ->  text is compared with a version (where, character 1: "apple" >= version("8.2"))
version("8.2") == "8.2"  ->  a version is compared with text
version("8.2") < 9  ->  a version is compared with a number
attributes.v >= "8.2"  ->  text has no order (where, character 1: attributes.v >= "8.2"); write version("8.2")
attributes.b < true  ->  true or false has no order
attributes.x == attributes.y  ->  two attributes are compared, and their types are unknown
version(attributes.x) == version(attributes.y)  ->  two attributes are compared
"a" == "a"  ->  two constants are compared
1 < 2  ->  nothing of a provider is compared
VCPU.free == "a"  ->  a number is compared with text
VCPU.free == version("1")  ->  a number is compared with a version
attributes.x in ["a", 1]  ->  the list mixes types (where, character 17: ["a", 1])
attributes.x in attributes.y  ->  `in` takes a list, traits or aggregates
attributes.x in [attributes.y]  ->  the list has more than constants
attributes.X == 1  ->  this can name no attribute (where, character 1: attributes.X)
cpu_model == "x"  ->  cpu_model is not a value (where, character 1: cpu_model); write attributes.cpu_model
traits == "x"  ->  traits is not a value
traits.HW_X == "x"  ->  traits have no fields (where, character 1: traits.HW_X); write "NAME" in traits
VCPU.fre >= 4  ->  VCPU has no column fre (where, character 1: VCPU.fre); it has free, capacity
CPU.free >= 4  ->  unknown resource class 'CPU' (where, character 1: CPU); did you mean
"HW_CPU_AVX9" in traits  ->  unknown trait 'HW_CPU_AVX9' (where, character 1: "HW_CPU_AVX9"); did you mean
HW_CPU_X86_AVX2 in traits  ->  a name is a text
"a b" in aggregates  ->  this can name no aggregate
VCPU.free  ->  this is not a condition (where, character 1: VCPU.free); compare it
VCPU.free * VCPU.free > 1  ->  amounts are only added, subtracted and multiplied by a number
VCPU.free / 2 > 1  ->  amounts are only added, subtracted and multiplied by a number
VCPU.free * 1048577 > 1  ->  up to 8 amounts are added up, each up to 1048576 times
VCPU.free > 9007199254740992  ->  this number is larger than any amount
attributes.x == 9007199254740992  ->  this number is larger than any amount
attributes.x == 99999999999999999999999999999999  ->  this number is larger than any amount
has(traits)  ->  has() takes one attribute
size(attributes.x) > 1  ->  there is no function size(…) here (where, character 1: size(attributes.x))
attributes.x.matches("(a+)+$")  ->  functions of values, macros and regular expressions are not supported
[1, 2].all(x, x > 1)  ->  functions of values, macros and regular expressions are not supported
attributes.x.map(y, y.map(z, z))  ->  functions of values, macros and regular expressions are not supported
{"a": 1} == attributes.x  ->  maps are not supported
attributes.x ? true : false  ->  this is not a condition
attributes.x == null  ->  null is not supported (where, character 17: null); ask has(attributes.x)
attributes.x == 2u  ->  unsigned numbers are not supported (where, character 17: 2u)
attributes.x == b"a"  ->  bytes are not supported
attributes["x"]["y"] == 1  ->  this cannot be compared
attributes[1] == 1  ->  the key in [] is not a text
.attributes.x == 1  ->  a name must not start with a dot""".splitlines()
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_invalid_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_condition(text, REGISTRY)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 4097,
        "!" * 4000 + "attributes.x",
        "attributes" + ".x" * 1900,
        "1" + "+1" * 2000 + " > VCPU.free",
        "1" + "<1" * 2000,
        "[" * 2000 + "1" + "]" * 2000,
        "-" * 4000 + "1 > VCPU.free",
        "has(" * 900 + "attributes.x" + ")" * 900,
    ],
)
def test_what_is_too_long_or_too_deep_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError, match=r"too long|more than 32 deep|takes one attribute"):
        compile_condition(text, REGISTRY)


def test_many_conditions_and_parentheses_are_no_depth() -> None:
    flat = " && ".join(f"attributes.x != {n}" for n in range(150))
    assert len(compile_condition(flat, REGISTRY).parts) == 150
    found = compile_condition("(" * 1000 + "attributes.x == 1" + ")" * 1000, REGISTRY)
    assert [text for text, _ in found.parts] == ["(" * 1000 + "attributes.x == 1" + ")" * 1000] or len(
        found.parts
    ) == 1


def test_each_conjunct_keeps_its_text() -> None:
    found = compile_condition(
        'attributes.a == true && (attributes.b  in ["x"] && !has(attributes.c)) // why\n && true', REGISTRY
    )
    assert [text for text, _ in found.parts] == [
        "attributes.a == true",
        'attributes.b  in ["x"]',
        "!has(attributes.c)",
        "true",
    ]


# -- what they mean -------------------------------------------------------------------------------------------

NUMBERS = (-1, 0, 1, 2, 64)
TEXTS = ("", "Milan", "Rome", "8.2", "8.10.1", "8.2.0-rc1", "10")
TRAITS = ("HW_CPU_X86_AVX2", "CUSTOM_RED")
AGGREGATES = ("rack-1", "rack-2")
VERSIONS = ("8.2", "8.10", "9", "8.2.0.0")
NAMES = ("n", "t", "b", "m")

values: Mapping[str, st.SearchStrategy[Any]] = {
    "n": st.sampled_from(NUMBERS),
    "t": st.sampled_from(TEXTS),
    "b": st.booleans(),
    # Of any type but true and false, which the library's evaluator takes for numbers.
    "m": st.sampled_from((*NUMBERS, *TEXTS)),
}


@st.composite
def nodes(draw: st.DrawFn) -> dict[str, Any]:
    said = {name: draw(value) for name, value in values.items() if draw(st.booleans())}
    return {
        "attributes": said,
        "traits": sorted(draw(st.sets(st.sampled_from(TRAITS)))),
        "aggregates": sorted(draw(st.sets(st.sampled_from(AGGREGATES)))),
        "VCPU": draw(st.integers(1, 8)),
    }


RELATIONS = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
EQUAL = st.sampled_from(("==", "!="))


def _quoted(text: str) -> str:
    return json.dumps(text)


leaves = st.one_of(
    st.builds("attributes.{} {} {}".format, st.sampled_from("nm"), RELATIONS, st.sampled_from(NUMBERS)),
    st.builds("{1} {2} attributes.{0}".format, st.sampled_from("nm"), st.sampled_from(NUMBERS), RELATIONS),
    st.builds(
        "attributes.{} {} {}".format, st.sampled_from("tm"), EQUAL, st.sampled_from(TEXTS).map(_quoted)
    ),
    st.builds("attributes.b {} {}".format, EQUAL, st.sampled_from(("true", "false"))),
    st.just("attributes.b"),
    st.builds(
        'version(attributes.{}) {} version("{}")'.format,
        st.sampled_from("tm"),
        RELATIONS,
        st.sampled_from(VERSIONS),
    ),
    st.builds("has(attributes.{})".format, st.sampled_from(NAMES)),
    st.builds(
        "attributes.{} in {}".format,
        st.sampled_from("tm"),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(json.dumps),
    ),
    st.builds(
        "attributes.{} in {}".format,
        st.sampled_from("nm"),
        st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3).map(json.dumps),
    ),
    st.builds('"{}" in traits'.format, st.sampled_from(TRAITS)),
    st.builds('"{}" in aggregates'.format, st.sampled_from(AGGREGATES)),
)
soft = st.one_of(
    st.builds("VCPU.free {} {}".format, RELATIONS, st.integers(0, 8)),
    st.builds("VCPU.capacity - VCPU.free {} {}".format, RELATIONS, st.integers(0, 1)),
    st.builds("2 * VCPU.free - attributes.n {} 3 - attributes.m".format, RELATIONS),
    st.builds("5000 * VCPU.free - 3000 * VCPU.capacity {} 4000".format, RELATIONS),
    st.builds("VCPU.free in {}".format, st.lists(st.integers(1, 8), min_size=1, max_size=3).map(json.dumps)),
)


def grown(leaf: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            inner.map("!({})".format),
            st.lists(inner, min_size=2, max_size=3).map(lambda them: " && ".join(f"({one})" for one in them)),
            st.lists(inner, min_size=2, max_size=3).map(lambda them: " || ".join(f"({one})" for one in them)),
        ),
        max_leaves=6,
    )


def _version(text: Any) -> celtypes.IntType:
    key = version_key(str(text)) if isinstance(text, str) else None
    if key is None:
        raise ValueError
    return celtypes.IntType(sum(part * 1000 ** (5 - at) for at, part in enumerate(key)))


_ENVIRONMENT = celpy.Environment()


def by_the_library(text: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a node matches: only if the evaluator says true. It says neither of what is not there, or of another
    type."""
    program = _ENVIRONMENT.program(_ENVIRONMENT.compile(text), functions={"version": _version})

    def matches(node: dict[str, Any]) -> bool:
        vcpu = {"free": node["VCPU"], "capacity": node["VCPU"]}
        context = {k: json_to_cel(v) for k, v in {**node, "VCPU": vcpu}.items()}
        try:
            return bool(program.evaluate(context))
        except CELEvalError:
            return False

    return matches


def view_of(some: list[dict[str, Any]]) -> tuple[FleetView, list[int]]:
    """A view of these nodes, with the row of each; half of what they say is their operators'."""
    tape = Tape()
    cell = tape.cells[0]
    for number, node in enumerate(some):
        facts: dict[str, Any] = {"aggregates": node["aggregates"]}
        report = provider(f"n{number}", None, node["traits"], VCPU=node["VCPU"])
        if number % 2:
            facts["attributes"] = node["attributes"]
            report["attributes"] = {"n": 77} if "n" in node["attributes"] else {}
        else:
            report["attributes"] = node["attributes"]
        tape.append(cell, reported(f"n{number}", [report]))
        tape.append(
            cell,
            event("facts.set.v1", {"provider": f"n{number}", "revision": 1, "facts": facts}, f"f{number}"),
        )
    view = fleet_of(tape).view()
    return view, [view.row_of[f"{cell}\0n{number}".encode()] for number in range(len(some))]


@settings(max_examples=150, deadline=None)
@given(grown(leaves | soft), st.lists(nodes(), min_size=1, max_size=8))
def test_an_expression_holds_where_the_library_says_so(text: str, some: list[dict[str, Any]]) -> None:
    view, rows = view_of(some)
    expected = by_the_library(text)
    expression = compile_condition(text, REGISTRY)
    everywhere = np.logical_and.reduce([test(t, view)(slice(0, view.size)) for _, t in expression.parts])
    among = np.logical_and.reduce([test(t, view)(np.array(rows)) for _, t in expression.parts])
    for node, row, few in zip(some, rows, among, strict=True):
        assert bool(everywhere[row]) == bool(few) == expected(node), (text, node)


@settings(max_examples=150, deadline=None)
@given(grown(leaves), st.lists(nodes(), min_size=2, max_size=8))
def test_what_a_claim_says_is_no_less_than_what_was_asked_for(text: str, some: list[dict[str, Any]]) -> None:
    """Where an expression holds, its predicates hold; and where they hold, so does the expression."""
    view, rows = view_of(some)
    expression = compile_condition(text, REGISTRY)
    matches = by_the_library(text)
    for node, row in zip(some, rows, strict=True):
        if not matches(node):
            continue
        said = to_builtins(expressed(expression, view, row, "it"))
        assert len(said) <= most(expression)
        assert all(_true(one, node) for one in said)
        for other in some:
            if all(_true(one, other) for one in said):
                assert matches(other), (text, said, other)


def _true(predicate: dict[str, Any], node: dict[str, Any]) -> bool:
    if predicate["kind"] == "attribute":
        found = node["attributes"].get(predicate["name"])
        return holds(
            found,
            predicate.get("operator", "=="),
            predicate.get("value"),
            version=predicate.get("version", False),
        )
    names = node["traits"] if predicate["kind"] == "trait" else node["aggregates"]
    return (predicate["value"] in names) is not predicate.get("negate", False)


@settings(max_examples=100, deadline=None)
@given(grown(leaves | soft), st.lists(nodes(), min_size=1, max_size=8))
def test_a_claim_of_an_expression_with_amounts_can_always_be_made(
    text: str, some: list[dict[str, Any]]
) -> None:
    """Even where amounts changed since the provider was found, so that no branch holds any more."""
    view, rows = view_of(some)
    expression = compile_condition(text, REGISTRY)
    for row in rows:
        assert all(one.provider == "it" for one in expressed(expression, view, row, "it"))


def test_candidates_are_those_that_match() -> None:
    base: dict[str, Any] = {"traits": [], "aggregates": [], "VCPU": 4}
    some = [{**base, "attributes": {"v": v}} for v in ("8.1.9", "8.2", "8.10", "apple", 9, True)]
    view, _ = view_of(some)
    spec = RequestSpec.model_validate_json(
        json.dumps({"groups": [{"resources": {"VCPU": 1}, "where": 'attributes.v >= version("8.2")'}]})
    )
    with pytest.raises(UsageError, match="not compiled"):
        engine.find(view, CompiledRequest(spec), limit=10, order=RANDOM, rng=np.random.default_rng(1))
    found = find(view, spec, limit=10, order=RANDOM, rng=np.random.default_rng(1))
    assert {one.root for one in found} == {"n1", "n2"}


# -- the page -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_view() -> FleetView:
    tape = Tape()
    cell = tape.cells[0]
    for node in expression_page.fleet():
        aggregates = node.pop("aggregates")
        tape.append(cell, reported(node["id"], [node]))
        facts = {"provider": node["id"], "revision": 1, "facts": {"aggregates": aggregates}}
        tape.append(cell, event("facts.set.v1", facts, f"f-{node['id']}"))
    return fleet_of(tape).view()


@pytest.mark.parametrize(("text", "nodes"), expression_page.matches())
def test_the_page_says_what_matches(page_view: FleetView, text: str, nodes: set[str]) -> None:
    rows = np.arange(page_view.size)
    for _, tree in compile_condition(text, REGISTRY).parts:
        rows = rows[test(tree, page_view)(rows)]
    assert {page_view.name(row)[1] for row in rows.tolist()} == nodes


@pytest.mark.parametrize(("text", "said"), expression_page.refused())
def test_the_page_says_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_condition(text, REGISTRY)
    assert caught.value.what == said
