"""Trials on the sample tasks: repeatable to the bit, stopped and gone on, and test opened by the best on dev alone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation import budget as budgets
from ssl_suite.evaluation import encode, inference, items, protocols, tasks, trial
from ssl_suite.training import checkpoint, trainer
from ssl_suite.training.distributed import processes
from ssl_suite.training.learner import Learner
from tests.evaluation import text_models

TRAIN = {"threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def plan() -> trial.Plan:
    limits = {"train": 24, "dev": 16, "test": 16}
    budget = replace(budgets.load("smoke"), limits=limits, probe_steps=20)
    return trial.Plan(tasks.find("sample", "voice"), "random:tiny", "finetune", budget, 100, 1e-3, {})


def weights(folder: Path) -> bytes:
    best = checkpoint.best(folder / "checkpoints")
    assert best is not None
    return (best / checkpoint.WEIGHTS).read_bytes()


def test_the_same_plan_twice_ends_in_the_same_bytes(plan: trial.Plan, tmp_path: Path) -> None:
    results = [trial.run(plan, tmp_path / name, threads=1) for name in ("a", "b")]
    assert results[0]["dev"] == results[1]["dev"] and results[0]["curve"] == results[1]["curve"]
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    for name in ("a", "b"):
        trial.predict_parts(plan, tmp_path / name, threads=1)
    assert (tmp_path / "a" / "test.parquet").read_bytes() == (tmp_path / "b" / "test.parquet").read_bytes()
    assert not (tmp_path / "a" / "checkpoints").exists()
    other = trial.run(replace(plan, seed=101), tmp_path / "c", threads=1)
    assert other["curve"] != results[0]["curve"]
    assert len({plan.key, replace(plan, seed=101).key, replace(plan, lr=0.5).key}) == 3
    assert replace(plan, place={"root": "elsewhere"}).key == plan.key


def test_a_trial_that_was_killed_goes_on_to_the_same_bits(
    plan: trial.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.run(plan, tmp_path / "whole", threads=1)
    real = checkpoint.save

    def killed(root: Path, step: int, *others: Any) -> None:
        real(root, step, *others)
        raise RuntimeError("the power fails")

    monkeypatch.setattr(trainer.checkpoint, "save", killed)
    with pytest.raises(RuntimeError):
        trial.run(plan, tmp_path / "cut", threads=1)
    assert not (tmp_path / "cut" / trial.RESULT).exists()
    monkeypatch.setattr(trainer.checkpoint, "save", real)
    steps = []
    monkeypatch.setattr(trainer, "learning_rate", lambda step, train: steps.append(step) or rate(step, train))
    trial.run(plan, tmp_path / "cut", threads=1)
    assert steps and min(steps) > 0  # it went on and did not begin again
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


rate = trainer.learning_rate


def test_the_best_on_dev_is_what_is_tested(plan: trial.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are worth something at the first evaluation alone: the checkpoint of that step must be kept and read."""
    given = iter([0.9, 0.1])
    real = inference.scores
    monkeypatch.setattr(inference, "scores", lambda *parts: {"accuracy": next(given)})
    result = trial.run(plan, tmp_path / "a", threads=1)
    assert 0 < result["best_step"] < result["steps"] and result["dev"] == {"accuracy": 0.9}
    monkeypatch.setattr(inference, "scores", real)
    modality, data = trial.load_data(plan)
    best = tmp_path / "a" / "checkpoints" / f"step_{result['best_step']:08d}" / checkpoint.WEIGHTS
    with processes(TRAIN) as group:
        parts = trial.build(plan, group.device, tmp_path)
        learner = Learner(parts.encoder, parts.head)
        learner.load_state_dict(trial.load_file(best))
        expected = inference.predict(learner, data, modality, "test", group)
    np.testing.assert_array_equal(trial.predict_parts(plan, tmp_path / "a", threads=1)["test"], expected)


@pytest.mark.parametrize("name", ["voice", "gc", "novel", "neighbours", "neighbours of BERT"])
def test_batch_size_does_not_change_predictions(plan: trial.Plan, name: str, tmp_path: Path) -> None:
    plan = replace(plan, task=tasks.find("sample", name.split()[0]))
    if name.endswith("BERT"):
        plan = replace(plan, encoder=f"hf:{text_models.save(tmp_path / 'bert', 'bert')}")
    modality, data = trial.load_data(plan)
    longest = int(data.split("test").lengths_S.max()) + FRAME
    with processes(TRAIN) as group:
        parts = trial.build(plan, group.device, tmp_path)
        learner = Learner(parts.encoder, parts.head)
        sizes = [inference.predict(learner, data, modality, "test", group, count * longest) for count in (1, 7, 64)]
    assert len(sizes[0]) == len(data.parts["test"])
    for other in sizes[1:]:
        np.testing.assert_allclose(other, sizes[0], rtol=1e-5, atol=1e-6)


def test_a_bert_tells_the_first_sentence_of_a_pair_from_the_second(plan: trial.Plan, tmp_path: Path) -> None:
    """The head's outputs are those of ``transformers`` with these token types, and others with the exchanged ones."""
    folder = text_models.save(tmp_path / "bert", "bert")
    plan = replace(plan, task=tasks.find("sample", "neighbours"), encoder=f"hf:{folder}")
    modality, data = trial.load_data(plan)
    with processes(TRAIN) as group:
        parts = trial.build(plan, group.device, tmp_path)
        part = data.split("test")
        start, end = int(part.starts_S[0]), int(part.starts_S[0] + part.lengths_S[0])
        found = []
        for segments in (data.segments, 1 - data.segments):
            given = [(0, items.Sequence(data.values[start:end], segments[start:end]))]
            vectors = partial(parts.head.vectors, parts.encoder)
            found += [row for _, row in encode.run_batches(given, modality, group.device, vectors)]
    model = AutoModel.from_pretrained(folder).eval()
    ids = [modality.vocabulary.cls, *data.values[start:end].tolist(), modality.vocabulary.sep]
    types = [0, *data.segments[start:end].tolist(), 1]
    with torch.no_grad():
        native = parts.encoder.native_V[torch.tensor([ids])]
        states = model(input_ids=native, token_type_ids=torch.tensor([types])).last_hidden_state[0]
    expected = torch.nn.functional.layer_norm(states[1:-1].mean(0), states.shape[1:])
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-4)
    assert np.abs(found[1] - found[0]).max() > 0.01


def test_a_probe_moves_its_head_alone(plan: trial.Plan, tmp_path: Path) -> None:
    result = trial.run(replace(plan, protocol="probe"), tmp_path / "p", threads=1)
    assert result["steps"] == plan.budget.probe_steps and result["curve"]["loss"][-1] < result["curve"]["loss"][0]
    state = trial.load_file(checkpoint.best(tmp_path / "p" / "checkpoints") / checkpoint.WEIGHTS)  # type: ignore[operator]
    assert {key for key in state if "weights_L" in key or "output" in key}
    assert not any("attn" in key for key in state)  # the frozen encoder is no part of what is trained
    assert (tmp_path / "p" / trial.TRIAL).read_text().count(str(tmp_path)) == 0


def test_a_probe_reads_test_when_it_is_tested_and_no_sooner(
    plan: trial.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, real = [], encode.pooled
    monkeypatch.setattr(encode, "pooled", lambda *parts: read.append(parts[3]) or real(*parts))
    probe = replace(plan, protocol="probe")
    trial.run(probe, tmp_path / "p", threads=1)
    assert read == ["train", "dev"]
    modality, _ = trial.load_data(probe)
    best = checkpoint.best(tmp_path / "p" / "checkpoints")
    with processes(TRAIN) as group:  # as if test had been there all along: the scale is still train's
        parts = trial.build(probe, group.device, tmp_path / "other" / "p", ("train", "test"))
        learner = Learner(parts.encoder, parts.head)
        learner.load_state_dict(trial.load_file(best / checkpoint.WEIGHTS))  # type: ignore[operator]
        expected = inference.predict(learner, parts.data, modality, "test", group)
    read.clear()
    np.testing.assert_array_equal(trial.predict_parts(probe, tmp_path / "p", threads=1)["test"], expected)
    assert read == ["test"]  # what the trial before has read is kept beside it


def test_trials_of_a_cell_read_the_encoder_once(
    plan: trial.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rates and two seeds of a fixed encoder: each part once; of a random one once a seed. Nothing stays."""
    read, opened = [], []
    real_pooled, real_open = encode.pooled, trial.encoders.open_encoder
    monkeypatch.setattr(encode, "pooled", lambda *parts: read.append(parts[3]) or real_pooled(*parts))
    monkeypatch.setattr(trial.encoders, "open_encoder", lambda *parts: opened.append(1) or real_open(*parts))
    budget = replace(plan.budget, lr=[1e-3, 1e-2], seeds=[100, 101], probe_steps=2)
    probe = replace(plan, protocol="probe", budget=budget)
    found = protocols.measure(probe, tmp_path / "random", lambda line: None, 1)
    assert sorted(read) == sorted(["train", "dev", "test"] * 2) and len(opened) == 4 < found.trials + 2
    shares = found.protocol["layer_weights"]
    assert list(shares) == ["100", "101"] and found.protocol["mix"]["each"] == "standardised over train"
    assert all(len(each) == found.protocol["mix"]["states"] for each in shares.values())
    assert sum(shares["100"]) == pytest.approx(1, abs=1e-3)
    assert not list((tmp_path / "random").glob("features-*"))


def test_a_signal_ends_the_reading_of_a_probes_encoder(plan: trial.Plan, tmp_path: Path) -> None:
    """Nothing of the part is kept, and the same trial begins there."""

    class Asked:
        asked = True

    probe = replace(plan, protocol="probe")
    with processes(TRAIN) as group, pytest.raises(KeyboardInterrupt):
        trial.build(probe, group.device, tmp_path / "p", stop=Asked())  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.glob("features-*/*")] == ["facts.json"]
    assert trial.run(probe, tmp_path / "p", threads=1)["best_step"]


def test_what_cannot_be_opened_leaves_no_folder(plan: trial.Plan, tmp_path: Path) -> None:
    with pytest.raises(SuiteError):
        trial.run(replace(plan, encoder=f"hf:{tmp_path}"), tmp_path / "t", threads=1)
    assert not (tmp_path / "t").exists()


def test_a_trial_has_whole_rows_and_the_asked_passes(plan: trial.Plan) -> None:
    modality, data = trial.load_data(plan)
    train = trial.settings(plan, data, modality)
    assert train["tokens_per_batch"] % train["tokens_per_row"] == 0
    positions = int((data.split("train").lengths_S + FRAME).sum())
    assert train["steps"] == round(2 * positions / train["tokens_per_batch"])
    long = trial.settings(replace(plan, protocol="probe", budget=replace(plan.budget, probe_steps=601)), data, modality)
    assert long["log_every"] == 11  # a curve has at most 60 points
    small = trial.settings(replace(plan, budget=replace(plan.budget, tokens=positions // 2)), data, modality)
    assert small["steps"] == max(1, round((positions // 2) / train["tokens_per_batch"]))
    lower = trial.settings(replace(plan, budget=replace(plan.budget, layer_decay=0.8)), data, modality)
    assert (train["layer_decay"], lower["layer_decay"]) == (1.0, 0.8)


def test_a_budget_makes_windows_shorter_and_never_longer(plan: trial.Plan) -> None:
    gc = tasks.find("sample", "gc")
    lengths = {}
    for length in (None, 52, 4096):
        modality, data = trial.load_data(replace(plan, task=gc, budget=replace(plan.budget, length=length)))
        lengths[length] = modality.max_length, int(data.split("test").lengths_S.max()), data.parts["test"].truncated
    assert lengths[52] == (52, 50, 16) and lengths[None] == lengths[4096] and lengths[None][1:] == (100, 0)


def test_a_rate_at_which_the_loss_is_lost_is_a_lost_trial(plan: trial.Plan, tmp_path: Path) -> None:
    """The cell goes on with the other rate; a seed that is lost at the chosen one is named."""
    said: list[str] = []
    budget = replace(plan.budget, lr=[1e-3, 1e30], seeds=[100])
    found = protocols.measure(replace(plan, budget=budget), tmp_path / "a", said.append, 1)
    assert found.protocol["lr"] == 1e-3 and found.trials == 2 and found.selection is not None
    assert found.selection["per_lr"]["1e+30"] is None and any("lost at step" in line for line in said)
    with pytest.raises(SuiteError, match=r"undefined for every learning rate.*lower rates"):
        protocols.measure(replace(plan, budget=replace(budget, lr=[1e30])), tmp_path / "b", said.append, 1)


def test_a_rate_is_chosen_by_the_mean_over_the_asked_seeds(plan: trial.Plan, tmp_path: Path) -> None:
    said: list[str] = []
    budget = replace(plan.budget, lr=[1e-3, 1e-5], seeds=[100, 101, 102], rate_seeds=2, choose="last")
    found = protocols.measure(replace(plan, budget=budget), tmp_path, said.append, 1)
    scores: dict[str, list[float]] = {}
    for line in said:
        words = line.replace(",", "").split()
        scores.setdefault(words[1], []).append(float(words[words.index("accuracy") + 1]))
    assert {lr: len(each) for lr, each in scores.items()} == {"0.001": 3, "1e-05": 2} and found.trials == 5
    assert found.selection is not None
    means = {lr: float(np.mean(each[:2])) for lr, each in scores.items()}
    assert found.selection["per_lr"] == pytest.approx(means, abs=1e-4)
    assert f"{found.protocol['lr']:g}" == max(means, key=lambda lr: (means[lr], -float(lr)))
    assert list(found.predictions["test"]) == [100, 101, 102]


def test_what_does_not_go_together_is_said_in_one_line(plan: trial.Plan, tmp_path: Path) -> None:
    def fault(**changes: Any) -> str:
        with pytest.raises(SuiteError) as caught:
            protocols.measure(replace(plan, **changes), tmp_path, lambda line: None, 1)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "Did you mean 'finetune'" in fault(protocol="finetun")
    assert "encoder=kmer is for protocol=linear" in fault(encoder="kmer")
    assert "is not a run folder" in fault(encoder="nowhere")
    assert not list(tmp_path.iterdir())


def test_frozen_features_are_judged_without_steps(plan: trial.Plan, tmp_path: Path) -> None:
    short = replace(plan, budget=replace(plan.budget, seeds=[100, 101]))
    for protocol in ("linear", "knn"):
        found = protocols.measure(replace(short, protocol=protocol), tmp_path, lambda line: None, 1)
        answers = found.predictions["test"]
        assert list(answers) == [100, 101]  # a random encoder is another one with every seed
        labels = found.data.parts["test"].labels_I
        assert all(len(answer) == len(labels) for answer in answers.values())
        right = np.mean([(answer == labels).mean() for answer in answers.values()])
        assert right > 0.4  # of four voices; the pitch alone tells most of it
    assert found.protocol["k"] == 24  # not 200: there are 24 training items
    assert json.dumps(found.protocol)
