"""After the warm-up nothing is compiled any more: the first events must not wait for it."""

import subprocess
import sys

PROGRAM = """
import json
import numpy as np
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.structs import TopicPartition
from streamer.adapters import batch_kernel, decision_kernel, json_kernel
from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.adapters.kafka_batches import record_batches
from streamer.adapters.kafka_records import BatchReader
from streamer.adapters.warm_up import compile_kernels
from streamer.core import ids, packed
from streamer.core.batch import MicroBatch
from streamer.core.decide import decide, tag_classes
from streamer.core.ids import Origins
from streamer.core.outputs import Stamp, span_outputs
from streamer.core.packed import Packed
from streamer.core.records import Records
from tests.fakes import LAYOUT
from tests.raw_batches import Rec, batch

kernels = [json_kernel.read_events, decision_kernel.write_decisions, decision_kernel.are_plain,
           batch_kernel.write_records, batch_kernel.read_records, packed._gather, ids._write_numbered]
compile_kernels(LAYOUT)
assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels), [k.signatures for k in kernels]

event = {"track_id": "", "vocabulary": LAYOUT.fingerprint, "genres": {"tags": [0.5, 1], "categories": [0]},
         "moods": {"tags": [0.7]}}
def record(n):
    return Rec(b"%d" % n, json.dumps(event | {"track_id": str(n)}).encode(), [("h", b"x")] if n == 7 else [])
ways = (0, "lz4"), (10, "none")
data = b"".join(bytes(batch(*map(record, range(base, base + 10)), codec=codec, base=base)) for base, codec in ways)
reader = BatchReader(data, None, {}, in_chunks=True)
chunks = PartitionRecords(TopicPartition("t", 0), reader, [], 0, None, None, True, 0)
chunks._consumer_record = lambda tp, chunk: chunk
records = Records.joined([chunk.records for chunk in chunks])
assert len(records) == 20 and records[7].headers == [("h", b"x")]
micro = MicroBatch(64, LAYOUT.n_inputs)
for some in (records[:3], records[3:]):
    rows = micro.probabilities[micro.n_rows : micro.n_rows + len(some)]
    names, dead = JsonEventDecoder(LAYOUT).decode_all(some, rows)
    assert not dead
    micro.take(0, some, names)
scores = micro.probabilities[:20, : LAYOUT.n_tags].astype(np.float16)
decided = decide(scores, np.full(LAYOUT.n_tags, 0.5), tag_classes(LAYOUT))
origins = Origins(["t"], np.insert(micro.places(), 0, 0, axis=1))
decisions = JsonDecisionEncoder(LAYOUT).encode(decided, scores, micro.track_ids, origins, "m", "t", "now")
assert json.loads(decisions[19])["tags"] == {"genres": ["jazz", "rock"], "instruments": [], "moods": ["calm"]}
for outputs in span_outputs(micro.spans[0], Stamp("t", "m", "t", "v"), decisions, Packed.rows(scores)):
    assert sum(one.record_count() for one in record_batches(outputs, 900_000, snappy=True)) == 20
assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels), [k.signatures for k in kernels]
print("nothing")
"""


def test_nothing_is_compiled_after_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout == "nothing\n", done.stderr
