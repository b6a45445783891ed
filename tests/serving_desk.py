"""What is served, on fakes: for the tests of thresholds, and of models and starts."""

from streamer.core.thresholds import ThresholdTable
from streamer.serving import LastGood, ServingControl, ServingStatus
from tests.fakes import MODEL, OTHER_MODEL, TUNED, FakeClock, FakeLastGood, FakeModelLoader, FakeThresholdStore, a_model

TUNED_HASH = {"rock": "0.500000", "jazz": "0.250000", "calm": "0.750000"}


class Desk:
    """A ServingControl over fakes; `model` is champion, `other` is there too."""

    def __init__(self, *remembered: LastGood, champion: str | None = MODEL) -> None:
        self.model, self.other = a_model(), a_model(OTHER_MODEL, tuned={**TUNED, "jazz": 0.9})
        self.store, self.clock = FakeThresholdStore(), FakeClock()
        self.loader = FakeModelLoader(self.model, self.other, champion=champion)
        self.last_good = FakeLastGood(*remembered)
        self.control = ServingControl(self.store, self.loader, self.last_good, self.clock)

    async def started(self) -> "Desk":
        await self.control.refresh()
        self.store.calls.clear()
        return self

    @property
    def live(self) -> dict[str, str]:
        return self.store.live[MODEL]

    @property
    def table(self) -> ThresholdTable:
        return self.control.current().table

    @property
    def status(self) -> ServingStatus:
        return self.control.status

    def thresholds(self) -> dict[str, str]:
        return self.table.as_hash()


def remembered(table: ThresholdTable, *, entered: bool = True, model: str = MODEL, at_ms: float = 1.0) -> LastGood:
    return LastGood(model, table.canonical, entered, at_ms)
