"""``data list``, ``data prepare`` and ``data verify`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.data.catalogue import list_entries


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["data", *words])
    return code, *capsys.readouterr()


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """Two equal records (one of them as its reverse complement) and one of its own."""
    path = tmp_path / "in.fa"
    one, other = "ACGTTGCAGT" * 6, "GATTACACCA" * 6
    reverse = one[::-1].translate(str.maketrans("ACGT", "TGCA"))
    path.write_text(f">a\n{one}\n>b\n{reverse}\n>c\n{other}\n")
    return path


def test_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    code, out, _ = call(capsys, "list")
    assert code == 0
    for entry in list_entries():
        (row,) = [line for line in out.splitlines() if line.startswith(f" {entry.name} ")]
        assert entry.file in row
        assert row.rstrip().endswith("absent")
    code, out, _ = call(capsys, "list", "--json", f"data.root={tmp_path}")
    assert [entry["name"] for entry in json.loads(out)] == [entry.name for entry in list_entries()]
    code, _, err = call(capsys, "list", "data.rot=x")
    assert (code, err.count("\n")) == (2, 1)
    assert "data.root" in err


def test_prepare_once(capsys: pytest.CaptureFixture[str], fasta: Path) -> None:
    words = ["prepare", f"data.path={fasta}", "modality.max_length=32"]
    code, first, _ = call(capsys, *words)
    assert code == 0
    code, second, _ = call(capsys, *words)
    assert "prepared before" in second
    assert first.splitlines()[-1] == second.splitlines()[-1]
    code, out, err = call(capsys, *words, "--json")
    assert json.loads(out)["tokens"] == 180
    assert "prepared before" in err


def test_verify(capsys: pytest.CaptureFixture[str], fasta: Path) -> None:
    words = ["verify", f"data.path={fasta}", "modality.max_length=32", "data.valid_fraction=0.4"]
    code, out, _ = call(capsys, *words, "--json")
    result = json.loads(out)
    assert (code, result["records"], result["duplicate_records"]) == (0, 3, 1)
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert "tokens also in training" in out


@pytest.mark.parametrize("command", ["prepare", "verify"])
def test_faults_are_one_line(capsys: pytest.CaptureFixture[str], command: str) -> None:
    for word, expected in (("data.path=none.fa", "none.fa"), ("data.pth=x", "Did you mean 'data.path'?")):
        code, _, err = call(capsys, command, word)
        assert (code, err.count("\n")) == (2, 1)
        assert expected in err
