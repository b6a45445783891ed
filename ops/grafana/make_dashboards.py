"""The dashboards of `stream.py` and `decisions.py` as Grafana's JSON.

python -m ops.grafana.make_dashboards            writes ops/grafana/dashboards/
python -m ops.grafana.make_dashboards --check    fails where those files are not what the code says
"""

import sys
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

from ops.errors import OpsError
from ops.grafana.decisions import DECISIONS
from ops.grafana.panels import Board, Panel
from ops.grafana.stream import STREAM

BOARDS = (STREAM, DECISIONS)
FOLDER = Path(__file__).with_name("dashboards")
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")  # as provisioning/datasources names it
GRID_COLUMNS = 24
GRAPH_HEIGHT, NUMBER_HEIGHT = 8, 4


def board_json(board: Board) -> str:
    """One dashboard, as its file holds it."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.why)
        .tags(["tagstream"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("10s")
        .timezone("browser")
        .with_variable(_job())
    )
    ids = count(1)
    for title, panels in board.rows:
        built.with_row(dashboard.Row(title).id(next(ids)))
        numbers = sum(panel.now for panel in panels)
        for panel in panels:
            built.with_panel(_panel(panel, GRID_COLUMNS // max(1, numbers)).id(next(ids)))
    made = built.build()
    for variable in made.templating.list_val or []:
        variable.auto = variable.auto_count = variable.auto_min = None  # of intervals; Grafana knows none in a query
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(made) + "\n"


def _job() -> dashboard.QueryVariable:
    """Which job's workers: one installation may run several streams."""
    return (
        dashboard.QueryVariable("job")
        .label("Job")
        .datasource(SOURCE)
        .query("label_values(tagstream_ready, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .current(VariableOption(text="tagstream", value="tagstream", selected=True))
    )


def _panel(panel: Panel, number_span: int) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if panel.now:
        made = stat.Panel().height(NUMBER_HEIGHT).span(number_span)
    else:
        made = timeseries.Panel().height(GRAPH_HEIGHT).span(GRID_COLUMNS if panel.wide else GRID_COLUMNS // 2)
    made.title(panel.title).description(panel.why).datasource(SOURCE).unit(panel.unit).min(0)
    if panel.full_share:
        made.max(1)
    if panel.alarm_above is not None:
        steps = [Threshold(None, "green"), Threshold(panel.alarm_above, "red")]
        made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        made.with_target(target.instant() if panel.now else target.range())
    return made


def main(arguments: list[str]) -> int:
    """Write the files, or check them."""
    wanted = {FOLDER / f"{board.uid}.json": board_json(board) for board in BOARDS}
    if "--check" not in arguments:
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    stale += [path.name for path in FOLDER.glob("*.json") if path not in wanted]
    if stale:
        raise OpsError(f"not what the code says: {', '.join(stale)}; run `python -m ops.grafana.make_dashboards`")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OpsError as error:
        sys.exit(str(error))
