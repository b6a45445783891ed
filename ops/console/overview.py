"""The first page: is it well, how fast is it, what do the workers obey."""

import time
from typing import Any, ClassVar

from ops.console.pictures import spark
from ops.console.view import View

DEAD_WINDOW_S = 300.0


class OverviewView(View):
    """Everything here comes from the feed; nothing can be done but look."""

    name = "overview"
    title = "Overview"
    regions: ClassVar = {
        "problems": "overview/problems.html",
        "figures": "overview/figures.html",
        "workers": "overview/workers.html",
        "services": "overview/services.html",
    }

    async def open(self) -> None:
        await self.desk.feed.looked.wait()

    def context(self) -> dict[str, Any]:
        now_s, series = time.monotonic(), self.desk.feed.series
        growth = series["dead"].growth(now_s, DEAD_WINDOW_S)
        return {
            "problems": self.desk.feed.now.problems(),
            "sparks": {name: spark(one.recent(now_s)) for name, one in series.items() if name != "dead"},
            "dead_lately": growth,
        }
