"""`python -m bench.accuracy SERIES... --out DIR`: how good the forecasts are, beside others."""

import os
import shutil
import sys
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from bench.accuracy.judge import (
    BATCH,
    ONLINE,
    Case,
    Row,
    case_of,
    common,
    judge_online,
    quiet,
)
from bench.accuracy.kept import judge_batch
from bench.accuracy.online import Made
from bench.accuracy.series import read_all
from bench.write import check
from libs.common.errors import ContractError, SettingError

REFITS = ".refits"  # in the folder of results, until they are written
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def accuracy(
    series: Annotated[
        list[Path], typer.Argument(help="Files, and folders of them: CSV, or request traces.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for accuracy.json, report.md and pictures.")],
    jobs: Annotated[int, typer.Option(min=0, help="Models at a time; 0: one a core.")] = 0,
) -> None:
    """Judge our forecasts on your series, beside those of others."""
    try:
        found, notes = read_all(series)
        check(out)
        (out / REFITS).mkdir(exist_ok=True)
        cases = []
        for one in found:
            case = case_of(one)
            if isinstance(case, str):
                notes.append(f"left out: {case}")
            else:
                cases.append(case)
        if not cases:
            raise ContractError("; ".join(notes))
        rows, made = _judge(cases, notes, jobs or len(os.sched_getaffinity(0)), out / REFITS)
        shutil.rmtree(out / REFITS)
        _write(cases, rows, made, notes, out)
    except (SettingError, ContractError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        print(
            "interrupted; run it again and it goes on with the refits that are left",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


def main() -> None:
    """Run the command."""
    app()


def _judge(
    cases: list[Case], notes: list[str], jobs: int, refits: Path
) -> tuple[list[Row], dict[str, Made]]:
    """Run every method on every case, and show how far that is."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    rows: list[Row] = []
    ours: dict[str, Made] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), quiet)
    workers = pool._processes  # the pool forgets them when it is shut down
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            # Ours alone on the machine: its microseconds are one of the figures.
            online = progress.add_task("online methods", total=len(ONLINE) * len(cases))
            for case in cases:
                for method in ONLINE:
                    try:
                        found, made = judge_online(case, method)
                    except Exception as error:  # one series ends no run; the pair is dropped
                        notes.append(_failed(case, method, error))
                    else:
                        rows += found
                        if method == "ours":
                            ours[case.series.name] = made
                    progress.advance(online)
            batch = progress.add_task("models refitted", total=len(BATCH) * len(cases))
            # The longest first, so that no core waits at the end.
            ordered = sorted(cases, key=lambda case: -len(case.series.values))
            tasks = {
                pool.submit(judge_batch, case, method, refits): (case, method)
                for case in ordered
                for method in BATCH
            }
            for task in as_completed(tasks):
                case, method = tasks[task]
                try:
                    rows += task.result()
                except BrokenExecutor as error:
                    raise SettingError(f"a worker died, of memory perhaps: {error}") from error
                except Exception as error:  # whatever a foreign model raises, it did not finish
                    notes.append(_failed(case, method, error))
                progress.advance(batch)
    except BaseException:
        for process in list(workers.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return rows, ours


def _failed(case: Case, method: str, error: Exception) -> str:
    """Say in a line that a method did not finish a series, and why."""
    said = " ".join(str(error).split())[:120]
    return f"{case.series.name}: {method} failed: {said or type(error).__name__}"


def _write(
    cases: list[Case], rows: list[Row], made: dict[str, Made], notes: list[str], out: Path
) -> None:
    from rich.console import Console
    from rich.table import Table

    from bench.accuracy.pictures import draw
    from bench.accuracy.report import as_json, markdown, table, verdict

    kept, dropped = common(rows)
    if not kept:
        raise ContractError("no series was finished by all methods: " + "; ".join(notes))
    notes += [f"dropped: {line}" for line in dropped]
    for case in (case for case in cases if case.series.name in made):
        draw(case, made[case.series.name], out / f"{case.series.name}.svg")
    for name, text in (("report.md", markdown(kept, notes)), ("accuracy.json", as_json(kept))):
        part = out / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / name)
    heading, lines = table(kept)
    shown = Table(*heading, box=None)
    for cells in lines:
        shown.add_row(*cells, style="bold" if cells[0] == "ours" else None)
    console = Console(soft_wrap=True)
    console.print(shown)
    for line in (*verdict(kept), *notes, f"accuracy.json, report.md and pictures are in {out}"):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
