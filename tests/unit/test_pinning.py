"""Pins written into a plan's text: all else stays, and what cannot be written is refused."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.order import Pin
from drover.model.plan import Plan
from drover.plans.file import dump, parse
from drover.plans.pinning import with_pin
from tests.unit.test_plan_file import plans

TEXT = """\
# Ours.
version: 1
plan: move   # to Munich
from: a:///
to: b:///
groups:
  - group: database   # first
    vms:
      - db1
      # the other
      - db2
  - {group: shop, vms: [web], after: [database]}   # then
vms: ["legacy-*", 101]

# The end.
"""
FIRST, LATE = Pin(position=1), Pin(not_before="2026-12-05T22:00:00+01:00")


def test_a_pin_is_a_line_more_and_taking_it_out_one_less() -> None:
    for of, pin, line in (
        ("database", FIRST, "    pin: {position: 1}"),
        ("database", LATE, '    pin: {not_before: "2026-12-05T22:00:00+01:00"}'),
    ):
        changed = with_pin(TEXT, of, pin, "plan")
        assert [one for one in changed.splitlines() if one not in TEXT.splitlines()] == [line]
        assert with_pin(changed, of, None, "plan") == TEXT
    changed = with_pin(TEXT, "shop", Pin(position=2), "plan")
    assert "  - {group: shop, vms: [web], after: [database], pin: {position: 2}}   # then" in changed
    moved = with_pin(changed, "shop", Pin(position=3), "plan")
    assert moved == changed.replace("position: 2", "position: 3")
    assert with_pin(moved, "shop", None, "plan") == TEXT


def test_a_vm_that_goes_for_itself_is_pinned_as_an_exception() -> None:
    one = with_pin(TEXT, "legacy-1", FIRST, "plan")
    assert one == TEXT.replace("101]\n", '101]\nexceptions:\n  - {vms: ["legacy-1"], pin: {position: 1}}\n')
    two = with_pin(one, "101", LATE, "plan")
    assert [exception.pin for exception in parse(two, "plan").exceptions] == [FIRST, LATE]
    assert "# The end." in two
    # What is left of it changes nothing.
    assert parse(with_pin(two, "101", None, "plan"), "plan").exceptions[1].pin is None
    assert with_pin(TEXT, "101", None, "plan") == TEXT


def test_what_cannot_be_pinned_is_refused() -> None:
    with pytest.raises(InputError, match="no group 'mail' and no VM") as refused:
        with_pin(TEXT, "mail", FIRST, "plan")
    assert "database, shop" in str(refused.value.remedy)
    with pytest.raises(InputError, match="no group 'db1'"):
        with_pin(TEXT, "db1", FIRST, "plan")
    with pytest.raises(InputError, match="shop is pinned to position 1, and comes after database"):
        with_pin(TEXT, "shop", FIRST, "plan")
    first = TEXT.replace("  - group: database   # first\n", "  - pin: {position: 1}\n    group: database\n")
    with pytest.raises(InputError, match="as it is laid out") as refused:
        with_pin(first, "database", None, "plan")
    assert "by hand" in str(refused.value.remedy)


@settings(max_examples=15)
@given(plans(), st.sampled_from([LATE, Pin(position=9, not_before="2026-12-05 22:00Z"), None]), st.data())
def test_every_plan_can_be_pinned_and_says_the_rest_as_before(
    fields: dict[str, Any], pin: Pin | None, data: st.DataObject
) -> None:
    plan = Plan.model_validate(fields)
    assume(not any(group.pin and group.pin.position for group in plan.groups))
    of = data.draw(st.sampled_from([*(group.group for group in plan.groups), *plan.vms]))
    changed = parse(with_pin(dump(plan), of, pin, "plan"), "plan")
    assert changed.model_copy(update={"groups": (), "exceptions": ()}) == plan.model_copy(
        update={"groups": (), "exceptions": ()}
    )
    pins = {group.group: group.pin for group in changed.groups}
    if of in pins:
        assert pins[of] == pin
    else:
        own = [exception.pin for exception in changed.exceptions if exception.vms == (of,)]
        assert own[-1:] == [pin] or (pin is None and not own)
