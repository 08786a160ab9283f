"""Start the inventory service, or bring its database to the newest schema with `migrate`."""

import asyncio
import sys
from pathlib import Path

from libs.common import settings
from libs.common.adapters import sql, sql_patience, sql_schema
from libs.common.adapters.service import EXIT_SETTING, Context, run
from libs.common.errors import SettingError
from services.inventory.app import Inventory
from services.inventory.settings import InventorySection, InventorySettings

# Below the time after which a service that does nothing ends itself.
STATEMENT_S = 10.0
MIGRATIONS = Path(__file__).parent / "migrations"


async def main(chosen: InventorySettings, context: Context) -> None:
    """Run the service on its database until it is cancelled."""
    section = chosen.inventory
    engine = sql.connect(section.database_url, statement_s=STATEMENT_S)
    try:
        await sql_patience.wait_until_up(engine, section.database_start_s)
        if engine.dialect.name == "sqlite":
            # An embedded database has no one else to bring it up to date. A shared one has: there
            # an older instance may still be at work, so a person or a start-up step decides when.
            await sql_schema.upgrade(engine, MIGRATIONS)
        await sql_schema.require_newest(
            engine, MIGRATIONS, "run: python -m services.inventory migrate"
        )
        store = sql.SqlStore(engine, section.database_retry_s)
        inventory = Inventory(store, context.bus, context.clock, context.origin, section)
        context.health.ready_when("outbox", inventory.outbox_fault, vital=False)
        await inventory.serve()
    finally:
        await engine.dispose()


async def migrate(section: InventorySection) -> None:
    """Bring the database to the newest schema, once it is up."""
    engine = sql.connect(section.database_url)
    try:
        await sql_patience.wait_until_up(engine, section.database_start_s)
        await sql_schema.upgrade(engine, MIGRATIONS)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        try:
            asyncio.run(migrate(settings.load(InventorySettings).inventory))
        except SettingError as error:
            print(f"plimsoll inventory: {error}", file=sys.stderr)
            sys.exit(EXIT_SETTING)
    else:
        run("inventory", InventorySettings, main)
