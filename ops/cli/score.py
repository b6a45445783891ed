"""`tagstream score`: the offline twin of the stream, the same network and the same rule over a data set."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, progress_bar
from ops.cli.train import ModelsDir, load_for, open_registry
from ops.errors import OpsError

EPILOG = "Example: tagstream score --model champion --data data/jamendo-hot/val --out decisions.parquet"
ROWS_PER_STEP = 8192


def score(
    *,
    model: Annotated[str, typer.Option(help="A model version or alias.")],
    data: Annotated[Path, typer.Option(help="A data set, labels not needed; of one with splits, val is taken.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Decide a data set under the model's tuned thresholds and write tags and scores of every track."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from streamer.core.decide import decide, tag_classes
    from streamer.core.layout import Layout
    from streamer.core.thresholds import ThresholdTable

    artifact = open_registry(models_dir).load(model)
    dataset = load_for(artifact.vocabulary, data)
    layout = Layout.build(artifact.vocabulary.fingerprint, artifact.vocabulary.to_dict())
    table = ThresholdTable.build(layout.tags, {}, artifact.thresholds)
    classes = tag_classes(layout)
    schema = pa.schema(
        [
            ("track_id", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
            ("model", pa.string()),
            ("thresholds", pa.string()),
        ]
    )
    names = pa.array(layout.tags, pa.string())
    decided_tags = 0
    try:
        with pq.ParquetWriter(out, schema) as writer, progress_bar() as bar:
            task = bar.add_task("scoring", total=len(dataset))
            for start in range(0, len(dataset), ROWS_PER_STEP):
                rows = slice(start, start + ROWS_PER_STEP)
                scores = artifact.score(dataset.probabilities[rows])  # [B, T]
                decided = decide(scores, table.values, classes)
                decided_tags += len(decided.tags)
                writer.write_batch(_batch(dataset.track_ids[rows], scores, decided, names, schema, artifact, table))
                bar.advance(task, len(scores))
    except OSError as error:
        raise OpsError(f"{out} cannot be written: {error.strerror or error}.") from None
    if json:
        emit_json(
            {"tracks": len(dataset), "tags": decided_tags, "model": artifact.version, "thresholds": table.version}
        )
    else:
        note(f"{len(dataset):,} tracks, {decided_tags:,} tags, {artifact.version}, thresholds {table.version}: {out}")


def _batch(track_ids, scores, decided, names, schema, artifact, table):
    """One record batch; `scores` holds the scores of the decided tags, in their order."""
    import numpy as np
    import pyarrow as pa

    ends = np.append(decided.bounds[:, 0], decided.bounds[-1, -1]).astype(np.int32)  # [B + 1]
    rows = np.repeat(np.arange(len(track_ids)), np.diff(ends))
    chosen = scores[rows, decided.tags].astype(np.float32)
    count = len(track_ids)
    return pa.record_batch(
        [
            pa.array(track_ids, pa.string()),
            pa.ListArray.from_arrays(ends, names.take(pa.array(decided.tags))),
            pa.ListArray.from_arrays(ends, pa.array(chosen)),
            pa.array([artifact.version] * count, pa.string()),
            pa.array([table.version] * count, pa.string()),
        ],
        schema=schema,
    )
