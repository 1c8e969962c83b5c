"""`drover estimate` of a real VM, then its migration, then the score: forecast beside outcome."""

from collections.abc import Callable

from tests.migration.drover import Drover
from tests.migration.world import Vm


def test_a_forecast_is_made_kept_and_scored(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm(pattern="random", rate=40)
    vm.lab.link.set(rate=100e6 / 8, delay=0.005)
    sites = ["--from", vm.lab.site("alpha").uri, "--to", vm.lab.site("beta").uri]
    report = vm.data / "report.html"
    estimate = Drover(
        vm.data, "estimate", vm.name, *sites, "--observe", "8s", "--probe-budget", "24MiB", "--html", str(report)
    ).finish()
    assert estimate["whole"]["vm"] == vm.name
    assert 0 < estimate["whole"]["downtime"]["p10"] <= estimate["whole"]["downtime"]["p90"]
    assert estimate["whole"]["wire_bytes"]["p50"] > 1 << 20
    # The emulated line carries 12.5 MB/s of packets.
    assert 9e6 < estimate["tuning"]["rate"] < 14e6
    assert "<svg" in report.read_text()

    asked = Drover(vm.data, "what-if", vm.name, *sites, "--link-rate", "10mbit").finish()
    assert asked["whole"]["duration"]["p50"] > estimate["whole"]["duration"]["p50"]

    process = vm.migrate()
    process.finish()
    said = next(event for event in process.events if event["event"] == "forecast")
    # The link's settings are those that were measured, since none were given.
    assert said["question"]["connections"] == estimate["tuning"]["connections"]
    expected = [event["expected"] for event in process.events if event["event"] == "progress" and event["expected"]]
    assert expected
    assert all(now["downtime"]["p10"] <= now["downtime"]["p50"] <= now["downtime"]["p90"] for now in expected)
    vm.assert_witness()

    scores = Drover(vm.data, "estimate", "accuracy")
    scores.finish()
    rows = {event["quantity"]: event for event in scores.events}
    assert set(rows) == {"duration", "downtime", "bytes"}
    assert all(row["count"] == 1 for row in rows.values())
    # The smallest VM takes some ten seconds: a forecast that is off by its double would be no forecast.
    assert rows["duration"]["median_error"] < 1


def test_what_was_never_observed_is_named(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm(pattern="idle")
    sites = ["--from", vm.lab.site("alpha").uri, "--to", vm.lab.site("beta").uri]
    error = Drover(vm.data, "what-if", vm.name, *sites).fail()
    assert "not observed" in error["error"]
    assert "drover estimate" in error["remedy"]
    error = Drover(vm.data, "estimate", "no-such-vm", *sites, "--observe", "1s").fail()
    assert "no-such-vm" in error["error"]
