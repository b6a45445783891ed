"""Faust's first idiom: one event at a time through the agent, one send each."""

from ops.bench.systems.faust_app import make_app
from ops.bench.systems.job import place

here = place()
app, source, tags = make_app(here)


@app.agent(source)
async def tag(stream):
    """Parse, score and decide one event; send its decision."""
    async for value in stream:
        track_id, decision = here.decide_one(value)
        await tags.send(key=track_id.encode(), value=decision)


if __name__ == "__main__":
    app.main()
