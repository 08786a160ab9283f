"""The schema of a SQL database, as a line of Alembic revisions; nothing is changed unasked."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from libs.common.errors import SettingError
from libs.common.settings import without_password

_UPGRADE_LOCK = 7446000  # a number of ours among the locks of this database


async def upgrade(engine: AsyncEngine, migrations: Path) -> None:
    """Bring the database to the newest revision in `migrations`, in one transaction.

    Of two at the same time, one waits for the other, and finds nothing left to do.

    Raises:
        SettingError: the database has a revision that this version of the code does not know.
    """

    def run(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # SQLite's transactions exclude each other
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
        config = _config(migrations)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    except CommandError as error:
        raise SettingError(f"database {_shown(engine)}: {error}") from error


async def require_newest(engine: AsyncEngine, migrations: Path, remedy: str) -> None:
    """Return if the database has the newest revision in `migrations`.

    Raises:
        SettingError: it has another; says which of both, and the remedy.
    """

    def revision(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with engine.connect() as connection:
        found = await connection.run_sync(revision)
    newest = ScriptDirectory.from_config(_config(migrations)).get_current_head()
    if found != newest:
        raise SettingError(
            f"database {_shown(engine)}: schema revision {found or 'none'}, needed {newest};"
            f" {remedy}"
        )


def _shown(engine: AsyncEngine) -> str:
    return without_password(str(engine.url))


def _config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    return config
