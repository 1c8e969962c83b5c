"""An example of each body that the API takes and gives, for its document; a test holds each against its schema."""

from typing import Any

_AT = 1796083200.0
_MIGRATION: dict[str, Any] = {
    "id": "m-5f0c21ab", "vm": "web-1", "source": "qemu+ssh://root@berlin/system",
    "destination": "qemu+ssh://root@munich/system", "state": "replicating", "reason": None, "remedy": None,
    "group": "g-18d5e7c0", "sent_bytes": 4831838208, "downtime_seconds": None, "created_at": _AT,
    "updated_at": _AT + 310.5,
    "progress": {
        "event": "progress", "migration": "m-5f0c21ab", "vm": "web-1", "state": "replicating", "size": 42949672960,
        "done": 12884901888, "rate": 118000000.0, "wire_rate": 61000000.0, "at": _AT + 310.5,
    },
}  # fmt: skip
_GROUP = {
    "id": "g-18d5e7c0", "name": "shop", "plan": "berlin-to-munich", "phase": "gathering", "attempt": 0, "reason": None,
    "waits_for_approval": True,
    "members": [{"migration": "m-5f0c21ab", "vm": "web-1", "mark": "replicating", "turn": 0}],
}  # fmt: skip
PLAN = """version: 1
plan: berlin-to-munich
from: berlin
to: munich
pools: {"*": fast}
groups:
  - {group: shop, vms: ["web-*"]}
"""
_PLAN = {"name": "berlin-to-munich", "version": 3, "by": "alice", "at": _AT, "text": PLAN}
_RUN = {
    "id": "r-0d41c6f2a9be", "kind": "plan", "name": "berlin-to-munich", "state": "running", "reason": None,
    "target": {"plan": "berlin-to-munich", "version": 3}, "remedy": None, "migrations": ["m-5f0c21ab"], "by": "alice",
    "created_at": _AT, "updated_at": _AT + 2.1,
}  # fmt: skip
_SITE = {"name": "berlin", "uri": "qemu+ssh://root@berlin/system", "has_credentials": False}
_VM = {
    "name": "web-1", "uuid": "5c2e8d0a-4b8e-4a57-9a40-0f3f7a2d9b11", "running": True, "memory": 4294967296,
    "vdisks": [{"name": "vda", "size": 42949672960, "format": "qcow2", "allocated": 18253611008}], "networks": ["lan"],
    "tags": ["web", "production"], "folder": "/shop/eu", "title": "Web shop, Europe",
}  # fmt: skip
_SCOPE = {"plans": ["berlin-*"], "sites": []}
_ME = {"name": "alice", "role": "operator", "scope": _SCOPE, "kind": "session", "must_change_password": False}
_USER = {
    "name": "alice", "role": "operator", "scope": _SCOPE, "disabled": False, "must_change_password": False,
    "created_at": _AT,
}  # fmt: skip
_TOKEN = {
    "id": "t-9c1e4fb27a03d568", "user": "alice", "name": "ci", "role": "viewer", "scope": _SCOPE, "created_at": _AT,
    "expires_at": _AT + 7776000, "last_used_at": None,
}  # fmt: skip
_ENTRY = {
    "number": 42, "at": _AT, "who": "alice", "what": "POST /v1/plans/{name}/runs", "source": "192.0.2.7",
    "target": "/v1/plans/berlin-to-munich/runs", "outcome": "done", "detail": {},
}  # fmt: skip
_MOVED = {
    "background": 18253611008, "foreground": 734003200, "zeros": 24696061952, "equal": 0, "resent": 0,
    "memory": 1288490188, "wire": 9663676416,
}  # fmt: skip
_FIGURES = {
    "id": "m-5f0c21ab", "vm": "web-1", "plan": "berlin-to-munich", "group": "shop", "source": _MIGRATION["source"],
    "destination": _MIGRATION["destination"], "state": "finished", "reason": None, "remedy": None, "begun_at": _AT,
    "ended_at": _AT + 402.0, "duration": 402.0, "size": 42949672960, "moved": _MOVED,
    "rates": {"mean": 24038996.1, "peak": 61000000.0},
    "epochs": {"number": 61, "bytes": 734003200, "largest": 50331648, "mean_seconds": 1.4, "longest_seconds": 3.2},
    "cutover": "resume",
    "downtime": {
        "seconds": 3.1, "stopping": 0.1, "last_epoch": 0.4, "verifying": 0.3, "moving_memory": 1.9, "starting": 0.4,
    },
    "backpressure": {
        "writes_slowed_seconds": 0.0, "writes_slowed_bytes": 0.0, "lowest_write_limit": None,
        "background_held_seconds": 12.5,
    },
    "link_lost_seconds": 4.0, "unreadable": 0,
    "errors": [{
        "at": _AT + 60, "state": "paused", "what": "the pool fast is full", "until": _AT + 95,
        "done": ["12.0 GiB of 40.0 GiB are stable at the destination; 28.0 GiB are left to send"],
    }],
}  # fmt: skip
_SUMMARY = {
    "migrations": 1, "states": {"finished": 1}, "begun_at": _AT, "ended_at": _AT + 402.0, "duration": 402.0,
    "size": 42949672960, "moved": _MOVED, "mean_rate": 24038996.1, "longest_downtime": 3.1, "mean_downtime": 3.1,
    "errors": 1,
}  # fmt: skip
_SPEC = {
    "vm": "web-1", "source": _MIGRATION["source"], "destination": _MIGRATION["destination"], "pools": {"": "fast"},
    "max_downtime": 10.0,
}  # fmt: skip

BY_SCHEMA: dict[str, Any] = {
    "AuditEntries": {"items": [_ENTRY], "next": None},
    "Code": {"code": "gAAAAABEXAMPLE", "verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
    "Credentials": {"user": "drover", "password": "what libvirt asks for"},
    "GroupView": {**_GROUP, "waits_for_approval": False},
    "Groups": {"items": [_GROUP], "next": None},
    "Health": {"status": "ready", "version": "0.1.0"},
    "LogIn": {"name": "alice", "password": "correct horse battery staple"},
    "MadeToken": {**_TOKEN, "secret": "drover_t_EXAMPLE"},
    "Me": _ME,
    "Inventory": {
        "items": [
            {
                "site": "alpha",
                "uuid": "5f0c3a0e-6a52-4f0e-9a53-0d5a1f4b7c11",
                "name": "web-1",
                "host": "kvm3.example.org",
                "state": "running",
                "memory": 4294967296,
                "processors": 2,
                "size": 21474836480,
                "vdisks": [{"name": "vda", "size": 21474836480, "format": "qcow2"}],
                "networks": ["office"],
                "folder": "office/web",
                "tags": ["production"],
                "changed_at": 1764550000.5,
            }
        ],
        "next": None,
        "total": 1,
        "sites": [
            {"site": "alpha", "fresh": True, "synced_at": 1764549500.0, "gone_since": None, "reason": None},
        ],
    },
    "Timeline": {
        "plan": "berlin-to-munich",
        "at": _AT,
        "link_rate": 25e6,
        "link_known": True,
        "end": _AT + 5400.0,
        "rows": [
            {
                "name": "database",
                "group": True,
                "vms": [{"vm": "db1", "migration": "m-5f0c21ab", "basis": "forecast", "wire_bytes": 4831838208.0}],
                "after": [],
                "priority": 0,
                "pin": None,
                "state": "waiting",
                "begin": _AT,
                "copied": _AT + 1800.0,
                "cutover": _AT + 5390.0,
                "end": _AT + 5400.0,
                "waits_for": "host berlin has 2 of 2",
            }
        ],
    },
    "MigrationStory": {
        **_MIGRATION, "spec": _SPEC, "history": [{"at": _AT, "kind": "state", "text": "planned"}],
    },
    "MigrationView": {**_MIGRATION, "state": "paused", "reason": "interrupted", "progress": None},
    "Migrations": {"items": [_MIGRATION], "next": None},
    "NewMigration": {
        "vm": "web-1", "source": "berlin", "destination": "munich", "networks": {"lan": "dmz"}, "pools": {"*": "fast"},
        "settings": {"max_downtime": "10s", "bandwidth": "500mbit"},
    },
    "NewPassword": {"old": "2b7k-one-time", "new": "correct horse battery staple"},
    "NewSite": {"uri": "qemu+ssh://root@berlin/system"},
    "NewToken": {"name": "ci", "role": "viewer", "scope": _SCOPE, "expires_in_seconds": 7776000},
    "NewUser": {"name": "alice", "role": "operator", "scope": _SCOPE},
    "Offer": {"enabled": True, "issuer": "https://login.example.org/realms/office"},
    "OneTime": {"one_time_password": "abc234-def567-ghj892-kmn345"},
    "PlanView": _PLAN,
    "Plans": {"items": [_PLAN], "next": None},
    "Report": {
        "kind": "plan", "name": "berlin-to-munich", "made_at": _AT + 500, "summary": _SUMMARY, "migrations": [_FIGURES],
    },
    "RunView": _RUN,
    "Runs": {"items": [_RUN], "next": None},
    "Session": {**_ME, "secret": "drover_s_EXAMPLE"},
    "Settings": {"max_downtime": "30s", "write_backpressure": True},
    "SiteView": _SITE,
    "Sites": {"items": [_SITE], "next": None},
    "Tokens": {"items": [_TOKEN], "next": None},
    "UserChange": {"role": "viewer"},
    "UserView": _USER,
    "Users": {"items": [_USER], "next": None},
    "Vms": {"items": [_VM], "next": None},
}  # fmt: skip
"""By the name of the body's schema."""

BY_MEDIA: dict[str, Any] = {
    "application/yaml": PLAN,
    "text/csv": "id,vm,plan,group,state\r\nm-5f0c21ab,web-1,berlin-to-munich,shop,finished\r\n",
    "text/html": "<!doctype html><title>Migration report: berlin-to-munich</title>",
    "text/plain": '# TYPE drover_migrations gauge\ndrover_migrations{state="replicating"} 3.0\n',
    "text/event-stream": 'event: happened\nid: 1207\ndata: {"migration": "m-5f0c21ab", "at": 1796083200.0, '
    '"kind": "state", "text": "replicating"}\n\n',
}
"""Of texts, by their media type."""

BY_OPERATION: dict[tuple[str, str], Any] = {
    ("get", "/v1/audit/verification"): {"first_broken": None},
    ("get", "/v1/plans/schema"): {"type": "object", "title": "Plan", "properties": {"plan": {"type": "string"}}},
}
"""Of answers that have no schema of a name."""

PROBLEMS: dict[int, tuple[str, str]] = {
    400: ("There was an error parsing the body", "/openapi.json says what is taken here"),
    401: ("nobody is logged in", "send `Authorization: Bearer SECRET` with a session's or a token's secret"),
    403: ("alice is viewer here, and that takes operator", "ask an administrator of the server"),
    404: ("there is no migration 'm-1'", "`GET /v1/migrations` lists them"),
    409: ("m-5f0c21ab is running", "pause it first"),
    412: ("the plan berlin-to-munich has changed since you read it", "read it again, and decide"),
    413: ("the request is larger than 2 MiB", "send less at once"),
    422: ("bandwidth: 'fast' is not a rate", "write it as in 200mbit or 25MB/s"),
    429: ("alice is locked after 5 wrong passwords", "wait 15 minutes, or ask an administrator"),
    500: ("the server failed: OSError", "see its log"),
    502: ("cannot connect to qemu+ssh://root@berlin/system", "check that libvirtd runs there"),
    503: ("the server is not ready", "ask again in a moment"),
}
"""Detail and remedy by status."""
