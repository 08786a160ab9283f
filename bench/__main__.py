"""`python -m bench`: replay a load under every policy, and say what each would have done."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from libs.common.errors import ContractError, SettingError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from bench.grid import Case

app = typer.Typer(
    help="Replay a load on a modelled fleet under every policy; say how far each is from perfect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
OUT = Path("out/bench")

Out = Annotated[
    Path, typer.Option(help="Folder for results.json, report.md, report.html, pictures.")
]
Policies = Annotated[str, typer.Option(help="Policies, separated by commas, or `all`.")]
Variants = Annotated[
    str,
    typer.Option(help="Of the peers, their variants, separated by commas (`list`), or `all`."),
]
Jobs = Annotated[int, typer.Option(min=0, help="Runs at a time; 0: as many as there are cores.")]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="How many seeds, paired: 1, 2, 3, ...")]


@app.command("list")
def list_scenarios() -> None:
    """List the scenarios that come with the project, and the policies."""
    from rich.console import Console
    from rich.table import Table

    from bench.peers import NAMES, chosen_variants
    from bench.scenario import names, read_scenario

    table = Table("scenario", "models", "GPUs", "load", "what it is", box=None)
    with _one_line():
        for name in names():
            scenario = read_scenario(name)
            gpus = len(scenario.fleet.devices())
            table.add_row(name, str(len(scenario.models)), str(gpus), scenario.kind, scenario.about)
    Console().print(table)
    Console().print(f"\npolicies: {', '.join(NAMES)}")
    Console().print(f"variants of the peers: {', '.join(chosen_variants('all'))}")


@app.command()
def run(
    scenario: Annotated[
        str, typer.Option(help="A name from `list`, or the path of a YAML file.")
    ] = "default",
    trace: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=FILE: a model's load from a trace; as often as you like."),
    ] = None,
    policies: Policies = "all",
    variants: Variants = "all",
    seed: Annotated[
        int, typer.Option(min=0, help="The seed of the load: the one that is run.")
    ] = 1,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Instead of one: the seeds 1, 2, .., paired.")
    ] = None,
    cold_start: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds that every model takes to load.")
    ] = None,
    out: Out = OUT,
    jobs: Jobs = 0,
) -> None:
    """Run one scenario, and leave results.json, report.md, report.html and pictures in --out."""
    from bench.grid import Case

    chosen = tuple(range(1, seeds + 1)) if seeds is not None else (seed,)
    case = Case(scenario, _traces(trace or []), cold_start)
    _play([case], policies, variants, chosen, out, jobs)


@app.command()
def full(out: Out = Path("out/bench-full"), seeds: Seeds = 3, jobs: Jobs = 0) -> None:
    """Run the grid: cold starts of 30, 60, 120 and 300 s, scenarios, and traces.

    Traces are looked for in ../shared/traces, or where PLIMSOLL_SHARED says.
    """
    from bench.fit.profiles import shared_folder
    from bench.grid import cases

    with _one_line():
        grid = cases(shared_folder() / "traces")
    _play(grid, "all", "all", tuple(range(1, seeds + 1)), out, jobs)


@app.command()
def suite(
    law_error: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Laws of time wrong by so much, both ways; 0: not."),
    ] = 0.15,
    memory_error: Annotated[
        float, typer.Option(min=0, max=0.9, help="Laws of memory wrong by so much, both ways.")
    ] = 0.2,
    kinds: Annotated[
        str, typer.Option(help="Of smooth, bursty and very_bursty, separated by commas.")
    ] = "smooth,bursty,very_bursty",
    seed: Annotated[int, typer.Option(min=1, help="The first seed of the loads.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="How many, from that one on.")] = 1,
    out: Out = Path("out/suite"),
    jobs: Jobs = 0,
) -> None:
    """Judge the decision core: every kind of load and load time, laws that are wrong, all bounds.

    Leaves suite.json and report.md in --out. Traces are looked for as by `full`.
    """
    import time

    from rich.console import Console
    from rich.markdown import Markdown
    from rich.progress import Progress

    from bench.campaign import play
    from bench.fit.profiles import shared_folder
    from bench.suite import chosen_kinds, trials
    from bench.suite_report import judged, suite_json, suite_page
    from bench.write import check, replace

    begun_s = time.monotonic()
    with _one_line():
        found = trials(shared_folder() / "traces", law_error, memory_error, chosen_kinds(kinds))
        check(out)
        done = []
        with Progress(console=Console(stderr=True)) as progress:
            for trial in found:
                tell, those = _teller(progress, trial.scenario.name), range(seed, seed + seeds)
                who = (trial.policies, trial.variants, tuple(those))
                done.append(judged(play(trial.scenario, *who, tell, jobs, trial.more)))
        page = suite_page(done, time.monotonic() - begun_s)
        replace(out / "report.md", page)
        replace(out / "suite.json", suite_json(done))
    Console().print(Markdown(page))
    Console().print(f"suite.json and report.md are in {out}")


@app.command()
def constants(
    scenarios: Annotated[
        str, typer.Option(help="Scenarios from `list`, separated by commas.")
    ] = "smooth,bursty,very_bursty",
    seed: Annotated[int, typer.Option(min=1, help="The seed of the loads.")] = 1,
    out: Out = Path("out/constants"),
    jobs: Jobs = 0,
) -> None:
    """Halve and double each constant of our policy, and leave the table constants.md in --out."""
    from rich.console import Console
    from rich.progress import Progress

    from bench.campaign import play
    from bench.constants import constants_page, varied
    from bench.scenario import read_scenario
    from bench.write import check, replace

    with _one_line():
        found = [read_scenario(name.strip()) for name in scenarios.split(",")]
        check(out)
        done = []
        with Progress(console=Console(stderr=True)) as progress:
            for scenario in found:
                tell = _teller(progress, scenario.name)
                done.append(play(scenario, ("ours",), (), (seed,), tell, jobs, varied()))
        replace(out / "constants.md", constants_page(done))
    Console().print(f"constants.md is in {out}")


def main() -> None:
    """Run the command."""
    app()


def _play(
    cases: "Sequence[Case]",
    policies: str,
    variants: str,
    seeds: tuple[int, ...],
    out: Path,
    jobs: int,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.campaign import play
    from bench.load import load_of
    from bench.peers import chosen, chosen_variants
    from bench.write import check, summary, write

    console = Console(stderr=True)
    with _one_line():
        wanted, kinds = chosen(policies), chosen_variants(variants)
        scenarios = [case.scenario() for case in cases]
        for made in scenarios:  # a file that cannot be read is told before anything runs
            load_of(made, seeds[0])
        check(out)
        done = []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            for scenario in scenarios:
                tell = _teller(progress, scenario.name)
                done.append(play(scenario, wanted, kinds, seeds, tell, jobs))
        write(done, out)
    for campaign in done:
        Console().print(summary(campaign))
    Console().print(f"results.json, report.md and report.html are in {out}")


def _teller(progress: "Progress", name: str) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(f"{name}: {what}", total=of)
        progress.update(tasks[what], completed=done)

    return tell


def _traces(given: list[str]) -> dict[str, Path]:
    traces = {}
    with _one_line():
        for text in given:
            model, equals, path = text.partition("=")
            if not (model and equals and path):
                raise SettingError(f"--trace {text}: expected MODEL=FILE")
            traces[model] = Path(path)
    return traces


@contextmanager
def _one_line() -> Iterator[None]:
    """Say a fault that a person can mend in one line, and end; Ctrl-C ends with what it is."""
    try:
        yield
    except (SettingError, ContractError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was written.", file=sys.stderr)
        # Not through the interpreter's end: it would wait for the workers' queues.
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
