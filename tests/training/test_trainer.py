"""The promises of the trainer, with real processes: one and several agree, a killed run ends as if it had not been."""

import json
import os
import pkgutil
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.prepare import prepare
from ssl_suite.settings import config
from ssl_suite.training import checkpoint
from ssl_suite.training.trainer import train
from tests.training import children

WORDS = (
    "model=tiny model.layers=1 model.width=32 model.heads=1 model.mlp_width=48 modality.max_length=64 "
    "train.tokens_per_batch=1024 train.tokens_per_row=256 train.steps=20 train.log_every=1 train.eval_every=10 "
    "train.eval_tokens=1024 train.checkpoint_every=5 train.lr=3e-3 train.threads=1 train.precision=fp32"
)


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A FASTA file of 20 records of 300 to 1,500 bases, each a repeated unit, so that there is something to learn."""
    choose = random.Random(0)
    lines = []
    for i in range(20):
        unit = "".join(choose.choice("ACGT") for _ in range(7))
        lines += [f">r{i}", (unit * 300)[: choose.randint(300, 1500)]]
    path = tmp_path / "genome.fa"
    path.write_text("\n".join(lines) + "\n")
    return path


def compose(genome: Path, *words: str) -> dict:
    return config.compose([*WORDS.split(), f"data.path={genome}", *words])


def work(cfg: dict, out: Path) -> None:
    """What a child does."""
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / "config.yaml", cfg)
    train(cfg, out)


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    return [line["loss"] for line in lines if "loss" in line]


def weights(out: Path, step: int = 20) -> dict[str, torch.Tensor]:
    mapped = load_file(out / "checkpoints" / f"step_{step:08d}" / checkpoint.WEIGHTS)
    return {name: x.clone() for name, x in mapped.items()}  # the file may be written again


def test_a_run_leaves_its_folder_and_learns(genome, tmp_path):
    out = tmp_path / "run"
    work(compose(genome, "train.steps=60", "train.eval_every=60", "train.checkpoint_every=20"), out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 60 and summary["valid_loss"] < summary["baselines"]["unigram"] + 0.3
    assert sum(losses(out)[-5:]) / 5 < losses(out)[0] - 0.5
    assert 60 * 1024 * 0.9 < summary["tokens"] <= 60 * 1024
    assert {p.name for p in (out / "checkpoints").iterdir()} == {"step_00000040", "step_00000060"}
    for name in ("config.yaml", "metrics.jsonl", "loss.png", "tensorboard", "encoder/model.safetensors"):
        assert (out / name).exists(), name


@pytest.mark.parametrize(("world", "parallel"), [(2, "ddp"), (2, "fsdp")])
def test_processes_agree_with_one(genome, tmp_path, world, parallel):
    cfg = compose(genome, f"train.parallel={parallel}")
    alone, together = tmp_path / "alone", tmp_path / "together"
    children.run_group(work, cfg, alone, folder=tmp_path / "logs", world=1)
    children.run_group(work, cfg, together, folder=tmp_path / "logs", world=world)
    one, many = losses(alone), losses(together)
    assert len(one) == 20
    assert max(abs(a - b) for a, b in zip(one, many, strict=True)) < 1e-6 * max(one)
    for name, x in weights(alone).items():
        torch.testing.assert_close(weights(together)[name], x, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("world", [1, 4])
def test_a_checkpoint_of_two_resumes_on_others(genome, tmp_path, world):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    children.run_group(work, compose(genome), straight, folder=tmp_path / "logs", world=1)
    cfg = compose(genome, "train.parallel=fsdp")
    children.run_group(_stop_after, cfg, broken, 9, folder=tmp_path / "logs", world=2)
    assert [p.name for p in checkpoint.names(broken / "checkpoints")][-1] == "step_00000010"
    children.run_group(work, cfg, broken, folder=tmp_path / "logs", world=world)
    got = losses(broken)
    assert max(abs(a - b) for a, b in zip(losses(straight), got, strict=True)) < 1e-6 * max(got)


def _stop_after(cfg: dict, out: Path, step: int) -> None:
    """Train, and let rank 0 alone receive SIGUSR1 once ``step`` steps are logged; all ranks must agree to stop."""
    import threading

    def watch() -> None:
        while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < step:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGUSR1)

    cfg = cfg | {"train": cfg["train"] | {"checkpoint_every": 10, "eval_every": 1000}}
    if os.environ.get("RANK", "0") == "0":
        threading.Thread(target=watch, daemon=True).start()
    work(cfg, out)


MOMENTS = [
    ("ssl_suite.training.trainer.prepare", 1),  # nothing is there yet
    ("ssl_suite.training.trainer.Log", 1),
    ("ssl_suite.training.meters.Log.write", 3),  # in the middle of a step's end, before the first checkpoint
    ("ssl_suite.training.checkpoint.save_file", 1),  # no weights
    ("ssl_suite.training.checkpoint.save_file", 2),  # weights without the optimiser's state
    ("ssl_suite.core.atomic.sync_all", 1),  # all files, not synced, under the name they are written to
    ("ssl_suite.training.checkpoint._clean", 2),  # renamed; what makes way is not gone yet
    ("torch.optim.AdamW.step", 3),
    ("ssl_suite.training.finish.set_aside", 1),
    ("ssl_suite.core.atomic.write_json", 1),  # exported, no summary
]


def _killed_at(cfg: dict, out: Path, moment: str, count: int) -> None:
    """``work``, ended by SIGKILL at the ``count``-th call of a function."""
    owner, _, name = moment.rpartition(".")
    holder, calls = pkgutil.resolve_name(owner), []
    function = getattr(holder, name)

    def called(*args: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **settings)

    setattr(holder, name, called)
    work(cfg, out)


def test_kills_at_the_worst_moments_change_nothing(genome, tmp_path):
    """SIGKILL, resume, and SIGKILL again: weights bit-identical to the run that was left alone."""
    cfg, logs = compose(genome, "train.checkpoint_every=2", "train.keep=2"), tmp_path / "logs"
    calm, out = tmp_path / "calm", tmp_path / "killed"
    children.run_group(work, cfg, calm, folder=logs, world=1)
    reached = []
    for moment, count in MOMENTS:
        child = children.start(_killed_at, cfg, out, moment, count, folder=logs)
        child.join(120)
        assert child.exitcode == -signal.SIGKILL, (moment, count)
        reached.append(max((int(f.name[5:]) for f in checkpoint.names(out / "checkpoints")), default=0))
    assert reached == sorted(reached) and reached[0] == 0 and reached[-1] == 20
    children.run_group(work, cfg, out, folder=logs, world=1)
    assert losses(out) == losses(calm)
    expected = weights(calm)
    assert all(torch.equal(x, expected[name]) for name, x in weights(out).items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_signals_save_and_exit_0(genome, tmp_path, number):
    cfg, out = compose(genome, "train.steps=100000", "train.checkpoint_every=100000"), tmp_path / "run"
    child = children.start(work, cfg, out, folder=tmp_path / "logs")
    while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < 3:
        assert child.is_alive()
        time.sleep(0.02)
    os.kill(child.pid, number)
    child.join(30)
    assert child.exitcode == 0
    (saved,) = checkpoint.names(out / "checkpoints")
    assert checkpoint.damage(saved) is None
    assert checkpoint.manifest(saved)["step"] == len(losses(out)) < 100_000


def test_other_data_do_not_go_on_with_a_run(genome, tmp_path):
    """The file is replaced in its place. Both remedies are followed."""
    out, text = tmp_path / "run", genome.read_text()
    short = ("train.steps=2", "train.eval_every=2")
    work(compose(genome, *short), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    was = json.loads((out / "summary.json").read_text())["data_key"]
    assert checkpoint.manifest(checkpoint.names(out / "checkpoints")[-1])["data_key"] == was
    genome.write_text(text.replace("A", "C"))
    cfg = compose(genome, "train.steps=4", "train.eval_every=2")
    with pytest.raises(SuiteError) as caught:
        work(cfg, out)
    now = prepare(registry.build(registry.MODALITIES, "modality", cfg["modality"]), cfg["data"]).key
    assert was[:24] in str(caught.value) and now[:24] in str(caught.value) and now != was
    assert {path: path.read_bytes() for path in before if path.name != "config.yaml"}.items() <= before.items()
    work(compose(genome, *short, f"model.init={out}"), tmp_path / "another")
    genome.write_text(text)
    work(cfg, out)
    assert json.loads((out / "summary.json").read_text())["steps"] == 4


def test_not_a_number_stops_with_step_and_batch(genome, tmp_path):
    with pytest.raises(SuiteError, match=r"step \d+: the loss is .* of .*genome\.fa:r\d+"):
        work(compose(genome, "train.lr=1e30", "train.clip=null", "train.warmup=0"), tmp_path / "run")


def test_accumulation_changes_nothing(genome, tmp_path):
    for part, out in ((1, "one"), (4, "four")):
        work(compose(genome, f"train.rows_per_forward={part}"), tmp_path / out)
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert max(abs(a - b) for a, b in zip(one, four, strict=True)) < 1e-6 * max(one)


def test_too_few_contrasts_are_told_with_a_remedy_that_works(genome: Path, tmp_path: Path, capsys) -> None:
    words, remedy = ["objective=simclr", "train.steps=1"], "train.tokens_per_batch=1024"
    for run in ("few", "enough"):
        work(compose(genome, *words, remedy), tmp_path / run)
        printed = capsys.readouterr().out
        found = re.search(r"warning: (\d+) sequences a step are few .*: set (train.tokens_per_batch=\d+) or", printed)
        assert (found is not None) == (run == "few")
        if found:
            sequences, remedy = int(found[1]), found[2]
            assert 16 <= sequences < 64  # 1,024 positions of windows of 64 at most
            assert int(remedy.split("=")[1]) % 256 == 0


def test_what_is_trained_is_told_before_the_first_step(genome: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Where, on what, how large, on how much data; and a step that logs nothing is told when it has been long."""
    monkeypatch.setattr("ssl_suite.training.meters.QUIET", -1.0)
    out = tmp_path / "run"
    work(compose(genome, "train.steps=3", "train.log_every=3"), out)
    printed = capsys.readouterr().out.splitlines()
    (place,) = (i for i, line in enumerate(printed) if line.startswith("run: "))
    assert printed[place].startswith(f"run: {out} on CPU, 1 thread")
    last = out / "checkpoints" / "step_00000003" / "model.safetensors"
    found = re.findall(r"([\d,]+) (parameters|training windows|tokens|steps|positions)", printed[place])
    counts = {name: int(number.replace(",", "")) for number, name in found}
    assert counts["parameters"] == sum(weight.numel() for weight in load_file(last).values())
    store = prepare(
        registry.build(registry.MODALITIES, "modality", compose(genome)["modality"]), compose(genome)["data"]
    )
    windows = store.split("train")
    assert (counts["training windows"], counts["tokens"]) == (len(windows), int(windows.lengths_S.sum()))
    assert (counts["steps"], counts["positions"]) == (3, 1024)
    assert [line.split("  ")[0] for line in printed[place + 1 : place + 4]] == ["step 1/3", "step 2/3", "step 3/3"]
