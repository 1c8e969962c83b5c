"""A pin written into a plan's text, or taken out of it; everything else, comments and all, stays as it is. No I/O.

The places come from the nodes of the YAML; whether the changed text says what was meant is seen by reading it.
"""

import json
from fnmatch import fnmatchcase

import yaml

from drover.errors import InputError
from drover.model.order import Pin
from drover.model.plan import Override, Plan
from drover.plans.file import parse

_BY_HAND = "write it by hand: `pin: {position: 1}` under the group, or under exceptions with the VM's name"


def with_pin(text: str, of: str, pin: Pin | None, name: str) -> str:
    """The plan's text with this pin of a group, or of a VM that goes for itself; None takes the pin out.

    `name` is what errors call the text. Raises InputError if the plan names no such thing, if the pin cannot be kept,
    or if the text is laid out so that the pin has to be written by hand.
    """
    plan = parse(text, name)
    is_group = of in {group.group for group in plan.groups}
    if not is_group and not any(of == word or fnmatchcase(of, word) for word in plan.vms):
        known = ", ".join(group.group for group in plan.groups)
        raise InputError(
            f"{name} has no group {of!r} and no VM of that name that goes for itself",
            remedy=f"its groups are {known}" if known else "name a VM as the site does, not by its UUID",
        )
    meant = _group_pinned(plan, of, pin) if is_group else _vm_pinned(plan, of, pin)
    if meant == plan:
        return text
    changed = _changed(text, plan, of, pin, is_group=is_group)
    if changed is not None and parse(changed, name) == meant:
        return changed
    raise InputError(f"cannot write the pin of {of} into {name} as it is laid out", remedy=_BY_HAND)


def _group_pinned(plan: Plan, of: str, pin: Pin | None) -> Plan:
    groups = [g.model_copy(update={"pin": pin}) if g.group == of else g for g in plan.groups]
    return plan.model_copy(update={"groups": tuple(groups)})


def _vm_pinned(plan: Plan, of: str, pin: Pin | None) -> Plan:
    own = _exception_of(plan, of)
    if pin is None and own is None:
        return plan
    if own is None:
        return plan.model_copy(update={"exceptions": (*plan.exceptions, Override(vms=(of,), pin=pin))})
    changed = plan.exceptions[own].model_copy(update={"pin": pin})
    return plan.model_copy(update={"exceptions": (*plan.exceptions[:own], changed, *plan.exceptions[own + 1 :])})


def _exception_of(plan: Plan, of: str) -> int | None:
    """The last exception that is for this VM alone."""
    found = [number for number, exception in enumerate(plan.exceptions) if exception.vms == (of,)]
    return found[-1] if found else None


def _changed(text: str, plan: Plan, of: str, pin: Pin | None, *, is_group: bool) -> str | None:
    """The text with the pin at its place; None if there is none that is known how to find."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    if is_group:
        number: int | None = [group.group for group in plan.groups].index(of)
    else:
        number = _exception_of(plan, of)
    listed = _value(root, "groups" if is_group else "exceptions")
    if number is None:
        return None if pin is None else _with_exception(text, root, listed, of, pin)
    if not isinstance(listed, yaml.SequenceNode) or not isinstance(item := listed.value[number], yaml.MappingNode):
        return None
    return _without(text, item) if pin is None else _with(text, item, pin)


def _with(text: str, item: yaml.MappingNode, pin: Pin) -> str:
    for key, value in item.value:
        if key.value == "pin":
            return text[: key.end_mark.index] + f": {_flow(pin)}" + text[_end(value) :]
    first, value = item.value[0]
    if item.flow_style:
        end = _end(item.value[-1][1])
        return text[:end] + f", pin: {_flow(pin)}" + text[end:]
    end = _line_end(text, _end(value))
    return text[:end] + f"\n{' ' * first.start_mark.column}pin: {_flow(pin)}" + text[end:]


def _without(text: str, item: yaml.MappingNode) -> str | None:
    place = next((place for place, (key, _) in enumerate(item.value) if key.value == "pin"), None)
    if place is None:
        return text
    if place == 0:
        return None
    end = _end(item.value[place][1])
    if item.flow_style:
        return text[: _end(item.value[place - 1][1])] + text[end:]
    start = text.rfind("\n", 0, item.value[place][0].start_mark.index)
    return text[:start] + text[_line_end(text, end) :]


def _with_exception(text: str, root: yaml.MappingNode, listed: yaml.Node | None, of: str, pin: Pin) -> str | None:
    item = f"{{vms: [{json.dumps(of, ensure_ascii=False)}], pin: {_flow(pin)}}}"
    if listed is None:
        end = _line_end(text, _end(root.value[-1][1]))
        return None if root.flow_style else text[:end] + f"\nexceptions:\n  - {item}" + (text[end:] or "\n")
    if not isinstance(listed, yaml.SequenceNode) or not listed.value:
        return None
    end = _end(listed.value[-1])
    if listed.flow_style:
        return text[:end] + f", {item}" + text[end:]
    end = _line_end(text, end)
    return text[:end] + f"\n{' ' * listed.start_mark.column}- {item}" + text[end:]


def _value(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if key.value == name), None)


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends: of what is written in blocks, where the last that is in it does."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _line_end(text: str, index: int) -> int:
    found = text.find("\n", index)
    return len(text) if found < 0 else found


def _flow(pin: Pin) -> str:
    said = [f"position: {pin.position}"] if pin.position is not None else []
    said += [f"not_before: {json.dumps(pin.not_before)}"] if pin.not_before is not None else []
    return f"{{{', '.join(said)}}}"
