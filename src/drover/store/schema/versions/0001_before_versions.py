"""The tables as they were before databases had versions. Of a database from then, only what it lacks is made."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = sa.MetaData()
sa.Table(
    "alert_conditions",
    TABLES,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("opening", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("remedy", sa.String),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("news", sa.Boolean, nullable=False),
    sa.Column("notified_at", sa.Float),
)
sa.Table(
    "alert_outbox",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("once", sa.String, nullable=False, unique=True),
    sa.Column("opening", sa.String),
    sa.Column("receiver", sa.String, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("after", sa.String),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", sa.Float, nullable=False),
    sa.Column("sent_at", sa.Float),
    sa.Column("given_up_at", sa.Float),
    sa.Column("last_error", sa.String),
    sa.Index("ix_alert_outbox_next_attempt_at", "next_attempt_at"),
    sa.Index("ix_alert_outbox_opening", "opening"),
)
sa.Table(
    "audit",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
    sa.Index("ix_audit_at", "at"),
    sa.Index("ix_audit_what", "what"),
    sa.Index("ix_audit_who", "who"),
)
sa.Table(
    "device_uses",
    TABLES,
    sa.Column("device", sa.String, primary_key=True),
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("use", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
sa.Table(
    "devices",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("recipients", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("site", sa.String),
    sa.Column("path", sa.String),
    sa.Column("seen_at", sa.Float),
    sa.Column("wiped", sa.Boolean, nullable=False),
)
sa.Table(
    "forecasts",
    TABLES,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("raw", sa.JSON, nullable=False),
    sa.Column("shown", sa.JSON, nullable=False),
)
sa.Table(
    "groups",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("plan", sa.String, nullable=False),
    sa.Column("phase", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("ix_groups_name", "name"),
)
sa.Table(
    "link_observations",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("destination", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("observation", sa.JSON, nullable=False),
    sa.Index("link_observations_by_link", "source", "destination", "at"),
)
sa.Table(
    "log_in_attempts",
    TABLES,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
sa.Table(
    "migrations",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("remedy", sa.String),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Index("ix_migrations_created_at", "created_at"),
    sa.Index("ix_migrations_state", "state"),
)
sa.Table(
    "observations",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("uuid", sa.String, nullable=False),
    sa.Column("site", sa.String, nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("ended_because", sa.String, nullable=False),
    sa.Column("memory", WHOLE, nullable=False),
    sa.Column("resident", WHOLE),
    sa.Column("sizes", sa.JSON, nullable=False),
    sa.Index("ix_observations_uuid", "uuid"),
)
sa.Table(
    "plans",
    TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
sa.Table(
    "runs",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("target", sa.JSON, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("remedy", sa.String),
    sa.Column("migrations", sa.JSON, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Index("ix_runs_name", "name"),
    sa.Index("ix_runs_state", "state"),
)
sa.Table(
    "sites",
    TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("uri", sa.String, nullable=False),
)
sa.Table(
    "users",
    TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("plans", sa.JSON, nullable=False),
    sa.Column("sites", sa.JSON, nullable=False),
    sa.Column("password", sa.String, nullable=False),
    sa.Column("must_change_password", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
sa.Table(
    "approvals",
    TABLES,
    sa.Column("group", sa.String, sa.ForeignKey("groups.id"), primary_key=True),
    sa.Column("wanted_at", sa.Float, nullable=False),
    sa.Column("by", sa.String),
    sa.Column("at", sa.Float),
)
sa.Table(
    "chunk_samples",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False),
    sa.Column("vdisk", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("offset", WHOLE, nullable=False),
    sa.Column("length", WHOLE, nullable=False),
    sa.Column("zero_bytes", WHOLE, nullable=False),
    sa.Column("lz4_bytes", WHOLE, nullable=False),
    sa.Column("zstd_bytes", WHOLE, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
    sa.Index("ix_chunk_samples_observation", "observation"),
)
sa.Table(
    "contents",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False),
    sa.Column("vdisk", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Index("ix_contents_observation", "observation"),
)
sa.Table(
    "dirty_samples",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False),
    sa.Column("vdisk", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("window", sa.Float, nullable=False),
    sa.Column("bytes", WHOLE, nullable=False),
    sa.Index("ix_dirty_samples_observation", "observation"),
)
sa.Table(
    "events",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Index("ix_events_migration", "migration"),
)
sa.Table(
    "io_samples",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False),
    sa.Column("vdisk", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("read_bytes", WHOLE, nullable=False),
    sa.Column("write_bytes", WHOLE, nullable=False),
    sa.Column("read_requests", WHOLE, nullable=False),
    sa.Column("write_requests", WHOLE, nullable=False),
    sa.Column("read_seconds", sa.Float, nullable=False),
    sa.Column("write_seconds", sa.Float, nullable=False),
    sa.Index("ix_io_samples_observation", "observation"),
)
sa.Table(
    "members",
    TABLES,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("group", sa.String, sa.ForeignKey("groups.id"), nullable=False),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False),
    sa.Column("delay", sa.Float, nullable=False),
    sa.Column("mark", sa.Integer, nullable=False),
    sa.Column("marked_at", sa.Float, nullable=False),
    sa.Index("ix_members_group", "group"),
)
sa.Table(
    "pauses",
    TABLES,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
sa.Table(
    "progress",
    TABLES,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
sa.Table(
    "sessions",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("user", sa.String, sa.ForeignKey("users.name"), nullable=False),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("last_used_at", sa.Float, nullable=False),
    sa.Index("ix_sessions_user", "user"),
)
sa.Table(
    "tokens",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("user", sa.String, sa.ForeignKey("users.name"), nullable=False),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("plans", sa.JSON, nullable=False),
    sa.Column("sites", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("last_used_at", sa.Float),
    sa.Index("ix_tokens_user", "user"),
)
sa.Table(
    "vdisk_samples",
    TABLES,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False),
    sa.Column("vdisk", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("sample", sa.JSON, nullable=False),
    sa.Index("ix_vdisk_samples_observation", "observation"),
)

_REFUSED = "the audit trail is append-only"
_AUDIT = {
    "sqlite": [
        *(
            f"CREATE TRIGGER audit_{act.lower()} BEFORE {act} ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
            for act in ("UPDATE", "DELETE")
        ),
        # INSERT OR REPLACE deletes without asking the trigger above.
        "CREATE TRIGGER audit_replace BEFORE INSERT ON audit WHEN EXISTS"
        f" (SELECT 1 FROM audit WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    ],
}


def upgrade() -> None:
    db = op.get_bind()
    fresh = not sa.inspect(db).has_table("audit")
    TABLES.create_all(db)
    if fresh:
        for statement in _AUDIT[db.dialect.name]:
            op.execute(statement)


def downgrade() -> None:
    db = op.get_bind()
    TABLES.drop_all(db)
    if db.dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuse()")
