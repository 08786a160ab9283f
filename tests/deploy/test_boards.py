"""The boards: the committed files are the code's, lie well on the page, and explain themselves."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from deploy.grafana.files import BOARDS, DASHBOARDS, ROOT, files
from deploy.grafana.page import metrics
from deploy.grafana.render import COLUMNS
from deploy.grafana.vocabulary import UNITS, Board, Panel

PANELS = [
    pytest.param(board, panel, id=f"{board.title}: {panel.title}")
    for board in BOARDS
    for panel in board.panels
]
PROVISIONING = ROOT / "deploy/grafana/provisioning"


def page_of(board: Board) -> dict[str, Any]:
    return json.loads((ROOT / DASHBOARDS / f"{board.name}.json").read_text())


def test_the_files_are_those_that_the_code_makes() -> None:
    for path, text in files().items():
        assert (ROOT / path).read_text() == text, f"{path}: run `make boards`"


def test_no_other_board_lies_beside_them() -> None:
    lying = {path.relative_to(ROOT) for path in (ROOT / DASHBOARDS).iterdir()}
    assert lying == {path for path in files() if path.is_relative_to(DASHBOARDS)}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_panels_fill_the_page_without_gap_or_overlap(board: Board) -> None:
    covered: dict[tuple[int, int], str] = {}
    places = [(panel["title"], panel["gridPos"]) for panel in page_of(board)["panels"]]
    for title, place in places:
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in covered, f"{title} lies over {covered[x, y]}"
                covered[x, y] = title
    bottom = max(place["y"] + place["h"] for _, place in places)
    assert covered.keys() == {(x, y) for x in range(COLUMNS) for y in range(bottom)}
    in_order = [(place["y"], place["x"]) for _, place in places]
    assert in_order == sorted(in_order), "Grafana gives a panel to the heading before it"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_a_board_opens_as_it_should(board: Board) -> None:
    page = page_of(board)
    assert page["uid"] == f"plimsoll-{board.name}"
    assert page["tags"] == ["plimsoll"]
    assert page["schemaVersion"] == 41  # Grafana 11.6
    assert page["refresh"] == "2s"
    assert "1s" in page["timepicker"]["refresh_intervals"]
    assert page["time"] == {"from": "now-15m", "to": "now"}
    assert page["editable"] is False
    assert page["graphTooltip"] == 1  # a crosshair shared by all panels
    (link,) = page["links"]
    assert (link["type"], link["tags"], link["asDropdown"]) == ("dashboards", ["plimsoll"], True)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_ids_and_titles_are_unique_on_a_board(board: Board) -> None:
    panels = page_of(board)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_the_first_row_says_whether_it_is_well(board: Board) -> None:
    first = board.rows[0]
    assert all(panel.kind == "stat" for panel in first.panels)
    assert any((panel.red_below, panel.red_above) != (None, None) for panel in first.panels)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_a_board_uses_the_choices_that_it_offers_and_no_other(board: Board) -> None:
    page = page_of(board)
    said = json.dumps([(panel.get("targets"), panel.get("repeat")) for panel in page["panels"]])
    repeated = {panel["repeat"] for panel in page["panels"] if panel.get("repeat")}
    used = {name for name in re.findall(r"\$(\w+)", said) if not name.startswith("__")}
    offered = {variable["name"] for variable in page["templating"]["list"]}
    assert used | repeated == offered
    for variable in page["templating"]["list"]:
        assert variable["multi"]
        assert variable["allValue"] == ".*"


def test_a_repeated_panel_has_its_row_to_itself() -> None:
    # Grafana spreads the copies over the whole width, whatever width is written down.
    for board in BOARDS:
        for row in board.rows:
            assert len(row.panels) == 1 or not any(panel.repeat for panel in row.panels)


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_is_explained_in_three_parts(board: Board, panel: Panel) -> None:
    shown = next(
        shown["description"]
        for shown in page_of(board)["panels"]
        if shown["title"].partition(": $")[0] == panel.title and shown["type"] != "row"
    )
    what, formula, act = shown.split("\n\n")
    assert what.endswith(".")
    assert formula.startswith("**Formula:** ")
    assert act.startswith(("**When it is red:** ", "**When it looks wrong:** "))
    assert min(map(len, (panel.shows, panel.formula, panel.when_red))) > 10


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_asks_well_formed_questions(board: Board, panel: Panel) -> None:
    assert panel.unit in UNITS
    assert panel.queries
    assert metrics(panel)
    for query in panel.queries:
        assert query.expr.count("(") == query.expr.count(")")
        assert query.legend
    legends = {query.legend for query in panel.queries}
    assert {query.fill_to for query in panel.queries if query.fill_to} <= legends


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_every_target_goes_to_the_provisioned_prometheus(board: Board) -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    there = {"type": source["type"], "uid": source["uid"]}
    page = page_of(board)
    for panel in page["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == there
            assert all(target["datasource"] == there for target in panel["targets"])
    assert all(variable["datasource"] == there for variable in page["templating"]["list"])


def test_a_panel_draws_on_what_the_services_export() -> None:
    for path in (ROOT / "services").glob("*/telemetry.py"):
        importlib.import_module(f"services.{path.parent.name}.telemetry")
    importlib.import_module("libs.common.telemetry")
    exported = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
    }
    drawn = {name for board in BOARDS for panel in board.panels for name in metrics(panel)}
    assert drawn <= exported, drawn - exported


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_where_a_panel_sends_people_there_is_something(board: Board, panel: Panel) -> None:
    for name, where in pointers(f"{panel.shows} {panel.when_red}", board.title):
        assert leads_somewhere(name, where), f"{panel.title}: no {name} on {where}"


def pointers(text: str, own: str) -> Iterator[tuple[str, str]]:
    """Yield what stands in italics with the board that is named after it, else with `own`."""
    text = re.sub(r"\*\*.+?\*\*", "", text)
    waiting: list[str] = []
    for before, name in re.findall(r"([^*]*)\*([^*\n]+)\*", text):
        if before.strip() == "on":
            yield from ((pointed, name) for pointed in waiting)
            waiting = []
        else:
            if before.strip() not in (",", "and", "beside"):
                yield from ((pointed, own) for pointed in waiting)
                waiting = []
            waiting.append(name)
    yield from ((pointed, own) for pointed in waiting)


def leads_somewhere(name: str, where: str) -> bool:
    """Whether a board, or a row or panel of the board `where`, is called so, or begins so."""
    names = [board.title for board in BOARDS]
    for board in BOARDS:
        if board.title == where:
            names += [row.title for row in board.rows] + [panel.title for panel in board.panels]
    return any(title.startswith(name) for title in names)


def test_serving_training_and_free_have_one_color_each() -> None:
    seen: dict[str, set[str]] = {}
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                if query.legend in ("serving", "training", "free", "idle") and panel.kind != "stat":
                    seen.setdefault(query.legend.replace("idle", "free"), set()).add(query.color)
    assert sorted(seen) == ["free", "serving", "training"]
    assert len({color for colors in seen.values() for color in colors}) == 3
