"""From a board to the JSON that Grafana 11.6 reads: layout, looks and colors, the same for all.

Nothing here knows what a board shows.
"""

import json
from collections.abc import Iterator

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as parts
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.vocabulary import (
    GOOD,
    NEUTRAL,
    RED,
    UNITS,
    Board,
    Panel,
    Query,
    Row,
    Variable,
)

Drawing = timeseries.Panel | stat.Panel | statetimeline.Panel | heatmap.Panel

COLUMNS = 24
TAG = "plimsoll"
PROMETHEUS = parts.DataSourceRef(type_val="prometheus", uid="prometheus")


def as_json(board: Board) -> str:
    """Return the board's file: the same board gives the same bytes."""
    page = (
        dashboard.Dashboard(board.title)
        .uid(f"{TAG}-{board.name}")
        .description(board.asks)
        .tags([TAG])
        .readonly()
        .tooltip(parts.DashboardCursorSync.CROSSHAIR)
        .time("now-15m", "now")
        .refresh("2s")
        .timepicker(dashboard.TimePicker().refresh_intervals(["1s", "2s", "5s", "10s", "1m"]))
        .link(_other_boards())
        .variables([_variable(variable) for variable in board.variables])
    )
    for number, (item, place) in enumerate(layout(board), start=1):
        if isinstance(item, Row):
            heading = dashboard.Row(_titled(item)).id(number).grid_pos(place)
            page.with_row(heading.repeat(item.repeat) if item.repeat else heading)
        else:
            page.with_panel(_panel(item).id(number).grid_pos(place))
    return json.dumps(page.build(), cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


def layout(board: Board) -> Iterator[tuple[Row | Panel, parts.GridPos]]:
    """Yield every heading and panel with its place; together they fill the page without a gap."""
    y = 0
    for row in board.rows:
        yield row, parts.GridPos(x=0, y=y, w=COLUMNS, h=1)
        y += 1
        unit, rest = divmod(COLUMNS, sum(panel.wide for panel in row.panels))
        assert rest == 0, f"{board.title}, {row.title}: the panels do not fill {COLUMNS} columns"
        x = 0
        for panel in row.panels:
            # A repeated panel is given the width of all its copies; Grafana divides it.
            yield panel, parts.GridPos(x=x, y=y, w=unit * panel.wide, h=row.height)
            x += unit * panel.wide
        y += row.height


def description(panel: Panel) -> str:
    """Return the panel's help: what it shows, how it is computed, what to do."""
    return f"{panel.shows}\n\n**Formula:** {panel.formula}\n\n**{when(panel)}:** {panel.when_red}"


def when(panel: Panel) -> str:
    """Return the words for the moment at which a person has to act."""
    return "When it is red" if _has_line(panel) else "When it looks wrong"


def _has_line(panel: Panel) -> bool:
    return panel.red_below is not None or panel.red_above is not None


def _titled(item: Row | Panel) -> str:
    return f"{item.title}: ${item.repeat}" if item.repeat else item.title


def _other_boards() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Boards")
        .type(parts.DashboardLinkType.DASHBOARDS)
        .icon("external link")
        .tooltip("The other boards of Plimsoll")
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )


def _variable(variable: Variable) -> dashboard.QueryVariable:
    values = f"label_values({variable.metric}, {variable.name})"
    everything = parts.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.name)
        .datasource(PROMETHEUS)
        .query(
            {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
        )
        # Asked again as time goes on: who opens a board while things start sees models come.
        .refresh(parts.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(parts.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _panel(panel: Panel) -> Drawing:
    drawing = (
        _drawing(panel)
        .title(_titled(panel))
        .description(description(panel))
        .datasource(PROMETHEUS)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
    )
    if panel.words:
        drawing = drawing.mappings([_words(panel)])
    if panel.repeat:
        drawing = drawing.repeat(panel.repeat).repeat_direction("h").max_per_row(4)
    for position, query in enumerate(panel.queries):
        ref_id = chr(ord("A") + position)
        drawing = drawing.with_target(_target(panel, query, ref_id))
        if style := _style(query):
            drawing = drawing.override_by_query(ref_id, style)
    return drawing


def _drawing(panel: Panel) -> Drawing:
    if panel.kind == "stat":
        return _stat(panel)
    if panel.kind == "states":
        return _states()
    if panel.kind == "heatmap":
        return _heatmap(panel)
    return _graph(panel)


def _graph(panel: Panel) -> timeseries.Panel:
    low, high = panel.axis
    graph = (
        timeseries.Panel()
        .color_scheme(_color(parts.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .draw_style(looks.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(60 if panel.stacked else 0)
        .show_points(looks.VisibilityMode.NEVER)
        .tooltip(
            common.VizTooltipOptions()
            .mode(looks.TooltipDisplayMode.MULTI)
            .sort(looks.SortOrder.DESCENDING)
        )
        .legend(_legend())
    )
    if _has_line(panel):
        graph.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.LINE_AND_AREA)
        )
    if panel.log:
        graph.scale_distribution(
            common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10)
        )
    else:
        graph.min(low)
    if high is not None:
        graph.max(high)
    elif panel.red_above is not None:
        graph.axis_soft_max(1.1 * panel.red_above)  # how far it is to the line is always in sight
    if panel.stacked:
        graph.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    return graph


def _stat(panel: Panel) -> stat.Panel:
    colored, plain = looks.BigValueColorMode.BACKGROUND_SOLID, looks.BigValueColorMode.NONE
    figure = (
        stat.Panel()
        .color_scheme(_color(parts.FieldColorModeId.THRESHOLDS))
        .color_mode(colored if _has_line(panel) else plain)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .text_mode(looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("no data")
    )
    # `increase` extrapolates to the edges of its window: one event may come out as 1.01.
    return figure.decimals(0) if UNITS[panel.unit] == "number" else figure


def _states() -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .color_scheme(_color(parts.FieldColorModeId.THRESHOLDS))
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.85)
        .line_width(0)
        .fill_opacity(80)
        .merge_values(True)
        .legend(_legend())
    )


def _heatmap(panel: Panel) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(False)  # Prometheus has counted into buckets already
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .fill("dark-orange")
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))  # an empty cell stays empty
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_gap(1)
        .show_legend()
    )


def _target(panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(ref_id).expr(query.expr).legend_format(query.legend)
    target.datasource(PROMETHEUS)
    if panel.kind == "heatmap":
        target.format(PromQueryFormat.HEATMAP)
    # A figure is of now: over a range, the last one of something dead would stand for minutes.
    return target.instant() if panel.kind == "stat" else target.range()


def _style(query: Query) -> list[parts.DynamicConfigValue]:
    style = []
    if query.color:
        fixed = {"mode": "fixed", "fixedColor": query.color}
        style.append(parts.DynamicConfigValue("color", fixed))
    if query.dashed:
        dashes = {"fill": "dash", "dash": [8, 6]}
        style.append(parts.DynamicConfigValue("custom.lineStyle", dashes))
    if query.fill_to:
        style.append(parts.DynamicConfigValue("custom.fillBelowTo", query.fill_to))
        style.append(parts.DynamicConfigValue("custom.fillOpacity", 25))
    return style


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    # On a graph only the red side is painted; Grafana draws the line beside a transparent one.
    good = "transparent" if panel.kind == "graph" else GOOD
    if not _has_line(panel):
        steps = [parts.Threshold(value=None, color=NEUTRAL)]
    elif panel.red_below is None:
        steps = [parts.Threshold(value=None, color=good)]
    else:
        steps = [
            parts.Threshold(value=None, color=RED),
            parts.Threshold(value=panel.red_below, color=good),
        ]
    if panel.red_above is not None:
        steps.append(parts.Threshold(value=panel.red_above, color=RED))
    return dashboard.ThresholdsConfig().mode(parts.ThresholdsMode.ABSOLUTE).steps(steps)


def _words(panel: Panel) -> parts.ValueMap:
    return parts.ValueMap(
        {
            str(value): parts.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, text, color) in enumerate(panel.words)
        }
    )


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _color(mode: parts.FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)
