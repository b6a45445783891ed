"""The dashboard of the decisions: what is decided, under which model and thresholds, and what cannot be."""

from ops.grafana.panels import NUMBER, PER_SECOND, SECONDS, SHARE, Board, Panel, Query, gauge, moved_most, rate

DECISIONS = Board(
    "tagstream-decisions",
    "tagstream: decisions",
    "What is decided, under which model and thresholds, and what cannot be.",
    (
        (
            "Tags",
            (
                Panel(
                    "Share of tracks with a tag, the 20 most frequent",
                    "A jump at the moment of a change of thresholds is that change; without one, look upstream",
                    SHARE,
                    (
                        Query(
                            f"topk(20, {rate('tagstream_tag_decisions_total', 'tag')}"
                            f" / ignoring (tag) group_left () {rate('tagstream_decisions_total')})",
                            "{{tag}}",
                        ),
                    ),
                    wide=True,
                ),
                Panel(
                    "Tags per track, by class",
                    "Mean",
                    NUMBER,
                    (
                        Query(
                            f"{rate('tagstream_tag_decisions_total', 'class')}"
                            f" / ignoring (class) group_left () {rate('tagstream_decisions_total')}",
                            "{{class}}",
                        ),
                    ),
                ),
                Panel(
                    "Tags that nobody gets",
                    "Never decided since the workers started: a threshold that is too high, or `off`",
                    NUMBER,
                    (
                        Query(
                            "sum by (class) (sum by (class, tag) "
                            f"({gauge('tagstream_tag_decisions_total')}) == bool 0)",
                            "{{class}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Drift",
            (
                Panel(
                    "Done by the thresholds",
                    "Share of tracks with a tag beside the share under the tuned thresholds, the 10 that differ most",
                    SHARE,
                    (Query(moved_most("job_tag:tagstream_tag_share_by_thresholds:diff1h"), "{{tag}}"),),
                ),
                Panel(
                    "Done by the inputs",
                    "That share beside the one among the tracks the model was tuned on, the 10 that differ most",
                    SHARE,
                    (Query(moved_most("job_tag:tagstream_tag_share_by_inputs:diff1h"), "{{tag}}"),),
                ),
                Panel(
                    "Done by the model",
                    "That share of the model in use beside yesterday's model, the 10 that differ most",
                    SHARE,
                    (Query(moved_most("job_tag:tagstream_tag_share_by_model:diff1d") + " or vector(0)", "{{tag}}"),),
                ),
                Panel(
                    "Upstream's probabilities, the 10 furthest from the training's",
                    "Population stability index: from 0.1 moved, from 0.25 another population",
                    NUMBER,
                    (Query(f"topk(10, {gauge('job_name:tagstream_input_psi:avg')})", "{{class}}.{{list}} {{name}}"),),
                    alarm_above=0.25,
                ),
                Panel(
                    "Scores, the 10 tags furthest from the training's",
                    "The same of scores; alone, without the probabilities: the model",
                    NUMBER,
                    (Query(f"topk(10, {gauge('job_tag:tagstream_score_psi:avg')})", "{{tag}}"),),
                    alarm_above=0.25,
                ),
            ),
        ),
        (
            "Model and thresholds",
            (
                Panel(
                    "Workers, by model and thresholds",
                    "One line; two for the moment of a switch",
                    NUMBER,
                    (
                        Query(
                            f"count by (model, thresholds, source) ({gauge('tagstream_serving_info')})",
                            "{{model}} {{thresholds}} ({{source}})",
                        ),
                    ),
                    wide=True,
                ),
                Panel(
                    "Age of the model",
                    "Since its training",
                    SECONDS,
                    (Query(f"time() - min({gauge('tagstream_model_created_timestamp_seconds')})", ""),),
                    now=True,
                ),
                Panel(
                    "Age of the thresholds",
                    "Since a worker last changed to another table or model (or started)",
                    SECONDS,
                    (Query(f"time() - max({gauge('tagstream_thresholds_obeyed_timestamp_seconds')})", ""),),
                    now=True,
                ),
                Panel(
                    "Since Redis was heard",
                    "The worker that has not heard of Redis for longest decides with what it knew then",
                    SECONDS,
                    (Query(f"time() - min({gauge('tagstream_redis_answered_timestamp_seconds')})", ""),),
                    now=True,
                    alarm_above=60,
                ),
                Panel(
                    "What was obeyed, refused and restored",
                    "Per hour",
                    NUMBER,
                    (
                        Query(f"sum(increase({gauge('tagstream_swaps_total')}[1h]))", "changes obeyed"),
                        Query(f"sum(increase({gauge('tagstream_thresholds_refused_total')}[1h]))", "tables refused"),
                        Query(f"sum(increase({gauge('tagstream_thresholds_restored_total')}[1h]))", "losses restored"),
                        Query(f"sum(increase({gauge('tagstream_model_failures_total')}[1h]))", "models not loaded"),
                    ),
                ),
            ),
        ),
        (
            "What cannot be decided",
            (
                Panel(
                    "Dead letters per second, by code",
                    "The codes are in docs/contract.md; `tagstream deadletter list` shows them",
                    PER_SECOND,
                    (Query(rate("tagstream_dead_letters_total", "code"), "{{code}}"),),
                ),
                Panel(
                    "Paused workers",
                    "A surge of dead letters has paused them",
                    NUMBER,
                    (Query(f"sum({gauge('tagstream_paused')})", "paused"),),
                    alarm_above=0.5,
                ),
                Panel(
                    "Misrouted keys per second",
                    "Sampled: keys in a partition that murmur2 would not choose. A producer has another partitioner",
                    PER_SECOND,
                    (Query(rate("tagstream_misrouted_keys_sampled_total"), "misrouted"),),
                ),
            ),
        ),
    ),
)
