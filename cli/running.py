"""Runs a verb: what a person can mend becomes one message and a status, and Ctrl-C becomes 130."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer

BUS = "The bus is the one in PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS (localhost:9092 if unset)."
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a verb that waits, to its end."""
    guarded(lambda: asyncio.run(work()))


def guarded(work: Callable[[], None]) -> None:
    """Turn what a person can mend into one message and a status, and Ctrl-C into 130."""
    from cli.local.processes import LocalError
    from libs.common.errors import ContractError, SettingError

    # `kill` stops us as Ctrl-C does, so that no child is left either way. A shell starts what it
    # puts in the background with Ctrl-C ignored, which would swallow both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        work()
    except (ContractError, SettingError, LocalError) as error:
        raise failed(str(error)) from error
    except KeyboardInterrupt:
        typer.echo("plimsoll: stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def failed(reason: str) -> typer.Exit:
    """Say what failed; returns what to raise."""
    typer.echo(f"plimsoll: {reason}", err=True)
    return typer.Exit(EXIT_FAILED)
