"""`GET /v1/vms` and `drover vms`: filters, parts, ETags, scopes, sites that are gone."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drover.cli.main import app
from drover.errors import PlatformError
from drover.model.inventory import ListedVdisk, ListedVm, Power
from drover.store import InventoryStore, SiteStore
from drover.store.sites import Site
from tests.server.conftest import Served
from tests.server.test_api import ok, refused


def listed(number: int) -> ListedVm:
    return ListedVm(
        uuid=f"uuid-{number}", name=f"vm-{number:03}", host=f"host-{number % 3}", memory=1 << 30, processors=1,
        state=Power.RUNNING if number % 2 else Power.OFF, networks=("office",), folder="a/b" if number < 10 else "",
        vdisks=(ListedVdisk(name="vda", size=1 << 30, format="raw"),), tags=("blue",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(served: Served) -> InventoryStore:
    """Watched by this test, so that the server does not."""
    store = served.context.inventory
    assert store.take("gamma", "qemu:///g?socket=/nowhere/g", "test", 3600)
    served.context.sites.put(Site(name="gamma", uri="qemu:///g?socket=/nowhere/g"))
    assert store.replace("gamma", "test", map(listed, range(25)))
    return store


@pytest.mark.usefixtures("kept")
def test_parts_filters_and_freshness(served: Served) -> None:
    path, names = "/v1/vms?site=gamma&limit=10", []
    cursor = ""
    while True:
        part = ok(served.call("GET", path + cursor))
        names += [one["name"] for one in part["items"]]
        assert part["total"] == 25
        if part["next"] is None:
            break
        cursor = f"&cursor={part['next']}"
    assert names == [f"vm-{number:03}" for number in range(25)]
    (gamma,) = part["sites"]
    assert gamma["fresh"] and gamma["gone_since"] is None
    assert ok(served.call("GET", "/v1/vms?site=gamma&state=running"))["total"] == 12
    assert ok(served.call("GET", "/v1/vms?site=gamma&name=VM-00?"))["total"] == 10
    assert ok(served.call("GET", "/v1/vms?site=gamma&folder=a"))["total"] == 10
    one = ok(served.call("GET", "/v1/vms?name=vm-003"))["items"][0]
    assert (one["size"], one["host"], one["tags"], one["state"]) == (1 << 30, "host-0", ["blue"], "running")


def test_the_etag_changes_with_a_vm_only(served: Served, kept: InventoryStore) -> None:
    path = "/v1/vms?site=gamma"
    first: Any = served.call("GET", path)
    again: Any = served.call("GET", path, headers={"If-None-Match": first.headers["etag"]})
    # The sites that do not answer are tried again and again, which may be told.
    assert again.status_code in (200, 304)
    kept.put("gamma", "test", [listed(25)])
    changed: Any = served.call("GET", path, headers={"If-None-Match": first.headers["etag"]})
    assert ok(changed)["total"] == 26
    kept.put("gamma", "test", [], ["uuid-25"])
    assert ok(served.call("GET", path))["total"] == 25


@pytest.mark.usefixtures("kept")
def test_wrong_words_and_others_sites(served: Served) -> None:
    assert "gamma" in refused(served.call("GET", "/v1/vms?site=gamma", who="guest"), 404)["detail"]
    assert ok(served.call("GET", "/v1/vms", who="guest"))["total"] == 0
    refused(served.call("GET", "/v1/vms?state=happy"), 422)
    for cursor in ("nonsense", "WzEsMl0=", "W10=", "bnVsbA=="):
        refused(served.call("GET", f"/v1/vms?cursor={cursor}"), 422)


def test_alone_the_sites_are_asked_now_and_old_lists_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    monkeypatch.setattr("drover.inventory.sites.watch", lambda _uri: Here())
    SiteStore().put(Site(name="alpha", uri="qemu:///system"))
    told = run("vms", "--json", "--state", "running", "--name", "vm-*")
    assert [one["event"] for one in told] == ["site", "vm"]
    assert told[0]["fresh"] and told[1]["name"] == "vm-001"
    Here.gone = True
    told = run("vms", "--json")
    assert not told[0]["fresh"] and told[0]["reason"] == "the site is gone" and len(told) == 3
    words = CliRunner().invoke(app, ["vms"]).output
    assert "vm-001" in words and "alpha does not answer" in words
    assert CliRunner().invoke(app, ["vms", "--site", "nowhere"]).exception


def run(*words: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    return [json.loads(line) for line in result.output.splitlines()]


class Here:
    gone = False

    def everything(self) -> list[ListedVm]:
        if self.gone:
            raise PlatformError("the site is gone")
        return [listed(0), listed(1)]

    def close(self) -> None:
        pass
