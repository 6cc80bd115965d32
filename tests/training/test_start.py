"""A run that starts from another: its tokens go on, and where they differ, rows follow strings and never numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.evaluation import encoders, references
from ssl_suite.models import carry
from ssl_suite.settings import config, runs
from ssl_suite.training import restore, start
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.trainer import open_store, train

SIZE = ["model.layers=1", "model.width=32", "model.heads=2", "model.mlp_width=48", "train.threads=1"]
SHORT = ["train.tokens_per_batch=512", "train.eval_tokens=1024", "train.checkpoint_every=3", "train.lr=1e-2"]
ALONE = DistributedContext()
TABLE = "encoder.embeddings.tok_embeddings.weight"


def compose(*words: str) -> dict:
    return config.compose([*SIZE, *SHORT, *words])


def trained(out: Path, *words: str) -> Path:
    cfg, out = runs.resolve_run(compose(f"out={out}", *words), words)
    out.mkdir(exist_ok=True)
    config.write(out / "config.yaml", cfg)
    train(cfg, out)
    return out


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of one language whose commonest pairs differ."""
    words = [
        "the",
        "river",
        "runs",
        "under",
        "old",
        "bridges",
        "while",
        "seven",
        "quiet",
        "birds",
        "sing",
        "over",
        "green",
        "hills",
        "and",
        "stones",
    ]
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("texts")
    paths = folder / "one.txt", folder / "two.txt"
    for path, some in zip(paths, (words, [w[::-1] for w in words[:8]] + words[8:]), strict=True):
        path.write_text("\n".join(" ".join(draw.choice(some, 9)) + "." for _ in range(300)))
    return paths


@pytest.fixture(scope="module")
def source(texts: tuple[Path, Path], session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    text = ["modality=text", "modality.vocab_size=72", "modality.max_length=32", "modality.documents=line"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CACHE_DIR", str(session_cache))
        patch.setattr("ssl_suite.training.trainer.finish", lambda *parts: None)  # nothing here needs the export
        yield trained(tmp_path_factory.mktemp("source") / "run", *text, f"data.path={texts[0]}", "train.steps=6")


def learner_of(cfg: dict, out: Path | None = None) -> tuple:
    modality, book = start.modality_of(cfg, out)
    store = open_store(modality, cfg["data"], ALONE, out or Path("none"), book=book)
    lines: list[str] = []
    return start.learner(cfg, modality, out, lines.append), modality, store, lines


@pytest.mark.parametrize("place", ["{}", "{}@6"])
def test_the_loss_before_the_first_step_is_the_sources_last(source: Path, texts, place: str) -> None:
    cfg = compose(f"model.init={place.format(source)}", f"data.path={texts[0]}")
    assert cfg["modality"] == config.read(source / "config.yaml")["modality"]  # nothing of it was typed
    learner, modality, store, lines = learner_of(cfg)
    found = Evaluator(store, modality, cfg["train"], ALONE, learner.objective)(learner)
    expected = restore.checkpoint.manifest(source / "checkpoints" / "step_00000006")["valid"]
    assert found["valid_loss"] == pytest.approx(expected["valid_loss"], abs=1e-6)
    assert "all 72 tokens" in lines[0]


def test_other_text_is_read_with_the_sources_tokeniser(source: Path, texts, tmp_path: Path) -> None:
    """And a run that was begun so goes on when its source is gone."""
    gone = shutil.copytree(source, tmp_path / "gone")
    words = [f"model.init={gone}", f"data.path={texts[1]}", "train.steps=6"]
    out = trained(tmp_path / "out", *words)
    tokens = [json.loads((folder / "modality" / "tokenizer.json").read_text())["model"] for folder in (source, out)]
    assert tokens[0] == tokens[1]
    expected = load_file(out / "checkpoints" / "step_00000006" / "model.safetensors")
    shutil.rmtree(out / "checkpoints" / "step_00000006")
    shutil.rmtree(gone)
    cfg, _ = runs.resolve_run(compose(f"out={out}", "resume=true"), [f"out={out}", "resume=true"])
    train(cfg, out)
    again = load_file(out / "checkpoints" / "step_00000006" / "model.safetensors")
    assert all(torch.equal(again[name], x) for name, x in expected.items())


@pytest.mark.parametrize("asked", ["model.init_tokens=new", "modality.vocab_size=73", "modality.tokenizer=wordpiece"])
def test_two_tokenisers_share_rows_by_string(source: Path, texts, asked: str) -> None:
    own = ["modality=text", "modality.vocab_size=72", "modality.max_length=32", "modality.documents=line"]
    words = [f"model.init={source}", f"data.path={texts[1]}", "seed=5"]
    cfg = compose(*(own if asked.startswith("model") else ["modality=text"]), *words, asked)
    learner, modality, _, lines = learner_of(cfg)
    old = restore.load_run(str(source))
    theirs, mine = old.modality.vocabulary.tokens, modality.vocabulary.tokens
    assert len(theirs) == 72 and len(mine) == (73 if asked.endswith("73") else 72) and theirs != mine
    trained, table = old.learner.state_dict(), learner.state_dict()[TABLE]
    for i, token in enumerate(mine):
        if token in theirs:
            assert torch.equal(table[i], trained[TABLE][theirs.index(token)]), token
            assert learner.objective.head.bias[i] == trained["objective.head.bias"][theirs.index(token)]
        else:
            assert not (trained[TABLE] == table[i]).all(1).any() and learner.objective.head.bias[i] == 0
    shared = len(set(theirs) & set(mine))
    assert 5 < shared < 72 and f" {shared} of {len(mine)} tokens" in lines[0]
    assert any(mine[i] != theirs[i] and mine[i] in theirs for i in range(72))  # numbers would have served them wrong
    assert torch.equal(learner.encoder.layers[0].mlp.Wi.weight, old.encoder.layers[0].mlp.Wi.weight)


def test_units_go_on_with_their_codebook(tmp_path: Path) -> None:
    own = [
        "modality=speech",
        "modality.codes=12",
        "modality.max_length=64",
        f"data.path={resources.folder('samples')}/speech",
    ]
    first = trained(tmp_path / "first", *own, "train.steps=3")
    cfg = compose(*own, f"model.init={first}")
    learner, modality, _, lines = learner_of(cfg)
    old = restore.load_run(str(first))
    assert torch.equal(modality.codebook.entries_CU, old.modality.codebook.entries_CU) and "all 17" in lines[0]
    assert torch.equal(learner.state_dict()[TABLE], old.learner.state_dict()[TABLE])
    learner, modality, _, lines = learner_of(compose(*own, f"model.init={first}", "modality.codes=13"))
    assert len(modality.codebook) == 13 and " 5 of 18 tokens" in lines[0]  # <0> is no longer the same sound


def test_a_letter_of_dna_is_no_amino_acid(source: Path) -> None:
    old, new = (Vocabulary((*"#?<>_", *letters), (5, 9)) for letters in ("ACGT", "GACW"))
    assert carry.rows(old, new).tolist() == [0, 1, 2, 3, 4, 7, 5, 6, -1]
    assert carry.rows(old, new, same_meaning=False).tolist() == [0, 1, 2, 3, 4, -1, -1, -1, -1]
    assert carry.rows(None, new).tolist() == [-1] * 9
    cfg = compose("modality=protein", f"model.init={source}")
    assert cfg["modality"]["name"] == "protein" and " 5 of 33 tokens" in learner_of(cfg)[3][0]


def test_a_step_is_named_wherever_an_encoder_is(source: Path) -> None:
    found = references.parse(f"{source}@3")
    assert (found.kind, found.short) == ("run", "run:run@3") and references.parse(str(source)).short == "run:run"
    modality = encoders.modality_for(found, config.read(source / "config.yaml")["modality"], "t")
    assert encoders.open_encoder(found, modality, 0).pretrain_step == 3
    assert encoders.identity(found) != encoders.identity(references.parse(f"{source}@6"))
    assert restore.load_run(f"{source}@3").step == restore.load_run(str(source), "3").step == 3
    for wrong, which, words in (
        (f"{source}@4", "best", "there are steps: 3, 6"),
        (f"{source}@3", "6", "two checkpoints"),
    ):
        with pytest.raises(SuiteError, match=words):
            restore.load_run(wrong, which)
