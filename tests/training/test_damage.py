"""Damaged folders of models and runs: one line, never a traceback, never a model that is silently another one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_suite import cli
from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.encoders import open_encoder
from ssl_suite.evaluation.references import parse
from ssl_suite.settings import config
from ssl_suite.training import build, checkpoint, restore
from tests.commands.conftest import WORDS, make_run
from tests.evaluation import text_models

Harm = Callable[[Path], Any]
TABLE, NORM = "embeddings.tok_embeddings.weight", "final_norm.weight"


def text(name: str, content: str | bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def lose(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Harm:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def flip(name: str) -> Harm:
    def harm(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-9] ^= 64
        (folder / name).write_bytes(content)

    return harm


def edit(name: str, *without: str, **changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({key: x for key, x in content.items() if key not in without}))

    return harm


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Harm:
    def harm(folder: Path) -> None:
        found = {key: x.clone() for key, x in load_file(folder / name).items()}
        change(found)
        save_file(found, folder / name, metadata={"format": "pt"})

    return harm


def fill(key: str, value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda found: next(x for name, x in found.items() if name.endswith(key)).fill_(value)


def replaced(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda found: found.update({n: change(x).contiguous() for n, x in found.items() if n.endswith(key)})


NOT_JSON = ("", b"\xff\xfe\x00", "[" * 99_999, "null")
WEIGHTS: dict[str, Harm] = {
    "weights missing": lose("model.safetensors"),
    "weights cut off": cut("model.safetensors"),
    "weights garbage": text("model.safetensors", random.Random(0).randbytes(5000)),
    "weights a header of 2^60 bytes": text("model.safetensors", (1 << 60).to_bytes(8, "little") + b"{}"),
    "weights none": tensors("model.safetensors", dict.clear),
    "a weight missing": tensors(
        "model.safetensors", lambda found: found.pop(next(n for n in found if n.endswith(NORM)))
    ),
    "a weight too many": tensors("model.safetensors", lambda found: found.update({"model.more": torch.ones(3)})),
    "a weight of another shape": tensors("model.safetensors", replaced(NORM, lambda x: x[:-1])),
    "a weight of whole numbers": tensors("model.safetensors", replaced(NORM, lambda x: x.int())),
    "the table too narrow": tensors("model.safetensors", replaced(TABLE, lambda x: x[:, :-2])),
    "NaN": tensors("model.safetensors", fill(NORM, float("nan"))),
    "infinite": tensors("model.safetensors", fill(TABLE, float("-inf"))),
    "exploded": tensors("model.safetensors", fill(NORM, 1e30)),
}
MODEL: dict[str, Harm] = WEIGHTS | {
    **{f"config.json {str(content)[:9]!r}": text("config.json", content) for content in NOT_JSON},
    "config.json missing": lose("config.json"),
    "no type": edit("config.json", "model_type"),
    "width of text": edit("config.json", hidden_size="wide"),
    "width zero": edit("config.json", hidden_size=0),
    "width another": edit("config.json", hidden_size=34),
    "width of terabytes": edit("config.json", hidden_size=1 << 20),
    "layers without end": edit("config.json", num_hidden_layers=1 << 40),
    "layers fewer": edit("config.json", num_hidden_layers=1, layer_types=None),
    "heads that do not divide": edit("config.json", num_attention_heads=5),
    "layer types of another depth": edit("config.json", layer_types=["full_attention"]),
    "rotary base of text": edit("config.json", rope_parameters={"full_attention": {"rope_theta": "x"}}),
    "rotary base zero": edit(
        "config.json", rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 0}}
    ),
    "norm of NaN": edit("config.json", norm_eps=float("nan")),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_run(tmp_path_factory.mktemp("runs") / "whole", [])
    loaded = restore.load_run(str(out))
    build.export(loaded.learner, loaded.modality, out / "encoder", "")
    return out


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return config.compose(WORDS)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(SuiteError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and 30 < len(line) < 700, line
    return line


@pytest.mark.parametrize("name", MODEL)
def test_a_damaged_model_is_no_start(copy: Path, settings: dict[str, Any], name: str) -> None:
    MODEL[name](copy / "encoder")
    cfg = {**settings, "model": {**settings["model"], "init": f"hf:{copy / 'encoder'}"}}
    dna = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    assert "model.init=" in refused(lambda: build.learner(cfg, dna))


RUN: dict[str, Harm] = {
    **{
        f"config.yaml {content!r}": text("config.yaml", content) for content in ("", "[1]", "a: [", b"\xff\x00", "1: 2")
    },
    "config.yaml without a section": text("config.yaml", "modality: {name: dna}\nobjective: [1]\nmodel: {name: x}\n"),
    "config.yaml of an unknown modality": text(
        "config.yaml", "{modality: {name: x}, objective: {name: mlm}, model: {name: x}}"
    ),
    "config.yaml with a broken date": text("config.yaml", "modality: 2024-99-99\n"),
    "config.yaml missing": lose("config.yaml"),
    "tokenizer missing": lose("modality/tokenizer.json"),
    "tokenizer garbage": text("modality/tokenizer.json", b"\x00\xff"),
    "shapes missing": lose("modality/encoder_spec.json"),
    **{f"shapes {str(c)[:9]!r}": text("modality/encoder_spec.json", c) for c in NOT_JSON},
    "shapes of text": edit("modality/encoder_spec.json", width="wide"),
    "shapes of terabytes": edit("modality/encoder_spec.json", mlp_width=1 << 40),
    "shapes too few": edit("modality/encoder_spec.json", "heads"),
    "shapes too many": edit("modality/encoder_spec.json", more=1),
    "shapes of no kind": edit("modality/encoder_spec.json", kind="other"),
    "heads that do not divide": edit("modality/encoder_spec.json", heads=5),
    "rotary bases too few": edit("modality/encoder_spec.json", thetas=[64.0]),
    "norm of NaN": edit("modality/encoder_spec.json", eps=float("nan")),
    "vocabulary smaller": edit("modality/encoder_spec.json", vocabulary=4),
    "no checkpoints": lambda folder: shutil.rmtree(folder / "checkpoints"),
}


@pytest.mark.parametrize("name", RUN)
def test_a_damaged_run_is_no_encoder(copy: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    RUN[name](copy)
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    words = [f"encoder={copy}", f"input={tmp_path / 'x.fa'}", f"output={tmp_path / 'x.parquet'}"]
    assert cli.main(["embed", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and not (tmp_path / "x.parquet").exists()


STEP = "checkpoint.json"
CHECKPOINT: dict[str, Harm] = {
    **{name: WEIGHTS[name] for name in ("weights missing", "weights cut off", "weights garbage", "NaN")},
    "a bit of the weights": flip("model.safetensors"),
    "a bit of the state": flip("optimizer.safetensors"),
    "state missing": lose("optimizer.safetensors"),
    **{f"manifest {str(content)[:9]!r}": text(STEP, content) for content in NOT_JSON},
    "manifest missing": lose(STEP),
    "manifest of another step": edit(STEP, step=7),
    "manifest of another loss": edit(STEP, valid_loss=-1.0),
    "manifest with more": edit(STEP, more=1),
    "manifest without digests": edit(STEP, "sha256"),
    "digests of text": edit(STEP, sha256="x"),
    "digest empty": edit(STEP, sha256={"model.safetensors": "", "optimizer.safetensors": ""}),
    "digest of one file alone": edit(STEP, "manifest_sha256", sha256={"model.safetensors": ""}),
    "renamed": lambda folder: shutil.copytree(folder, folder.with_name("step_00000099")) and shutil.rmtree(folder),
    "emptied": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a file": lambda folder: shutil.rmtree(folder) or folder.write_text("x"),
}


@pytest.mark.parametrize("name", CHECKPOINT)
def test_a_damaged_checkpoint_is_passed_over_and_kept(copy: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    root = copy / "checkpoints"
    CHECKPOINT[name](root / "step_00000020")
    (damaged,) = (folder for folder in checkpoint.names(root) if folder.name != "step_00000010")
    assert restore.load_run(str(copy)).step == restore.load_run(str(copy), "last").step == 10
    said = capsys.readouterr().err
    assert said.count(f"checkpoint {damaged.name} is damaged (") == said.count("\n") == 2
    assert damaged.name in refused(lambda: restore.load_run(f"{copy}@{int(damaged.name[5:])}"))
    assert checkpoint.best(root) == checkpoint.sound(root, lambda text: None) == root / "step_00000010"
    checkpoint.prune(root, keep=1)  # of which the damaged one is none, though it is newer
    assert [folder.name for folder in checkpoint.names(root)] == ["step_00000010", damaged.name]


def test_no_checkpoint_is_whole(copy: Path) -> None:
    for folder in checkpoint.names(copy / "checkpoints"):
        flip("model.safetensors")(folder)
    assert "there are steps: none that is whole" in refused(lambda: restore.load_run(str(copy)))


def test_a_checkpoint_of_before_has_no_digest_of_its_own(copy: Path) -> None:
    edit(STEP, "manifest_sha256")(copy / "checkpoints" / "step_00000020")
    assert restore.load_run(str(copy)).step == 20


TEXT: dict[str, Harm] = {
    **{name: WEIGHTS[name] for name in ("weights missing", "weights cut off", "weights garbage", "weights none")},
    **{f"config.json {str(content)[:9]!r}": text("config.json", content) for content in NOT_JSON},
    "NaN": tensors("model.safetensors", fill("word_embeddings.weight", float("nan"))),
    "exploded": tensors("model.safetensors", fill("LayerNorm.weight", 1e30)),
    "width of text": edit("config.json", hidden_size="wide"),
    "layers without end": edit("config.json", num_hidden_layers=1 << 40),
    "words without end": edit("config.json", vocab_size=1 << 40),
    "another width": edit("config.json", hidden_size=34),
    "tokenizer missing": lose("tokenizer.json"),
    "tokenizer garbage": text("tokenizer.json", "{}"),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_models.save(tmp_path_factory.mktemp("bert"), "bert")


@pytest.mark.parametrize("name", TEXT)
def test_a_damaged_text_encoder_is_refused(bert: Path, name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    TEXT[name](folder)
    protein = registry.build(registry.MODALITIES, "modality", config.option("modality", "protein") | {"max_length": 60})
    assert "encoder=hf:" in refused(lambda: open_encoder(parse(f"hf:{folder}+map"), protein, 1))


def test_a_run_goes_on_behind_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Foreign, emptied and renamed checkpoints and a log with rubbish: passed over, told, and the end is the same."""
    small = [*WORDS, "train.tokens_per_batch=512", "train.steps=6", "train.checkpoint_every=2", "train.keep=9"]
    small += ["train.eval_tokens=512", "train.log_every=1", "train.threads=1", "train.precision=fp32"]
    outs = {name: tmp_path / name for name in ("own", "seed", "wide")}
    for name, more in (("own", []), ("seed", ["seed=1"]), ("wide", ["model.width=48"])):
        assert cli.main(["run", *small, *more, f"out={outs[name]}"]) == 0
    root, calm = outs["own"] / "checkpoints", load_file(outs["own"] / "checkpoints/step_00000006/model.safetensors")
    calm = {key: x.clone() for key, x in calm.items()}
    shutil.rmtree(root / "step_00000006")
    shutil.copytree(outs["seed"] / "checkpoints" / "step_00000006", root / "step_00000006")
    shutil.rmtree(root / "step_00000004")
    shutil.copytree(outs["wide"] / "checkpoints" / "step_00000004", root / "step_00000004")
    (root / "step_00000099").mkdir()
    log = outs["own"] / "metrics.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b'[1]\n\xff\x00\n"x"\n{"step": "1"}\n{"step": 1, "loss": "x"}\n' + b"".join(lines) + b'{"ste')
    capsys.readouterr()
    assert cli.main(["run", *small, f"out={outs['own']}", "train.keep=2"]) == 0
    said = capsys.readouterr().out
    for line in (
        "checkpoint step_00000099 is damaged (checkpoint.json is missing or unreadable)",
        "checkpoint step_00000006 is damaged (it is of a run with seed=1 (now 0))",
        "checkpoint step_00000004 is damaged (it is of a run with model.width=48 (now 32))",
        "resuming from step 2 of 6",
        "metrics.jsonl: damaged lines were left out (5, the first line 1)",
    ):
        assert line in said, line
    found = load_file(root / "step_00000006" / "model.safetensors")
    assert all(torch.equal(x, calm[key]) for key, x in found.items())
    assert [path.name[-2:] for path in checkpoint.names(root)] == ["04", "06", "99"]
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if '"loss"' in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    edit("modality/encoder_spec.json", causal=True)(outs["own"])  # which fits the weights, and means another model
    assert "is not what step_00000006 was written with" in refused(lambda: restore.load_run(str(outs["own"])))
