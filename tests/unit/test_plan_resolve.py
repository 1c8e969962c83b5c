"""A plan against the VMs of a site: who goes where, in which batch, with which specification; and who may begin."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.cli.options import changed
from drover.errors import InputError
from drover.model.migration import Cutover, Spec
from drover.model.plan import Plan
from drover.model.vm import Vdisk, Vm
from drover.plans.batch import Batch, Member, of_group
from drover.plans.order import startable
from drover.plans.resolve import resolve


def vm(name: str, *vdisks: str, networks: tuple[str, ...] = ("default",)) -> Vm:
    disks = [
        Vdisk(name=disk, size=1, format="raw", path="/x", kind="file", allocated=1) for disk in vdisks or ("vda", "vdb")
    ]
    return Vm(
        name=name, uuid=f"uuid-{name}", running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=tuple(disks), networks=networks,
    )  # fmt: skip


SITE = [vm(name) for name in ("db1", "db2", "legacy-1", "legacy-2", "web-1", "web-2", "web[1]")]


def plan(**fields: Any) -> Plan:
    return Plan.model_validate({"version": 1, "plan": "p", "from": "a:///", "to": "b:///", **fields})


def specs(batches: list[Batch]) -> dict[str, Spec]:
    return {member.vm: member.spec for batch in batches for member in batch.members}


def test_names_uuids_and_patterns_become_batches_in_the_order_of_the_plan() -> None:
    batches = resolve(
        plan(
            groups=[
                {"group": "database", "vms": ["uuid-db2", "db1", "db*"]},
                {"group": "shop", "vms": ["web-*"], "after": ["database"]},
            ],
            vms=["legacy-?", "web[1]"],
        ),
        SITE,
    )
    assert [(batch.name, batch.group, [member.vm for member in batch.members], batch.after) for batch in batches] == [
        ("database", True, ["db2", "db1"], ()),
        ("shop", True, ["web-1", "web-2"], ("database",)),
        ("legacy-1", False, ["legacy-1"], ()),
        ("legacy-2", False, ["legacy-2"], ()),
        ("web[1]", False, ["web[1]"], ()),
    ]
    assert batches[0].members[0].uuid == "uuid-db2"


def test_what_is_said_inside_holds_before_what_is_said_outside() -> None:
    batches = resolve(
        plan(
            networks={"default": "lan"},
            pools={"*": "fast", "vdb": "large"},
            settings={"max_downtime": "10s", "bandwidth": "8mbit"},
            groups=[{"group": "db", "vms": ["db*"], "settings": {"cutover": "restart"}, "formats": {"vda": "qcow2"}}],
            vms=["web-1"],
            exceptions=[
                {"vms": ["*1"], "pools": {"vda": "slow"}, "settings": {"max_downtime": "1m"}},
                {
                    "vms": ["db1"],
                    "pools": {"*": "own"},
                    "settings": {"max_downtime": "2m"},
                    "networks": {"default": "x"},
                },
            ],
        ),
        SITE,
    )
    found = specs(batches)
    common = {"source": "a:///", "destination": "b:///", "bandwidth": 1_000_000}
    group = {**common, "cutover": Cutover.RESTART, "formats": {"vda": "qcow2"}}
    assert found == {
        "db1": Spec(vm="db1", **group, networks={"default": "x"}, pools={"": "own"}, max_downtime=120),
        "db2": Spec(
            vm="db2", **group, networks={"default": "lan"}, pools={"": "fast", "vdb": "large"}, max_downtime=10
        ),
        "web-1": Spec(
            vm="web-1", **common, networks={"default": "lan"}, pools={"": "fast", "vdb": "large", "vda": "slow"},
            max_downtime=60,
        ),
    }  # fmt: skip


def test_each_vm_gets_the_mappings_that_it_has() -> None:
    site = [vm("a", "vda", networks=("default",)), vm("b", "sda", "sdb", networks=("dmz", "default"))]
    found = specs(resolve(plan(vms=["*"], networks={"default": "lan", "dmz": "edge"}, pools={"sdb": "slow"}), site))
    assert (found["a"].networks, found["a"].pools) == ({"default": "lan"}, {})
    assert (found["b"].networks, found["b"].pools) == ({"default": "lan", "dmz": "edge"}, {"sdb": "slow"})


def test_who_powers_on_first_and_who_was_not_named_last() -> None:
    turns = [{"vms": ["db1"]}, {"vms": ["web-*"], "after": "10s"}]
    (batch,) = resolve(plan(groups=[{"group": "g", "vms": ["db*", "web-*"], "power_on": turns}]), SITE)
    assert {member.vm: (member.turn, member.delay) for member in batch.members} == {
        "db1": (0, 0.0),
        "db2": (2, 0.0),
        "web-1": (1, 10.0),
        "web-2": (1, 10.0),
    }


def test_windows_are_those_of_the_innermost_that_says_some() -> None:
    night, noon = {"from": "22:00", "to": "04:00"}, {"from": "12:00", "to": "13:00", "timezone": "UTC"}
    found = specs(
        resolve(
            plan(
                timezone="Europe/Zurich",
                windows=[night],
                groups=[{"group": "db", "vms": ["db*"], "windows": [noon]}],
                vms=["web-*"],
                exceptions=[{"vms": ["web-1"], "windows": []}],
            ),
            SITE,
        )
    )
    said = {name: [str(hours) for hours in spec.windows] for name, spec in found.items()}
    assert said["db1"] == said["db2"] == ["mon-sun 12:00–13:00 UTC"]
    assert (said["web-1"], said["web-2"]) == ([], ["mon-sun 22:00–04:00 Europe/Zurich"])
    assert Spec.model_validate(found["web-2"].model_dump(mode="json")) == found["web-2"]


def test_profiles_are_said_piece_by_piece_and_leave_no_memory_to_continue_with() -> None:
    found = specs(
        resolve(
            plan(
                profile={"name": "{name}-m", "autostart": "on"},
                groups=[{"group": "db", "vms": ["db*"], "profile": {"memory": "2GiB"}}],
                vms=["web-*"],
                exceptions=[
                    {"vms": ["db1"], "profile": {"cpus": "2", "mac": "new", "autostart": "keep"}},
                    {"vms": ["web-1"], "profile": {"name": "{name}"}, "settings": {"cutover": "resume"}},
                    {"vms": ["web-2"], "profile": {"start": "off"}},
                ],
            ),
            SITE,
        )
    )
    said = {name: spec.profile.model_dump(mode="json", exclude_none=True) for name, spec in found.items()}
    assert said["db1"] == {"name": "{name}-m", "autostart": "keep", "memory": "2GiB", "cpus": 2, "mac": "new"}
    assert said["db2"] == {"name": "{name}-m", "autostart": "on", "memory": "2GiB"}
    assert {name: spec.name_there for name, spec in found.items()} == {
        "db1": "db1-m", "db2": "db2-m", "web-1": "web-1", "web-2": "web-2-m"
    }  # fmt: skip
    ways = {name: spec.way for name, spec in found.items()}
    assert ways == {
        "db1": Cutover.RESTART, "db2": Cutover.RESTART, "web-1": Cutover.RESUME, "web-2": Cutover.MANUAL
    }  # fmt: skip
    assert found["db1"].cutover is Cutover.AUTO
    assert Spec.model_validate(found["db1"].model_dump(mode="json")) == found["db1"]


def test_other_settings_that_do_not_go_with_the_profile_are_refused() -> None:
    renamed = Spec.model_validate({"vm": "a", "source": "x", "destination": "y", "profile": {"name": "b"}})
    with pytest.raises(InputError, match="profile cannot change") as refused:
        changed(renamed, {"cutover": "resume"})
    assert "cutover: restart" in str(refused.value.remedy)


GROUP = {"group": "g", "vms": ["db*"]}
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a pattern that means none": ({"vms": ["mail-*"]}, "the pattern 'mail-*' means no VM of a:///", "db1, db2"),
    "a VM that is not there": ({"groups": [{"group": "g", "vms": ["db9"]}]}, "the VM 'db9' means no VM", "db1"),
    "a VM in two groups": (
        {"groups": [GROUP, {"group": "h", "vms": ["db1"]}]}, "db1 is in the group g and in the group h", "narrower"
    ),
    "a VM in a group and without": (
        {"groups": [GROUP], "vms": ["*2"]}, "db2 is in the group g and in the VMs", "one"
    ),
    "a turn of another's": (
        {"groups": [{**GROUP, "power_on": [{"vms": ["web-1"]}]}]}, "'web-1' means no VM of the group g", "db1, db2"
    ),
    "two turns": (
        {"groups": [{**GROUP, "power_on": [{"vms": ["db1"]}, {"vms": ["*"]}]}]}, "db1 is in two tu", "one"
    ),
    "an exception for another": (
        {"vms": ["db1"], "exceptions": [{"vms": ["db2"]}]}, "'db2' means no VM of the plan p", "db1"
    ),
    "a network that none has": ({"vms": ["db1"], "networks": {"defualt": "x"}}, "network 'defualt', which", "default"),
    "a VDISK that none has": (
        {"groups": [{**GROUP, "pools": {"vdx": "x"}}]}, "the group g maps the VDISK 'vdx'", "vda, vdb"
    ),
    "two windows in one group": (
        {
            "groups": [GROUP], "timezone": "UTC",
            "exceptions": [{"vms": ["db1"], "windows": [{"from": "01:00", "to": "02:00"}]}],
        },
        "db1 and db2 have different windows and are both in the group g", "give the group",
    ),
    "one name for several": (
        {"vms": ["db*"], "profile": {"name": "db"}}, "db1 and db2 would both be db at the destination", "{name}"
    ),
    "a name that another has": (
        {"vms": ["db*"], "exceptions": [{"vms": ["db1"], "profile": {"name": "db2"}}]}, "both be db2", "{name}"
    ),
    "memory that does not fit its VM": (
        {"vms": ["db1"], "settings": {"cutover": "resume"}, "profile": {"memory": "1GiB", "start": "off"}},
        "db1 continues with its memory, so that its profile cannot change (memory, start: off)", "cutover: restart",
    ),
    "one name for two": ({"groups": [{"group": "web-1", "vms": ["db1"]}], "vms": ["web-1"]}, "called web-1", "rename"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_the_site_is_named(what: str) -> None:
    fields, message, remedy = WRONG[what]
    with pytest.raises(InputError) as refused:
        resolve(plan(**fields), SITE)
    assert message in refused.value.message
    assert remedy in str(refused.value.remedy)


def test_a_group_alone_waits_for_none() -> None:
    groups = [{"group": "a", "vms": ["db1"]}, {"group": "b", "vms": ["db2"], "after": ["a"]}]
    batches = resolve(plan(groups=groups, vms=["web-1"]), SITE)
    (only,) = of_group(batches, "b")
    assert (only.name, only.after) == ("b", ())
    for name in ("c", "web-1"):
        with pytest.raises(InputError, match="no group") as refused:
            of_group(batches, name)
        assert "a, b" in str(refused.value.remedy)


def batch(name: str, size: int = 1, after: tuple[str, ...] = ()) -> Batch:
    spec = Spec(vm="x", source="a", destination="b")
    members = tuple(Member(vm=f"{name}-{n}", uuid=f"{name}-{n}", spec=spec) for n in range(size))
    return Batch(name=name, group=True, members=members, after=after)


def begin(batches: list[Batch], begun: set[str], finished: set[str], running: int, at_once: int) -> list[str]:
    return [one.name for one in startable(batches, begun, finished, running, at_once)]


def test_batches_begin_in_order_whole_and_where_there_is_room() -> None:
    batches = [batch("a", 2), batch("b", 3), batch("c", 1), batch("d", 9), batch("e", 1, ("a",))]
    assert begin(batches, set(), set(), 0, 4) == ["a"], "c must not overtake b"
    assert begin(batches, {"a"}, set(), 2, 4) == []
    assert begin(batches, {"a"}, {"a"}, 0, 4) == ["b", "c"]
    assert begin(batches, {"a", "b", "c"}, {"a"}, 4, 4) == []
    assert begin(batches, {"a", "b", "c"}, {"a", "b", "c"}, 0, 4) == ["d"], "it is larger than at_once, and alone"
    assert begin(batches, {"a", "b", "c", "d"}, {"a", "b", "c", "d"}, 0, 4) == ["e"]


def test_who_waits_for_another_is_overtaken() -> None:
    batches = [batch("a"), batch("b", 1, ("a",)), batch("c")]
    assert begin(batches, {"a"}, set(), 1, 2) == ["c"]


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Batch], int]:
    made: list[Batch] = []
    for number in range(draw(st.integers(1, 8))):
        names = [one.name for one in made]
        after = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
        made.append(batch(str(number), draw(st.integers(1, 6)), tuple(after)))
    return draw(st.permutations(made)), draw(st.integers(1, 6))


@given(orders(), st.randoms())
def test_every_batch_begins_once_in_time_and_never_too_many(order: tuple[list[Batch], int], chance: Any) -> None:
    batches, at_once = order
    size = {one.name: len(one.members) for one in batches}
    begun: list[str] = []
    finished: set[str] = set()
    while len(finished) < len(batches):
        active = set(begun) - finished
        before = [one for one in batches if one.name not in begun and finished >= set(one.after)]
        chosen = startable(batches, set(begun), finished, sum(size[name] for name in active), at_once)
        # Only those whose turn it is, and none overtakes one that could have begun.
        assert chosen == before[: len(chosen)]
        begun += [one.name for one in chosen]
        active = set(begun) - finished
        assert active, "nothing runs and nothing begins"
        assert sum(size[name] for name in active) <= at_once or len(active) == 1
        finished.add(chance.choice(sorted(active)))
    assert sorted(begun) == sorted(size)
