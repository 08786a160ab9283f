"""Verbs that ask the scheduler and steer it: explain, shadow, pause, pin and more."""

import time
from typing import Annotated

import typer

from cli.running import BUS, run

Lasts = Annotated[
    str, typer.Option("--for", help="How long: 90s, 30m, 2h. By default until it is resumed.")
]
Reason = Annotated[str, typer.Option(help="Why, for whoever sees it later.")]
By = Annotated[str, typer.Option(help="Who sets it; by default who is logged in.")]
Model = Annotated[str, typer.Argument(help="A registered model.")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (explain, shadow, pause, pin, cordon, resume, overrides):
        app.command(epilog=BUS)(verb)


def explain(
    model: Annotated[str, typer.Argument(help="A model; or a node, or all, of what people set.")],
    at: Annotated[
        str, typer.Option(help="What held then: 14:03 (UTC), -5m, or 2025-11-25T14:03.")
    ] = "",
) -> None:
    """Say in words why a model is as it is: its last decisions, or those that held at a time.

    For example: plimsoll explain chat --at -5m
    """

    async def show() -> None:
        from cli import explain as why
        from cli.connection import connect, kafka_section

        now_ms = time.time_ns() // 1_000_000
        at_ms = why.when_ms(at, now_ms) if at else None
        async with connect(kafka_section(), "explain") as bus:
            said = await why.said_of(bus, model, now_ms if at_ms is None else at_ms)
        typer.echo(why.in_words(said, at_ms))

    run(show)


def shadow(
    lasts: Annotated[str, typer.Option("--for", help="The last 1h, 30m, 1d.")] = "1d",
) -> None:
    """Say what a scheduler in shadow mode would have saved: GPU-hours, dollars, and at what risk.

    For example: PLIMSOLL_SCHEDULER__MODE=shadow python -m services.scheduler
    """

    async def show() -> None:
        from cli import shadow as account
        from cli.connection import connect, kafka_section
        from cli.trigger import seconds

        since_ms = time.time_ns() // 1_000_000 - round(1000 * seconds(lasts))
        async with connect(kafka_section(), "shadow") as bus:
            typer.echo(account.in_words(await account.saved(bus, since_ms)))

    run(show)


def pause(
    target: Annotated[str, typer.Argument(help="A registered model, or all.")],
    lasts: Lasts = "",
    reason: Reason = "",
    by: By = "",
) -> None:
    """Leave a model as it is: no replica, batch, share or route of it changes.

    For example: plimsoll pause chat --for 30m --reason "load test"
    """
    _set(lasts, by, target=target, kind="pause", reason=reason)


def pin(
    model: Model,
    replicas: Annotated[int, typer.Argument(min=0, help="Exactly so many, if memory allows.")],
    lasts: Lasts = "",
    reason: Reason = "",
    by: By = "",
) -> None:
    """Give a model exactly so many replicas, whatever the load and its own bounds.

    For example: plimsoll pin chat 4 --for 2h
    """
    _set(lasts, by, target=model, kind="pin", replicas=replicas, reason=reason)


def cordon(
    node: Annotated[str, typer.Argument(help="A registered node.")],
    drain: Annotated[
        bool, typer.Option("--drain", help="And move away what is there, once others carry it.")
    ] = False,
    lasts: Lasts = "",
    reason: Reason = "",
    by: By = "",
) -> None:
    """Place nothing new on a node.

    For example: plimsoll cordon n-3 --drain --for 1h --reason "new driver"
    """
    _set(lasts, by, target=node, kind="cordon", drain=drain, reason=reason)


def resume(target: Annotated[str, typer.Argument(help="The model, node, or all.")]) -> None:
    """End a pause, pin or cordon now."""

    async def send() -> None:
        from cli import overrides as hands
        from cli.connection import connect, kafka_section

        async with connect(kafka_section(), "resume") as bus:
            typer.echo(await hands.resume(bus, target, time.time_ns() // 1_000_000))

    run(send)


def overrides() -> None:
    """List what people have set: by whom, and until when."""

    async def show() -> None:
        from rich.console import Console

        from cli import overrides as hands
        from cli.connection import connect, kafka_section

        async with connect(kafka_section(), "overrides") as bus:
            standing = await hands.in_force(bus, time.time_ns() // 1_000_000)
        if standing:
            Console().print(hands.to_table(standing))
        else:
            typer.echo("nothing is paused, pinned or cordoned")

    run(show)


def _set(lasts: str, by: str, **fields: object) -> None:
    async def send() -> None:
        from cli import overrides as hands
        from cli.connection import connect, kafka_section
        from cli.trigger import seconds

        now_ms = time.time_ns() // 1_000_000
        # It is checked before a broker is sought, which may take a while.
        lasts_s = seconds(lasts) if lasts else None
        said = hands.override(now_ms, lasts_s, by=hands.who(by), **fields)
        async with connect(kafka_section(), "override") as bus:
            place = await hands.put(bus, said)
        typer.echo(f"{hands.in_words(said)} ({place})")

    run(send)
