"""generate: what is printed and written in each modality, and the faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_suite import cli
from ssl_suite.core.records import Record
from ssl_suite.modalities.dna_letters import AMBIGUOUS
from ssl_suite.training import restore
from tests.commands.conftest import make_run
from tests.modalities import made_music


@pytest.fixture(scope="module")
def dna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("generate") / "dna", ["objective=clm"])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("generate") / "music", ["modality=music", "objective=clm"])


def said(capsys: pytest.CaptureFixture, *words: str) -> tuple[list[str], list[str]]:
    """The lines on stdout and on stderr of a command that succeeds."""
    assert cli.main(["generate", *words]) == 0
    both = capsys.readouterr()
    return both.out.splitlines(), both.err.splitlines()


def test_sequences_go_on_from_their_prompts(dna: Path, capsys: pytest.CaptureFixture) -> None:
    out, err = said(capsys, f"encoder={dna}", "ACGTACGT", "TTTT", "samples=3", "length=20")
    assert len(out) == 6 and err == []
    assert all(line.startswith("ACGTACGT") for line in out[:3]) and all(line.startswith("TTTT") for line in out[3:])
    assert max(map(len, out[:3])) <= 28 and set("".join(out)) <= set("ACGTN" + AMBIGUOUS)
    assert len(set(out)) > 2


def test_one_sequence_is_told_as_it_is_written(dna: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *parts, **_: heard.append("".join(map(str, parts))))
    assert cli.main(["generate", f"encoder={dna}", "ACGT", "length=20", "seed=3", "temperature=0"]) == 0
    text = "".join(heard)
    assert heard[0] == "ACGT" and len(heard) > 10 and max(map(len, heard[1:])) == 1
    heard.clear()
    assert cli.main(["generate", f"encoder={dna}", "ACGT", "length=20", "samples=2", "temperature=0"]) == 0
    assert "".join(heard).split("\n")[0] == text


def test_greedy_repeats_itself_and_seeds_differ(dna: Path, capsys: pytest.CaptureFixture) -> None:
    greedy, _ = said(capsys, f"encoder={dna}", "temperature=0", "samples=2", "ACGT")
    assert greedy[0] == greedy[1]
    one, other = (said(capsys, f"encoder={dna}", "samples=9", "ACGTACGT", f"seed={seed}")[0] for seed in (1, 2))
    assert one != other


def test_the_end_of_the_window_is_said(dna: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", f"encoder={dna}", "samples=9", "--json"]) == 0
    both = capsys.readouterr()
    results = json.loads(both.out)
    full = sum(not result["ended"] for result in results)
    assert all(len(result["tokens"]) == 62 for result in results if not result["ended"])
    expected = f"{full} of 9 stopped where the model's window of 62 tokens ends, not by itself.\n"
    assert both.err == (expected if full else "")
    assert [result["text"] for result in results] == ["".join(result["tokens"]) for result in results]


def test_fasta_is_written_and_read_as_a_prompt(dna: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "made.fasta"
    out, _ = said(capsys, f"encoder={dna}", "ACGTTGCA", "samples=2", f"output={path}", "length=9")
    assert out == [f"wrote {path}"]
    names, texts = path.read_text().splitlines()[::2], path.read_text().splitlines()[1::2]
    assert names == [">sample_1", ">sample_2"] and all(text.startswith("ACGTTGCA") for text in texts)
    out, _ = said(capsys, f"encoder={dna}", f"prompt={path}", "prompt_tokens=6", "length=1")
    assert out[0].startswith("ACGTTG") and len(out[0]) <= 7


def test_music_is_written_as_midi(music: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import symusic

    theme = tmp_path / "theme.mid"
    theme.write_bytes(made_music.midi(made_music.SCALE))
    loaded = restore.load_run(str(music))
    tokens = loaded.modality.encode(Record("theme", theme.read_bytes(), "theme")).values
    words = (f"encoder={music}", f"prompt={theme}", "prompt_tokens=20")
    out, _ = said(capsys, *words, "samples=2", f"output={tmp_path / 'tune.mid'}")
    for number, line in enumerate(out, 1):
        made = symusic.Score(str(tmp_path / f"tune-{number}.mid"))
        assert line == f"wrote {tmp_path / f'tune-{number}.mid'} ({made.note_num()} notes)" and made.tpq > 0
    assert len(out) == 2
    typed, _ = said(capsys, *words)
    assert typed[0].startswith(loaded.modality.decode(np.asarray(tokens[:20])))
    out, err = said(capsys, f"encoder={music}", "length=1", f"output={tmp_path / 'new.mid'}")  # one token is no note
    assert out == [f"wrote {tmp_path / 'new.mid'} (0 notes)"] and (tmp_path / "new.mid").read_bytes()[:4] == b"MThd"
    assert err[-1].startswith(f"warning: {tmp_path / 'new.mid'} has no notes: what the model wrote makes no whole note")


def test_pictures_are_units_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["modality=image", "objective=clm", "modality.max_length=66", "modality.codes=32"]
    picture = make_run(tmp_path / "image", words, steps=(1,))
    out, err = said(capsys, f"encoder={picture}", "length=12")
    assert all(unit[0] == "<" and 0 <= int(unit[1:-1]) < 32 for unit in out[0].split())
    assert "units of the codebook of image" in err[-1]
    assert cli.main(["generate", f"encoder={picture}", "abc"]) == 2
    assert "cannot begin with image" in capsys.readouterr().err


def test_an_encoder_that_cannot_write_names_its_objective(run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", f"encoder={run_folder}", "ACGT"]) == 2
    message = capsys.readouterr().err
    assert "trained with objective=mlm" in message and "objective=clm" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A" * 70], "The prompt has 70 tokens and the model's window holds 62"),
        (["ACGT", "length=60"], "give at most length=58"),
        (["ACX?"], "prompt 1"),
        (["top_p=1.5"], "top_p=1.5 should be above 0 and at most 1"),
        (["top_k=0"], "top_k=0 should be at least 1"),
        (["temperature=-1"], "temperature=-1 should be at least 0"),
        (["temprature=1"], "Did you mean 'temperature'?"),
        (["prompt_tokens=3"], "prompt_tokens= cuts prompt=FILE"),
        (["prompt=nothing.fa"], "prompt=nothing.fa is not a file"),
        (["output=x.mid"], "dna is written to a text file"),
        (["output=nowhere/x.txt"], "there is no folder nowhere"),
        (["output=x.txt", "--json"], "--json prints to the terminal"),
        (["a = b"], "prompt 1"),
    ],
)
def test_faults_are_one_line(dna: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    assert cli.main(["generate", f"encoder={dna}", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_music_cannot_be_typed(music: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", f"encoder={music}", "do re mi"]) == 2
    assert "give prompt=FILE.mid" in capsys.readouterr().err
    assert cli.main(["generate", f"encoder={music}", "output=x.txt"]) == 2
    assert "music is written to a .mid file" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", "--help"]) == 0
    assert "ssl_suite generate encoder=" in capsys.readouterr().out
