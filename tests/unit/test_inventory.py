"""The inventory follows a site by its events: libvirt's own test hypervisor, which is real but for the VMs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.errors import PlatformError
from drover.inventory.keeper import Keeper
from drover.inventory.keepers import Keepers
from drover.model.inventory import ListedVdisk, ListedVm, Power
from drover.platforms.libvirt import connection as event_loop
from drover.platforms.libvirt.watching import LibvirtWatched
from drover.store import InventoryStore, SiteStore
from drover.store.inventory import KeptVm, Wanted
from drover.store.sites import Site

URI = "test:///default"
_PROFILE = """
<domain type='test'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type>hvm</type></os>
<metadata><d:labels xmlns:d='https://drover.dev/xmlns/labels/1'><d:folder>/office/web/</d:folder>
<d:tag>blue</d:tag></d:labels></metadata>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/guest/{name}'/>
<target dev='vda'/></disk><interface type='network'><source network='default'/></interface></devices></domain>
"""


class Counted(LibvirtWatched):
    """Counts what is asked of libvirt."""

    lists = 0
    reads = 0

    def __init__(self, uri: str) -> None:
        super().__init__(uri, _open)

    def everything(self) -> list[ListedVm]:
        type(self).lists += 1
        return super().everything()

    def one(self, uuid: str) -> ListedVm | None:
        type(self).reads += 1
        return super().one(uuid)


def _open(uri: str) -> libvirt.virConnect:
    event_loop._start_event_loop()
    return libvirt.open(uri)


def until(check: Callable[[], bool], timeout: float = 5) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < timeout
        time.sleep(0.01)
    return time.monotonic() - begun


@pytest.fixture
def store(tmp_path: Path) -> InventoryStore:
    return InventoryStore(tmp_path)


@pytest.fixture
def keeper(store: InventoryStore) -> Iterator[Keeper]:
    Counted.lists = Counted.reads = 0
    assert store.take("alpha", URI, "me", 60)
    keeper = Keeper(store, Site(name="alpha", uri=URI), "me", Counted)
    keeper.start()
    yield keeper
    keeper.stop()
    keeper.join(5)


def names(store: InventoryStore) -> dict[str, Power]:
    return {kept.vm.name: kept.vm.state for kept in store.page(Wanted(), limit=100)}


def test_it_follows_events_and_lists_only_once(store: InventoryStore, keeper: Keeper) -> None:
    until(lambda: names(store) == {"test": Power.RUNNING})
    other = _open(URI)
    domain = other.defineXML(_PROFILE.format(name="web"))
    assert until(lambda: names(store).get("web") is Power.OFF) < 2
    (web,) = store.page(Wanted(name="WE?"), limit=9)
    assert web.vm.folder == "office/web" and web.vm.tags == ("blue",) and web.vm.networks == ("default",)
    assert web.vm.memory == 64 << 20 and web.vm.processors == 2
    assert [(vdisk.name, vdisk.format) for vdisk in web.vm.vdisks] == [("vda", "qcow2")]
    domain.create()
    assert until(lambda: names(store)["web"] is Power.RUNNING) < 2
    domain.suspend()
    assert until(lambda: names(store)["web"] is Power.PAUSED) < 2
    domain.destroy()
    assert until(lambda: names(store)["web"] is Power.OFF) < 2
    domain.undefine()
    assert until(lambda: "web" not in names(store)) < 2
    assert Counted.lists == 1
    assert keeper.alive
    quiet, revision = Counted.reads, store.revision()
    time.sleep(1.2)
    assert (Counted.reads, store.revision()) == (quiet, revision)


class Cut:
    """A site that is there twice, gone in between."""

    opened = 0

    def __init__(self, _uri: str) -> None:
        type(self).opened += 1
        if self.opened == 2:
            raise PlatformError("nobody at home")

    def everything(self) -> list[ListedVm]:
        return [vm(f"vm-{self.opened}")]

    def one(self, uuid: str) -> ListedVm | None:
        raise AssertionError(uuid)

    def changed(self, timeout: float) -> list[str]:
        if self.opened == 1:
            raise PlatformError("cut")
        time.sleep(timeout)
        return []

    def close(self) -> None:
        pass


def test_a_site_that_is_gone_says_since_when_and_is_listed_anew_when_it_is_back(store: InventoryStore) -> None:
    Cut.opened = 0
    assert store.take("alpha", URI, "me", 60)
    keeper = Keeper(store, Site(name="alpha", uri=URI), "me", Cut)
    keeper.start()
    until(lambda: store.sites()["alpha"].gone_since is not None)
    first = store.sites()["alpha"]
    assert first.reason == "cut" and not first.is_fresh(time.time()) and list(names(store)) == ["vm-1"]
    until(lambda: store.sites()["alpha"].reason == "nobody at home")
    assert store.sites()["alpha"].gone_since == first.gone_since
    until(lambda: list(names(store)) == ["vm-3"], 10)
    assert store.sites()["alpha"].is_fresh(time.time())
    keeper.stop()
    keeper.join(5)


def test_one_server_watches_a_site_and_another_takes_over(tmp_path: Path, store: InventoryStore) -> None:
    sites = SiteStore(tmp_path)
    sites.put(Site(name="alpha", uri=URI))
    one, two = Keepers(tmp_path, Counted), Keepers(tmp_path, Counted)
    Counted.lists = 0
    for _ in range(3):
        one.look(time.time())
        two.look(time.time())
    until(lambda: "test" in names(store))
    assert Counted.lists == 1
    one.stop_watching()
    two.look(time.time())
    until(lambda: Counted.lists == 2)
    sites.remove("alpha")
    two.look(time.time())
    assert not names(store) and not store.sites()
    two.stop_watching()


def vm(name: str, **fields: object) -> ListedVm:
    plain = {"uuid": f"uuid-{name}", "host": "h", "state": Power.OFF, "memory": 1, "processors": 1}
    return ListedVm(**{"name": name, **plain, **fields})  # type: ignore[arg-type]


def test_who_lost_the_lease_changes_nothing(store: InventoryStore) -> None:
    assert store.take("alpha", URI, "one", -1)
    assert not store.replace("alpha", "one", [vm("old")])
    assert store.take("alpha", URI, "two", 60)
    assert not store.take("alpha", URI, "one", 60)
    assert not store.put("alpha", "one", [vm("old")]) and not store.lost("alpha", "one", 1.0, "no")
    assert store.replace("alpha", "two", [vm("new")])
    assert list(names(store)) == ["new"]


def test_what_did_not_change_keeps_its_time(store: InventoryStore) -> None:
    assert store.take("alpha", URI, "me", 60)
    disk = ListedVdisk(name="vda", size=1 << 30, format="raw")
    store.replace("alpha", "me", [vm("same", vdisks=(disk,), tags=("a",)), vm("other"), vm("gone")])
    before = {kept.vm.name: kept for kept in store.page(Wanted(), limit=9)}
    store.replace("alpha", "me", [vm("same", vdisks=(disk,), tags=("a",)), vm("other", state=Power.RUNNING)])
    after = {kept.vm.name: kept for kept in store.page(Wanted(), limit=9)}
    assert after["same"] == before["same"] and after.keys() == {"same", "other"}
    assert after["other"].changed_at > before["other"].changed_at


_NAMES = st.text(alphabet="abAB_%*?\\.-", min_size=1, max_size=5)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> InventoryStore:
    return InventoryStore(tmp_path_factory.mktemp("inventory"))


@settings(max_examples=40)
@given(names=st.lists(_NAMES, max_size=12, unique=True), pattern=_NAMES, limit=st.integers(1, 5))
def test_parts_together_are_all_that_match(shared: InventoryStore, names: list[str], pattern: str, limit: int) -> None:
    store = shared
    assert store.take("alpha", URI, "me", 60)
    store.replace("alpha", "me", [vm(name) for name in names])
    found: list[KeptVm] = []
    while part := store.page(
        Wanted(name=pattern), limit=limit, after=(found[-1].vm.name, "alpha", found[-1].vm.uuid) if found else None
    ):
        found += part
    wanted = sorted(name for name in names if _matches(name.lower(), pattern.lower()))
    assert [kept.vm.name for kept in found] == wanted
    assert store.count(Wanted(name=pattern)) == len(wanted)


def _matches(name: str, pattern: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_matches(name[at:], pattern[1:]) for at in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and _matches(name[1:], pattern[1:])
