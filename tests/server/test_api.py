"""The REST API: who may do what, plans and their versions, runs, lists, errors with a way out."""

import json
import threading
import time
from typing import Any

import pytest

from drover import logs
from drover.model.group import Member
from drover.model.migration import Facts, Migration, Spec, State
from drover.model.timeline import Basis, Progressing, Timeline, TimelineRow, TimelineVm
from drover.store.plans import RunKind, RunState, StoredRun
from tests.server.conftest import PLAN, URIS, Served

pytestmark = pytest.mark.parametrize("served", ["sqlite", "postgresql"], indirect=True, scope="module")


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def refused(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status and told["detail"]
    return told


def ended(served: Served, run: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        now: dict[str, Any] = ok(served.call("GET", f"/v1/runs/{run['id']}"))
        if now["state"] not in ("queued", "running"):
            return now
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


def add(served: Served, vm: str, state: State | None = None, **spec: str) -> Migration:
    ends = {"source": URIS["alpha"], "destination": URIS["beta"], **spec}
    migration = served.context.migrations.add(Spec(vm=vm, **ends), Facts(uuid=f"uuid-{vm}"))
    if state is not None:
        served.context.migrations.enter(migration, state)
    return migration


def test_the_first_administrator_changes_the_password_before_anything_else(served: Served) -> None:
    served.context.accounts.add_user("boss2", served.context.accounts.user("boss").role)
    once = served.context.accounts.reset_password("boss2")
    session = ok(served.call("POST", "/v1/sessions", who=None, json={"name": "boss2", "password": once}), 201)
    served.secrets["boss2"] = session["secret"]
    assert session["must_change_password"]
    assert "one-time" in refused(served.call("GET", "/v1/plans", who="boss2"), 403)["detail"]
    ok(served.call("PUT", "/v1/me/password", who="boss2", json={"old": once, "new": "a better password"}), 204)
    ok(served.call("GET", "/v1/plans", who="boss2"))
    ok(served.call("DELETE", "/v1/sessions/current", who="boss2"), 204)
    told = refused(served.call("GET", "/v1/plans", who="boss2"), 401)
    assert "Bearer" in served.call("GET", "/v1/plans", who="boss2").headers["www-authenticate"]  # type: ignore[attr-defined]
    assert told["remedy"]


def test_nobody_gets_nothing(served: Served) -> None:
    open_paths = {
        "/healthz",
        "/readyz",
        "/v1/sessions",
        *(f"/v1/oidc{way}" for way in ("", "/login", "/callback", "/session")),
    }
    for path, operations in served.app.openapi()["paths"].items():
        if path in open_paths:
            continue
        for method in operations:
            refused(served.call(method.upper(), path.replace("{", "").replace("}", ""), who=None, json={}), 401)


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        ("eye", "PUT", "/v1/plans/office", 403),
        ("eye", "POST", "/v1/plans/office/runs", 403),
        ("eye", "POST", "/v1/migrations", 403),
        ("hand", "GET", "/v1/users", 403),
        ("hand", "GET", "/v1/audit", 403),
        ("hand", "PUT", "/v1/sites/alpha", 403),
        ("eye", "GET", "/v1/plans", 200),
        ("hand", "GET", "/v1/sites", 200),
    ],
)
def test_roles_bound_what_somebody_does(served: Served, who: str, method: str, path: str, status: int) -> None:
    bodies = {"/v1/sites/alpha": {"uri": "qemu:///x"}, "/v1/migrations": {"vm": "a", "source": "b", "destination": "c"}}
    answer = served.call(method, path, who=who, json=bodies.get(path)) if path in bodies else None
    answer = answer or served.call(method, path, who=who, content=PLAN if method == "PUT" else None)
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]


def test_a_scope_hides_the_rest(served: Served) -> None:
    ok(served.call("PUT", "/v1/plans/hidden", content=PLAN.replace("office", "hidden")), 201)
    assert "hidden" not in {plan["name"] for plan in ok(served.call("GET", "/v1/plans", who="guest"))["items"]}
    refused(served.call("GET", "/v1/plans/hidden", who="guest"), 404)
    refused(served.call("POST", "/v1/plans/hidden/runs", who="guest"), 404)
    refused(served.call("PUT", "/v1/plans/hidden", who="guest", content=PLAN), 403)
    mine = PLAN.replace("office", "guest-1")
    assert "beta" in refused(served.call("PUT", "/v1/plans/guest-1", who="guest", content=mine), 403)["detail"]
    assert [site["name"] for site in ok(served.call("GET", "/v1/sites", who="guest"))["items"]] == ["alpha"]
    migration = add(served, "secret-vm")
    refused(served.call("GET", f"/v1/migrations/{migration.id}", who="guest"), 404)
    assert not ok(served.call("GET", "/v1/migrations", who="guest"))["items"]


def test_a_plan_is_checked_versioned_and_exported_without_loss(served: Served) -> None:
    wrong = PLAN.replace("vms:", "vm:")
    told = refused(served.call("PUT", "/v1/plans/office", content=wrong), 422)
    assert "plan office:5" in told["detail"] and "vms" in told["remedy"]
    assert "calls itself" in refused(served.call("PUT", "/v1/plans/other", content=PLAN), 422)["detail"]
    elsewhere = PLAN.replace("beta", "gamma")
    assert "alpha, beta" in refused(served.call("PUT", "/v1/plans/office", content=elsewhere), 422)["remedy"]
    first = served.call("PUT", "/v1/plans/office", content=PLAN)
    assert ok(first, 201)["version"] == 1
    assert ok(served.call("PUT", "/v1/plans/office", content=PLAN))["version"] == 1, "it says the same"
    longer = PLAN.replace("[web]", "[web, db]")
    etag = first.headers["etag"]  # type: ignore[attr-defined]
    assert ok(served.call("PUT", "/v1/plans/office", content=longer, headers={"If-Match": etag}))["version"] == 2
    refused(served.call("PUT", "/v1/plans/office", content=PLAN, headers={"If-Match": etag}), 412)
    assert ok(served.call("GET", "/v1/plans/office?version=1"))["text"] == PLAN
    exported = served.call("GET", "/v1/plans/office/export").text  # type: ignore[attr-defined]
    assert ok(served.call("PUT", "/v1/plans/office", content=exported))["version"] == 3
    assert served.call("GET", "/v1/plans/office/export").text == exported  # type: ignore[attr-defined]
    newest = served.call("GET", "/v1/plans/office")
    same = {"If-None-Match": newest.headers["etag"]}  # type: ignore[attr-defined]
    ok(served.call("GET", "/v1/plans/office", headers=same), 304)
    refused(served.call("GET", "/v1/plans/nothing"), 404)


def test_a_run_that_cannot_begin_says_why_and_a_key_begins_once(served: Served) -> None:
    ok(served.call("PUT", "/v1/plans/away", content=PLAN.replace("office", "away")), 201)
    key = {"Idempotency-Key": "once"}
    run = ok(served.call("POST", "/v1/plans/away/runs", who="hand", headers=key), 202)
    now = ended(served, run)
    assert now["state"] == "refused" and "cannot connect" in now["reason"] and now["remedy"]
    again = ok(served.call("POST", "/v1/plans/away/runs", who="hand", headers=key), 202)
    assert again["id"] == run["id"]
    ok(served.call("PUT", "/v1/plans/other", content=PLAN.replace("office", "other")), 201)
    told = refused(served.call("POST", "/v1/plans/other/runs", who="hand", headers=key), 422)
    assert "another request" in told["detail"]
    assert ok(served.call("POST", "/v1/plans/away/runs", who="boss", headers=key), 202)["id"] != run["id"]


def test_the_timeline_of_a_run_says_what_waits_for_what(served: Served) -> None:
    text = PLAN.replace("office", "ordered")
    ok(served.call("PUT", "/v1/plans/ordered", content=text), 201)
    told = refused(served.call("GET", "/v1/plans/ordered/timeline"), 422)
    assert "cannot connect" in told["detail"], "nobody carries it out, and its source is not there"
    refused(served.call("GET", "/v1/plans/ordered/timeline", who="guest"), 404)
    waiting = add(served, "late")
    vms = [TimelineVm(vm="late", migration=waiting.id, basis=Basis.SIZE, wire_bytes=1.0)]
    row = TimelineRow(
        name="late", group=False, vms=vms, state=Progressing.WAITING, begin=1.0, copied=2.0, cutover=2.0, end=3.0
    )
    found = Timeline(plan="ordered", at=0.0, link_rate=1.0, link_known=False, end=3.0, rows=[row])
    run = StoredRun(
        id="r-ordered", kind=RunKind.PLAN, target={}, name="ordered", by="boss", state=RunState.RUNNING,
        migrations=(waiting.id,),
    )  # fmt: skip
    served.context.runs.add(run)
    served.context.orders.put(run.id, found)
    served.context.orders.put_waits(run.id, {waiting.id: "host alpha has 2 of 2"})
    said = Timeline.model_validate(ok(served.call("GET", "/v1/plans/ordered/timeline", who="eye")))
    assert said.rows == [row.model_copy(update={"waits_for": "host alpha has 2 of 2"})]
    assert ok(served.call("GET", "/v1/migrations?vm=late"))["items"][0]["waits_for"] == "host alpha has 2 of 2"
    story = served.call("GET", f"/v1/migrations/{waiting.id}")
    assert ok(story)["waits_for"] == "host alpha has 2 of 2"
    served.context.orders.put_waits(run.id, {})
    known = {"If-None-Match": story.headers["etag"]}  # type: ignore[attr-defined]
    assert ok(served.call("GET", f"/v1/migrations/{waiting.id}", headers=known))["waits_for"] is None
    served.context.runs.change(run.id, state=RunState.FINISHED)


def test_migrations_come_in_pages_newest_first(served: Served) -> None:
    for number in range(5):
        add(served, f"page-{number}", State.PAUSED if number % 2 else None)
    seen, cursor = [], ""
    while True:
        page = ok(served.call("GET", f"/v1/migrations?vm=page-&limit=2{cursor}"))
        seen += [one["vm"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"page-{number}" for number in (4, 3, 2, 1, 0)]
    paused = ok(served.call("GET", "/v1/migrations?vm=page-&state=paused"))["items"]
    assert [one["vm"] for one in paused] == ["page-3", "page-1"]
    assert "cursor" in refused(served.call("GET", "/v1/migrations?cursor=nonsense"), 422)["detail"]
    refused(served.call("GET", "/v1/migrations?state=lost"), 422)


def test_a_migration_tells_its_story_and_takes_what_fits_its_state(served: Served) -> None:
    migration = add(served, "story")
    path = f"/v1/migrations/{migration.id}"
    answer = served.call("GET", path)
    story = ok(answer)
    assert story["spec"]["vm"] == "story" and story["history"][0]["text"] == "planned"
    same = {"If-None-Match": answer.headers["etag"]}  # type: ignore[attr-defined]
    ok(served.call("GET", path, headers=same), 304)
    served.context.live.tell(migration.id, {"at": time.time(), "vm": "story", "sent": 17})
    assert ok(served.call("GET", path, headers=same))["progress"]["sent"] == 17
    assert "nothing to pause" in refused(served.call("POST", f"{path}/pause"), 409)["remedy"]
    with served.context.migrations.running(migration):
        ok(served.call("POST", f"{path}/pause"), 202)
        assert served.context.live.is_to_pause(migration.id, since=0)
        refused(served.call("POST", f"{path}/cancel"), 409)
        refused(served.call("POST", f"{path}/resume"), 409)
    told = refused(served.call("POST", f"{path}/resume", json={"bandwidth": "fast"}), 422)
    assert "bandwidth" in told["detail"] and told["remedy"]
    served.context.migrations.enter(migration, State.CANCELLED)
    refused(served.call("POST", f"{path}/resume"), 409)


def test_an_operator_may_say_now_and_the_audit_log_knows_who(served: Served) -> None:
    always = {"from": "00:00", "to": "00:01", "timezone": "UTC"}
    spec = Spec.model_validate({"vm": "w", "source": URIS["alpha"], "destination": URIS["beta"], "windows": [always]})
    alone, *both = [served.context.migrations.add(spec, Facts(uuid=f"uuid-window-{n}")) for n in range(3)]
    rows = [Member(migration=one.id, vm=one.spec.vm) for one in both]
    group = served.context.groups.add("office", "windowed", rows, approval=True)
    story = ok(served.call("GET", f"/v1/migrations/{alone.id}"))
    assert story["spec"]["windows"] == [{**always, "days": ["mon-sun"]}]
    path = f"/v1/migrations/{alone.id}/approval"
    refused(served.call("POST", path, who="eye"), 403)
    ok(served.call("POST", path, who="hand"))
    assert served.context.live.is_free_of_windows(alone.id)
    told = ok(served.call("GET", f"/v1/migrations/{alone.id}"))["history"][-1]["text"]
    assert told == "hand: it may cut over outside its windows"
    assert group.id in refused(served.call("POST", f"/v1/migrations/{both[0].id}/approval"), 409)["remedy"]
    ok(served.call("POST", f"/v1/groups/{group.id}/approval", who="hand"))
    assert not any(served.context.live.is_free_of_windows(one.id) for one in both)
    refused(served.call("POST", f"/v1/groups/{group.id}/approval", who="hand"), 409)
    ok(served.call("POST", f"/v1/groups/{group.id}/approval?now=true", who="hand"))
    assert all(served.context.live.is_free_of_windows(one.id) for one in both)
    assert any((one.who, one.target) == ("hand", path) for one in served.context.audit.entries())


def test_users_and_tokens_are_managed_and_hold_at_once(served: Served) -> None:
    made = ok(served.call("POST", "/v1/users", json={"name": "new", "role": "operator"}), 201)
    login = {"name": "new", "password": made["one_time_password"]}
    served.secrets["new"] = ok(served.call("POST", "/v1/sessions", who=None, json=login), 201)["secret"]
    password = {"old": login["password"], "new": "quite another password"}
    ok(served.call("PUT", "/v1/me/password", who="new", json=password), 204)
    too_much = {"name": "ci", "role": "administrator"}
    refused(served.call("POST", "/v1/tokens", who="new", json=too_much), 422)
    token = ok(served.call("POST", "/v1/tokens", who="new", json={"name": "ci", "role": "operator"}), 201)
    served.secrets["ci"] = token["secret"]
    ok(served.call("GET", "/v1/plans", who="ci"))
    refused(served.call("POST", "/v1/tokens", who="ci", json={"name": "more", "role": "viewer"}), 403)
    refused(served.call("DELETE", f"/v1/tokens/{token['id']}", who="hand"), 403)
    ok(served.call("PATCH", "/v1/users/new", json={"role": "viewer"}))
    refused(served.call("PUT", "/v1/plans/office", who="ci", content=PLAN), 403)
    ok(served.call("DELETE", f"/v1/tokens/{token['id']}", who="new"), 204)
    refused(served.call("GET", "/v1/plans", who="ci"), 401)
    ok(served.call("DELETE", "/v1/users/new"), 204)
    refused(served.call("GET", "/v1/plans", who="new"), 401)


def test_failed_log_ins_lock(served: Served) -> None:
    served.context.accounts.add_user("victim", served.context.accounts.user("eye").role)
    wrong = {"name": "victim", "password": "no such password"}
    for _ in range(5):
        refused(served.call("POST", "/v1/sessions", who=None, json=wrong), 401)
    answer = served.call("POST", "/v1/sessions", who=None, json=wrong)
    refused(answer, 429)
    assert int(answer.headers["retry-after"]) > 600  # type: ignore[attr-defined]


def test_every_change_is_in_the_audit_log_and_no_secret_is(served: Served) -> None:
    wrong = {"name": "eye", "password": "planted-secret-1234"}
    refused(served.call("POST", "/v1/sessions", who=None, json=wrong), 401)
    ok(served.call("PUT", "/v1/sites/gamma", json={"uri": "qemu:///gamma"}), 201)
    refused(served.call("DELETE", "/v1/sites/gamma", who="hand"), 403)
    ok(served.call("DELETE", "/v1/sites/gamma"), 204)
    log = ok(served.call("GET", "/v1/audit?limit=4"))["items"]
    assert [(one["who"], one["what"], one["target"], one["outcome"]) for one in log] == [
        ("boss", "DELETE /v1/sites/{name}", "/v1/sites/gamma", "done"),
        ("hand", "DELETE /v1/sites/{name}", "/v1/sites/gamma", "refused: 403 Forbidden"),
        ("boss", "PUT /v1/sites/{name}", "/v1/sites/gamma", "done"),
        ("eye", "POST /v1/sessions", "/v1/sessions", "refused: 401 Unauthorized"),
    ]
    assert ok(served.call("GET", "/v1/audit/verification")) == {"first_broken": None}
    stored = b"".join(path.read_bytes() for path in served.context.folder.glob("*.sqlite*"))
    for secret in ("planted-secret-1234", "a password of some length", *served.secrets.values()):
        assert secret.encode() not in stored
    everything = json.dumps([ok(served.call("GET", path)) for path in ("/v1/audit", "/v1/users", "/v1/tokens")])
    assert not any(secret in everything for secret in served.secrets.values())


def test_credentials_of_a_site_are_taken_and_never_given(served: Served) -> None:
    path = "/v1/sites/vault/credentials"
    given = {"user": "drover", "password": "pl4nted-passw0rd"}
    refused(served.call("PUT", path, json=given), 404)
    ok(served.call("PUT", "/v1/sites/vault", json={"uri": "qemu:///vault"}), 201)
    refused(served.call("PUT", path, who="hand", json=given), 403)
    told = refused(served.call("PUT", path, json={"user": "drover", "ssh_key": "pl4nted"}), 422)
    assert "passphrase" in told["detail"] and "pl4nted" not in str(told)
    assert "no credentials" in refused(served.call("PUT", path, json={}), 422)["detail"]
    ok(served.call("PUT", path, json=given), 204)
    kept = served.context.credentials.of("qemu:///vault")
    assert kept is not None and kept.password is not None and kept.password.get_secret_value() == given["password"]
    everything = "".join(served.call("GET", f"/v1/{what}").text for what in ("sites", "audit"))  # type: ignore[attr-defined]
    assert "pl4nted" not in everything
    sites = {site["name"]: site["has_credentials"] for site in ok(served.call("GET", "/v1/sites"))["items"]}
    assert sites == {"alpha": False, "beta": False, "vault": True}
    assert not ok(served.call("PUT", "/v1/sites/vault", json={"uri": "qemu:///elsewhere"}))["has_credentials"]
    refused(served.call("DELETE", path), 404)
    told = refused(served.call("PUT", "/v1/sites/vault", json={"uri": "qemu+ssh://a:pl4nted@b/system"}), 422)
    assert "pl4nted" not in str(told)
    ok(served.call("DELETE", "/v1/sites/vault"), 204)


def test_what_has_not_changed_is_not_sent_again(served: Served) -> None:
    for path in ("/v1/sites", "/v1/plans", "/v1/users", "/v1/me", "/v1/sites/alpha", "/v1/users/eye"):
        first: Any = served.call("GET", path)
        tag = first.headers["etag"]
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again: Any = served.call("GET", path, headers={"If-None-Match": given})
            assert again.status_code == 304 and not again.content and again.headers["etag"] == tag, (path, given)
        ok(served.call("GET", path, headers={"If-None-Match": '"other"'}))


def test_a_change_may_be_bound_to_what_was_read(served: Served) -> None:
    path = "/v1/sites/bound"
    refused(served.call("PUT", path, json={"uri": "qemu:///a"}, headers={"If-Match": "*"}), 412)
    made: Any = served.call("PUT", path, json={"uri": "qemu:///a"})
    tag = {"If-Match": made.headers["etag"]}
    assert served.call("GET", path).headers["etag"] == made.headers["etag"]  # type: ignore[attr-defined]
    ok(served.call("PUT", path, json={"uri": "qemu:///b"}, headers=tag))
    refused(served.call("PUT", path, json={"uri": "qemu:///c"}, headers=tag), 412)
    refused(served.call("DELETE", path, headers=tag), 412)
    ok(served.call("DELETE", path), 204)
    user: Any = served.call("GET", "/v1/users/guest")
    tag = {"If-Match": user.headers["etag"]}
    ok(served.call("PATCH", "/v1/users/guest", json={"disabled": True}, headers=tag))
    refused(served.call("PATCH", "/v1/users/guest", json={"disabled": False}, headers=tag), 412)
    ok(served.call("PATCH", "/v1/users/guest", json={"disabled": False}))
    for method in ("GET", "DELETE"):
        refused(served.call(method, "/v1/users/no-such-user"), 404)


def test_a_request_that_is_sent_again_with_its_key_changes_nothing_again(served: Served) -> None:
    key = {"Idempotency-Key": "again"}
    migration = add(served, "keyed")
    path = f"/v1/migrations/{migration.id}/pause"
    refused(served.call("POST", path, headers=key), 409)
    with served.context.migrations.running(migration):
        first = ok(served.call("POST", path, headers=key), 202)
    assert ok(served.call("POST", path, headers=key), 202) == first, "though nothing is running any more"
    refused(served.call("POST", path, headers=key, who="hand"), 409)
    assert "another request" in refused(served.call("POST", "/v1/users/eye/password", headers=key), 422)["detail"]
    once = {"Idempotency-Key": "secret"}
    body = {"name": "keyed", "role": "viewer"}
    made = ok(served.call("POST", "/v1/users", json=body, headers=once), 201)
    told = refused(served.call("POST", "/v1/users", json=body, headers=once), 409)
    assert "shown once" in told["detail"] and made["one_time_password"] not in str(told)
    ok(served.call("DELETE", "/v1/users/keyed"), 204)


def test_lists_come_in_parts_and_filtered(served: Served) -> None:
    for name in ("part-1", "part-2", "part-3"):
        ok(served.call("PUT", f"/v1/plans/{name}", content=PLAN.replace("office", name)), 201)
    seen: list[str] = []
    after = ""
    while True:
        page = ok(served.call("GET", f"/v1/plans?name=part-&limit=2{after}"))
        seen += [plan["name"] for plan in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == ["part-1", "part-2", "part-3"]
    inside, outside = add(served, "filter-1"), add(served, "filter-2", source="qemu:///elsewhere")
    members = [Member(migration=inside.id, vm="filter-1", turn=0, delay=0.0)]
    group = served.context.groups.add("part-1", "only", members)
    others = served.context.groups.add("part-2", "other", [])
    for query in (f"group={group.id}", "plan=part-1"):
        assert [one["id"] for one in ok(served.call("GET", f"/v1/migrations?{query}"))["items"]] == [inside.id]
    ids = {one["id"] for one in ok(served.call("GET", "/v1/migrations?site=alpha&limit=1000"))["items"]}
    assert inside.id in ids and outside.id not in ids
    assert not ok(served.call("GET", "/v1/migrations?site=nowhere"))["items"]
    page = ok(served.call("GET", "/v1/groups?limit=1"))
    assert [one["id"] for one in page["items"]] == [others.id] and page["next"] == others.id
    assert ok(served.call("GET", f"/v1/groups?after={others.id}&plan=part-1"), 422)
    assert [one["id"] for one in ok(served.call("GET", "/v1/groups?plan=part-1&phase=gathering"))["items"]] == [
        group.id
    ]
    assert {one["role"] for one in ok(served.call("GET", "/v1/users?role=viewer"))["items"]} == {"viewer"}
    assert {one["user"] for one in ok(served.call("GET", "/v1/tokens?user=eye"))["items"]} == {"eye"}
    assert all(one["kind"] == "vm" for one in ok(served.call("GET", "/v1/runs?kind=vm&state=refused"))["items"])
    newest = ok(served.call("GET", "/v1/audit?limit=1"))["items"][0]
    assert ok(served.call("GET", f"/v1/audit?what={newest['what']}&since={newest['at']}"))["items"][0] == newest


def test_reports_are_of_what_somebody_may_see_in_every_format(served: Served) -> None:
    migration = add(served, "reported", State.PAUSED)
    path = f"/v1/reports/migrations/{migration.id}"
    assert ok(served.call("GET", path, who="eye"))["migrations"][0]["vm"] == "reported"
    table: Any = served.call("GET", f"{path}?format=csv", who="eye")
    assert table.headers["content-type"].startswith("text/csv") and "reported" in table.text
    page: Any = served.call("GET", f"{path}?format=html", who="eye")
    assert "default-src 'none'" in page.headers["content-security-policy"] and "reported" in page.text
    refused(served.call("GET", path, who="guest"), 404)
    assert not ok(served.call("GET", "/v1/reports", who="guest"))["migrations"]
    assert ok(served.call("GET", "/v1/reports"))["summary"]["migrations"] >= 1
    refused(served.call("GET", "/v1/reports/plans/nothing"), 404)
    refused(served.call("GET", "/v1/reports/groups/nothing"), 404)
    refused(served.call("GET", f"{path}?format=pdf"), 422)


def test_a_request_has_an_id_that_a_client_may_give(served: Served) -> None:
    answer: Any = served.call("GET", "/v1/plans", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    others = [served.call("GET", "/v1/plans", headers={"X-Request-ID": given}) for given in ("", "a b", "x" * 65)]
    made = {answer.headers["x-request-id"] for answer in others}  # type: ignore[attr-defined]
    assert len(made) == 3 and all(len(one) == 16 for one in made)


def test_the_process_of_a_migration_logs_with_run_user_and_migration(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.FORMAT, "json")
    migration = add(served, "logged", State.PAUSED)
    run = ok(served.call("POST", f"/v1/migrations/{migration.id}/resume", who="hand"), 202)
    ended(served, run)
    lines = [json.loads(line) for line in (served.context.folder / f"{migration.id}.log").read_text().splitlines()]
    fields = {"run": run["id"], "user": "hand", "migration": migration.id, "level": "error"}
    assert fields.items() <= lines[-1].items() and "cannot connect" in lines[-1]["event"]


def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    refused(served.call("PUT", "/v1/plans/office", content=b"x" * (3 << 20)), 413)


def test_health_and_figures(served: Served) -> None:
    add(served, "figure", State.PAUSED)
    assert ok(served.call("GET", "/healthz", who=None))["status"] == "alive"
    assert ok(served.call("GET", "/readyz", who=None))["status"] == "ready"
    figures = served.call("GET", "/metrics", who="eye").text  # type: ignore[attr-defined]
    paused = [line for line in figures.splitlines() if line.startswith('drover_migrations{state="paused"}')]
    assert float(paused[0].split()[-1]) >= 1


def test_events_come_as_they_happen_and_again_after_a_break(served: Served) -> None:
    before = served.context.migrations.newest_event()
    migration = add(served, "eventful")
    threading.Timer(0.3, lambda: served.context.migrations.note(migration, "something new")).start()
    headers = {"Authorization": f"Bearer {served.secrets['eye']}", "Last-Event-ID": str(before)}
    told = []
    with served.client.stream("GET", "/v1/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                told.append(json.loads(line.removeprefix("data:")))
            if told and told[-1]["text"] == "something new":
                break
    assert [one["text"] for one in told] == ["planned", "something new"]
