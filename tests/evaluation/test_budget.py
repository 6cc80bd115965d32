"""What a task and an arm may spend: of a budget, of a file of one's own, and of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import benchmark, budget, tasks
from ssl_suite.evaluation.bench import Cell, Settings

TASKS = """
tasks:
  h4: {length: 256, tokens: 300000}
arms:
  rand: {seeds: [7], tokens: 9}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = (budget.config.resources.folder("conf") / "budget" / "smoke.yaml").read_text("utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: smoke", "name: mine") + TASKS, encoding="utf-8")
    return path


def test_a_task_and_then_an_arm_differ_and_the_command_line_stands(file: Path) -> None:
    found = budget.load(str(file), {"length": "64"})
    plain = found.of_cell("h3", "BERT")
    assert (plain.length, plain.tokens, plain.seeds) == (64, found.tokens, found.seeds)
    cell = found.of_cell("h4", "rand")
    assert (cell.length, cell.tokens, cell.seeds) == (64, 9, [7])
    assert budget.load(str(file)).of_cell("h4", "BERT").length == 256
    # What is said of other cells is no part of a cell's identity.
    assert plain.facts() == {**found.facts()} and "tasks" not in plain.facts() and "arms" not in plain.facts()


def test_a_cell_that_cannot_be_is_named(file: Path) -> None:
    file.write_text(file.read_text("utf-8").replace("length: 256", "lenght: 256"), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"of h4 and BERT: 'lenght' is not a known key. Did you mean 'length'"):
        budget.load(str(file)).of_cell("h4", "BERT")


def test_the_planned_budget_has_every_column_of_its_benchmark() -> None:
    found, plan = benchmark.load("cross_domain"), budget.load("decided")
    columns = benchmark.tasks_of(found, None, tasks.task_folders(None))
    assert set(plan.tasks) == {task.base for task in columns} and set(plan.arms) <= set(found.arms)
    assert found.plan is not None and (found.plan.budget, len(found.plan.alpha)) == ("decided", 2)
    settings = Settings("cross_domain", plan, {}, Path("out"), Path("root"))
    cells = [Cell(task, arm, each.encoder, each.protocol) for task in columns for arm, each in found.arms.items()]
    spent = {(cell.task.base, cell.arm): cell.plan(settings).budget for cell in cells}
    assert spent["h3k9ac", "BERT"].tokens == 500_000 and len(spent["h4", "rand"].seeds) == 5
    for task in columns:  # the two arms of the contrast differ by nothing but a frozen rate
        a, b = (spent[task.base, arm].facts() | {"lr": None} for arm in ("BERT", "rand"))
        assert a == b
