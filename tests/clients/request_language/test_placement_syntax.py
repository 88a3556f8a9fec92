"""Queries of OpenStack Placement become requests; an invalid one is an error with what to write instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vacancy.clients.request_language.placement_syntax import RequestText, parse, parse_group, parse_query
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestGroup, RequestSpec, RequestSpecV2

REGISTRY = Registry()


def spec(**wanted: Any) -> RequestSpec:
    return parse(RequestText(**wanted), REGISTRY).spec


def only(**wanted: Any) -> RequestGroup:
    (group,) = spec(**wanted).groups
    return group


def test_amounts() -> None:
    assert only(resources=["VCPU:4,MEMORY_MB:8192"]).resources == {"VCPU": 4, "MEMORY_MB": 8192}
    assert only(resources=["VCPU:4", " CUSTOM_X : 1 "]).resources == {"VCPU": 4, "CUSTOM_X": 1}


def test_traits() -> None:
    group = only(
        resources=["VCPU:1"],
        required=["HW_CPU_X86_AVX2,!CUSTOM_OLD", "in:CUSTOM_A,CUSTOM_B", "in:CUSTOM_C,CUSTOM_D", "CUSTOM_E"],
    )
    assert group.required == ("HW_CPU_X86_AVX2", "CUSTOM_E")
    assert group.forbidden == ("CUSTOM_OLD",)
    assert group.any_traits == (("CUSTOM_A", "CUSTOM_B"), ("CUSTOM_C", "CUSTOM_D"))


def test_aggregates_and_trees() -> None:
    group = only(resources=["VCPU:1"], member_of=["in:a,b", "c", "!d", "!in:e,f"], in_tree="node-1")
    assert group.member_of == (("a", "b"), ("c",))
    assert group.not_member_of == ("d", "e", "f")
    assert group.in_tree == "node-1"


def test_groups() -> None:
    found = spec(
        resources=["VCPU:4"],
        groups=[
            "gpu=CUSTOM_GPU:1;required=CUSTOM_A100,!CUSTOM_OLD;required=in:CUSTOM_X,CUSTOM_Y",
            " nic = SRIOV_NET_VF:2 ; member_of = in:a,b ; in_tree = node-1 ",
        ],
        group_policy="isolate",
    )
    assert found.group_policy == "isolate"
    assert [group.name for group in found.groups] == ["", "gpu", "nic"]
    assert found.groups[1].any_traits == (("CUSTOM_X", "CUSTOM_Y"),)
    assert (found.groups[2].member_of, found.groups[2].in_tree) == ((("a", "b"),), "node-1")


def test_a_query_string_is_read_as_placement_reads_it() -> None:
    parsed = parse_query(
        "/allocation_candidates?resources=VCPU%3A1,MEMORY_MB:512&required=HW_CPU_X86_AVX2&required=in:CUSTOM_A,CUSTOM_B"
        "&member_of=in:a+1,b&resources1=CUSTOM_GPU:1&required1=CUSTOM_A100&resources_NET=SRIOV_NET_VF:1"
        "&in_tree_NET=node-1&group_policy=isolate&limit=5",
        REGISTRY,
    )
    unnamed, first, net = parsed.spec.groups
    assert (parsed.limit, parsed.spec.group_policy) == (5, "isolate")
    assert unnamed.resources == {"VCPU": 1, "MEMORY_MB": 512}
    assert unnamed.any_traits == (("CUSTOM_A", "CUSTOM_B"),)
    assert unnamed.member_of == (("a+1", "b"),)
    assert (first.name, first.required) == ("1", ("CUSTOM_A100",))
    assert (net.name, net.in_tree) == ("_NET", "node-1")


def test_options_and_a_query_say_the_same() -> None:
    by_options = spec(resources=["VCPU:1"], required=["!CUSTOM_X"], groups=["1=CUSTOM_GPU:1"])
    by_query = spec(query="resources=VCPU:1&required=!CUSTOM_X&resources1=CUSTOM_GPU:1")
    by_document = spec(document=by_options.model_dump_json())
    assert by_options == by_query == by_document


def test_a_group_may_ask_for_traits_alone() -> None:
    found = spec(query="resources1=VCPU:1&required_TOP=HW_NUMA_ROOT&same_subtree=_TOP,1")
    assert [(group.name, group.resources) for group in found.groups] == [("1", {"VCPU": 1}), ("_TOP", {})]
    found = spec(groups=["a=VCPU:1", "top=;required=HW_NUMA_ROOT"])
    assert found.groups[1] == RequestGroup(name="top", required=("HW_NUMA_ROOT",))


def test_several_providers_may_serve_the_unnumbered_group_and_only_that() -> None:
    for found in (
        spec(resources=["VCPU:1,DISK_GB:10"], groups=["a=MEMORY_MB:1"]),
        spec(query="resources=VCPU:1,DISK_GB:10&resources_a=MEMORY_MB:1"),
    ):
        assert [group.same_provider for group in found.groups] == [False, True]
    assert only(document='{"groups": [{"resources": {"VCPU": 1}}]}').same_provider


def test_in_tree_without_resources_holds_for_the_other_groups() -> None:
    """What is said of no resources is said of the tree that serves the others."""
    apart = spec(groups=["n=DISK_GB:1", "m=VCPU:1;in_tree=other"], in_tree="dst")
    assert [(one.name, one.in_tree) for one in apart.groups] == [("n", "dst"), ("m", "other")]
    numa = spec(options={"numa": "cells=2,cpus=4,memory_mb=1024"}, in_tree="dst")
    assert {one.in_tree for one in numa.groups} == {"dst"}
    assert all(one.resources for one in numa.groups)
    assert spec(query="resources1=VCPU:1&in_tree=dst").groups[0].in_tree == "dst"
    first, second = spec(
        groups=["n=DISK_GB:1"], required=["CUSTOM_A"], member_of=["rack"], in_tree="dst"
    ).groups
    assert (first.name, first.same_provider, first.required, first.member_of) == (
        "",
        True,
        ("CUSTOM_A",),
        (("rack",),),
    )
    assert (second.name, second.in_tree, second.required) == ("n", "dst", ())
    both = spec(groups=["n=DISK_GB:1"], resources=["VCPU:1"], in_tree="dst").groups
    assert [(one.name, one.in_tree) for one in both] == [("", "dst"), ("n", None)]


def test_what_is_asked_of_the_whole_tree() -> None:
    by_options = spec(
        groups=["a=VCPU:1", "b=VCPU:1", "c=MEMORY_MB:1"],
        root_required=["CUSTOM_A,!CUSTOM_B", "CUSTOM_C"],
        same_subtree=["a,b", "b,c"],
    )
    by_query = spec(
        query="resources_a=VCPU:1&resources_b=VCPU:1&root_required=CUSTOM_A,CUSTOM_C,!CUSTOM_B"
        "&same_subtree=_a,_b&same_subtree=_b,_a,_b"
    )
    assert (by_options.root_required, by_options.root_forbidden) == (("CUSTOM_A", "CUSTOM_C"), ("CUSTOM_B",))
    assert (by_query.root_required, by_query.root_forbidden) == (("CUSTOM_A", "CUSTOM_C"), ("CUSTOM_B",))
    assert by_options.same_subtree == (("a", "b"), ("b", "c"))
    assert by_query.same_subtree == (("_a", "_b"), ("_b", "_a"))


DOCUMENT = json.dumps({"groups": [{"resources": {"VCPUS": 1}}]})


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, "the request is empty; name resources"),
        ({"resources": ["VCPU"]}, r"'VCPU' has no amount \(--resources\); write VCPU:1"),
        ({"resources": ["VCPU:four"]}, r"'VCPU:four' is not an amount \(--resources\)"),
        ({"resources": ["VCPU:0"]}, "whole number from 1 on"),
        ({"resources": ["VCPU:1.5"]}, "'VCPU:1.5' is not an amount"),
        ({"resources": ["VCPU:9007199254740992"]}, "not an amount"),
        ({"resources": ["VCPU:1,,MEMORY_MB:1"]}, "a list has an empty item"),
        ({"resources": ["VCPU:1", "VCPU:2"]}, "VCPU is given twice"),
        ({"resources": ["VCPUS:1"]}, r"unknown resource class 'VCPUS' \(--resources\); did you mean VCPU"),
        ({"resources": ["vcpu:1"]}, "unknown resource class 'vcpu'"),
        (
            {"resources": ["VCPU:1"], "required": ["HW_CPU_X86_AVX22"]},
            r"\(--required\); did you mean HW_CPU_X86_AVX2",
        ),
        ({"resources": ["VCPU:1"], "required": ["CUSTOM_A,in:CUSTOM_B"]}, "an option of its own"),
        ({"resources": ["VCPU:1"], "required": ["!in:CUSTOM_A,CUSTOM_B"]}, "forbid traits one by one"),
        ({"resources": ["VCPU:1"], "required": ["CUSTOM_A,!CUSTOM_A"]}, "both required and forbidden"),
        ({"resources": ["VCPU:1"], "required": ["CUSTOM_a"]}, "required"),
        ({"resources": ["VCPU:1"], "member_of": ["a,b"]}, r"write in:a,b for any of them"),
        ({"resources": ["VCPU:1"], "member_of": ["in:a b"]}, r"'a b' is not a valid name \(--member-of\)"),
        ({"resources": ["VCPU:1"], "in_tree": "a b"}, r"'a b' is not a valid name \(--in-tree\)"),
        ({"resources": ["VCPU:1"], "group_policy": "share"}, "'share' is not a group policy"),
        ({"required": ["HW_CPU_X86_AVX2"]}, "at least one resource"),
        ({"groups": ["VCPU:1"]}, "a group has no name"),
        ({"groups": ["a b=VCPU:1"]}, "a group has no name, or an invalid one"),
        ({"groups": ["a=VCPU:1;needs=CUSTOM_X"]}, "a group has no part 'needs=CUSTOM_X'"),
        ({"groups": ["a=VCPU:1", "a=VCPU:2"]}, "the same name"),
        ({"groups": ["a=VCPU:1;in_tree=x;in_tree=y"]}, "in_tree is given twice in one group"),
        ({"query": ""}, "the request is empty"),
        ({"query": "resources"}, "'resources' has no value"),
        ({"query": "resources=VCPU:1&colour=red"}, "a query has no 'colour'"),
        ({"query": "resources=VCPU:1&limit=none"}, "'none' is not an amount"),
        (
            {"query": "resources=VCPU:1&same_subtree=_A,_B"},
            "same_subtree names group '_A', which is not there",
        ),
        ({"query": "resources=VCPU:1&same_subtree=,"}, r"',' names no groups .*; write GROUP,GROUP"),
        (
            {"query": "resources=VCPU:1&root_required=in:CUSTOM_A,CUSTOM_B"},
            "any of several traits is not supported",
        ),
        ({"query": "resources=VCPU:1&root_required=CUSTOM_A,!CUSTOM_A"}, "both required and forbidden"),
        (
            {"query": "resources=VCPU:1&required=in:CUSTOM_A,CUSTOM_B&required=!CUSTOM_A,!CUSTOM_B"},
            "CUSTOM_A and",
        ),
        (
            {"groups": ["n=VCPU:1"], "required": ["!CUSTOM_A"]},
            "CUSTOM_A is forbidden, but no resources are asked for",
        ),
        (
            {"groups": ["n=VCPU:1"], "member_of": ["!rack"]},
            "rack is forbidden, but no resources are asked for",
        ),
        ({"in_tree": "dst"}, "asks for at least one resource"),
        ({"query": "resources1=VCPU:1&required=CUSTOM_A"}, "several providers, but asks for nothing"),
        ({"query": "&".join(f"resources{n}=VCPU:1" for n in range(1000))}, "has 1,000 groups; ask for 64"),
        ({"document": json.dumps({"groups": [{"name": str(n)} for n in range(1000)]})}, "at most 64 items"),
        ({"query": "resources=VCPU:1&resources=VCPUS:1"}, "--query 'resources=VCPUS:1'"),
        ({"document": "{"}, "--request"),
        ({"document": '{"groups": []}'}, r"groups: .*\(--request\)"),
        ({"document": '{"groups": [{"resources": {"VCPU": "1"}}]}'}, "groups.0.resources.VCPU"),
        ({"document": DOCUMENT}, "did you mean VCPU"),
        ({"resources": ["VCPU:1"], "query": "resources=VCPU:1"}, "given twice, by options and by --query"),
        ({"query": "resources=VCPU:1", "document": "{}"}, "by --query and by --request"),
    ],
)
def test_what_is_invalid_is_named(wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        spec(**wanted)


def test_a_group_is_read_by_itself() -> None:
    assert parse_group("g=VCPU:1;", REGISTRY) == RequestGroup(name="g", resources={"VCPU": 1})


def test_alternatives_replace_groups_by_name_in_options_and_in_a_query() -> None:
    by_options = spec(
        resources=["VCPU:4"],
        groups=["gpu=PGPU:1[model=B300]", "nic=PCI_DEVICE:1"],
        same_subtree=["gpu,nic"],
        root_required=["CUSTOM_R"],
        group_policy="isolate",
        alternatives=[
            "gpu=PGPU:2[model=H200]&=VCPU:8",
            "gpu=&nic=PCI_DEVICE:2;where=attributes.a == 1 && true",
        ],
    )
    assert isinstance(by_options, RequestSpecV2)
    two, three = by_options.alternatives
    assert {one.name: one.resources for one in two.groups} == {
        "": {"VCPU": 8},
        "gpu": {"PGPU": {"count": 2, "where": {"model": "H200"}}},
        "nic": {"PCI_DEVICE": 1},
    }
    assert {one.name for one in three.groups} == {"", "nic"}
    assert not two.groups[0].same_provider
    assert [one.same_subtree for one in (two, three)] == [(("gpu", "nic"),), ()]
    assert {one.root_required for one in (two, three)} == {("CUSTOM_R",)}
    assert {one.group_policy for one in (two, three)} == {"isolate"}
    by_query = spec(query="resources=VCPU:4&resourcesgpu=PGPU:1&or=gpu%3DPGPU:2%26%3DVCPU:8&or=gpu%3D")
    assert isinstance(by_query, RequestSpecV2)
    assert [{one.name: one.resources for one in other.groups} for other in by_query.alternatives] == [
        {"": {"VCPU": 8}, "gpu": {"PGPU": 2}},
        {"": {"VCPU": 4}},
    ]


def test_a_preferred_relation() -> None:
    wanted = {"resources": ["VCPU:1"], "groups": ["a=VCPU:1", "b=VCPU:1"]}
    found = spec(**wanted, prefer_same_subtree=["a,b"])
    assert isinstance(found, RequestSpecV2)
    assert found.prefer_same_subtree == (("a", "b"),)
    assert type(spec(**wanted)) is RequestSpec
    document = json.dumps({"groups": [{"name": n, "resources": {"VCPU": 1}} for n in "ab"]})
    assert type(spec(document=document)) is RequestSpec


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"alternatives": ["&gpu=VCPU:1"]}, "no group, or an empty one"),
        ({"alternatives": ["VCPU:1"]}, "no name, or an invalid one"),
        ({"alternatives": ["="]}, "leaves all groups out"),
        ({"alternatives": ["gpu=PGPUS:1"]}, r"unknown resource class 'PGPUS' \(--or 'gpu=PGPUS:1'\)"),
        ({"prefer_same_subtree": ["a,b"]}, "prefer_same_subtree names 'a', 'b', which are not groups"),
        ({"query": "resources=VCPU:1&or=%3D"}, "leaves all groups out"),
        (
            {
                "document": '{"groups": [{"resources": {"VCPU": 1}}], "alternatives": [{"groups": [{"resources": {"X": 1}}]}]}'
            },
            "unknown resource class 'X'",
        ),
    ],
)
def test_invalid_alternatives_are_refused(wanted: dict[str, Any], told: str) -> None:
    resources = {} if {"query", "document"} & wanted.keys() else {"resources": ["VCPU:1"]}
    with pytest.raises(UsageError, match=told):
        spec(**resources, **wanted)
