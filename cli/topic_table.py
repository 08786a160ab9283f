"""The topic table, for people: as it stands in the code."""

from rich.table import Table

from libs.common.topics import TOPICS


def topic_table() -> Table:
    """Return a row for each topic, in the order of the code."""
    table = Table("topic", "P", "key", "contract", "kept", "from → to")
    for topic in TOPICS:
        contract = "as it came" if topic.contract is None else topic.contract.__name__
        table.add_row(
            topic.name, str(topic.partitions), topic.key, contract, topic.kept, topic.route
        )
    return table
