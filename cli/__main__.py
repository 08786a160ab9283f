"""The `plimsoll` command. Each verb imports what it needs when it runs, so that --help is quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import inventory_verbs, scheduler_verbs
from cli.running import BUS, guarded, run

app = typer.Typer(
    help="Load your GPUs to the line, never past it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="The topics on the bus: list the table, or create what is missing.")
app.add_typer(topics_app, name="topics")
app.add_typer(inventory_verbs.app, name="inventory")
scheduler_verbs.add_to(app)


Out = Annotated[Path, typer.Option(help="Folder for logs, report and picture; made if absent.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the synthetic load and of copies.")]
Duration = Annotated[float, typer.Option(min=5, max=86_400, help="Seconds of load.")]


@app.command(epilog=BUS)
def top() -> None:
    """Show models, GPUs and the last decisions, live, from the topics alone. Ctrl-C ends it."""

    async def watch() -> None:
        from cli.connection import connect, kafka_section
        from cli.top import watch as watch_bus

        async with connect(kafka_section(), "top") as bus:
            await watch_bus(bus)

    run(watch)


@app.command(epilog=BUS)
def latest(
    model: Annotated[str, typer.Argument(help="By default all of them.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Print the newest routing table and forecast of each model, from Redis or else from the bus.

    Redis is the one in PLIMSOLL_REDIS__URL; where it is not set, away or empty, a line says so.
    """

    async def show() -> None:
        from cli.latest import print_latest

        await print_latest(model, as_json=as_json)

    run(show)


@topics_app.callback(invoke_without_command=True)
def topics(context: typer.Context) -> None:
    """List the table of topics, or with `apply` create what is missing on the bus."""
    if context.invoked_subcommand is None:
        from rich.console import Console

        from cli.topic_table import topic_table

        Console().print(topic_table())


@topics_app.command("apply", epilog=BUS)
def topics_apply() -> None:
    """Create every topic of the table that is missing, and verify the partitions of the others."""

    async def apply() -> None:
        from cli.connection import apply_topics, kafka_section

        for line in await apply_topics(kafka_section()):
            typer.echo(line)

    run(apply)


@app.command(epilog=BUS)
def init(
    models: Annotated[
        Path | None, typer.Option(help="Models to register; by default deploy/models.yaml.")
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="A fleet.yaml whose devices to register; by default none.")
    ] = None,
) -> None:
    """Make the bus ready for the services: create the topics, register models and devices."""

    async def prepare() -> None:
        from cli.connection import apply_topics, connect, kafka_section
        from cli.registry import MODELS, publish_devices, publish_models

        section = kafka_section()
        for line in await apply_topics(section):
            typer.echo(line)
        async with connect(section, "init") as bus:
            for model in await publish_models(bus, models or MODELS):
                typer.echo(f"registered {model.name}")
            for device in await publish_devices(bus, fleet) if fleet else ():
                typer.echo(f"registered {device.device}")

    run(prepare)


@app.command(epilog=BUS)
def produce(
    topic: Annotated[str, typer.Argument(help="A topic of the table; see `plimsoll topics`.")],
    message: Annotated[
        str | None, typer.Argument(help="JSON; without it, one message a line from stdin.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="By default the contract's key field of the message.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Send it unchecked, whatever it is.")] = False,
) -> None:
    """Send JSON messages, each checked against the topic's contract before it goes."""

    async def send() -> None:
        from cli.connection import connect, kafka_section
        from cli.produce import outgoing, send_one, topic_named

        named = topic_named(topic)
        # A typed message is checked before a broker is sought; those from stdin as they come.
        checked = [outgoing(named, message, key=key, raw=raw)] if message is not None else None
        piped = (outgoing(named, line, key=key, raw=raw) for line in filter(str.strip, sys.stdin))
        async with connect(kafka_section(), "produce") as bus:
            for sent in checked or piped:
                typer.echo(f"{topic} {await send_one(bus, named, sent)}, key {sent.key!r}")

    run(send)


@app.command(epilog=BUS)
def trigger(
    model: Annotated[str, typer.Argument(help="A registered model.")],
    factor: Annotated[
        float | None, typer.Option(help="How many times the load there would be without it.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Or the whole load, requests a second.")
    ] = None,
    begins_in: Annotated[str, typer.Option("--in", help="When it begins: 90s, 5m, 2h.")] = "0s",
    lasts: Annotated[str, typer.Option("--for", help="How long it lasts; a week at most.")] = "60s",
    kind: Annotated[str, typer.Option(help="cron, warning or app: what is learned is of each.")] = (
        "app"
    ),
) -> None:
    """Announce that a model's load will rise, so that replicas are loaded before it does.

    A kind that exaggerates is believed less; one that recurs is foreseen by itself.

    For example: plimsoll trigger chat --factor 3 --in 60s --for 120s
    """

    async def send() -> None:
        import time

        from cli import trigger as triggers
        from cli.connection import connect, kafka_section

        lift = triggers.Lift(
            kind, factor, rate, triggers.seconds(begins_in), triggers.seconds(lasts)
        )
        # It is checked before a broker is sought, which may take a while.
        said = triggers.trigger(model, lift, time.time_ns() // 1_000_000)
        async with connect(kafka_section(), "trigger") as bus:
            place = await triggers.announce(bus, said)
        typer.echo(f"{triggers.in_words(said)} ({place})")

    run(send)


@app.command()
def kafka(
    port: Annotated[int, typer.Option(min=0, max=65535, help="A free one if it is in use.")] = 9092,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Go on with what the last one stored.")
    ] = False,
) -> None:
    """Run a real Kafka on this machine until Ctrl-C, without Docker; needs Java 17 and Maven."""
    from cli.local.kafka import run_kafka_foreground
    from cli.stack import BASE

    guarded(lambda: run_kafka_foreground(BASE, port=port, keep_data=keep_data, say=typer.echo))


@app.command()
def demo(
    trace: Annotated[
        Path | None,
        typer.Option(
            help="A trace, plain or .gz, for the model chat; its formats: docs/benchmark-data.md. "
            "Else synthetic load."
        ),
    ] = None,
    copies: Annotated[
        int, typer.Option(min=1, max=1000, help="Copies of the trace laid over each other.")
    ] = 1,
    duration: Duration = 120.0,
    out: Out = Path("out/demo"),
    seed: Seed = 0,
) -> None:
    """Start everything on this machine, drive it, show it live, and report what came of it."""
    from cli.demo import demo as run_demo
    from cli.drive import Options

    options = Options(out, duration, trace, copies, seed)
    guarded(lambda: run_demo(options))


@app.command()
def takeover(
    kills: Annotated[int, typer.Option(min=1, max=100, help="How often the leader dies.")] = 10,
    out: Out = Path("out/takeover"),
) -> None:
    """Kill and pause the leading scheduler, and measure who takes over, when and from where."""
    from cli.takeover import takeover as run_takeover

    guarded(lambda: run_takeover(kills, out))


@app.command()
def handover(
    kills: Annotated[int, typer.Option(min=1, max=100, help="How often a predictor dies.")] = 20,
    out: Out = Path("out/handover"),
) -> None:
    """Kill one of two predictors, and measure when its forecasts are back, and from what state."""
    from cli.handover import handover as run_handover

    guarded(lambda: run_handover(kills, out))


@app.command()
def outage(duration: Duration = 60.0, out: Out = Path("out/outage"), seed: Seed = 0) -> None:
    """Stop the broker for 10 s in the middle of a load, and count what was lost."""
    from cli.outage import outage as run_outage

    guarded(lambda: run_outage(duration, out, seed))


@app.command(epilog=BUS)
def drill(
    only: Annotated[
        list[str] | None, typer.Argument(help="Faults whose name holds one of these; else all.")
    ] = None,
    out: Out = Path("out/drill"),
) -> None:
    """Kill each container of the compose stack, and measure when all is at work again."""
    from cli.drill import drill as run_drill

    guarded(lambda: run_drill(only or [], out))


@app.command()
def settings(
    check: Annotated[
        bool, typer.Option("--check", help="Check what is set in the environment instead.")
    ] = False,
) -> None:
    """Print every setting of every service with its default, as the lines of an .env file."""
    from cli.env_example import env_example, every_kind
    from libs.common.settings import check as check_settings

    if check:
        guarded(lambda: check_settings(every_kind()))
    else:
        typer.echo(env_example(), nl=False)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
