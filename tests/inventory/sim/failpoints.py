"""A place to crash before every statement of the shipped sources, found by their syntax trees.

The sources are compiled anew with a call before each statement of each function, so a statement
that is written tomorrow is a failpoint tomorrow.
"""

import ast
from collections import Counter
from pathlib import Path

from libs.common import intake
from libs.common.adapters import sql, sql_ledger
from services.inventory import app
from services.inventory.core import orders
from tests.inventory.sim.bugs import Shipped, module_of
from tests.inventory.sim.loop import PROCESS
from tests.inventory.sim.world import Killed, World

PATH = (intake, orders, sql_ledger, sql, app)  # each after those that it imports
BLOCKS = ("body", "orelse", "finalbody")

Point = tuple[str, str, int]  # file, function, line


class Failpoints:
    """Counts how often each was passed, and crashes at one of them."""

    def __init__(self) -> None:
        self.known: list[Point] = []
        self.passed: Counter[Point] = Counter()
        self.world: World | None = None
        self.crash_at: tuple[Point, int] | None = None  # and at which time of passing it
        self.parts = self._weave()

    def _at(self, number: int) -> None:
        process = PROCESS.get()
        if process is None or not process.alive:
            return
        point = self.known[number]
        self.passed[point] += 1
        if self.crash_at == (point, self.passed[point]):
            self.crash_at = None
            self.world.kill(process)
            raise Killed

    def _weave(self) -> Shipped:
        woven = {}
        for source in PATH:
            text = Path(source.__file__).read_text()
            tree = ast.parse(text)
            for function, node in _within_functions(tree):
                self._weave_blocks(Path(source.__file__).name, function, node)
            woven[source] = module_of(source, ast.fix_missing_locations(tree))
        for module in woven.values():
            vars(module)["_at"] = self._at
        vars(woven[app]).update(orders=woven[orders], sift=woven[intake].sift)
        vars(woven[sql]).update(
            SqlLedger=woven[sql_ledger].SqlLedger,
            announcement_of=woven[sql_ledger].announcement_of,
        )
        return Shipped(woven[app].Inventory, woven[sql].SqlStore)

    def _weave_blocks(self, file: str, function: str, node: ast.AST) -> None:
        for name in BLOCKS:
            block = getattr(node, name, None)
            if not isinstance(block, list):
                continue
            woven = []
            for statement in block:
                if not _is_docstring(statement):
                    (call,) = ast.parse(f"_at({len(self.known)})").body
                    for part in ast.walk(call):
                        ast.copy_location(part, statement)
                    woven.append(call)
                    self.known.append((file, function, statement.lineno))
                woven.append(statement)
            setattr(node, name, woven)


def _within_functions(tree: ast.AST):
    """Return every node that has statements and lies in a function, each once, with its name."""
    found = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                found[id(node)] = function.name, node  # the innermost comes last
    return list(found.values())


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
