"""``data list``, ``data fetch``, ``data prepare`` and ``data verify`` from the command line."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from ssl_suite import cli
from ssl_suite.core.codebook import Codebook
from ssl_suite.data.catalogue import list_entries
from tests.data.http_server import serving


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
    assert max(len(line) for line in out.splitlines()) <= 100
    for entry in list_entries():
        (row,) = [line for line in out.splitlines() if line.startswith(f" {entry.name} ")]
        state = "fetch" if entry.source.downloads else "absent" if entry.source.files else "here"
        assert f"  {state}  " in row
        assert entry.source.title in row
    blocks = [line.split()[0] for line in out.splitlines() if line.startswith("modality=")]
    assert blocks == sorted(blocks)
    code, out, _ = call(capsys, "list", "--json", f"data.root={tmp_path}")
    found = json.loads(out)
    assert [entry["name"] for entry in found] == [entry.name for entry in list_entries()]
    for entry in found:
        assert entry["source"]["licence"] and entry["source"]["citation"]
        assert all({"file", "bytes", "sha256"} <= set(item) for item in entry["source"]["files"])
    code, _, err = call(capsys, "list", "data.rot=x")
    assert (code, err.count("\n")) == (2, 1)
    assert "data.root" in err


def test_fetch(
    capsys: pytest.CaptureFixture[str], fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of the user's own, from a server on this machine."""
    for name in ("SSL_DATA_DIR", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    content = fasta.read_bytes()
    (tmp_path / "conf/data").mkdir(parents=True)
    with serving() as site:
        site.files["/in.fa"] = content
        item = {
            "url": f"{site.url}/in.fa",
            "file": "in.fa",
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }
        words = ("title", "official", "licence", "citation")
        source = dict.fromkeys(words, "x") | {"modality": "dna", "use": "task", "columns": {}, "splits": {}}
        source |= {"files": [{"file": "in.fa"}], "downloads": [item]}
        text = yaml.safe_dump({"defaults": ["files", "_self_"], "name": "mine", "source": source})
        (tmp_path / "conf/data/mine.yaml").write_text(text)
        own, root = ["--config-dir", str(tmp_path / "conf")], f"data.root={tmp_path}/there"
        code, out, _ = call(capsys, "fetch", "mine", root, *own)
        assert (code, out) == (0, f"mine: all of it is here, below {tmp_path}/there; use it with data=mine {root}\n")
        code, out, _ = call(capsys, "fetch", "mine", root, "--json", *own)
        assert json.loads(out) == {"name": "mine", "folder": f"{tmp_path}/there"}
        assert len(site.requests) == 1
    code, out, _ = call(capsys, "list", root, *own)
    (row,) = [line for line in out.splitlines() if line.startswith(" mine ")]
    assert "  here  " in row
    code, out, _ = call(capsys, "prepare", "data=mine", root, "modality.max_length=32", "--json", *own)
    assert (code, json.loads(out)["tokens"]) == (0, 180)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "takes the name of one data set"),
        (["yeast", "ecoli536"], "takes the name of one data set"),
        (["yaest"], "Did you mean 'yeast'?"),
        (["yeast", "data.rot=x"], "Did you mean 'data.root'?"),
        (["yeast"], "place "),
        (["squad11"], "HF_HUB_OFFLINE=1 forbids the network"),
    ],
)
def test_fetch_faults_are_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = call(capsys, "fetch", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


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


def test_units(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["modality=image", "modality.codes=8", f"output={tmp_path}/book.safetensors"]
    code, out, err = call(capsys, "units", *words, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["codes"] == 8 and 1 < facts["perplexity"] <= 8 and 0 < facts["error"] < 1
    assert "perplexity" in err
    assert len(Codebook.load(tmp_path / "book.safetensors")) == 8
    code, out, _ = call(capsys, "units", *words[:2])
    assert code == 0 and "codebook: " in out  # from the cache
    code, _, err = call(capsys, "units", "modality=dna")
    assert code == 2 and "units are for images and speech" in err
