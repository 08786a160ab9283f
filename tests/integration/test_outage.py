"""The broker goes away under load and comes back: nothing is lost, nobody restarts or shouts."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.drive import Options
from cli.local.kafka import LocalKafka
from cli.local.processes import LocalError
from cli.outage import measure
from cli.session import clear
from tests.conftest import JARS, absent


@pytest.mark.bus
@pytest.mark.timeout(240)
async def test_the_loop_outlives_its_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    broker = LocalKafka(tmp_path, port=0, libs=JARS)
    try:
        broker.start()
    except LocalError as error:
        absent(str(error))
    try:
        clear(tmp_path)
        options = Options(tmp_path, duration_s=24)
        found = await measure(options, broker, Console(file=StringIO()), print)
    finally:
        broker.stop()
    assert found["lost"] == 0
    assert found["in"] == found["ok"] + found["late"] + found["rejected"]
    assert found["restarts"] == 0
    assert found["resumed_s"] < 5 * 5
    assert max(found["log_lines_per_s_max"].values()) <= 5
