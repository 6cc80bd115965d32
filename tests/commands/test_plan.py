"""plan: every number that it prints, against an independent one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite import cli
from ssl_suite.commands import plan
from ssl_suite.core import registry
from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.data.prepare import prepare
from ssl_suite.models import hub
from ssl_suite.models.attention import _per_group
from ssl_suite.settings import config
from ssl_suite.training import build, estimate
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.learner import Learner
from ssl_suite.training.optimiser import adamw

CPU = DistributedContext()
SMALL = [
    *("model.layers=2", "model.width=64", "model.heads=2", "model.mlp_width=96", "modality.max_length=128"),
    *("train.tokens_per_batch=2048", "train.tokens_per_row=512", "train.threads=1", "train.steps=60"),
]


@pytest.fixture(scope="module")
def cfg(fasta: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Records of several lengths, one of them long enough to train on."""
    folder = tmp_path_factory.mktemp("plan")
    rng = np.random.default_rng(0)  # 300 different ones: duplicates would be left out
    text = "".join(f">s{i}\n{''.join(rng.choice(list('ACGT'), 11 * (3 + i % 40)))}\n" for i in range(300))
    (folder / "x.fa").write_text(text)
    return config.compose([*SMALL, f"data.path={folder / 'x.fa'}", f"data.cache={folder / 'cache'}"])


@pytest.fixture(scope="module")
def facts(cfg: dict) -> dict:
    return estimate.plan(cfg, report=lambda line: None, seconds=0.3)


@pytest.fixture
def learner(cfg: dict) -> Learner:
    return build.learner(cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"]))


@pytest.mark.parametrize("model", ["tiny", "mini"])
def test_parameters_are_those_of_transformers(model: str) -> None:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    cfg = config.compose([f"model={model}"])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    built = build.learner(cfg, modality)
    written = hub.modernbert_config(built.encoder.spec, modality.vocabulary, 512, "ModernBertForMaskedLM")
    twin = ModernBertForMaskedLM(ModernBertConfig(**written))
    counts = estimate.count_parameters(built)
    assert counts["total"] == twin.num_parameters()
    assert counts["encoder"] == twin.model.num_parameters()
    assert counts["head"] == counts["total"] - counts["encoder"]


def test_flops_are_those_of_the_counter(
    cfg: dict, facts: dict, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the run's first step, forward pass. Padding, of which plan counts nothing, is less than a hundredth.

    By way of SDPA's math backend, because the counter does not know the CPU's fused attention.
    """
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda line: None)
    collator, rows = estimate.training_rows(store, modality, cfg, CPU, learner.objective)
    counted, tokens = 0, 0
    for numbers, batch in next(estimate.batches(collator, rows, 0, 1)):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            learner(batch, Rng(0, 0, numbers))
        counted += counter.get_total_flops()
        tokens += int((batch.values != modality.vocabulary.pad).sum())
    assert facts["step"]["tokens"] == tokens
    assert facts["step"]["flops"] / 3 == pytest.approx(counted, rel=0.02)
    assert facts["run"]["flops"] == 60 * facts["step"]["flops"]


def test_data_and_epochs_by_a_naive_count(cfg: dict, facts: dict) -> None:
    data, run = facts["data"], facts["run"]
    bases = sum(11 * (3 + i % 40) for i in range(300))
    assert data["records"] == 300
    assert 0.9 * bases < data["train_tokens"] + data["valid_tokens"] <= bases
    assert run["positions"] == 60 * 2048
    assert facts["step"]["rows"] == 4
    framed = data["train_tokens"] + 2 * data["train_windows"]  # [CLS] and [SEP] are positions too
    assert run["epochs"] == pytest.approx(run["positions"] / framed, rel=0.03)


def test_memory_of_weights_and_optimiser_is_what_torch_allocates(cfg: dict, learner: Learner) -> None:
    optimiser = adamw(learner, cfg["train"])
    for weight in learner.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    weights = sum(weight.untyped_storage().nbytes() for weight in learner.parameters())
    state = sum(x.nbytes for entry in optimiser.state.values() for x in entry.values() if x.dim())
    memory = estimate.memory_bytes(total := estimate.count_parameters(learner)["total"], total, 1000)
    assert (memory["weights"], memory["gradients"], memory["optimiser"]) == (weights, weights, state)
    assert memory["total"] == 2 * weights + state + 1000
    halved = estimate.memory_bytes(total, total, 1000, shards=2)
    assert halved["total"] == pytest.approx((memory["total"] - 1000) / 2 + 1000, abs=8)


def test_activations_are_what_the_allocator_gives_out(
    cfg: dict, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profiler sums up what a forward pass allocates and does not free while its graph is alive."""
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    vocabulary = modality.vocabulary
    sequences = [torch.randint(5, 9, (126,)).numpy()] * 4
    batch = ragged(sequences, vocabulary, 128)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        kept = learner(batch, Rng(0, 0, torch.zeros(1, dtype=torch.int64)))
    allocated = sum(event.self_cpu_memory_usage for event in recorded.key_averages())
    assert kept[0].requires_grad

    def short(count: int) -> Batch:
        return ragged([modality.blank(62)] * count, modality.vocabulary, modality.max_length)

    expected = estimate.activation_bytes(learner, short, CPU) * batch.values.shape[0]
    assert expected == pytest.approx(allocated, rel=0.15)
    with monkeypatch.context() as real:  # fake tensors, which compute nothing, are as large
        real.setattr(estimate, "FakeTensorMode", _no_fakes)
        assert estimate.activation_bytes(learner, short, CPU) * batch.values.shape[0] == expected


def _no_fakes(**settings: bool) -> None:
    raise estimate.DataDependentOutputException("aten.item")


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        ("modality.max_length=512 train.tokens_per_row=512", 130),  # a part of one window
        ("modality.max_length=128", 128),  # one window
        ("modality.max_length=512 objective=simclr train.tokens_per_row=512", 260),  # two parts
        ("modality=image objective=simclr", 2 * 66),  # two pictures, which are not cut
    ],
)
def test_a_pass_too_long_for_the_budget_is_measured_on_less(words: str, positions: int, tmp_path: Path) -> None:
    """Of a step of 2,048 positions, by a budget for none."""
    cfg = config.compose([*words.split(), "train.tokens_per_batch=2112" if "image" in words else SMALL[5], SMALL[7]])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda line: None)
    learner = build.learner(cfg, modality)
    collator, rows = estimate.training_rows(store, modality, cfg, CPU, learner.objective)
    first = next(estimate.batches(collator, rows, 0, 1))[0][1]
    assert estimate.probed(learner, collator, first, CPU.device, 1e-9).values.shape == (positions,)
    assert estimate.probed(learner, collator, first, CPU.device, 1e9) is first


def test_a_part_of_a_window_stands_for_the_row() -> None:
    """Within a factor of four, as other work on the machine moves both."""
    shapes = ["model.layers=2", "model.width=512", "model.heads=8", "model.mlp_width=1024", "train.threads=1"]
    cfg = config.compose([*shapes, "train.tokens_per_row=512"])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda line: None)
    learner = build.learner(cfg, modality)
    collator, rows = estimate.training_rows(store, modality, cfg, CPU, learner.objective)
    first = next(estimate.batches(collator, rows, 0, 1))[0][1]
    probe = estimate.measure(cfg, learner, collator, first, CPU, seconds=0.02)
    by_hand = estimate._pass(learner, first, CPU) / 512
    assert (probe.positions, probe.passes) == (130, 1)
    assert by_hand / 4 < probe.seconds_per_position < by_hand * 4


def test_times_add_up(cfg: dict) -> None:
    train = {**cfg["train"], "steps": 250, "eval_every": 100, "eval_tokens": 900, "tokens_per_batch": 1000}
    facts = {
        "step": {"tokens": 990},
        "data": {"valid_tokens": 500, "valid_windows": 50},
        "probe": {"seconds_per_position": 0.001, "optimiser_seconds": 0.5},
    }
    found = estimate.times({**cfg, "train": train}, facts, share=1)
    assert found["step_seconds"] == pytest.approx(1.5)
    assert found["tokens_per_s"] == pytest.approx(660)
    assert found["eta_seconds"] == pytest.approx(250 * 1.5 + 3 * 600 * 0.001 / 3)
    assert estimate.times({**cfg, "train": train}, facts, share=4)["step_seconds"] == pytest.approx(0.75)
    timed = estimate.times({**cfg, "train": {**train, "minutes": 2}}, facts, share=1)
    assert timed["run"]["steps"] == 79  # 1.5 s and a hundredth of an evaluation of 0.2 s each
    assert timed["eta_seconds"] == pytest.approx(79 * 1.5 + 0.2) and timed["eta_seconds"] <= 120
    assert estimate.times(cfg, {**facts, "probe": None}, share=1)["eta_seconds"] is None


def test_a_model_beyond_memory_is_not_probed(cfg: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "device_memory", lambda device: 1 << 20)
    facts = estimate.plan(cfg, report=lambda line: None)
    assert facts["probe"] is None
    assert "not probed: it needs more than this device's 1.0 MiB" in plan.lines(cfg, facts)[-1]


def test_the_command(cfg: dict, capsys: pytest.CaptureFixture) -> None:
    words = [*SMALL, f"data.path={cfg['data']['path']}", f"data.cache={cfg['data']['cache']}"]
    assert cli.main(["plan", *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["step"]["positions"] == 2048
    assert cli.main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert f"{printed['parameters']['total']:,} parameters" in text
    assert "60 steps, 122,880 positions" in text
    assert [line.split()[0] for line in text.splitlines()] == [
        *("model", "data", "step", "run", "memory", "device", "speed", "time")
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5 "), (999, "999 "), (1000, "1 k"), (4.64e15, "4.64 P"), (1.2e26, "120 Y")]
)
def test_prefixes(value: float, text: str) -> None:
    assert plan.si(value) == text


def test_sizes() -> None:
    assert plan.size(3 * 2**30) == "3.0 GiB"
    assert plan.size(5 * 2**20) == "5.0 MiB"


def test_minutes_settle_the_steps_once(cfg: dict, tmp_path: Path) -> None:
    timed = {**cfg, "train": {**cfg["train"], "minutes": 0.05}}
    settled = estimate.steps_for_minutes(timed, tmp_path / "run", report=lambda line: None)
    assert settled["train"]["steps"] >= 1 and settled["train"]["steps"] != cfg["train"]["steps"]
    assert estimate.steps_for_minutes(cfg, tmp_path / "run", report=lambda line: None) == cfg
    # A run that has begun keeps its number, whatever the machine does now.
    (tmp_path / "run" / "checkpoints" / "step_00000001").mkdir(parents=True)
    config.write(tmp_path / "run" / "config.yaml", {**timed, "train": {**timed["train"], "steps": 17}})
    assert estimate.steps_for_minutes(timed, tmp_path / "run", report=lambda line: None)["train"]["steps"] == 17
    with pytest.raises(SuiteError, match=r"set train.steps"):
        estimate.steps_for_minutes({**timed, "launch": {"name": "slurm"}}, tmp_path / "new")


def test_a_convnet_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["modality=image", "objective=simclr", "model=resnet10", "model.channels=8", "modality.size=16"]
    small = ["train.tokens_per_batch=136", "train.tokens_per_row=136", "train.steps=3", f"data.cache={tmp_path}"]
    assert cli.main(["plan", *words, *small]) == 0
    text = capsys.readouterr().out
    assert "model       resnet10: resnet10 with the" in text and "time        about" in text
