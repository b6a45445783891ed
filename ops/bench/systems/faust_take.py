"""Faust the way its documentation does it: `stream.take` for micro-batches, `topic.send` for each decision."""

from ops.bench.systems.faust_app import make_app
from ops.bench.systems.job import BATCH, place

WITHIN_S = 0.1

here = place()
app, source, tags = make_app(here)


@app.agent(source)
async def tag(stream):
    """Parse, score and decide a micro-batch; one send per decision."""
    async for values in stream.take(BATCH, within=WITHIN_S):
        for track_id, decision in zip(*here.decide(values), strict=True):
            await tags.send(key=track_id.encode(), value=decision)


if __name__ == "__main__":
    app.main()
