"""Every example of every help text: run as it stands in a folder where its files are, or as far as is cheap."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_suite import cli
from ssl_suite.analysis.report import Report
from ssl_suite.evaluation import rows
from ssl_suite.training import estimate
from tests.commands.conftest import make_run
from tests.evaluation import text_models
from tests.evaluation.heads.planted import kept_trial
from tests.leaderboard import add, classified
from tests.modalities import made_music
from tests.modalities.made_speech import sound_file
from tests.modalities.made_text import fitted
from tests.modalities.pictures import encoded, noise

SMALL = ["model.layers=1", "model.width=32", "model.heads=1", "model.mlp_width=32"]
SHOWN = ["--cfg", "job"]  # checks every word and every file of settings, and trains nothing
# By the beginning of an example: what is added so that it takes a second. The longest that fits counts.
LONG = {
    "run ": SHOWN,
    "run model=base train.lr=3e-4 --cfg job": [],
    "plan ": [*SMALL, "train.tokens_per_batch=2048"],
    "data units modality=speech": ["modality.codes=8", "data.path=sounds"],
    'generate encoder=runs/gpt "Once': ["length=3"],
    "generate encoder=runs/dna-clm": ["length=3"],
    "data units modality=speech data=fsdd": [],
}
# Data sets that do not come with the package, and what their absence is answered with.
ABSENT = re.compile(r"\b(data=yeast|input=yeast|data=fsdd|data=speech_mix_clean)\b")


def measured(phases: list[list[Any]], *rest: Any) -> list[Any]:
    """Cells whose rows are there, without measuring them."""
    from ssl_suite.evaluation.bench import Outcome

    return [Outcome(cell, Path("row.json")) for cells in phases for cell in cells]


def analysed(*given: Any) -> Report:
    """What an analysis hands over, without its work; tests/analysis runs each."""
    return Report("analysis", "An analysis", ["It is done."], [{"number": 1}], {}, [], "ssl_suite analyse")


# What would be trained for hours or downloaded: its words are settled, the encoders and files that it names opened.
WORK = {
    "plan ": ("ssl_suite.training.estimate.measure", lambda *parts: estimate.Probe(512, 1e-3, 1e-3, 1)),
    "bench ": ("ssl_suite.evaluation.bench.run", measured),
    "jobs=": ("ssl_suite.evaluation.side_by_side.run", measured),
    "analyse alignment": ("ssl_suite.analysis.alignment.measure", analysed),
    "analyse context": ("ssl_suite.analysis.context.measure", analysed),
    "analyse icl": ("ssl_suite.analysis.icl_report.measure", analysed),
    "analyse language_vector": ("ssl_suite.analysis.language_vector.measure", analysed),
    "analyse map": ("ssl_suite.analysis.maps.measure", analysed),
    "analyse vectors": ("ssl_suite.analysis.vectors.measure", analysed),
    "analyse written": ("ssl_suite.analysis.written.measure", analysed),
    "data fetch ": ("ssl_suite.data.fetch.fetch", lambda entry, *rest: Path(entry.name)),
}


def examples() -> list[str]:
    """The command lines, without what is said about them."""
    found = []
    for path in cli.COMMANDS.values():
        for line in cli._text(*cli._load(path)).splitlines():
            if line.strip().startswith(("ssl_suite ", "python ")):
                found.append(re.split(r" {2,}(?=\S)", line.strip())[0])
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the examples name."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)

    def records(count: int) -> str:
        return "".join(f">r{i}\n{''.join(rng.choice(list('ACGT'), 300))}\n" for i in range(count))

    (home / "my.fasta").write_text(records(150))
    for name in ("genomes", "reads", "photos", "sounds", "my_tasks/bio", "data"):
        (home / name).mkdir(parents=True)
    (home / "genomes" / "a.fa").write_text(records(20))
    reads = "".join(f"@r{i}\n{'ACGT' * 20}\n+\n{'I' * 80}\n" for i in range(3))
    (home / "reads" / "a.fq.gz").write_bytes(gzip.compress(reads.encode()))
    for i in range(40):
        (home / "photos" / f"{i}.png").write_bytes(encoded(noise(32, 32, 3, seed=i)))
    for i in range(2):
        (home / "sounds" / f"{i}.wav").write_bytes(sound_file(rng.normal(0, 0.1, 16000)))
    (home / "theme.mid").write_bytes(made_music.piece())
    sample = Path(__file__).parents[1] / "tasks" / "sample"
    own = (sample / "gc@ecoli536.yaml").read_text().replace("gc@ecoli536", "mine@first")
    (home / "my_tasks" / "bio" / "mine@first.yaml").write_text(own)
    shutil.copy(sample / "ecoli536_gc.csv", home / "my_tasks" / "bio")
    add(home / "mine" / "leaderboards", classified(items=30))
    text_models.save(home / "MODEL_FOLDER", "bert")
    fitted("bpe").save(home / "words")
    runs = {
        "first": ([], (1000, 2000)),
        "mine": (["data.path=my.fasta"], (10,)),
        "gpt": (["modality=text", f"modality.tokenizer=hf:{home / 'words'}", "objective=clm"], (1,)),
        "dna-clm": (["objective=clm"], (1,)),
        "music-clm": (["modality=music", "objective=clm"], (1,)),
        "yeast": ([], (1,)),
        "swissprot": (["modality=protein"], (1,)),
    }
    for name, kind in (("sentiment", "classes"), ("reading", "answers")):
        shutil.copytree(kept_trial(home / "kept", kind)[1], home / "runs" / name)
    (home / "sentences.txt").write_text("the red cat\nmilk\n")
    (home / "story.txt").write_text("Elizabeth saw a star. The dog smiled at Elizabeth.")
    for name, (words, steps) in runs.items():
        make_run(home / "runs" / name, words, steps=steps)
    return home


@pytest.mark.parametrize("line", examples())
def test_an_example_does_what_it_says(
    line: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    program, *words = shlex.split(line.split(" > ")[0].replace("=/data", "=data"))
    if program == "python":  # opens what the example before has exported
        cli.main(["export", "encoder=runs/first", "output=my-model"])
        return exec(words[1], {})
    called = line.removeprefix("ssl_suite ")
    if called.startswith(("board render", "board verify")):  # of one row: test_verify holds all, and none is drawn
        monkeypatch.setattr(rows, "default_root", lambda: home / "mine" / "leaderboards")
    if called.startswith("bench "):  # an encoder of the hub's is not fetched
        monkeypatch.setattr("ssl_suite.evaluation.text_encoders.place_of", lambda name: name)
    for name, (place, stand_in) in WORK.items():
        if called.startswith(name) or (name == "jobs=" and name in called):
            monkeypatch.setattr(place, stand_in)
    longest = max((start for start in LONG if called.startswith(start)), key=len, default=None)
    code = cli.main([*words, *(LONG[longest] if longest else [])])
    said = capsys.readouterr()
    if ABSENT.search(called):
        assert code == 2 and " is not here; " in said.err and said.err.count("\n") == 1
    else:
        assert code == 0, said.err
