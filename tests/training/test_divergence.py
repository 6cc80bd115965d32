"""A training that diverges: nothing of it is saved, and the way out that is told works word by word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ssl_suite import cli
from ssl_suite.training import checkpoint, restore, trainer
from tests.training.test_trainer import WORDS, genome  # noqa: F401


def advice(said: str) -> list[str]:
    """The words that the last sentence adds to the command."""
    (words,) = re.findall(r"the same command with (.*)\n", said)
    return words.split(" ")


@pytest.mark.parametrize(
    ("objective", "every", "rate", "begun"),
    [("mlm", 1, "1e30", 0), ("mlm", 5, "30", 0), ("clm", 2, "1e30", 6)],
)
def test_the_advice_works_when_it_is_followed(
    genome: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    every: int,
    rate: str,
    begun: int,
) -> None:
    """Some sane steps, if any, then a rate that throws the weights away."""
    monkeypatch.setattr(trainer, "learning_rate", lambda step, train: min(train["lr"], 1e-3 if step < begun else 1e30))
    out, saved = tmp_path / "run", begun // every * every
    words = ["run", *WORDS.split(), f"data.path={genome}", f"objective={objective}", "train.clip=null", f"out={out}"]
    words += [f"train.lr={rate}", f"train.checkpoint_every={every}"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and (f"model.init={out}@{saved} " in said) == (saved > 0)
    found = checkpoint.names(out / "checkpoints")
    assert [int(folder.name[5:]) for folder in found][-1:] == [saved] * (saved > 0)
    for folder in found:
        assert max(float(x.abs().max()) for x in load_file(folder / checkpoint.WEIGHTS).values()) < 100
    assert cli.main([*words, *advice(said)]) == 0
    started = restore.load_run(f"{out}-lower", "last")
    assert started.step == 20
    if saved:  # the new run began at the checkpoint's weights, 20 steps of at most 1e-3 ago
        old, new = restore.load_run(f"{out}@{saved}").encoder.state_dict(), started.encoder.state_dict()
        assert max(float((x - old[name]).abs().max()) for name, x in new.items()) < 0.03
