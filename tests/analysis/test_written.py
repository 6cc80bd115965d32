"""What a GPT writes: n-grams and distances against loops, planted copies and noise, and MIDI that can be read."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import symusic

from ssl_suite import cli
from ssl_suite.analysis import written
from tests.commands.conftest import make_run


def grams(sequences, n):
    return [tuple(one[i : i + n]) for one in sequences for i in range(len(one) - n + 1) if min(one[i : i + n]) >= 0]


def test_new_ngrams_are_those_of_a_loop_and_copies_have_none():
    rng = np.random.default_rng(0)
    train = [np.append(rng.integers(0, 4, 300), [-1, 2, 1, 3]), rng.integers(0, 4, 200)]
    sets = {"copy": [train[1][20:90]], "noise": [rng.integers(0, 4, 80), np.array([0, -1, 1, 1, 2])]}
    rows = written.judged(train, sets, 4, 7)
    for row in (row for row in rows if row["what"] == "new n-grams"):
        known, own = set(grams(train, row["n"])), grams(sets[row["of"]], row["n"])
        assert row["tokens"] == len(own)
        assert row["value"] == pytest.approx(np.mean([gram not in known for gram in own]))
        assert row["of"] == "noise" or row["value"] == 0
    tell = {row["of"]: row["value"] for row in rows if row["what"] == "perplexity"}
    assert tell["copy"] < tell["noise"]


def test_composition_of_dna_counts_bases_and_words():
    train = [np.array([0, 1, 2, 3] * 20)]
    same, other = [np.array([0, 1, 2, 3] * 5)], [np.array([0, 0, 0, 3] * 5)]
    rows = written.composition(train, {"same": same, "other": other}, list("ACGT"))
    value = {(row["what"], row["of"]): row["value"] for row in rows}
    assert value["GC", "same"] == 0.5 and value["GC", "other"] == 0
    texts = ["ACGT" * 20, "ACGT" * 5, "AAAT" * 5]
    spectra = [Counter(text[i : i + 4] for i in range(len(text) - 3)) for text in texts]
    keys = sorted({key for one in spectra for key in one})
    p, q = (np.array([one[key] for key in keys]) / sum(one.values()) for one in (spectra[0], spectra[1]))
    m = (p + q) / 2
    halves = [np.sum(x[x > 0] * np.log2(x[x > 0] / m[x > 0])) for x in (p, q)]
    assert value["distance of 4-mers", "same"] == pytest.approx(np.sqrt(np.mean(halves)))
    assert value["distance of 4-mers", "other"] == pytest.approx(1)


@pytest.mark.parametrize("modality", ["dna", "protein", "music"])
def test_runs_of_each_modality_are_judged(modality: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / modality, [f"modality={modality}", "objective=clm", f"data.cache={tmp_path}/cache"])
    words = [f"encoder={run}", f"out={tmp_path}/out", "samples=3", "budget=smoke", f"data.cache={tmp_path}/cache"]
    assert cli.main(["analyse", "written", *words]) == 0
    rows = json.loads((tmp_path / "out" / "written.json").read_text())["rows"]
    assert {row["of"] for row in rows if row["what"] == "perplexity"} == {"written", "held-out", "shuffled"}
    assert (tmp_path / "out" / "written.png").stat().st_size > 10_000
    assert len(list((tmp_path / "out").glob("*.mid"))) == (3 if modality == "music" else 0)
    for path in (tmp_path / "out").glob("*.mid"):
        said = sum(row["what"] == "note" and row["of"] == path.name for row in rows)
        assert said in (0, symusic.Score(path).note_num())


def test_smoke_trains_on_text_of_the_sample(tmp_path: Path) -> None:
    words = ["budget=smoke", "modality=text", f"out={tmp_path}/out", f"data.cache={tmp_path}/cache"]
    assert cli.main(["analyse", "written", *words]) == 0
    rows = json.loads((tmp_path / "out" / "written.json").read_text())["rows"]
    tell = {row["of"]: row["value"] for row in rows if row["what"] == "perplexity"}
    assert min(tell.values()) > 1


def test_a_run_that_cannot_write_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path / "mlm", [])
    assert cli.main(["analyse", "written", f"encoder={run}"]) == 2
    assert "give a run of objective=clm" in capsys.readouterr().err
