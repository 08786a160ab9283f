"""`plimsoll inventory ...`: the verbs by which a person orders, reserves and restocks."""

from typing import Annotated, Any

import typer

from cli.running import run

app = typer.Typer(help="Send an order to the inventory and see its verdict.", no_args_is_help=True)

Items = Annotated[list[str], typer.Option("--item", help="What; may be given several times.")]
Quantities = Annotated[list[int], typer.Option("--qty", help="How much of it, in the same order.")]
Id = Annotated[
    str | None, typer.Option("--id", help="The order's own id; the same again is settled once.")
]
Customer = Annotated[str, typer.Option(help="For whom.")]
Reservation = Annotated[
    str | None, typer.Option(help="The id of a reserve, to take what it holds.")
]


@app.command()
def order(
    item: Items = [],  # noqa: B006 - typer makes a new one
    qty: Quantities = [],  # noqa: B006
    id_: Id = None,
    customer: Customer = "",
    reservation: Reservation = None,
) -> None:
    """Take stock: all lines or none.

    For example: plimsoll inventory order --item widget --qty 3
    """
    _send("order", item, qty, id_, customer=customer, reservation=reservation)


@app.command()
def restock(item: Items, qty: Quantities, id_: Id = None) -> None:
    """Add stock; an item that there was none of begins here."""
    _send("restock", item, qty, id_)


@app.command()
def reserve(
    item: Items,
    qty: Quantities,
    id_: Id = None,
    customer: Customer = "",
    lasts_s: Annotated[float, typer.Option("--for", help="Seconds that it is held.")] = 900,
) -> None:
    """Hold stock for an order to come; after its time it goes back by itself."""
    _send("reserve", item, qty, id_, customer=customer, ttl_s=lasts_s)


@app.command()
def release(
    reservation: Annotated[str, typer.Argument(help="The id of a reserve.")], id_: Id = None
) -> None:
    """Give back what a reservation holds."""
    _send("release", [], [], id_, reservation=reservation)


@app.command()
def correct(item: Items, qty: Quantities, id_: Id = None) -> None:
    """Add signed quantities after a count of the shelves, such as --qty -2."""
    _send("correct", item, qty, id_)


def _send(
    kind: str, items: list[str], quantities: list[int], order_id: str | None, **more: Any
) -> None:
    from cli import inventory
    from cli.connection import connect, kafka_section

    async def send() -> None:
        # It is checked before a broker is sought, which may take a while.
        said = inventory.order_of(kind, items, quantities, order_id=order_id, **more)
        async with connect(kafka_section(), "inventory") as bus:
            for line in await inventory.send(bus, said):
                typer.echo(line)

    run(send)
