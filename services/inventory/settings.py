"""The settings of the inventory service."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import Section, Settings


class InventorySection(Section):
    """Where the books are kept, and how much is done at once."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.plimsoll/inventory.db",
        description="SQLAlchemy URL with an async driver; a SQLite file's folder is made",
    )
    batch_bytes: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)] = Field(
        64 * 1024,
        description="orders handled in one transaction, by size: some 600 usual ones",
    )
    database_retry_s: Annotated[float, Field(gt=0, le=60)] = Field(
        15.0, description="how long a locked database is tried again before the service ends"
    )
    outbox_stale_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="a decided verdict unpublished for so long: the service is not ready"
    )


class InventorySettings(Settings):
    """All settings of the inventory service."""

    inventory: InventorySection = InventorySection()
