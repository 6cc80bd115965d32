"""Runs that start from encoders of ``transformers``, held against the model's own classes from loss to export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from ssl_suite.commands import embed, export, fill
from ssl_suite.core import registry
from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.core.rng import Rng
from ssl_suite.settings import config, runs
from ssl_suite.training import build, restore
from ssl_suite.training import start as start_of
from ssl_suite.training.trainer import train
from tests.evaluation import text_models

KINDS = ("bert", "roberta", "mpnet", "esm", "esm1")
SHORT = ["train.tokens_per_batch=256", "train.eval_tokens=256", "train.checkpoint_every=3", "train.threads=1"]
SHARES = [0.5, *[0.5 / 7] * 7]
LENGTHS = [30, 7, 58, 1, 44]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Masked language models whose heads look trained, and a bare BERT."""
    made = {"bare": text_models.save(tmp_path_factory.mktemp("bare"), "bert")}
    for kind in KINDS:
        folder = text_models.save(tmp_path_factory.mktemp(kind), kind, words=60)
        model = AutoModelForMaskedLM.from_pretrained(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder)
        made[kind] = folder
    return made


def parts(*words: str) -> tuple[dict, Any, Any, list[str]]:
    cfg, lines = config.compose(["modality.max_length=64", *words]), []
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    return cfg, modality, build.learner(cfg, modality, 1, lines.append), lines


def batch_of(v: Any, lengths: list[int] = LENGTHS) -> Batch:
    draw = np.random.default_rng(0)
    return ragged([draw.integers(*v.targets, n) for n in lengths], v, 64)


def rng() -> Rng:
    return Rng(0, 0, torch.zeros(1, dtype=torch.int64))


@torch.no_grad()
def own_loss(model: Any, learner: Any, batch: Batch) -> float:
    """The model's own mean loss on what the objective hides, each sequence without padding."""
    picks, labels, shown = learner.objective.corrupt(batch, rng())
    native = learner.encoder.native_V
    targets = torch.full_like(batch.values, -100)
    targets[picks] = torch.where(labels >= 0, native[labels.clamp(min=0)], -100)
    total = count = 0.0
    for ids, wanted in zip(native[shown].split(batch.lengths), targets.split(batch.lengths), strict=True):
        if number := int((wanted >= 0).sum()):
            total += float(model(input_ids=ids[None], labels=wanted[None]).loss) * number
            count += number
    return total / count


@pytest.mark.parametrize(("kind", "modality"), [*((kind, "text") for kind in KINDS), ("esm", "protein")])
def test_the_first_loss_is_the_models_own(folders: dict[str, Path], kind: str, modality: str) -> None:
    """With its own tokens (text), and where an alphabet is mapped onto them (protein): its softmax has all of them."""
    _, adapter, learner, lines = parts(f"modality={modality}", f"model.init=hf:{folders[kind]}")
    model = AutoModelForMaskedLM.from_pretrained(folders[kind]).eval()
    batch = batch_of(adapter.vocabulary)
    loss, count, _ = learner.train()(batch, rng())  # nothing is dropped
    assert int(count) == round(0.15 * sum(LENGTHS))
    assert loss.item() / int(count) == pytest.approx(own_loss(model, learner, batch), abs=1e-5)
    assert "with its own head, wrapped" in lines[0]
    loss.backward()
    for name, parameter in learner.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) or not parameter.requires_grad, name
    idle = {name for name, parameter in learner.named_parameters() if not parameter.requires_grad}
    assert all("contact_head" in name for name in idle)


def test_a_bare_model_gets_a_head(folders: dict[str, Path], tmp_path: Path) -> None:
    _, adapter, learner, lines = parts("modality=text", f"model.init=hf:{folders['bare']}")
    assert "a head that starts at random" in lines[0]
    build.export(learner, adapter, tmp_path / "out", "card")
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.mark.parametrize(("kind", "changes"), [("bert", True), ("roberta", False)])
def test_segments_are_token_types(folders: dict[str, Path], kind: str, changes: bool) -> None:
    """Exchanged they change what a BERT sees; RoBERTa has one type."""
    _, adapter, learner, _ = parts("modality=text", "objective=nsp", f"model.init=hf:{folders[kind]}")
    plain = batch_of(adapter.vocabulary)
    places = plain.positions_N()
    states = []
    for types in ((places > 4).long(), (places <= 4).long()):
        batch = Batch(**{**vars(plain), "segments_N": types})
        states.append(learner.encoder(batch))
        if changes:
            model = AutoModel.from_pretrained(folders[kind]).eval()
            for span in text_models.spans(batch):
                ids = learner.encoder.native_V[batch.values[span]][None]
                expected = model(input_ids=ids, token_type_ids=types[span][None]).last_hidden_state[0]
                torch.testing.assert_close(states[-1][span], expected, atol=1e-5, rtol=0)
    assert torch.equal(*states) != changes


def test_a_run_trains_resumes_embeds_fills_and_is_exported(folders: dict[str, Path], tmp_path: Path) -> None:
    start = shutil.copytree(folders["bert"], tmp_path / "start")
    text, draw = tmp_path / "x.txt", np.random.default_rng(0)
    text.write_text("\n".join(" ".join(draw.choice(list("abcdefgh"), 9, p=SHARES)) for _ in range(200)))
    words = ["modality=text", "modality.documents=line", f"data.path={text}", f"model.init=hf:{start}", *SHORT]
    words += ["train.steps=6", "train.lr=1e-2", f"out={tmp_path / 'run'}", "modality.max_length=64"]
    cfg, out = runs.resolve_run(config.compose(words), words)
    out.mkdir()
    config.write(out / "config.yaml", cfg)
    train(cfg, out)
    summary = restore.checkpoint.manifest(out / "checkpoints" / "step_00000006")
    assert summary["valid"]["valid_loss"] < 3

    last = out / "checkpoints" / "step_00000006"
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    shutil.rmtree(start)  # the run has all that it needs
    train(cfg, out)
    again = load_file(last / "model.safetensors")
    assert expected.keys() == again.keys() and all(torch.equal(again[name], x) for name, x in expected.items())

    folder, _ = export.run(export.parse_words([f"encoder={out}@6", f"output={tmp_path / 'hub'}"], export.KEYS))
    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "BertForMaskedLM" and not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.hidden_dropout_prob == 0.1  # as it was
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [
        tokenizer.convert_tokens_to_ids(["[CLS]", "a", "b", word, "word1", "d", "[SEP]"]) for word in ("[MASK]", "c")
    ]
    found = fill.run(fill.parse_words([f"encoder={out}@6", "top=60"], fill.KEYS), ["a b [MASK] word1 d"])[0]["masks"][0]
    shares = model.eval()(torch.tensor(ids[:1])).logits[0, 3].softmax(0)
    for token in found["tokens"]:
        wanted = shares[tokenizer.convert_tokens_to_ids(token["token"])].item()
        assert token["probability"] == pytest.approx(wanted, abs=1e-5)
    one = tmp_path / "one.txt"
    one.write_text("a b c word1 d")
    embed.run(embed.parse_words([f"encoder={out}@6", f"input={one}", f"output={tmp_path / 'e.parquet'}"], embed.KEYS))
    states = AutoModel.from_pretrained(folder).eval()(torch.tensor(ids[1:]))
    mean = states.last_hidden_state[0, 1:-1].mean(0).detach().numpy()
    np.testing.assert_allclose(
        np.array(pq.read_table(tmp_path / "e.parquet")["embedding"].to_pylist())[0], mean, atol=1e-5
    )

    more = config.compose([f"model.init={out}", *SHORT])  # and a run can start from it
    assert more["modality"] == cfg["modality"]
    begun = start_of.learner(more, start_of.modality_of(more)[0], report=lambda line: None)
    assert all(torch.equal(expected[name], x) for name, x in begun.state_dict().items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["modality=text", "objective=clm"],
            "is a bert model, which is wrapped as it is; that trains with objective=mlm",
        ),
        (["modality=text", "objective=span"], "trains with objective=mlm"),
        (["modality=text", "objective=simclr"], "trains with objective=mlm"),
        (["modality=image"], "cannot be trained on modality=image"),
        (["modality=text", "model.dropout=0.1"], "knows no model.dropout; leave it out"),
        (["modality=text", "modality.max_length=128"], "has 100 positions, modality.max_length=128 is more"),
        (["modality=protein", "modality.tokenizer=bpe"], "no token of its own"),
        (["modality=text", "modality.tokenizer=bpe"], "leave modality.tokenizer out"),
    ],
)
def test_what_cannot_be_is_one_line(folders: dict[str, Path], words: list[str], message: str) -> None:
    cfg = config.compose([f"model.init=hf:{folders['bert']}", *words])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    if cfg["modality"].get("tokenizer") == "bpe":
        modality.fit(iter([Record(str(i), "MKTAYIAKQRQISFVKSHFSRQ" * 9, "x") for i in range(9)]))
    with pytest.raises(SuiteError, match=message) as caught:
        build.learner(cfg, modality)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("model.init=hf:")


def test_damaged_folders_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    short = shutil.copytree(folders["bert"], tmp_path / "short")
    weights = load_file(short / "model.safetensors")
    save_file(
        {n: x for n, x in weights.items() if "layer.1.output" not in n}, short / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(
        SuiteError, match=r"of its weights are missing or of other shapes, such as bert\.encoder\.layer\.1"
    ):
        parts("modality=text", f"model.init=hf:{short}")
    (short / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(SuiteError, match="cannot be read"):
        parts("modality=text", f"model.init=hf:{short}")
