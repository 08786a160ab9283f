"""Does everything arrive, is anything unreadable, and are the stores beside the bus well?"""

from deploy.grafana.phrases import increase, quantile, rate
from deploy.grafana.vocabulary import (
    ARRIVING,
    DEMAND,
    GOOD,
    RED,
    Board,
    Panel,
    Query,
    Row,
    Word,
)

LAG = "sum by (job, topic) (plimsoll_bus_lag_messages)"
DEAD = "plimsoll_dead_letters_total"
OUTBOX_AGE = "max(plimsoll_inventory_outbox_age_seconds)"

ARRIVES = Row(
    "Does everything arrive?",
    4,
    (
        Panel(
            "Lag",
            "short",
            (Query(f"max({LAG})", "furthest behind"),),
            shows="Messages that the service furthest behind has not read yet, of one topic.",
            formula="largest over services and topics of: written, not yet read",
            when_red="See *Lag by service and topic* for which. A reader that stands still for "
            "20 s ends itself and is started again; `/readyz` says what it waits for.",
            kind="stat",
            red_above=1000,
        ),
        Panel(
            "Published",
            "cps",
            (Query(rate("plimsoll_bus_published_total"), "messages"),),
            shows="Messages that all services publish a second.",
            formula="growth of the counts of acknowledged messages, a second",
            when_red="Zero: the broker is away. It is waited for, and nothing acknowledged is "
            "lost.",
            kind="stat",
        ),
        Panel(
            "Dead letters",
            "short",
            (Query(increase(DEAD), "in 5 min"),),
            shows="Messages that could not be read, in the last five minutes. They lie on "
            "`dead.letters` as they came, with the reason in their headers.",
            formula="growth of the counts over five minutes",
            when_red="See *Dead letters by topic*, read the header `dead-reason`, mend the sender, "
            "send again. The stream goes on meanwhile.",
            kind="stat",
            red_above=1,
        ),
        Panel(
            "Executor's outbox",
            "short",
            (Query("sum(plimsoll_executor_outbox_messages)", "messages"),),
            shows="Results and samples that wait for the broker to take them.",
            formula="length of the queue in the executor's memory",
            when_red="The broker is slow or away. The router serves on; what waits is sent when "
            "the broker is back.",
            kind="stat",
            red_above=1000,
        ),
        Panel(
            "Inventory's outbox",
            "s",
            (Query(OUTBOX_AGE, "oldest"),),
            shows="Since the oldest verdict that is decided, but not yet published, was decided.",
            formula="now − time of the oldest row in the outbox table; 0 when it is empty",
            when_red="The relay cannot publish: look at the broker. From 20 s on the service "
            "ends itself and is started again; nothing is lost or doubled.",
            kind="stat",
            red_above=10,
        ),
        Panel(
            "Redis",
            "short",
            (Query("min(plimsoll_redis_up >= 0)", "up"),),
            shows="Whether all schedulers reach Redis, where they keep the newest routing table "
            "and forecasts.",
            formula="least over the schedulers of: 1 while it answers; none where no Redis is set",
            when_red="Nothing is lost, as Kafka is the truth: readers ask the log, and it is "
            "slower. Start Redis; it is filled again by itself.",
            kind="stat",
            red_below=1,
            words=(Word(0, "away", RED), Word(1, "up", GOOD)),
        ),
    ),
)

TOPICS = Row(
    "Topics",
    9,
    (
        Panel(
            "Lag by service and topic",
            "short",
            (Query(LAG, "{{job}} {{topic}}"),),
            shows="Messages on each topic that a service has not read yet, over its processes.",
            formula="end of the topic − position, summed over partitions and processes",
            when_red="A line that grows: that service is too slow or stands still. More of the "
            "predictor or the inventory share the partitions; the executor and the scheduler "
            "read everything, so look at their CPU.",
            red_above=1000,
        ),
        Panel(
            "Published by topic",
            "cps",
            (Query(rate("plimsoll_bus_published_total", "topic"), "{{topic}}"),),
            shows="Messages that the services publish, by topic.",
            formula="growth of the counts of acknowledged messages, a second",
            when_red="A topic that falls to zero alone: its writer is away, see the table of "
            "topics in docs/architecture.md for who that is.",
        ),
        Panel(
            "Read by topic",
            "cps",
            (Query(rate("plimsoll_bus_read_total", "topic"), "{{topic}}"),),
            shows="Messages that the services read, by topic; one read by three services counts "
            "three times.",
            formula="growth of the counts of messages read, a second",
            when_red="Falls while *Published by topic* does not: see the lag.",
        ),
        Panel(
            "Dead letters by topic",
            "short",
            (Query(increase(DEAD, "topic"), "{{topic}}"),),
            shows="Messages that could not be read in the last five minutes, by the topic that "
            "they came on.",
            formula="growth of the counts over five minutes",
            when_red="Read the letters' headers: `dead-reason` says what is wrong, `dead-offset` "
            "which message it was.",
            red_above=1,
        ),
    ),
)

SENT = Row(
    "What is sent",
    8,
    (
        Panel(
            "Sent and arrived",
            "reqps",
            (
                Query(rate("plimsoll_load_sent_total"), "sent", DEMAND, dashed=True),
                Query(rate("plimsoll_arrivals_total"), "arrived", ARRIVING),
            ),
            shows="Requests that the load generator sends, and those that the router sees. Other "
            "apps send too, so more may arrive than it sends.",
            formula="growth of acknowledged sends, and of the router's arrivals, a second",
            when_red="Fewer arrive than are sent: see the lag of the executor on "
            "`inference.requests`.",
        ),
        Panel(
            "Lateness of the load",
            "s",
            (
                Query(quantile(0.99, "plimsoll_load_lateness_seconds"), "p99", "orange"),
                Query(quantile(0.5, "plimsoll_load_lateness_seconds"), "p50", "blue"),
            ),
            shows="From the moment at which a request was due to the broker's acknowledgement.",
            formula="quantiles over one minute, from buckets",
            when_red="The broker is slow, or the generator gets no CPU. Requests keep the due "
            "time they had, so latency counts from there and hides nothing.",
        ),
        Panel(
            "Outboxes",
            "short",
            (Query("sum(plimsoll_executor_outbox_messages)", "executor, messages"),),
            shows="Results and samples that wait for the broker, over time.",
            formula="length of the queue in the executor's memory",
            when_red="It rises while the broker is away, and empties within seconds of its "
            "return. If it does not, see the executor's log.",
            red_above=1000,
        ),
    ),
)

INVENTORY = Row(
    "Inventory",
    8,
    (
        Panel(
            "Orders by verdict",
            "cps",
            (Query(rate("plimsoll_inventory_orders_total", "verdict"), "{{verdict}}"),),
            shows="Orders answered a second, by verdict. All are zero until an app sends orders.",
            formula="growth of the counts, a second",
            when_red="Many `rejected`: stock is out, see the reason on `inventory.verdicts`.",
        ),
        Panel(
            "Rejected, and why",
            "cps",
            (
                Query(rate("plimsoll_inventory_rejections_total", "cause"), "{{cause}}"),
                Query(rate("plimsoll_inventory_expired_total", "job"), "reservation expired"),
            ),
            shows="Orders rejected a second, by cause, and reservations that ended by themselves.",
            formula="growth of the counts, a second",
            when_red="`shortage`: restock. `used_id`: an app gives one id to several orders. "
            "`reservation`: apps come too late, or twice.",
        ),
        Panel(
            "Outbox age",
            "s",
            (Query(OUTBOX_AGE, "oldest unpublished"),),
            shows="Since the oldest verdict that is not yet published was decided.",
            formula="now − time of the oldest row in the outbox table; 0 when it is empty",
            when_red="The relay cannot publish: look at the broker, then at the database.",
            red_above=10,
        ),
        Panel(
            "Order to verdict",
            "s",
            (
                Query(
                    increase(
                        "plimsoll_inventory_verdict_latency_seconds_bucket",
                        "le",
                        window="$__rate_interval",
                    ),
                    "{{le}}",
                ),
            ),
            shows="From an order's timestamp to the acknowledged publishing of its verdict: the "
            "darker, the more orders. It is empty until an app sends orders.",
            formula="growth of each bucket",
            when_red="A cloud that moves up: the database or the broker is slow. Above 10 s: "
            "the orders were old when they were sent, or the service was away.",
            kind="heatmap",
        ),
    ),
)

BESIDE = Row(
    "Beside the bus",
    8,
    (
        Panel(
            "Redis as each scheduler sees it",
            "short",
            (Query("max by (instance) (plimsoll_redis_up >= 0)", "{{instance}}"),),
            shows="Whether each scheduler reaches Redis.",
            formula="1 while it answers",
            when_red="Away for one scheduler only: its network. For all: Redis is down, and the "
            "loop goes on without it.",
            kind="states",
            words=(Word(0, "away", RED), Word(1, "up", GOOD)),
        ),
        Panel(
            "Written to Redis",
            "cps",
            (Query(rate("plimsoll_redis_written_total", "topic"), "{{topic}}"),),
            shows="Records written to Redis a second, by the topic they come from; each scheduler "
            "writes all of them, and an older one never replaces a newer.",
            formula="growth of the counts, a second",
            when_red="Zero while Redis is up: nothing is published on these topics, see "
            "*Published by topic*.",
        ),
        Panel(
            "Rebuilds of Redis",
            "short",
            (Query("sum by (instance) (plimsoll_redis_rebuilds_total)", "{{instance}}"),),
            shows="How often each scheduler has filled Redis from the log anew, since it started.",
            formula="the count itself",
            when_red="A step is a Redis that came back empty, or a start. Many steps: Redis loses "
            "its data again and again; does it have enough memory?",
        ),
        Panel(
            "Memory of each service",
            "bytes",
            (
                Query(
                    "sum by (job, instance) (process_resident_memory_bytes)",
                    "{{job}} {{instance}}",
                ),
            ),
            shows="Resident memory of each process that is scraped.",
            formula="as the kernel reports it",
            when_red="A line that grows for hours is a leak: at its limit the container is ended "
            "and started again. Keep the graph, and report it.",
        ),
    ),
)

BUS = Board(
    "Bus",
    "Does everything arrive, and is anything unreadable?",
    (ARRIVES, TOPICS, SENT, INVENTORY, BESIDE),
)
