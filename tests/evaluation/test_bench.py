"""A benchmark from the command line on the sample tasks: rows that verify, a second run that measures nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ssl_suite import cli
from ssl_suite.core import resources
from ssl_suite.evaluation import bench, bench_plan, benchmark, budget, rows, side_by_side, tasks, text_encoders, trial
from ssl_suite.leaderboard import verify
from tests.evaluation import text_models

WORDS = ["encoder=random:tiny", "budget=smoke", "seeds=100,101", "threads=1", "task=sample/gc,sample/voice"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench")
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={out}"]) == 0
    return out


def test_every_cell_is_a_row_that_verifies(measured: Path) -> None:
    root = measured / "leaderboards"
    found = {(row["task"]["name"], row["arm"]): row for row in rows.read_all(root)}
    # The majority of a regression is a constant, which has no rank correlation: no row, rather than a zero.
    assert set(found) == {
        *(("gc@ecoli536", arm) for arm in ("random:tiny finetune", "k-mer linear")),
        *(("voice@bach", arm) for arm in ("random:tiny finetune", "k-mer linear", "majority")),
    }
    assert not verify.failing(verify.verify(root))
    trained = found["voice@bach", "random:tiny finetune"]
    assert trained["seeds"] == [100, 101] and trained["budget"]["trials"] == 2
    assert trained["task"]["n_train"] == 96 and trained["task"]["n_train_full"] > 96
    assert len(trained["curves"]) == 2 and trained["encoder"]["weights_sha256"] is None
    assert trained["metrics"][0]["value"] > 0.5
    assert str(measured) not in json.dumps(trained)


def test_a_second_run_measures_nothing_and_changes_nothing(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = {path: path.read_bytes() for path in measured.rglob("*.json")}
    monkeypatch.setattr(bench.trial, "run", None)
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={measured}"]) == 0
    assert capsys.readouterr().out.count("measured before") == 5
    assert before == {path: path.read_bytes() for path in measured.rglob("*.json")}


def test_stopped_side_by_side_it_goes_on_to_the_same_bytes(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Two processes, a signal in a trial, the same command again: the bytes of one process that measured all."""
    asked = [*WORDS[:-1], "task=sample/gc@ecoli536"]
    words = [sys.executable, "-m", "ssl_suite", "bench", "cross_domain", *asked, "jobs=2", f"out={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(resources.PACKAGE.parent)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("trials/*/metrics.jsonl")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert len(list(tmp_path.rglob("rows/*/*.json"))) < 2
    assert cli.main(words[3:]) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 cells, " in printed and "not measured: spearman is undefined" in printed
    name = "predictions/cross_domain"
    first = {path.name: path.read_bytes() for path in (measured / "leaderboards" / name).glob("gc@*")}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "leaderboards" / name).iterdir()}


def dies(cell: bench.Cell, settings: bench.Settings) -> bench.Outcome:
    """Stands for a measurement: one cell ends its process as the kernel does when memory is short."""
    if cell.arm == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return bench.Outcome(cell, Path(cell.arm))


def test_a_process_that_is_killed_costs_its_cell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_measure", dies)
    gc = tasks.find("sample", "gc")
    cells = [bench.Cell(gc, arm, f"random:{arm}", "finetune") for arm in ("deadly", "other")]
    settings = bench.Settings("x", budget.load("smoke"), {}, tmp_path, tmp_path)
    sizes = {cell.key: bench_plan.Size() for cell in cells}
    found = side_by_side.run([cells], settings, 2, sizes, lambda progress, outcome: None)
    assert {each.cell.arm for each in found if each.path} == {"other"}
    assert [each.fault for each in found if not each.path] == [side_by_side.KILLED]


def test_no_exception_of_a_cell_ends_the_table(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    whole = bench.protocols.measure

    def broken(plan: trial.Plan, *rest: Any) -> Any:
        if plan.protocol == "majority":
            raise ZeroDivisionError("of a\nhead")
        return whole(plan, *rest)

    monkeypatch.setattr(bench.protocols, "measure", broken)
    shutil.copytree(measured / "trials", tmp_path / "trials")
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not measured: ZeroDivisionError: of a head") == 2 and "4 rows in" in printed


def test_a_plan_says_what_it_takes_and_measures_nothing(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={measured}", "--plan"]) == 0
    done = capsys.readouterr().out
    # The majority of a regression has no row, and is asked for again.
    assert done.count("measured already") == 5 + 1 and "6 cells, 5 measured already; 0 tokens, 0.00 core-hours" in done
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={tmp_path}", "--plan"]) == 0
    lines = {tuple(line.split()[:2]): line.split() for line in capsys.readouterr().out.splitlines()}
    assert not list(tmp_path.iterdir())
    results = [json.loads(path.read_text()) for path in measured.glob("trials/gc-*/result.json")]
    logs = [path.read_text().splitlines() for path in measured.glob("trials/gc-*/metrics.jsonl")]
    trials, tokens = lines["gc@ecoli536", "random:tiny"][3:5]
    assert int(trials) == len(results) == 2
    assert (
        int(tokens.replace(",", "")) == sum(json.loads(log[-1])["step"] for log in logs) * 1632
    )  # 16 items of 102 positions a step
    assert float(lines["gc@ecoli536", "random:tiny"][5]) >= 0


def test_a_plan_asks_no_network_and_a_table_without_its_encoder_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **more: asked.append(words) or socket.gethostbyname(""))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(bench_plan, "PROBE_SECONDS", 1e-3)  # a batch of that is smaller than a step's
    words = ["bench", "cross_domain", "task=sample/gc", "budget=smoke", f"out={tmp_path}", "text=hf:nobody/nothing"]
    assert cli.main([*words, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert not asked and "hf:nobody/nothing is not on this machine" in printed and "probed cnn on" in printed
    assert printed.count(" 58,752     unknown") == 3
    monkeypatch.setattr(text_encoders, "_answered", lambda address: asked.append(address) or False)
    for _ in range(2):
        assert cli.main(words) == 2
        assert "hf:nobody/nothing is not on this machine, and the hub cannot be asked" in capsys.readouterr().err
    assert len(asked) == 1 and not list(tmp_path.iterdir())  # one that gave no answer is not asked again


def test_a_broken_task_stops_only_what_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(resources.folder("tasks") / "sample", tmp_path / "tasks" / "own")
    (tmp_path / "tasks" / "own" / "gc@ecoli536.yaml").write_text("name: [")
    text = "title: Own\ntasks: [gc, voice]\narms: {none: {encoder: none, protocol: majority, role: control}}\n"
    (tmp_path / "own.yaml").write_text(text)
    words = [
        "own",
        f"bench.path={tmp_path}",
        f"tasks.path={tmp_path / 'tasks'}",
        "budget=smoke",
        f"out={tmp_path / 'o'}",
    ]
    assert cli.main(["bench", *words]) == 0
    printed = capsys.readouterr().out
    assert "left out: " in printed and "gc@ecoli536.yaml: is not YAML" in printed and "1 row in" in printed
    assert cli.main(["bench", *words, "task=gc"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cros_domain"], "Did you mean 'cross_domain'"),
        (["cross_domain", "budget=smal"], "Did you mean 'small'"),
        (["cross_domain", "arms=BERD", "task=sample"], "Did you mean 'BERT'"),
        (["cross_domain", "task=splise"], "Did you mean 'splice'"),
        (["cross_domain", "encoder=random:tinny", "task=sample"], "Did you mean 'tiny'"),
        (["cross_domain", "encoder=cnn+map", "task=sample"], "+map is for text encoders"),
        (["cross_domain", "protocol=probe"], "protocol= is of encoder="),
        (["cross_domain", "seeds=1,x", "task=sample"], "seeds=x should be whole numbers"),
        (["cross_domain", "budget.tokns=9"], "Did you mean 'budget.tokens'"),
        (["cross_domain", "budget.tokens=9", "budget.tokens=8"], "budget.tokens= is given twice"),
        (["cross_domain", "budget.tokens"], "'budget.tokens' is not a setting"),
        (["cross_domain", "budget.lr=[]"], "budget.lr=[] should have at least 1 item"),
        (["cross_domain", "pretrain=true"], "says of no encoder how it is made"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert cli.main(["bench", *words, f"out={tmp_path / 'b'}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_arms_are_found_by_what_they_are() -> None:
    found = benchmark.load("cross_domain")
    names = {
        ("hf:some/bert+map=100", "finetune"): "BERT",
        ("hf:some/bert+map", "scratch"): "rand",
        ("hf:some/bert+reembed", "finetune"): "re-emb",
        ("cnn", "scratch"): "specific-CNN",
        ("random:mini", "probe"): "probe-random",
        ("random:tiny", "probe"): "random:tiny probe",
        ("hf:some/esm", "finetune"): "hf:some/esm finetune",
    }
    assert {pair: benchmark.arm_of(*pair, found) for pair in names} == names


def test_arms_without_an_encoder_are_left_out() -> None:
    gc, voice = tasks.find("sample", "gc"), tasks.find("sample", "voice")
    arms, ssl = benchmark.load("cross_domain").arms, {"dna": "runs/d"}
    assert benchmark.encoder_of(arms["specific-SSL"], gc, "hf:T", ssl) == "runs/d"
    assert benchmark.encoder_of(arms["specific-SSL"], voice, "hf:T", ssl) is None
    assert benchmark.encoder_of(arms["re-emb"], gc, "hf:T", ssl) == "hf:T+reembed"
    assert benchmark.encoder_of(arms["re-emb"], gc, None, ssl) is None


def test_an_encoder_is_measured_beside_random_weights_of_its_own_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_models.save(tmp_path / "bert", "bert")
    seen: list[tuple[str, str, str]] = []

    def run(phases: list[list[bench.Cell]], *rest: object) -> list[bench.Outcome]:
        seen[:] = [(cell.arm, cell.encoder, cell.protocol) for cells in phases for cell in cells]
        return [bench.Outcome(cell, tmp_path / "row.json") for cells in phases for cell in cells]

    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr("ssl_suite.evaluation.side_by_side.run", run)
    own = f"hf:{tmp_path / 'bert'}"
    words = ["bench", "text", "task=sample/names", "budget=smoke", f"out={tmp_path / 'out'}"]
    assert cli.main([*words, f"encoder={own}"]) == 0
    assert seen == [("tuned", own, "finetune"), ("scratch", own, "scratch"), ("majority", "none", "majority")]
    assert cli.main([*words, "encoder=random:tiny"]) == 0
    assert seen == [("random:tiny finetune", "random:tiny", "finetune"), ("majority", "none", "majority")]


def test_an_arm_of_one_budget_is_left_out_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GLUE's mpnet, of 110 million parameters, is measured with budget=paper, or where it is named."""
    words = ["bench", "glue", "budget=smoke", "task=sample/novel@austen", f"out={tmp_path}", "--plan"]
    assert cli.main(words) == 0
    assert "n-grams" in (out := capsys.readouterr().out) and "mpnet" not in out
    assert cli.main([*words, "arms=mpnet"]) == 0
    assert "mpnet" in capsys.readouterr().out
