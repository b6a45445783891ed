"""Every fault the laboratory knows, by its name. The order is what a seed draws from: new ones go to the end."""

from tests.fault.lab import faults_services as services
from tests.fault.lab import faults_stream as stream
from tests.fault.lab import faults_workers as workers
from tests.fault.lab.fault import Fault

ALL: tuple[type[Fault], ...] = (
    workers.WorkerKilled, workers.WorkerTerminated, workers.Zombie, workers.ShortFreeze, workers.WorkerJoins,
    workers.WorkerLeaves, workers.AllWorkersKilled,
    services.BrokerKilled, services.BrokerStopped, services.BrokerFrozen, services.BrokerGone, services.TwoBrokersGone,
    services.LeadersMoved,
    services.KafkaCut, services.KafkaSilent, services.KafkaSlow, services.AllKafkaCut,
    services.RedisCut, services.RedisSilent, services.RedisSlow,
    services.RedisKilled, services.RedisFrozen, services.RedisEmptied, services.RedisOlder,
    stream.ModelSwitched, stream.ModelCorrupted, stream.ThresholdsEdited, stream.ThresholdsInvalid,
    workers.ScorerRaises, workers.ScorerOutOfMemory, workers.ScorerSlow,
    stream.Poison, stream.OutputRefused, stream.WriteRightRevoked,
    stream.Redecided,
)  # fmt: skip
BY_NAME = {fault.kind.name: fault for fault in ALL}
