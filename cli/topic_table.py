"""The topic table, for people: as it stands in the code."""

from rich.table import Table

from libs.common.topics import DAY_MS, HOUR_MS, TOPICS, Topic


def topic_table() -> Table:
    """Return a row for each topic, in the order of the code."""
    table = Table("topic", "P", "key", "contract", "kept", "from → to")
    for topic in TOPICS:
        contract = "as it came" if topic.contract is None else topic.contract.__name__
        table.add_row(
            topic.name, str(topic.partitions), topic.key, contract, _kept(topic), topic.route
        )
    return table


def _kept(topic: Topic) -> str:
    if topic.retention_ms is None:
        return "compacted"
    days, hours = topic.retention_ms // DAY_MS, topic.retention_ms // HOUR_MS
    time = f"{days} d" if days else f"{hours} h"
    return f"compacted, {time}" if topic.compacted else time
