"""The tables of the inventory's books; `services/inventory/migrations` makes them.

A test holds the two together.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

TABLES = MetaData()
STOCK = Table(
    "stock",
    TABLES,
    Column("item", String(200), primary_key=True),
    Column("stock", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),  # one more with each change
    Column("reserved", BigInteger, nullable=False),  # held for orders to come, not in the stock
    CheckConstraint("stock >= 0", name="stock_never_negative"),
    CheckConstraint("reserved >= 0", name="reserved_never_negative"),
)
ORDERS = Table(
    "orders",
    TABLES,
    Column("order_id", String(200), primary_key=True),
    Column("content", String(64), nullable=False),  # a digest of what was ordered
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    Index("orders_by_time", "decided_at_ms"),
)
RESERVATIONS = Table(
    "reservations",
    TABLES,
    Column("order_id", String(200), primary_key=True),  # of the order that reserved
    Column("item", String(200), primary_key=True),
    Column("quantity", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # held, or how it ended
)
Index(
    "reservations_held",
    RESERVATIONS.c.expires_at_ms,
    postgresql_where=RESERVATIONS.c.state == "held",
    sqlite_where=RESERVATIONS.c.state == "held",
)
# SQLite counts only a plain INTEGER key by itself, and only AUTOINCREMENT keeps it from giving the
# place of a deleted row to a new one.
OUTBOX = Table(
    "outbox",
    TABLES,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("topic", String(200), nullable=False),
    Column("key", String(200), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("ordered_at_ms", BigInteger, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
