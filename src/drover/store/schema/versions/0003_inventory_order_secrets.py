"""The inventory, the order of plans, windows, secrets, answers that were given, users of an identity provider."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("asked", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "cutover_limits",
        sa.Column("migration", sa.String(), nullable=False),
        sa.Column("places", sa.JSON(), nullable=False),
        sa.Column("most", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("migration"),
    )
    op.create_table(
        "cutover_places",
        sa.Column("migration", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("migration"),
    )
    op.create_table(
        "cutover_turns", sa.Column("number", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("number")
    )
    op.create_table(
        "external_users",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "inventory_sites",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("uri", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("synced_at", sa.Float(), nullable=True),
        sa.Column("gone_since", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("site"),
    )
    op.create_table(
        "inventory_vms",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("site", "uuid"),
    )
    with op.batch_alter_table("inventory_vms", schema=None) as batch_op:
        batch_op.create_index("inventory_vms_by_name", ["name", "site", "uuid"], unique=False)
        batch_op.create_index("inventory_vms_by_state", ["state", "name"], unique=False)

    op.create_table(
        "secrets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "timelines",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run"),
    )
    with op.batch_alter_table("timelines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_timelines_plan"), ["plan"], unique=False)

    op.create_table(
        "waits",
        sa.Column("migration", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("migration"),
    )
    with op.batch_alter_table("waits", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_waits_run"), ["run"], unique=False)

    op.create_table(
        "window_leaves",
        sa.Column("migration", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["migration"],
            ["migrations.id"],
        ),
        sa.PrimaryKeyConstraint("migration"),
    )


def downgrade() -> None:
    op.drop_table("window_leaves")
    with op.batch_alter_table("waits", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_waits_run"))

    op.drop_table("waits")
    with op.batch_alter_table("timelines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_timelines_plan"))

    op.drop_table("timelines")
    op.drop_table("secrets")
    with op.batch_alter_table("inventory_vms", schema=None) as batch_op:
        batch_op.drop_index("inventory_vms_by_state")
        batch_op.drop_index("inventory_vms_by_name")

    op.drop_table("inventory_vms")
    op.drop_table("inventory_sites")
    op.drop_table("external_users")
    op.drop_table("cutover_turns")
    op.drop_table("cutover_places")
    op.drop_table("cutover_limits")
    op.drop_table("answers")
