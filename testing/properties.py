"""What must hold of every resource class, one function a property. Each draws one example and asserts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from vacancy.resources.classes.resource_class import (
    EXCLUDED,
    Exactness,
    Granted,
    ResourceClass,
    Shortfall,
    Term,
)
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.testing.subject import Draw, Held, granted, through_json, unchanged

Property = Callable[[Draw], None]

_ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_INT64: Final = range(-(2**63), 2**63)


def holds(term: Term, row: Mapping[str, int]) -> bool:
    """Whether a row of columns satisfies a term."""
    column, operator, value = row[term.column], term.operator, term.value
    return {
        ">=": column >= value,
        "<=": column <= value,
        "==": column == value,
        "!=": column != value,
        "divides": value % max(column, 1) == 0,
        "all_bits": column & value == value,
        "any_bits": column & value != 0,
    }[operator]


def row_of(of: ResourceClass[Any], record: Any) -> dict[str, int]:
    """The columns of a record, by name."""
    return dict(zip(of.columns, of.row(record), strict=True))


def satisfies(of: ResourceClass[Any], row: Mapping[str, int], ask: Any) -> bool:
    """Whether a row satisfies all terms of an ask."""
    return all(holds(term, row) for term in of.query(ask))


# -- records ----------------------------------------------------------------------------------------------


def columns_are_declared(draw: Draw) -> None:
    """`free` and `capacity` are columns; consumable and index columns are disjoint sets of them; `row` has an int64
    for each."""
    of = draw.of
    assert len(set(of.columns)) == len(of.columns)
    assert {"free", "capacity"} <= set(of.columns)
    assert set(of.consumable_columns) | set(of.index_columns) <= set(of.columns)
    assert not set(of.consumable_columns) & set(of.index_columns)
    row = of.row(draw.history().record)
    assert len(row) == len(of.columns)
    assert all(type(value) is int and value in _INT64 for value in row)


def records_survive_encoding(draw: Draw) -> None:
    """`decode` gives back an equal record, whose bytes are the same; records that differ have different bytes."""
    of, record, other = draw.of, draw.history().record, draw.history().record
    data = of.encode(record)
    assert type(data) is bytes
    assert of.decode(data) == record
    assert of.encode(of.decode(data)) == data
    assert (of.encode(other) == data) == (other == record)


def equal_records_have_equal_bytes(draw: Draw) -> None:
    """Whatever was claimed and released, in whatever order: what is left is the record that was reported."""
    of, found = draw.of, draw.history(may_withdraw=False)
    record = found.record
    for held in draw.value(st.permutations(found.held)):
        record = of.release(record, held.grant)
    reported = of.override(of.report(found.inventory, None), found.override)
    assert record == reported
    assert of.encode(record) == of.encode(reported)


def projected_columns_are_rows(draw: Draw) -> None:
    """`project` of many encoded records has the `row` of each."""
    of = draw.of
    records = [draw.history().record for _ in range(draw.value(st.integers(0, 4)))]
    table = of.project([of.encode(record) for record in records])
    assert table.shape == (len(of.columns), len(records))
    assert table.dtype == "int64"
    assert table.T.tolist() == [list(of.row(record)) for record in records]


def arguments_are_not_changed(draw: Draw) -> None:
    """No method changes a record, an inventory, an ask or a grant that it is given."""
    of, found = draw.of, draw.history()
    record, ask, inventory, override = found.record, draw.ask(), draw.inventory(), draw.override()
    before = unchanged((record, ask, inventory, override)), of.encode(record)
    of.check_ask(ask)
    of.query(ask)
    of.exactness(ask)
    of.column_deltas(ask)
    of.report(inventory, record)
    of.withdraw(record)
    of.check_override(override)
    of.override(record, override)
    outcome = of.claim(record, ask)
    if isinstance(outcome, Granted):
        grant, after = through_json(outcome.grant), unchanged(outcome.record)
        of.amount_of(grant)
        of.release(outcome.record, grant)
        assert grant == through_json(outcome.grant), "release changed the grant"
        assert outcome.record == after, "release changed the record"
    assert (record, ask, inventory, override) == before[0]
    assert of.encode(record) == before[1]


def instances_are_stateless(draw: Draw) -> None:
    """The same arguments give the same results, whatever the instance did before; so does a record that was read
    back."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    first = of.claim(found.record, ask), of.row(found.record), of.query(ask)
    rights = of.exactness(ask), of.column_deltas(ask)
    draw.history()
    read = of.decode(of.encode(found.record))
    assert (of.claim(read, ask), of.row(read), of.query(ask)) == first
    assert (of.exactness(ask), of.column_deltas(ask)) == rights


# -- the write --------------------------------------------------------------------------------------------


def claim_then_release_is_identity(draw: Draw) -> None:
    """`release` gives back what `claim` took, by the grant as it comes out of the log."""
    of, found = draw.of, draw.history()
    outcome = of.claim(found.record, draw.ask())
    if isinstance(outcome, Granted):
        after = of.release(outcome.record, through_json(outcome.grant))
        assert after == found.record
        assert of.encode(after) == of.encode(found.record)


def in_use_while_something_is_held(draw: Draw) -> None:
    """`in_use` is true from the first grant until the last release, through reports, overrides and withdrawals."""
    of, found = draw.of, draw.history()
    assert of.in_use(found.record) == bool(found.held)
    record = found.record
    for held in found.held:
        assert of.in_use(record)
        record = of.release(record, held.grant)
    assert not of.in_use(record)


def reports_keep_use(draw: Draw) -> None:
    """A report changes the inventory and nothing else: after the inventory that was there before, the record is
    the same."""
    of, found = draw.of, draw.history(may_withdraw=False)
    changed = of.report(draw.inventory(), found.record)
    assert of.in_use(changed) == bool(found.held)
    assert of.report(found.inventory, changed) == found.record
    assert of.report(found.inventory, found.record) == found.record


def withdrawn_records_give_nothing(draw: Draw) -> None:
    """After `withdraw` nothing is free and no claim fits, but what is held stays and can be released; a report of
    the same inventory brings the record back."""
    of, found = draw.of, draw.history(may_withdraw=False)
    gone = of.withdraw(found.record)
    assert of.withdraw(gone) == gone
    assert row_of(of, gone)["free"] <= 0
    assert not granted(of.claim(gone, draw.ask()))
    assert of.in_use(gone) == bool(found.held)
    assert of.report(found.inventory, gone) == found.record


def claims_take_no_more_than_there_is(draw: Draw) -> None:
    """A granted claim leaves no column that the ask needs below zero."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    outcome = of.claim(found.record, ask)
    if isinstance(outcome, Granted):
        row = row_of(of, outcome.record)
        needed = [term.column for term in of.query(ask) if term.operator == ">="]
        assert all(row[column] >= 0 for column in needed if column in of.consumable_columns)


def no_worse_is_granted(draw: Draw) -> None:
    """Where a consumer asks no more than it held, it gets it again after its release, even over capacity, and no
    more than it had."""
    of, found = draw.of, draw.history()
    count = draw.value(st.integers(0, len(found.held)))
    grants = [held.grant for held in found.held[:count]]
    asks = [held.ask for held in found.held[:count]] if draw.value(st.booleans()) else [draw.ask()]
    if not asks or not of.asks_no_more(grants, asks):
        return
    record = of.report(draw.inventory(), found.record)
    for grant in grants:
        record = of.release(record, grant)
    amount = 0
    for ask in asks:
        outcome = of.claim(record, ask, no_worse=True)
        assert isinstance(outcome, Granted), f"{ask} is no more than {grants}, and was refused: {outcome}"
        record = outcome.record
        amount += of.amount_of(through_json(outcome.grant))
    assert amount <= sum(map(of.amount_of, grants))


def reclaim_keeps_what_was_held(draw: Draw) -> None:
    """A consumer that asks the same again after a release gets nothing but what it held, whatever others released."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    outcome = of.claim(found.record, ask)
    if not isinstance(outcome, Granted):
        return
    grant, record = through_json(outcome.grant), outcome.record
    for held in found.held[: draw.value(st.integers(0, len(found.held)))]:
        record = of.release(record, held.grant)
    again = of.reclaim(of.release(record, grant), ask, [grant])
    assert isinstance(again, Granted), f"{grant} was held, and is refused: {again}"
    assert of.grants_no_more([grant], [through_json(again.grant)]), f"{grant} became {again.grant}"


def reclaim_grants_what_claim_grants(draw: Draw) -> None:
    """`reclaim` grants each ask that `claim` grants, takes no more than there is, and `release` gives it back."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    count = draw.value(st.integers(0, len(found.held)))
    before = [held.grant for held in found.held[:count]]
    record = found.record
    for grant in before:
        record = of.release(record, grant)
    outcome = of.reclaim(record, ask, before)
    assert granted(outcome) or not granted(of.claim(record, ask))
    if isinstance(outcome, Granted):
        row = row_of(of, outcome.record)
        needed = [term.column for term in of.query(ask) if term.operator == ">="]
        assert all(row[column] >= 0 for column in needed if column in of.consumable_columns)
        assert of.release(outcome.record, through_json(outcome.grant)) == record


def overrides_can_be_cleared(draw: Draw) -> None:
    """The last override holds; an empty one restores the record; reports and withdrawals keep it."""
    of, found = draw.of, draw.history(may_withdraw=False)
    plain = of.override(found.record, {})
    first, second = draw.override(), draw.override()
    of.check_override(first)
    changed = of.override(plain, first)
    assert of.in_use(changed) == bool(found.held)
    assert of.override(changed, {}) == plain
    assert of.override(changed, second) == of.override(plain, second)
    inventory = draw.inventory()
    assert of.report(inventory, changed) == of.override(of.report(inventory, plain), first)
    assert of.report(found.inventory, of.withdraw(changed)) == changed
    idle = of.without_effect(plain, first)
    assert set(idle) <= set(first)
    effective = {name: value for name, value in first.items() if name not in idle}
    assert of.row(of.override(plain, effective)) == of.row(changed), (
        "without_effect names a field that changes what is offered"
    )


def excluded_items_go_to_nobody(draw: Draw) -> None:
    """An item that an operator excludes is in no new grant. What is held stays held, reports keep the exclusion, and without
    it the record is as before."""
    of, found = draw.of, draw.history(may_withdraw=False)
    plain = of.override(found.record, {})
    names = sorted(of.names(plain))
    if not of.excludes_items or not names:
        return
    override = {EXCLUDED: dict.fromkeys(draw.value(st.sets(st.sampled_from(names), min_size=1)), "")}
    changed = of.override(plain, override)
    assert set(of.excluded(changed)) == set(override[EXCLUDED])
    assert of.override(changed, {}) == plain
    inventory = draw.inventory()
    assert of.report(inventory, changed) == of.override(of.report(inventory, plain), override)
    _goes_to_nobody(draw, found.held, plain, changed)


def unhealthy_items_go_to_nobody(draw: Draw) -> None:
    """An item that a node calls unhealthy is in no new grant. What is held stays held, an operator's exclusion and override
    change nothing of it, and the next report decides again."""
    of, found = draw.of, draw.history(may_withdraw=False)
    plain, names = found.record, sorted(of.names(found.record))
    if not of.excludes_items or not names:
        return
    unhealthy = dict.fromkeys(draw.value(st.sets(st.sampled_from(names), min_size=1)), "broken")
    changed = of.set_unhealthy(plain, unhealthy)
    assert dict(of.unhealthy(changed)) == unhealthy
    assert of.set_unhealthy(changed, {}) == plain
    assert of.report(found.inventory, changed) == plain, "a report without unhealthy items keeps some"
    override = {**found.override, EXCLUDED: dict.fromkeys(draw.value(st.sets(st.sampled_from(names))), "")}
    both = of.override(changed, override)
    assert both == of.set_unhealthy(of.override(plain, override), unhealthy)
    assert of.override(both, found.override) == changed
    _goes_to_nobody(draw, found.held, plain, changed)
    for wrong in ({"no such item": ""}, {names[0]: 1}, [names[0]], None):
        try:
            of.set_unhealthy(plain, wrong)
        except InvalidRecord:
            continue
        raise AssertionError(f"{wrong} is no item of this record with a reason")


def _goes_to_nobody(draw: Draw, held: Sequence[Held], plain: Any, changed: Any) -> None:
    """The items that the record `changed` withholds and `plain` offers are in no new grant; all else is as it was."""
    of = draw.of
    assert of.decode(of.encode(changed)) == changed
    assert of.may_withhold(of.encode(changed))
    assert set(of.names(changed)) == set(of.names(plain))
    assert of.in_use(changed) == of.in_use(plain)
    ask = draw.ask()
    before, outcome = of.claim(plain, ask), of.claim(changed, ask)
    if isinstance(outcome, Granted):
        grant = through_json(outcome.grant)
        assert of.withheld(changed, grant) == (), f"{grant} has what is withheld"
        assert of.release(outcome.record, grant) == changed
    elif isinstance(before, Granted):
        grant = through_json(before.grant)
        assert of.withheld(changed, grant), (
            f"{grant} has nothing that is withheld, and it is refused: {outcome}"
        )
    for one in held:
        changed = of.release(changed, one.grant)
    assert not of.in_use(changed)


def parts_are_no_more(draw: Draw) -> None:
    """`grants_no_more` holds of the same grants and of fewer, and not of these with those of another consumer."""
    of, held = draw.of, [one.grant for one in draw.history(may_withdraw=False).held]
    count = draw.value(st.integers(0, len(held)))
    before, others = held[:count], held[count:]
    assert of.grants_no_more(before, before)
    assert of.grants_no_more(before, before[: draw.value(st.integers(0, count))])
    for other in others:
        assert not of.grants_no_more(before, [*before, other]) or of.amount_of(other) == 0


def added_fields_are_optional(draw: Draw) -> None:
    """An ask without the fields that came later is valid, too: earlier rules allow only such asks."""
    of, ask = draw.of, draw.ask()
    if isinstance(ask, dict):
        plain = {name: value for name, value in ask.items() if name not in of.added_ask_fields}
        try:
            of.check_ask(plain)
        except UsageError as error:
            raise AssertionError(f"{ask} is valid, and {plain} is not: {error}") from None


def refusals_say_why(draw: Draw) -> None:
    """A refusal has a word for programs, and whole numbers; `no_room` means that more was asked than there is."""
    of, found = draw.of, draw.history()
    outcome = of.claim(found.record, draw.ask())
    if isinstance(outcome, Shortfall):
        assert re.fullmatch("[a-z][a-z_]*", outcome.reason)
        assert outcome.reason not in ("bad_ask", "bad_amount"), "check_ask accepts what claim calls invalid"
        assert type(outcome.asked) is int
        assert type(outcome.available) is int
        assert outcome.reason != "no_room" or outcome.asked > outcome.available


# -- any input --------------------------------------------------------------------------------------------


def any_ask_is_judged(draw: Draw) -> None:
    """`claim` never raises, whatever JSON is asked; what `check_ask` refuses is refused."""
    of, record, ask = draw.of, draw.history().record, draw.value(_ANY_JSON)
    try:
        of.check_ask(ask)
        is_valid = True
    except UsageError:
        is_valid = False
    outcome = of.claim(record, ask)
    assert isinstance(outcome, Granted | Shortfall)
    assert is_valid or not granted(outcome)


def any_inventory_is_judged(draw: Draw) -> None:
    """`report` and `check_override` accept what they are given, or raise `InvalidRecord`; nothing else."""
    of, record = draw.of, draw.history().record
    fields = draw.value(st.dictionaries(st.text(max_size=9), _ANY_JSON, max_size=3))
    if draw.value(st.booleans()):
        fields = {**draw.inventory(), **fields}
    else:  # a field that the class knows, with a value that it may not
        known = draw.inventory()
        fields = {**known, **{name: draw.value(_ANY_JSON) for name in sorted(known)[:1]}}
    for judge in (lambda: of.report(fields, record), lambda: of.check_override(fields)):
        try:
            judge()
        except InvalidRecord as error:
            assert str(error)  # noqa: PT017 - both ways are allowed


# -- amounts ----------------------------------------------------------------------------------------------


def grants_are_json_with_an_amount(draw: Draw) -> None:
    """A grant survives JSON and has an amount from 0 on; a plain amount is itself, and is granted as asked."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    outcome = of.claim(found.record, ask)
    if isinstance(outcome, Granted):
        grant = through_json(outcome.grant)
        assert grant == outcome.grant, "a tuple, a set or a key that is not text does not survive JSON"
        amount = of.amount_of(grant)
        assert type(amount) is int
        assert amount >= 0
        assert not of.is_amount(grant) or amount == grant
        assert not of.is_amount(ask) or amount == ask


def amounts_have_units(draw: Draw) -> None:
    """`amounts_of` counts each grant in declared units, the same after a release of others, from 0 on. In the unit of
    `capacity` it is at least `amount_of`, and all that is held together is at most `capacity`."""
    of, found = draw.of, draw.history()
    outcome = of.claim(found.record, draw.ask())
    if not isinstance(outcome, Granted):
        return
    grant, record = through_json(outcome.grant), outcome.record
    amounts = dict(of.amounts_of(grant, record))
    assert set(amounts) <= {"", *of.more_units}, "a unit is not in more_units"
    assert all(type(amount) is int and amount >= 0 for amount in amounts.values())
    assert amounts.get("", 0) >= of.amount_of(grant)
    assert of.amounts_need_record or amounts == of.amounts_of(grant, None)
    for held in found.held:
        record = of.release(record, held.grant)
    assert dict(of.amounts_of(grant, record)) == amounts
    assert amounts.get("", 0) <= row_of(of, record)["capacity"]


# -- the query --------------------------------------------------------------------------------------------


def terms_never_exclude_what_claim_grants(draw: Draw) -> None:
    """A record that grants an ask satisfies all terms of it."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    of.check_ask(ask)
    if granted(of.claim(found.record, ask)):
        row = row_of(of, found.record)
        assert [term for term in of.query(ask) if not holds(term, row)] == []


def exact_terms_decide(draw: Draw) -> None:
    """With `EXACT_NEXT` and `EXACT`, a record that satisfies the terms grants the ask."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    if of.exactness(ask) is not Exactness.NEEDS_CLAIM and satisfies(of, row_of(of, found.record), ask):
        outcome = of.claim(found.record, ask)
        assert granted(outcome), f"the terms let it through, and claim refuses: {outcome}"


def exact_asks_are_counted(draw: Draw) -> None:
    """`EXACT` holds of all asks or of none. Such an ask takes amounts of consumable columns; each is what a `>=` term
    requires, and no claim changes the columns of the other terms."""
    of, ask = draw.of, draw.ask()
    is_exact = of.exactness(ask) is Exactness.EXACT
    assert (of.exactness(draw.ask()) is Exactness.EXACT) == is_exact
    if not is_exact:
        return
    deltas, terms = of.column_deltas(ask), of.query(ask)
    assert deltas, "an exact ask has column deltas"
    for column, delta in deltas.items():
        assert delta < 0
        assert column in of.consumable_columns
        assert Term(column, ">=", -delta) in terms
    others = [term.column for term in terms if term.column not in deltas]
    assert not set(others) & set(of.consumable_columns)


def deltas_are_what_claims_change(draw: Draw) -> None:
    """The columns of the record after a claim are those before it, changed by `column_deltas`. Index columns may show
    more than is left; the terms of the next ask must hold nevertheless."""
    of, found, ask = draw.of, draw.history(), draw.ask()
    deltas = of.column_deltas(ask)
    outcome = of.claim(found.record, ask)
    if deltas is None or not isinstance(outcome, Granted):
        return
    assert set(deltas) <= set(of.columns)
    counted = {name: value + deltas.get(name, 0) for name, value in row_of(of, found.record).items()}
    after = row_of(of, outcome.record)
    assert {n: v for n, v in counted.items() if n not in of.index_columns} == {
        n: v for n, v in after.items() if n not in of.index_columns
    }
    following = draw.ask()
    if granted(of.claim(outcome.record, following)):
        assert satisfies(of, counted, following)


def claims_lower_consumable_columns_only(draw: Draw) -> None:
    """A claim never raises a consumable column, and changes no other one, but `capacity` and index columns."""
    of, found = draw.of, draw.history()
    outcome = of.claim(found.record, draw.ask())
    if not isinstance(outcome, Granted):
        return
    before, after = row_of(of, found.record), row_of(of, outcome.record)
    may_change = {*of.consumable_columns, *of.index_columns, "capacity"}
    assert {name for name in of.columns if after[name] != before[name]} <= may_change
    assert all(after[name] <= before[name] for name in of.consumable_columns)


PROPERTIES: Final[Mapping[str, Property]] = {
    one.__name__: one
    for one in (
        columns_are_declared,
        records_survive_encoding,
        equal_records_have_equal_bytes,
        projected_columns_are_rows,
        arguments_are_not_changed,
        instances_are_stateless,
        claim_then_release_is_identity,
        in_use_while_something_is_held,
        reports_keep_use,
        withdrawn_records_give_nothing,
        claims_take_no_more_than_there_is,
        no_worse_is_granted,
        reclaim_keeps_what_was_held,
        reclaim_grants_what_claim_grants,
        overrides_can_be_cleared,
        excluded_items_go_to_nobody,
        unhealthy_items_go_to_nobody,
        parts_are_no_more,
        added_fields_are_optional,
        refusals_say_why,
        any_ask_is_judged,
        any_inventory_is_judged,
        grants_are_json_with_an_amount,
        amounts_have_units,
        terms_never_exclude_what_claim_grants,
        exact_terms_decide,
        exact_asks_are_counted,
        deltas_are_what_claims_change,
        claims_lower_consumable_columns_only,
    )
}
"""Every property by name. Each is called with the draws of one example."""
