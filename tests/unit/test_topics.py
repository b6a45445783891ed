"""What is wrong with topics, found without a broker."""

import pytest

from streamer.adapters.kafka_topic_contract import (
    DEADLETTER_MAX_BYTES,
    INPUT_MAX_BYTES,
    Topic,
    find_problems,
    plan_topics,
)
from streamer.settings import Settings

SETTINGS = Settings()


def as_planned(partitions: int = 4, replication: int = 1, **changes: dict[str, str]) -> dict[str, Topic]:
    """The four topics as `topics create` makes them, with `changes` to the settings of some by role."""
    roles = ("probabilities", "tags", "scores", "deadletter")
    return {
        plan.name: Topic(plan.name, partitions, replication, dict(plan.config) | changes.get(role, {}))
        for role, plan in zip(roles, plan_topics(SETTINGS, replication), strict=True)
    }


def test_topics_as_planned_have_no_problem():
    assert find_problems(SETTINGS, as_planned()) == []
    assert find_problems(SETTINGS, as_planned(replication=3)) == []


def test_plan_has_the_contract_sizes_and_policies():
    source, tags, scores, dead = plan_topics(SETTINGS, 3)
    assert source.config["max.message.bytes"] == str(9 * 1024 * 1024) == str(INPUT_MAX_BYTES)
    assert dead.config["max.message.bytes"] == str(10 * 1024 * 1024) == str(DEADLETTER_MAX_BYTES)
    assert tags.config["cleanup.policy"] == scores.config["cleanup.policy"] == "compact"
    assert source.config["cleanup.policy"] == dead.config["cleanup.policy"] == "delete"
    assert all(plan.config["min.insync.replicas"] == "2" for plan in (source, tags, scores, dead))
    assert all("min.insync.replicas" not in plan.config for plan in plan_topics(SETTINGS, 2))


def test_missing_topics_are_fatal_and_name_the_remedy():
    problems = find_problems(SETTINGS, {})
    assert [problem.topic for problem in problems] == [plan.name for plan in plan_topics(SETTINGS, 1)]
    assert all(problem.fatal and "topics create" in problem.remedy for problem in problems)


@pytest.mark.parametrize("name", [SETTINGS.topic_tags, SETTINGS.topic_scores])
@pytest.mark.parametrize("count", [3, 5])
def test_outputs_need_the_partitions_of_the_input(name, count):
    topics = as_planned()
    topics[name] = Topic(name, count, 1, topics[name].config)
    (problem,) = find_problems(SETTINGS, topics)
    assert problem.fatal and problem.topic == name and f"{count} partitions" in problem.what
    assert ("--partitions 4" in problem.remedy) == (count < 4)  # partitions can be added, not taken away


def test_dead_letters_may_have_more_partitions_but_not_fewer():
    topics = as_planned()
    name = SETTINGS.topic_deadletter
    topics[name] = Topic(name, 5, 1, topics[name].config)
    assert find_problems(SETTINGS, topics) == []
    topics[name] = Topic(name, 3, 1, topics[name].config)
    assert [problem.fatal for problem in find_problems(SETTINGS, topics)] == [True]


def test_dead_letter_topic_that_could_not_take_the_largest_input_is_fatal():
    topics = as_planned(deadletter={"max.message.bytes": str(INPUT_MAX_BYTES)})
    (problem,) = find_problems(SETTINGS, topics)
    assert problem.fatal and problem.topic == SETTINGS.topic_deadletter
    assert f"max.message.bytes={DEADLETTER_MAX_BYTES}" in problem.remedy


@pytest.mark.parametrize("name", ["message.timestamp.after.max.ms", "message.timestamp.before.max.ms"])
def test_scores_that_could_not_take_an_events_time_are_fatal(name):
    topics = as_planned(probabilities={name: "7200000"}, scores={name: "3600000"})
    (problem,) = find_problems(SETTINGS, topics)
    assert problem.fatal and problem.topic == SETTINGS.topic_scores and f"{name}=7200000" in problem.remedy
    assert find_problems(SETTINGS, as_planned(probabilities={name: "1"}, scores={name: "2"})) == []
    stamped = {name: "7200000", "message.timestamp.type": "LogAppendTime"}
    assert find_problems(SETTINGS, as_planned(probabilities=stamped, scores={name: "1"})) == []


def test_weaker_problems_do_not_stop_a_worker():
    topics = as_planned(
        replication=3,
        probabilities={"max.message.bytes": "1048588"},
        tags={"cleanup.policy": "delete"},
        scores={"min.insync.replicas": "1"},
    )
    problems = find_problems(SETTINGS, topics)
    assert {problem.topic for problem in problems} == {
        SETTINGS.topic_probabilities,
        SETTINGS.topic_tags,
        SETTINGS.topic_scores,
    }
    assert not any(problem.fatal for problem in problems)


def test_settings_that_may_not_be_read_are_said_so():
    topics = as_planned()
    name = SETTINGS.topic_deadletter
    topics[name] = Topic(name, 4, 1, None)
    (problem,) = find_problems(SETTINGS, topics)
    assert "cannot be read" in problem.what and not problem.fatal
