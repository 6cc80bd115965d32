"""What ``encoder=`` may name, what a row calls it, and that each fault is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.references import Reference, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:bert-base", Reference("hf", "bert-base")),
        ("hf:org/name+map", Reference("hf", "org/name", map=True)),
        ("hf:org/name+map=0", Reference("hf", "org/name", map=True, map_seed=0)),
        ("hf:org/name+map=107", Reference("hf", "org/name", map=True, map_seed=107)),
        ("hf:./a/b+reembed", Reference("hf", "./a/b", reembed=True)),
        ("random:tiny", Reference("random", "tiny")),
        ("random", Reference("random", "mini")),
        ("cnn", Reference("cnn")),
        ("kmer", Reference("kmer")),
        ("none", Reference("none")),
    ],
)
def test_what_is_named(text: str, expected: Reference) -> None:
    assert parse(text) == expected
    if expected.kind != "random":  # whose preset has a default
        assert parse(text).short == text


def test_folders_are_called_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, package, plus = tmp_path / "yeast", tmp_path / "mini/gt_minilm/model", tmp_path / "a+b" / "c+map+d"
    for folder in (run, package, plus):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("{}")
    assert parse(str(run)) == Reference("run", str(run))
    assert parse(f"{run}/").short == "run:yeast"
    assert parse(f"hf:{package}+map=3").short == "hf:gt_minilm+map=3"
    assert parse(f"hf:{package}/+reembed").short == "hf:gt_minilm+reembed"
    for text in (f"hf:{plus}", f"hf:{plus}+map", str(plus)):  # names with a +, one of them like an addition
        found = parse(text)
        assert (found.name, found.map) == (str(plus), text.endswith("+map"))
    monkeypatch.chdir(run)
    assert parse(".").short == "run:yeast"
    monkeypatch.chdir(package)
    assert (parse("hf:.").short, parse("hf:..").short) == ("hf:gt_minilm", "hf:gt_minilm")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("hf:~/yeast+map") == Reference("hf", "~/yeast", map=True)
    assert parse("hf:~/yeast+map").short == "hf:yeast+map"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:org/name+mapp", r"'\+mapp' is not known; write \+map, .* Did you mean 'map'\?"),
        ("hf:org/name+map=x", r"'\+map=x' is not known"),
        ("hf:org/name+map=", r"'\+map=' is not known"),
        ("hf:org/name+map=-1", r"'\+map=-1' is not known"),
        ("hf:org/name+reembed=3", r"'\+reembed=3' is not known"),
        ("hf:org/name+remebed+map", r"'\+remebed' is not known.* Did you mean 'reembed'\?"),
        ("hf:org/name+map=1+reembed", "keep one of the two"),
        ("hf:org/name+reembed+map", "keep one of the two"),
        ("hf:", "names no model"),
        ("hf:+map", "names no model"),
        ("random:tinny", r"there is no model 'tinny'\. Did you mean 'tiny'\?"),
        ("random:", "there is no model ''"),
        ("random:tiny+map", r"\+map is for text encoders"),
        ("cnn+reembed", r"\+reembed is for run folders and hf:"),
        ("no/such/run", r"'no/such/run' is not a run folder .*Name one, or write hf:"),
        ("", "is not a run folder"),
    ],
)
def test_faults_are_one_line(text: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith(f"encoder={text}") and "\n" not in str(caught.value)
