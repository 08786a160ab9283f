"""Every file that is made from the boards, and where it lies."""

from pathlib import Path

from deploy.grafana.boards.bus import BUS
from deploy.grafana.boards.fleet import FLEET
from deploy.grafana.boards.forecast import FORECAST
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.scheduler import SCHEDULER
from deploy.grafana.page import as_markdown
from deploy.grafana.render import as_json

ROOT = Path(__file__).parents[2]
DASHBOARDS = Path("deploy/grafana/dashboards")
PAGE = Path("docs/panels.md")
BOARDS = (OVERVIEW, FORECAST, SCHEDULER, FLEET, BUS)


def files() -> dict[Path, str]:
    """Return the text of each file by its path in the repository."""
    made = {DASHBOARDS / f"{board.name}.json": as_json(board) for board in BOARDS}
    return {**made, PAGE: as_markdown(BOARDS)}
