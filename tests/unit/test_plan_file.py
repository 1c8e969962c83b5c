"""Plan files: read strictly, every error with its line and the way out, written and read again without loss."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.hours import Hours
from drover.model.order import Limits, Pin
from drover.model.plan import Plan
from drover.plans.file import dump, load, parse
from drover.strict_yaml import LARGEST

SCHEMA = jsonschema_rs.validator_for(Plan.model_json_schema())
HEAD = "version: 1\nplan: berlin-to-munich\nfrom: qemu+ssh://berlin/system\nto: qemu+ssh://munich/system\n"
WHOLE = (
    HEAD
    + """\
networks: {default: lan}
pools: {"*": fast}
settings: {max_downtime: 10s, bandwidth: 200mbit, write_backpressure: yes, max_latency: off}
at_once: 6
limits: {per_host: 2, per_pool: 3, per_link: 4}
timezone: Europe/Zurich
windows: [{days: [sat, sun], from: 22:00, to: 04:00}]
groups:
  - group: database
    vms: [db1, db2]
    priority: 10
    pin: {position: 1, not_before: 2026-12-05T22:00:00+01:00}
    power_on:
      - {vms: [db1]}
      - {vms: [db2], after: 10s}
  - group: shop
    vms: ["web-*", 101]
    after: [database]
    settings: {cutover: restart}
    windows: []
vms:
  - no
  - legacy-*
exceptions:
  - vms: [db1]
    pools: {vda: slow}
    settings: {max_downtime: 1m}
  - vms: [legacy-1]
    priority: -1
    pin: {not_before: "2026-12-05 22:00Z"}
"""
)


def test_the_whole_of_a_plan_is_read() -> None:
    plan = parse(WHOLE, "plan.yaml")
    assert (plan.source, plan.destination, plan.at_once) == ("qemu+ssh://berlin/system", "qemu+ssh://munich/system", 6)
    assert plan.settings.given()["bandwidth"] == 25_000_000
    assert plan.settings.write_backpressure is True
    assert [group.after for group in plan.groups] == [(), ("database",)]
    assert plan.groups[0].power_on[1].after == "10s"
    assert plan.limits == Limits(per_host=2, per_pool=3, per_link=4)
    assert (plan.groups[0].priority, plan.groups[0].pin) == (
        10, Pin(position=1, not_before="2026-12-05T22:00:00+01:00")
    )  # fmt: skip
    assert plan.exceptions[1].pin is not None and plan.exceptions[1].pin.not_before_at == 1796508000.0
    assert plan.windows == (Hours(days=("sat", "sun"), start="22:00", end="04:00"),)
    assert (plan.groups[0].windows, plan.groups[1].windows) == (None, ())
    # What YAML would take for a number or a boolean is a VM's name here.
    assert plan.groups[1].vms == ("web-*", "101")
    assert plan.vms == ("no", "legacy-*")
    assert parse(dump(plan), "again") == plan


def test_the_plan_in_the_readme_is_one() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    plan = parse(readme.split("```yaml\n")[1].split("```")[0], "README.md")
    assert [group.group for group in plan.groups] == ["database", "shop"]


def test_the_plan_in_the_reference_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
    plan = parse(page.split("```yaml\n")[1].split("```")[0], "plans.md")
    assert parse(dump(plan), "again") == plan
    assert plan.settings.bandwidth is not None and len(plan.settings.bandwidth.schedule) == 2
    assert plan.exceptions[1].windows == () and plan.exceptions[1].profile.off


WRONG: dict[str, tuple[str, int, str, str]] = {
    "a field that is not known": (HEAD + "vms: [a]\nsetings: {}\n", 6, "setings: there is no such", "settings"),
    "a setting that is not known": (HEAD + "vms: [a]\nsettings: {bandwith: 1mbit}\n", 6, "gs.bandwith", "bandwidth"),
    "a setting without a meaning": (
        HEAD + "groups:\n- group: g\n  vms: [a]\n  settings:\n    cutover: auto\n    max_downtime: soon\n",
        10, "groups[0].settings.max_downtime: 'soon' is not a duration", "30s",
    ),
    "a field twice": (HEAD + "vms: [a]\nvms: [b]\n", 6, "'vms' is there twice", "once"),
    "a setting twice": (HEAD + "vms: [a]\nsettings: {cutover: auto, cutover: auto}\n", 6, "is there twice", "once"),
    "a field that is missing": ("version: 1\nplan: p\nfrom: a\nvms: [a]\n", 1, "to: it is missing", "add it"),
    "another version": (HEAD.replace("1", "2") + "vms: [a]\n", 1, "is not a version", "version: 1"),
    "no VM": (HEAD, 1, "names no VM", "vms:"),
    "a group without VMs": (HEAD + "groups:\n- group: g\n  vms: []\n", 7, "groups[0].vms", "schema"),
    "one site": (HEAD.replace("munich/system", "berlin/system/") + "vms: [a]\n", 4, "the same site", "two sites"),
    "two groups of one name": (
        HEAD + "groups:\n- {group: g, vms: [a]}\n- {group: g, vms: [b]}\n", 7, "two groups 'g'", "of its own"
    ),
    "a group that is not there": (
        HEAD + "groups:\n- group: g\n  vms: [a]\n  after: [h]\n", 8, "groups[0].after[0]: there is no", "are g"
    ),
    "a circle": (
        HEAD + "groups:\n- {group: a, vms: [a], after: [b]}\n- {group: b, vms: [b], after: [c]}\n"
        "- {group: c, vms: [c], after: [b]}\n", 7, "b after c after b", "take one",
    ),
    "a wait before the first": (
        HEAD + "groups:\n- group: g\n  vms: [a]\n  power_on:\n  - {vms: [a], after: 1s}\n", 9, "none before", "leave"
    ),
    "a name with blanks": (HEAD.replace("plan: b", "plan: to b") + "vms: [a]\n", 2, "it is not a name", "letters"),
    "a format that is none": (HEAD + "vms: [a]\nformats: {vda: vmdk}\n", 6, "formats.vda", "schema"),
    "a limit of none": (HEAD + "vms: [a]\nlimits: {per_pool: 0}\n", 6, "limits.per_pool", "schema"),
    "a limit in other words": (HEAD + "vms: [a]\nlimits: {per-host: 2}\n", 6, "no such field", "per_host, perhaps?"),
    "a priority beyond all": (
        HEAD + "groups:\n- {group: g, vms: [a], priority: 101}\n", 6, "groups[0].priority", "schema"
    ),
    "a pin that says nothing": (HEAD + "vms: [a]\nexceptions:\n- {vms: [a], pin: {}}\n", 7, "says nothing", "position"),
    "a pin to a time of no place": (
        HEAD + "groups:\n- group: g\n  vms: [a]\n  pin: {not_before: 2026-12-05 22:00}\n", 8, "UTC", "+01:00"
    ),
    "a pin before what it comes after": (
        HEAD + "groups:\n- {group: a, vms: [a]}\n- {group: b, vms: [b], after: [a]}\n"
        "- group: c\n  vms: [c]\n  after: [b]\n  pin: {position: 2}\n",
        11, "groups[2].pin: c is pinned to position 2, and comes after a, b", "another",
    ),
    "a pin of two": (
        HEAD + "groups:\n- {group: a, vms: [a], pin: {position: 2}}\n- {group: b, vms: [b], pin: {position: 2}}\n",
        7, "groups[1].pin: a and b are both pinned to position 2", "another",
    ),
    "hours of no place": (
        HEAD + "vms: [a]\nexceptions:\n- vms: [a]\n  windows: [{from: 22:00, to: 04:00}]\n", 8,
        "exceptions[0].windows[0]: in which time zone?", "timezone",
    ),
    "a place that is none": (HEAD + "vms: [a]\ntimezone: Zurich\n", 6, "'Zurich' is not a time zone", "Europe/Zurich"),
    "a day that is none": (
        HEAD + "vms: [a]\nwindows:\n- {days: [so], from: 1:00, to: 02:00}\n", 7, "'so' is not a day", "mon"
    ),
    "a time that is none": (
        HEAD + "vms: [a]\ntimezone: UTC\nwindows:\n- {from: 7:00, to: 02:00}\n", 8, "'7:00' is not a time", "08:00"
    ),
    "no time at all": (
        HEAD + "vms: [a]\ntimezone: UTC\nwindows:\n- {from: 07:00, to: 07:00}\n", 8, "no time at all", "24:00"
    ),
    "a limit that is none": (
        HEAD + "vms: [a]\nsettings:\n  bandwidth:\n    limit: slow\n", 8, "settings.bandwidth.limit: 'slow' is", "mbit"
    ),
    "limits of no place": (
        HEAD + "vms: [a]\nsettings:\n  bandwidth:\n    schedule:\n    - {from: 08:00, to: 18:00, limit: 1mbit}\n", 9,
        "settings.bandwidth.schedule[0]: in which time zone?", "timezone",
    ),
    "hours without a limit": (
        HEAD + "vms: [a]\ntimezone: UTC\nsettings:\n  bandwidth: {schedule: [{from: 08:00, to: 18:00}]}\n", 8,
        "settings.bandwidth.schedule[0].limit: it is missing", "add",
    ),
    "too little memory": (
        HEAD + "vms: [a]\nprofile:\n  memory: 8MiB\n", 7, "profile.memory: 8MiB are 8.0 MiB: no VM starts", "4GiB"
    ),
    "no processor": (HEAD + "vms: [a]\nprofile: {cpus: 0}\n", 6, "profile.cpus: '0' is not a number", "1 to"),
    "a name in a folder": (HEAD + "vms: [a]\nprofile: {name: a/b}\n", 6, "cannot be the name", "{name}-new"),
    "a name with other braces": (HEAD + "vms: [a]\nprofile: {name: '{vm}'}\n", 6, "that are not {name}", "{name}-new"),
    "an address that is given": (HEAD + "vms: [a]\nprofile: {mac: any}\n", 6, "'any' is none of keep, new", "keep"),
    "nobody at once": (HEAD + "vms: [a]\nat_once: 0\n", 6, "at_once", "schema"),
    "a pattern without quotes": (HEAD + "vms:\n- *-db\n", 6, "alias", "quotes"),
    "all VDISKs without quotes": (HEAD + "vms: [a]\npools: {*: fast}\n", 6, "alias", "quotes"),
    "an anchor": (HEAD + "vms: &all [a]\n", 5, "anchor", "quotes"),
    "a tag": (HEAD + "vms: !!python/object/apply:os.system [a]\n", 5, "tag", "quotes"),
    "brackets without quotes": (HEAD + "vms: [db[12]]\n", 5, "", "quotes"),
    "a key that is a list": (HEAD + "vms: [a]\nnetworks: {[a]: b}\n", 6, "key is not a text", "quotes"),
    "many levels": (HEAD + "vms: " + "[" * 5000 + "\n", 5, "levels", "quotes"),
    "another indent": (HEAD + "vms:\n  - a\n - b\n", 7, "", "quotes"),
    "two documents": (HEAD + "vms: [a]\n---\nvms: [b]\n", 6, "another document", "quotes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_with_its_line_and_the_way_out(what: str) -> None:
    text, line, message, remedy = WRONG[what]
    with pytest.raises(InputError) as refused:
        parse(text, "plan.yaml")
    assert refused.value.message.startswith(f"plan.yaml:{line}: "), refused.value
    assert message in refused.value.message
    assert remedy in str(refused.value.remedy)


def test_several_errors_are_told_at_once_but_not_all() -> None:
    with pytest.raises(InputError) as refused:
        parse(HEAD + "vms: [a]\n" + "".join(f"x{number}: 1\n" for number in range(9)), "p")
    assert "p:6: x0" in refused.value.message and "p:10: x4" in refused.value.message
    assert "x5" not in refused.value.message and "4 more" in refused.value.message


def test_what_is_no_plan_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    for content, word in (
        (b"", "no fields"), (b"- a\n", "no fields"), (b"\xff\xfe", "UTF-8"), (b"a: \x07", "not YAML"),
        (b"#" * (LARGEST + 1), "larger"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(InputError, match=word) as refused:
            load(path)
        assert str(path) in refused.value.message
    with pytest.raises(InputError, match="cannot read the plan"):
        load(tmp_path / "none.yaml")
    path.write_text("\ufeff" + WHOLE)
    assert load(path) == parse(WHOLE, "")


words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12) | st.sampled_from(
    ["no", "101", "1e3", "null", "a b", "- a", "a: b", "*", "&a", "!b", "#c", "<<", "db[12]", "{", "?"]
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
aims = {
    "networks": st.dictionaries(words, words, max_size=2),
    "pools": st.dictionaries(words, words, max_size=2),
    "formats": st.dictionaries(words, st.sampled_from(["raw", "qcow2"]), max_size=2),
    "settings": st.fixed_dictionaries(
        {},
        optional={
            "max_downtime": st.integers(1, 100).map("{}s".format),
            "max_latency": st.just("off"),
            "connections": st.integers(1, 64),
            "bandwidth": st.deferred(lambda: bandwidth),
            "rest_by_network": st.booleans(),
            "cutover": st.sampled_from(["auto", "restart"]),
        },
    ),
}
clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
hours = (
    st.tuples(clocks, clocks)
    .filter(lambda both: both[0] != both[1])
    .flatmap(
        lambda both: st.fixed_dictionaries(
            {"from": st.just(both[0]), "to": st.just(both[1])},
            optional={
                "days": st.lists(st.sampled_from(["mon", "sat", "fri-mon"]), min_size=1, max_size=2),
                "timezone": st.sampled_from(["UTC", "Europe/Zurich"]),
            },
        )
    )
)
aims["profile"] = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["{name}", "{name}-new", "no", "101"]),
        "cpus": st.integers(1, 99),
        "memory": st.sampled_from(["1GiB", "512MiB", "4G"]),
        "mac": st.sampled_from(["keep", "new"]),
        "start": st.sampled_from(["keep", "off"]),
        "autostart": st.sampled_from(["keep", "on", "off"]),
    },
)
aims["windows"] = st.lists(hours, max_size=2)
limits = st.sampled_from(["off", "200mbit", "200Mbit/s", "1.5MB/s"])
scheduled = st.builds(lambda one, limit: {**one, "limit": limit}, hours, limits)
bandwidth = limits | st.fixed_dictionaries({"schedule": st.lists(scheduled, max_size=2)}, optional={"limit": limits})
vms = st.lists(words, min_size=1, max_size=3)
numbers = st.integers(1, 9)
pins = st.fixed_dictionaries({"not_before": st.just("2026-12-05T22:00:00.5+05:30")}, optional={"position": numbers})
turn = {"priority": st.integers(-100, 100), "pin": pins}
limits = st.fixed_dictionaries({}, optional=dict.fromkeys(("per_host", "per_pool", "per_link"), numbers))
aims["except"] = st.lists(words | st.sampled_from(["tag:prod", "folder:/a b"]), max_size=2)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    groups: list[dict[str, Any]] = []
    for name in draw(st.lists(names, max_size=3, unique=True)):
        after = draw(
            st.lists(st.sampled_from([group["group"] for group in groups]), max_size=2) if groups else st.just([])
        )
        turns = draw(st.lists(st.fixed_dictionaries({"vms": vms}), max_size=2))
        if len(turns) == 2:
            turns[1]["after"] = draw(st.sampled_from(["0s", "10s", "1.5m"]))
        groups.append({"group": name, "vms": draw(vms), "after": after, "power_on": turns, **draw_some(draw, turn)})
    for group in groups[1:]:
        # The first comes after none, so that its position can be kept.
        group.get("pin", {}).pop("position", None)
    exceptions = [{"vms": draw(vms), **draw_some(draw, turn)} for _ in range(draw(st.integers(0, 2)))]
    return {
        "version": 1, "plan": draw(names), "from": "a:///", "to": "b:///", "at_once": draw(st.integers(1, 9)),
        "timezone": draw(st.sampled_from(["UTC", "America/New_York"])),
        "groups": groups, "vms": draw(vms), "exceptions": exceptions, "limits": draw(limits), **draw_some(draw, {}),
    }  # fmt: skip


def draw_some(draw: st.DrawFn, more: dict[str, Any]) -> dict[str, Any]:
    return draw(st.fixed_dictionaries({}, optional={**aims, **more}))


@settings(max_examples=60)
@given(plans())
def test_a_plan_that_is_written_is_read_as_the_same(fields: dict[str, Any]) -> None:
    plan = Plan.model_validate(fields)
    written = dump(plan)
    assert parse(written, "written") == plan
    assert dump(parse(written, "again")) == written
    # Editors and programs take what Drover takes, as it was given and as it is exported.
    for text in (fields, plan.model_dump(mode="json", by_alias=True, exclude_defaults=True)):
        assert list(SCHEMA.iter_errors(text)) == []


@given(st.one_of(st.text(), st.text(alphabet="{}[]:-*&!#\"' \nabvms1")))
def test_whatever_is_in_a_file_the_error_is_ours(text: str) -> None:
    with pytest.raises(InputError):
        parse(text, "plan.yaml")
