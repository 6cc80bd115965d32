"""export: a folder that transformers opens where this package cannot be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ssl_suite import cli
from ssl_suite.core import atomic
from ssl_suite.training import restore
from ssl_suite.training.learner import Learner
from tests.commands.conftest import make_run

OPEN = """
import json, sys
sys.modules["ssl_suite"] = None  # importing it now fails
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
model, tokenizer = (A.from_pretrained(sys.argv[1]) for A in (AutoModelForMaskedLM, AutoTokenizer))
inputs = tokenizer("ACGT[MASK]A", return_tensors="pt")
with torch.no_grad():
    logits = model.eval()(**inputs).logits[0]
print(json.dumps([model.num_parameters(), inputs["input_ids"][0].tolist(), list(logits.shape)]))
"""


def test_it_opens_without_this_package(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "deep" / "model"
    assert cli.main(["export", f"encoder={run_folder}", f"output={folder}"]) == 0
    assert str(folder) in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    parameters, ids, shape = json.loads(done.stdout.splitlines()[-1])
    loaded = restore.load_run(str(run_folder))
    learner = Learner(loaded.encoder, loaded.objective)
    vocabulary = loaded.modality.vocabulary
    assert parameters == sum(weight.numel() for weight in learner.parameters())
    bases = [vocabulary.tokens.index(letter) for letter in "ACGT"]
    assert ids == [vocabulary.cls, *bases, vocabulary.mask, bases[0], vocabulary.sep]
    assert shape == [8, len(vocabulary)]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("modality=dna", "ModernBertForMaskedLM"),
        ("modality=dna objective=clm", "ModernBertDecoderForCausalLM"),
        ("modality=protein objective=t5", "ModernBertModel"),
        ("modality=dna objective=simclr", "ModernBertModel"),
        ("modality=music objective=electra", "ModernBertModel"),
        ("modality=image objective=frames model=tiny", "ModernBertModel"),
        ("modality=speech objective=apc model=tiny", "ModernBertDecoderModel"),
        ("modality=image objective=simclr model=resnet10", "ResNet"),
        ("modality=image objective=byol model=resnet18", "ResNet"),
    ],
)
def test_the_printed_lines_open_the_folder(
    words: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, where this package cannot be imported, in a folder whose name has to be quoted."""
    run = make_run(tmp_path / "run", words.split(), steps=(1,), **({"sizes": []} if "model=" in words else {}))
    folder = tmp_path / 'a "name" of 100 %'
    assert cli.main(["export", f"encoder={run}", f"output={folder}"]) == 0
    _, _, lines = capsys.readouterr().out.partition("\n\n")
    monkeypatch.setitem(sys.modules, "ssl_suite", None)
    names: dict = {}
    exec(textwrap.dedent(lines), names)
    assert type(names["model"]).__name__ == kind
    saved = load_file(folder / "model.safetensors")
    state = names["model"].state_dict()
    for name, weight in saved.items():  # no weight of the file is passed over
        assert state[name.removeprefix("model.") if name not in state else name].equal(weight), name


def test_the_checkpoint_asked_for_is_written(run_folder: Path, tmp_path: Path) -> None:
    norms = {}
    for which in ("best", "last", "10", "20"):
        folder = tmp_path / "model"  # each replaces the one before
        words = [f"encoder={run_folder}@{which}"] if which == "10" else [f"encoder={run_folder}", f"checkpoint={which}"]
        assert cli.main(["export", *words, f"output={folder}"]) == 0
        norms[which] = load_file(folder / "model.safetensors")["model.final_norm.weight"]
        assert f"exported at step {20 if which != '10' else 10}:" in (folder / "README.md").read_text()
    assert norms["best"].equal(norms["20"])
    assert norms["last"].equal(norms["20"])
    assert norms["20"].allclose(1.25 * norms["10"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_files_are_never_replaced(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A model of somebody else's and a file of the user's beside our own; what is refused is as it was."""
    model, own = tmp_path / "model", tmp_path / "own"
    command = ["export", f"encoder={run_folder}"]
    (tmp_path / "thesis.tex").write_text("precious")
    assert cli.main([*command, f"output={own}"]) == 0
    shutil.copytree(own, model, ignore=shutil.ignore_patterns(atomic.MARKER))
    (own / "notes.txt").write_text("mine")
    for place, words in (
        (tmp_path, "ssl_suite has not written it"),
        (model, "ssl_suite has not written it"),
        (own, "it holds notes.txt, which ssl_suite has not written"),
        (tmp_path / "thesis.tex", "it is a file"),
    ):
        assert cli.main([*command, f"output={place}"]) == 2
        assert f"output={place} would be replaced, but {words}" in capsys.readouterr().err
    assert (model / "model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert (own / "notes.txt").read_text() == "mine"
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    assert cli.main(["export", f"encoder={run_folder}", f"output={tmp_path / 'x'}", "checkpoint=11"]) == 2
    assert "there are steps: 10, 20" in capsys.readouterr().err
