"""Which trouble of a database passes, and what is said while it lasts."""

import asyncio
import time

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import RetryCallState

from libs.common.errors import SettingError
from libs.common.settings import without_password

log = structlog.get_logger()

RETRY_S = 0.2
SAY_EVERY_S = 5.0


async def wait_until_up(engine: AsyncEngine, within_s: float) -> None:
    """Return once a server takes a connection; while it is away or starting, say so.

    An embedded database is up.

    Raises:
        SettingError: it was not there within `within_s`, or it does not let us in.
    """
    if engine.dialect.name == "sqlite":
        return
    deadline = time.monotonic() + within_s
    said = float("-inf")
    where = f"database {without_password(str(engine.url))}"
    while True:
        try:
            async with engine.connect():
                return
        except (DBAPIError, OSError) as error:
            reason = _reason(error)
            if not is_passing(error):
                raise SettingError(f"{where}: {reason}") from error
            if time.monotonic() >= deadline:
                raise SettingError(f"{where}: not there within {within_s:g} s: {reason}") from error
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log.info("waiting for the database", reason=reason)
        except (TypeError, OverflowError) as error:  # an option or a port that there cannot be
            raise SettingError(f"{where}: {error}") from error
        await asyncio.sleep(RETRY_S)


def is_passing(error: BaseException) -> bool:
    """Return whether a transaction that failed so may well succeed at its next try.

    A lock, a lost race for a new row (the next try sees the row), a deadlock, a server that is
    away, starting, or has no room for one more.
    """
    if isinstance(error, IntegrityError | OperationalError | InterfaceError | OSError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    # Most errors of PostgreSQL have no class of their own here, but five characters, of which two
    # are the kind. 08: connection, 40: rolled back, 53: no room, 57: by an operator, as a restart.
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state[:2] in ("08", "40", "53", "57")


def say_when_it_lasts(state: RetryCallState) -> None:
    """Log a call that failed for the third time: a lock or a lost race is over by then."""
    if state.attempt_number == 3 and state.outcome is not None:
        error = state.outcome.exception()
        assert error is not None
        log.warning("trouble with the database: trying on", reason=_reason(error))


def _reason(error: BaseException) -> str:
    """Say in one line what is wrong; neither a statement nor a password is in it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = str(cause).partition("\n")[0]
    return without_password(said) or type(cause).__name__
