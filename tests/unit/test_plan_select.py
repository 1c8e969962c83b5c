"""VMs chosen by tag, folder, title, description and pattern, with exclusions; labels as libvirt keeps them."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.vm import Labels, Vm
from drover.plans.resolve import resolve
from drover.plans.select import asks_for_labels, select, without
from drover.plans.site import look
from drover.platforms.libvirt.labels import NAMESPACE, labels_of
from tests.unit.test_plan_resolve import plan, vm

SITE = [
    replace(vm(name), labels=Labels(tags=tags, folder=folder, title=title, description=description))
    for name, tags, folder, title, description in (
        ("db1", ("prod", "db"), "/shop/eu", "Orders", ""),
        ("db2", ("prod",), "shop/us", "Orders, a copy", "for reports\nonly"),
        ("web-1", ("prod", "web"), "/shop", "", ""),
        ("web-2", ("test",), "/shopping", "", ""),
        ("tag:prod", (), "", "", ""),
    )
]
LABELLED = SITE[:-1]


def names(words: list[str], but_for: list[str] | None = None, site: list[Vm] = LABELLED) -> list[str]:
    return [one.name for one in select(words, site, "here", but_for or [])]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("tag:prod", ["db1", "db2", "web-1"]), ("tag:t*", ["web-2"]), ("tag:[dw]*b", ["db1", "web-1"]),
        ("folder:/shop", ["db1", "db2", "web-1"]), ("folder:shop/", ["db1", "db2", "web-1"]),
        ("folder:/shop/*", ["db1", "db2"]), ("folder:/*/eu", ["db1"]), ("folder:/", ["db1", "db2", "web-1", "web-2"]),
        ("title:Orders", ["db1"]), ("title:Orders*", ["db1", "db2"]), ("description:*only", ["db2"]),
        ("web-*", ["web-1", "web-2"]),
    ],
)  # fmt: skip
def test_a_word_means_those_that_bear_it(word: str, meant: list[str]) -> None:
    assert names([word]) == meant


def test_a_vm_of_just_this_name_comes_first() -> None:
    assert names(["tag:prod"], site=SITE) == ["tag:prod"]


def test_what_is_left_out_is_left_out() -> None:
    assert names(["tag:prod", "web-*"], ["tag:db", "web-2"]) == ["db2", "web-1"]
    assert names(["tag:prod"], ["tag:gone", "mail-*"]) == ["db1", "db2", "web-1"], "labels and patterns may mean none"
    with pytest.raises(InputError, match="'web-2' is to be left out, and it is not") as refused:
        names(["tag:prod"], ["web-2"])
    assert "db1, db2, web-1" in str(refused.value.remedy)
    with pytest.raises(InputError, match="every VM of here is left out"):
        names(["db*"], ["tag:prod"])


def test_a_label_that_nobody_bears_is_told_with_those_there_are() -> None:
    with pytest.raises(InputError, match="the tag 'production' means no VM of here") as refused:
        names(["tag:production"])
    assert "there are db, prod, test, web" in str(refused.value.remedy)
    with pytest.raises(InputError, match="the folder '/x' means no VM") as refused:
        names(["folder:/x"], site=[vm("bare")])
    assert "none of them has a folder" in str(refused.value.remedy)


@given(st.lists(st.sampled_from(["tag:prod", "tag:none", "web-*", "folder:/shop", "title:O*"]), max_size=4))
def test_leaving_out_takes_exactly_what_the_words_mean(words: list[str]) -> None:
    taken = {one.name for word in words for one in LABELLED if one in _meant(word)}
    try:
        left = without(words, LABELLED, "here")
    except InputError:
        assert taken == {one.name for one in LABELLED}
        return
    assert [one.name for one in left] == [one.name for one in LABELLED if one.name not in taken]


def _meant(word: str) -> list[Vm]:
    try:
        return select([word], LABELLED, "here")
    except InputError:
        return []


def batches(**fields: Any) -> dict[str, list[str]]:
    return {batch.name: [member.vm for member in batch.members] for batch in resolve(plan(**fields), LABELLED)}


def test_a_plan_leaves_out_for_a_group_and_as_a_whole() -> None:
    made = batches(
        groups=[{"group": "orders", "vms": ["tag:prod"], "except": ["web-*"]}],
        vms=["web-*"],
        **{"except": ["db2"]},
        exceptions=[{"vms": ["*"], "except": ["tag:web"], "settings": {"max_downtime": "1m"}}],
    )
    assert made == {"orders": ["db1"], "web-1": ["web-1"], "web-2": ["web-2"]}
    specs = resolve(
        plan(vms=["*"], exceptions=[{"vms": ["*"], "except": ["tag:web"], "profile": {"cpus": 2}}]), LABELLED
    )
    assert [one.members[0].spec.profile.cpus for one in specs] == [2, 2, None, 2]
    with pytest.raises(InputError, match="every VM of the group orders is left out"):
        batches(groups=[{"group": "orders", "vms": ["db*"]}], vms=["web-1"], **{"except": ["db*"]})
    with pytest.raises(InputError, match="'db9' is to be left out"):
        batches(vms=["db*"], **{"except": ["db9"]})


def test_labels_are_where_virsh_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = libvirt.open("test:///default")
    domain = connection.lookupByName("test")
    written = "<labels><tag>prod</tag><tag> web </tag><tag/><tag>prod</tag><folder>/shop/eu</folder></labels>"
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, written, "drover", NAMESPACE, flags)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "Orders", None, None, flags)
    labels = labels_of(ET.fromstring(domain.XMLDesc(0)))
    assert labels == Labels(tags=("prod", "web"), folder="/shop/eu", title="Orders")
    described = [vm("test")]
    monkeypatch.setattr("drover.plans.site.open_uri", lambda _: connection)
    monkeypatch.setattr("drover.plans.site.describe", lambda one: described[one.name() != "test"])
    assert look(plan(vms=["tag:web"])) == described


def test_only_words_for_labels_have_profiles_read() -> None:
    assert not asks_for_labels(["web-*", "db1", "tag:", "a:b"])
    assert asks_for_labels(["web-*", "folder:/x"])


def test_a_profile_without_labels_has_none() -> None:
    other = (
        "<domain><metadata><x:labels xmlns:x='https://example.org'><x:tag>prod</x:tag></x:labels></metadata></domain>"
    )
    assert labels_of(ET.fromstring(other)) == Labels()
