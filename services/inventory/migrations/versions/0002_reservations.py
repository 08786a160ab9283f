"""Reservations, and what of each item is reserved."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them to the tables; SQLite adds a constraint only by copying the table."""
    with op.batch_alter_table("stock") as stock:
        stock.add_column(
            sa.Column("reserved", sa.BigInteger, nullable=False, server_default=sa.text("0"))
        )
        stock.create_check_constraint("reserved_never_negative", sa.text("reserved >= 0"))
    op.create_index("orders_by_time", "orders", ["decided_at_ms"])
    reservations = op.create_table(
        "reservations",
        sa.Column("order_id", sa.String(200), primary_key=True),
        sa.Column("item", sa.String(200), primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
    )
    held = reservations.c.state == "held"
    op.create_index(
        "reservations_held",
        "reservations",
        ["expires_at_ms"],
        postgresql_where=held,
        sqlite_where=held,
    )
