"""The loss curve and the closing lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.training import report


def write(path: Path, steps: int = 300, valid: bool = True) -> Path:
    rng = np.random.default_rng(0)
    lines = [{"step": s, "loss": 1.3 + 2.0 / s + 0.02 * rng.standard_normal(), "lr": 1e-3} for s in range(1, steps + 1)]
    if valid:
        lines += [{"step": s, "valid_loss": 1.32 + 1.0 / s, "valid_accuracy": 0.3} for s in range(50, steps + 1, 50)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def pixels(picture: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(picture)


def test_the_picture_is_a_png_of_the_stated_size_and_draws_the_same_twice(tmp_path: Path) -> None:
    metrics = write(tmp_path / "metrics.jsonl")
    baselines = {"unigram": 1.386, "order-3": 1.356, "order-5, masked": 1.318}
    report.draw(metrics, tmp_path / "loss.png", baselines, title="dna mlm tiny")
    report.draw(metrics, tmp_path / "again.png", baselines, title="dna mlm tiny")
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "loss.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert pixels(tmp_path / "loss.png").shape[:2] == (540, 960)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.png", "loss.png", "metrics.jsonl"]


def has_colour(picture: np.ndarray, code: str) -> bool:
    wanted = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(picture[..., :3] - wanted).max(-1) < 0.02).sum() > 30)


def test_every_curve_and_baseline_is_in_the_picture(tmp_path: Path) -> None:
    metrics = write(tmp_path / "metrics.jsonl")
    report.draw(metrics, tmp_path / "loss.png", {"low": 1.32, "high": 1.4})
    image = pixels(tmp_path / "loss.png")
    for colour in (report.TRAINING, report.VALIDATION, *report.BASELINES[:2]):
        assert has_colour(image, colour)
    report.draw(write(tmp_path / "metrics.jsonl", valid=False), tmp_path / "loss.png")
    image = pixels(tmp_path / "loss.png")
    assert has_colour(image, report.TRAINING)
    assert not has_colour(image, report.VALIDATION)
    assert not has_colour(image, report.BASELINES[1])


def test_smoothing_is_the_bias_free_moving_average() -> None:
    losses = [3.0, 1.0, 2.0, 4.0]
    weights = [0.75**age for age in range(4)]
    expected = [np.average(losses[: n + 1], weights=weights[n::-1]) for n in range(4)]
    assert report.smooth(losses, points=4) == pytest.approx(expected)
    assert report.smooth(losses, points=0.2) == losses
    assert report.smooth([2.5] * 9, points=3) == pytest.approx([2.5] * 9)


def test_a_killed_and_resumed_run_reads_well(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 2, "loss": 5}\n{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    assert report.read_metrics(metrics) == report.Curves(([1, 2], [3, 2]), ([], []), masked=False)


def test_the_loss_at_masked_positions_is_the_one_compared(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 1.3, "masked_loss": 1.4}, {"step": 1, "valid_loss": 1.31, "valid_masked_loss": 1.39}]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report.read_metrics(metrics) == report.Curves(([1], [1.4]), ([1], [1.39]), masked=True)
    summary = {"out": "x", "valid_loss": 1.33, "valid_masked_loss": 1.4, "baselines": {"unigram": 1.386}}
    text = "\n".join(report.summary_lines(summary))
    assert "unigram  1.3860  the model is 0.0140 above" in text
    assert "1.4000 nats" in text


def test_faults_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nothing\.jsonl cannot be read"):
        report.draw(tmp_path / "nothing.jsonl", tmp_path / "loss.png")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(SuiteError, match="holds no loss"):
        report.draw(empty, tmp_path / "loss.png")
    empty.write_text('{"step"\n{"step": 1, "loss": 2}\n')
    with pytest.raises(SuiteError, match="line 1 is not JSON"):
        report.draw(empty, tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_closing_lines_compare_with_every_baseline() -> None:
    summary = {
        "out": "runs/r1",
        "steps": 1000,
        "seconds": 61.4,
        "valid_loss": 1.35,
        "valid_accuracy": 0.321,
        "baselines": {"unigram": 1.386, "order-5, masked": 1.318},
    }
    text = "\n".join(report.summary_lines(summary, "ACGTACGT[MASK]ACGTACGT"))
    assert "Trained 1,000 steps in 61 s." in text
    assert "Validation loss 1.3500 nats, accuracy 32.1%." in text
    assert "unigram          1.3860  the model is 0.0360 below" in text
    assert "order-5, masked  1.3180  the model is 0.0320 above" in text
    assert "ssl_suite fill encoder=runs/r1 'ACGTACGT[MASK]ACGTACGT'" in text
    assert "ssl_suite embed encoder=runs/r1 input=" in text
    assert "ssl_suite fill 'encoder=my runs/r1' " in "\n".join(report.summary_lines({"out": "my runs/r1"}, "AC[MASK]"))
    assert "None" not in text
    assert "fill" not in "\n".join(report.summary_lines({"out": "x", "modality": "image"}))
    assert "model=mini" in "\n".join(report.summary_lines({"out": "x"}))
    assert "model=resnet50 data.path" in "\n".join(report.summary_lines({"out": "x", "larger": "resnet50"}))
