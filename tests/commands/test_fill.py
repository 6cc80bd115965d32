"""fill: the probabilities against transformers' own, the order, the faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ssl_suite import cli
from ssl_suite.commands import export, fill
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.protein import Protein
from ssl_suite.modalities.text import Text
from tests.commands.conftest import make_run
from tests.modalities.made_text import fitted

SEQUENCES = ["ACGT[MASK]ACGT", "[MASK]TT[MASK][MASK]G", "[MASK]"]


def test_the_probabilities_are_those_of_transformers(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    export.run({"encoder": str(run_folder), "output": str(tmp_path / "hub"), "checkpoint": "best"})
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "hub").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hub")
    assert cli.main(["fill", f"encoder={run_folder}", *SEQUENCES, "top=4", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["sequence"] for result in results] == SEQUENCES
    for result in results:
        inputs = tokenizer(result["sequence"], return_tensors="pt")
        places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
        with torch.no_grad():
            shares = torch.softmax(model(**inputs).logits[0], -1)
        assert [mask["position"] for mask in result["masks"]] == places
        for mask in result["masks"]:
            best = shares[mask["position"]].topk(4)
            assert [t["token"] for t in mask["tokens"]] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
            assert [t["probability"] for t in mask["tokens"]] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_the_example_of_each_modality_can_be_filled(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, kind in (("dna", DNA), ("protein", Protein), ("text", Text)):
        assert kind.example.count("[MASK]") == 1
        words = [f"modality={name}"]
        if kind is Text:
            fitted("bpe").save(tmp_path / "words")
            words.append(f"modality.tokenizer=hf:{tmp_path / 'words'}")
        out = make_run(tmp_path / name, words, steps=(1,))
        assert cli.main(["fill", f"encoder={out}", "top=3", kind.example]) == 0
        assert capsys.readouterr().out.count("position ") == 1


def test_text_shows_each_mask(run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["fill", f"encoder={run_folder}", "top=2", "AC[MASK]GG[MASK]"]) == 0
    first, *masks = capsys.readouterr().out.splitlines()
    assert first == "AC[MASK]GG[MASK]"
    assert [line.split(":")[0] for line in masks] == ["  position 3", "  position 6"]
    assert all(len(line.split(":")[1].split()) == 4 for line in masks)


def test_top_is_capped_by_the_vocabulary_and_sums_to_one(run_folder: Path) -> None:
    (result,) = fill.run({"encoder": str(run_folder), "checkpoint": "best", "top": 999}, ["AC[MASK]"])
    shares = [entry["probability"] for entry in result["masks"][0]["tokens"]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ACGT"], "'ACGT' has no [MASK]"),
        ([], "No sequence to fill"),
        (["ACXX[MASK]"], "sequence 1"),
        (["A" * 70 + "[MASK]"], "has 71 tokens, the model's window holds 62"),
        (["AC[MASK]", "tpo=3"], "Did you mean 'top'?"),
        (["AC[MASK]", "top=0"], "top=0 should be at least 1."),
    ],
)
def test_faults_are_one_line(run_folder: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    assert cli.main(["fill", f"encoder={run_folder}", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("objective", "remedy"),
    [("clm", "use `ssl_suite generate`, or train one with objective=mlm"), ("t5", ": train one with objective=mlm")],
)
def test_what_has_not_learned_to_fill_is_refused(
    objective: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = make_run(tmp_path / "run", [f"objective={objective}"], steps=(1,))
    assert cli.main(["fill", f"encoder={run}", "AC[MASK]GT"]) == 2
    assert remedy in capsys.readouterr().err


def test_a_piece_too_short_for_a_word_is_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = make_run(tmp_path / "kmer", ["modality.tokenizer=kmer", "modality.k=4", "modality.stride=4"], steps=(1,))
    assert cli.main(["fill", f"encoder={words}", "ACG[MASK]ACGT"]) == 2
    assert "'ACG' is shorter than one token" in capsys.readouterr().err
    assert cli.main(["fill", f"encoder={words}", "top=1", "ACGTTTTT[MASK]ACGT"]) == 0
    assert "position 3:" in capsys.readouterr().out
