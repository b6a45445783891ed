"""The dashboard of the stream: whether events are decided, how fast, and who does it."""

from ops.grafana.panels import BYTES, NUMBER, PER_SECOND, SECONDS, SHARE, Board, Panel, Query, gauge, quantile, rate

STREAM = Board(
    "tagstream-stream",
    "tagstream: the stream",
    "Whether events are decided, how fast, and who does it.",
    (
        (
            "Now",
            (
                Panel(
                    "Workers ready",
                    "Workers that have a model and partitions, and take events in",
                    NUMBER,
                    (Query(f"sum({gauge('tagstream_ready')})", ""),),
                    now=True,
                ),
                Panel(
                    "Partitions without a worker",
                    "What arrives there waits; more than 0 during a rebalance only",
                    NUMBER,
                    (
                        Query(
                            f"max({gauge('tagstream_input_partitions')})"
                            f" - sum({gauge('tagstream_assigned_partitions')})",
                            "",
                        ),
                    ),
                    now=True,
                    alarm_above=0.5,
                ),
                Panel(
                    "Age of the oldest undecided record",
                    "Lag in seconds: how far behind the decisions are",
                    SECONDS,
                    (Query(f"max({gauge('tagstream_lag_seconds')})", ""),),
                    now=True,
                    alarm_above=60,
                ),
                Panel(
                    "Events per second",
                    "Taken in: decided, withdrawn and dead-lettered",
                    PER_SECOND,
                    (Query(rate("tagstream_tracks_in_total"), ""),),
                    now=True,
                ),
                Panel(
                    "Dead letters, share of inputs",
                    "Above 5 % for a while an alert fires; above TAGSTREAM_BREAKER_SHARE workers pause",
                    SHARE,
                    (Query(f"{rate('tagstream_dead_letters_total')} / {rate('tagstream_tracks_in_total')}", ""),),
                    now=True,
                    alarm_above=0.05,
                ),
                Panel(
                    "Models in use",
                    "1; 2 for the seconds of a switch",
                    NUMBER,
                    (Query(f"count(count by (model) ({gauge('tagstream_serving_info')}))", ""),),
                    now=True,
                    alarm_above=1.5,
                ),
            ),
        ),
        (
            "Flow",
            (
                Panel(
                    "Events per second, by outcome",
                    "Acknowledged by Kafka",
                    PER_SECOND,
                    (
                        Query(rate("tagstream_tracks_decided_total"), "decided"),
                        Query(rate("tagstream_tracks_withdrawn_total"), "withdrawn"),
                        Query(rate("tagstream_dead_letters_total"), "dead letters"),
                    ),
                ),
                Panel(
                    "Events per second, by worker",
                    "A worker that falls to 0 while the others do not has lost its partitions, or hangs",
                    PER_SECOND,
                    (Query(rate("tagstream_tracks_in_total", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Lag in records, by partition",
                    "Not committed yet; one partition that grows alone points to its keys or its worker",
                    NUMBER,
                    (Query(f"sum by (partition) ({gauge('tagstream_lag_records')})", "partition {{partition}}"),),
                ),
                Panel(
                    "Lag in seconds, by partition",
                    "Age of the oldest record that is not committed",
                    SECONDS,
                    (Query(f"max by (partition) ({gauge('tagstream_lag_seconds')})", "partition {{partition}}"),),
                    alarm_above=60,
                ),
                Panel(
                    "Latency",
                    "From an event's timestamp to the acknowledgement of its decision",
                    SECONDS,
                    tuple(
                        Query(quantile(share, "tagstream_latency_seconds"), name)
                        for share, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
                    ),
                    alarm_above=2.5,
                ),
                Panel(
                    "Time per micro-batch, by stage",
                    "Mean; the stage that grows is the bottleneck. `fill` is waiting for events, `wait` for the scorer",
                    SECONDS,
                    (
                        Query(
                            f"{rate('tagstream_stage_seconds_sum', 'stage')} / "
                            f"{rate('tagstream_stage_seconds_count', 'stage')}",
                            "{{stage}}",
                        ),
                    ),
                ),
                Panel(
                    "How full a micro-batch is",
                    "Near 1 a worker has all it can take; near 0 it waits for events",
                    SHARE,
                    (
                        Query(
                            f"{rate('tagstream_batch_tracks_sum', 'instance')} / "
                            f"{rate('tagstream_batch_tracks_count', 'instance')}"
                            f" / max by (instance) ({gauge('tagstream_batch_capacity_tracks')})",
                            "{{instance}}",
                        ),
                    ),
                    full_share=True,
                ),
                Panel(
                    "Seconds without progress",
                    "Of each worker's worst partition with lag; at TAGSTREAM_STALL_S the worker ends",
                    SECONDS,
                    (Query(gauge("tagstream_seconds_without_progress"), "{{instance}}"),),
                ),
            ),
        ),
        (
            "Workers",
            (
                Panel(
                    "Partitions, by worker",
                    "Shared evenly, and steady but for deployments",
                    NUMBER,
                    (Query(gauge("tagstream_assigned_partitions"), "{{instance}}"),),
                ),
                Panel(
                    "Kafka and Redis answer",
                    "1 while they do, by worker",
                    NUMBER,
                    (
                        Query(gauge("tagstream_kafka_up"), "Kafka, {{instance}}"),
                        Query(gauge("tagstream_redis_up"), "Redis, {{instance}}"),
                    ),
                ),
                Panel(
                    "CPU, in cores",
                    "By worker; torch may take more than one",
                    NUMBER,
                    (Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Memory",
                    "Resident, by worker; flat however far behind it is",
                    BYTES,
                    (Query(gauge("process_resident_memory_bytes"), "{{instance}}"),),
                ),
            ),
        ),
    ),
)
