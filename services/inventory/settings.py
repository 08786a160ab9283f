"""The settings of the inventory service."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import Section, Settings


class InventorySection(Section):
    """Where the books are kept, and how much is done at once."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.plimsoll/inventory.db",
        description="or postgresql+asyncpg://user:password@host/name; a file's folder is made",
    )
    # Above it, a batch of the shortest orders could have more ids than a statement may name.
    batch_bytes: Annotated[int, Field(ge=1, le=512 * 1024)] = Field(
        64 * 1024,
        description="orders handled in one transaction, by size: some 600 usual ones",
    )
    database_retry_s: Annotated[float, Field(gt=0, le=60)] = Field(
        15.0, description="how long a locked or absent database is tried before the service ends"
    )
    database_start_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0, description="how long a start, and `migrate`, wait for a database to come up"
    )
    orders_kept_days: Annotated[float, Field(ge=1, le=3650)] = Field(
        8.0,
        description="how long an order_id is remembered; the bus brings none again after 7 days",
    )
    outbox_stale_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="a decided verdict unpublished for so long: the service is not ready"
    )


class InventorySettings(Settings):
    """All settings of the inventory service."""

    inventory: InventorySection = InventorySection()
