"""embed: the vectors against transformers' own forward pass, the order, the windows, the faults."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_suite import cli
from ssl_suite.commands import embed as embed_command
from ssl_suite.commands import export
from ssl_suite.core.records import Record
from ssl_suite.evaluation.embedding import embed as embedded
from ssl_suite.training import restore

WINDOW = 62


def embed(*words: str) -> int:
    return cli.main(["embed", *words])


def read(path: Path) -> dict[str, np.ndarray]:
    """id to vector, in the file's order."""
    table = pq.read_table(path).to_pydict()
    return {name: np.array(v, np.float32) for name, v in zip(table["id"], table["embedding"], strict=True)}


@pytest.fixture(scope="module")
def reference(run_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """transformers' model and tokeniser, from the export, which know nothing of this package."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("hub") / "model"
    export.run({"encoder": str(run_folder), "output": str(folder), "checkpoint": "best"})
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def by_transformers(reference, text: str, pooling: str, layer: int) -> np.ndarray:
    """One sequence at a time, window by window."""
    model, tokenizer = reference
    pieces = [text[i : i + WINDOW] for i in range(0, len(text), WINDOW)]
    total = 0.0
    for piece in pieces:
        with torch.no_grad():
            states = model(**tokenizer(piece, return_tensors="pt"), output_hidden_states=True)
        hidden = states.last_hidden_state[0] if layer == -1 else states.hidden_states[layer][0]
        total = total + (hidden[1:-1].mean(0) if pooling == "mean" else hidden[0]).double().numpy() * len(piece)
    return total / len(text)


@pytest.mark.parametrize(("pooling", "layer"), [("mean", -1), ("cls", -1), ("mean", 1), ("cls", -2), ("mean", 0)])
def test_vectors_are_those_of_transformers(
    run_folder: Path, fasta: tuple[Path, dict[str, str]], reference, tmp_path: Path, pooling: str, layer: int
) -> None:
    path, records = fasta
    out = tmp_path / "x.parquet"
    assert embed(f"encoder={run_folder}", f"input={path}", f"output={out}", f"pooling={pooling}", f"layer={layer}") == 0
    vectors = read(out)
    assert list(vectors) == list(records)
    for name, text in records.items():
        assert vectors[name] == pytest.approx(by_transformers(reference, text, pooling, layer), rel=1e-4, abs=1e-4)


def test_batch_size_and_order_of_input_do_not_matter(run_folder: Path) -> None:
    loaded = restore.load_run(str(run_folder))
    rng = np.random.default_rng(1)
    records = [
        Record(f"r{i}", "".join(rng.choice(list("ACGT"), n)), "x") for i, n in enumerate(rng.integers(1, 300, 60))
    ]

    def vectors(some: list[Record], batch_tokens: int) -> dict[str, np.ndarray]:
        results = list(embedded(some, loaded.encoder, loaded.modality, pytest.fail, batch_tokens=batch_tokens))
        assert [one.name for one in results] == [record.name for record in some]
        return {one.name: one.vector_D for one in results}

    alone = vectors(records, 1)
    for some, size in ((records, 8192), (records[::-1], 300), (records, 64)):
        for name, vector in vectors(some, size).items():
            assert vector == pytest.approx(alone[name], rel=1e-4, abs=2e-5)


def test_work_is_done_as_the_input_comes(run_folder: Path) -> None:
    """Memory stays flat: results leave before the input has been read to its end."""
    loaded = restore.load_run(str(run_folder))
    read_so_far = 0

    def records():
        nonlocal read_so_far
        for i in range(400):
            read_so_far += 1
            yield Record(str(i), "ACGT" * 10, "x")

    results = embedded(records(), loaded.encoder, loaded.modality, pytest.fail, batch_tokens=128)
    next(results)
    assert read_so_far < 60
    assert 1 + sum(1 for _ in results) == 400


def test_a_file_holds_what_was_read(run_folder: Path, fasta: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, records = fasta
    assert embed(f"encoder={run_folder}", f"input={path}", f"output={tmp_path / 'x.parquet'}") == 0
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["id"].to_pylist() == list(records) and table["source"].to_pylist() == ["x.fa"] * len(records)
    assert table["n_tokens"].to_pylist() == [len(text) for text in records.values()]
    assert np.array(table["embedding"].to_pylist()).shape == (len(records), 32)
    assert str(table.schema.field("embedding").type) in ("list<element: float>", "list<item: float>")
    assert json.loads(table.schema.metadata[b"ssl_suite"])["step"] == 20
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


def test_long_records_are_counted_and_stated(
    run_folder: Path, fasta: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, records = fasta
    assert embed(f"encoder={run_folder}", f"input={path}", f"output={tmp_path / 'x.parquet'}") == 0
    said = capsys.readouterr().err
    long = sum(len(text) > WINDOW for text in records.values())
    total = sum(len(text) for text in records.values())
    assert f"{len(records)} records, {total:,} tokens" in said
    assert f"{long} longer than 62 tokens, cut into windows and averaged" in said


def test_a_folder_and_a_glob_keep_their_sources(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.fa").write_text(">one\nACGT\n")
    with gzip.open(tmp_path / "in" / "deep" / "a.fa.gz", "wt") as file:
        file.write(">one\nGGGG\n")
    for given in (tmp_path / "in", tmp_path / "in" / "**" / "*.fa*"):
        assert embed(f"encoder={run_folder}", f"input={given}", f"output={tmp_path / 'x.parquet'}") == 0
        table = pq.read_table(tmp_path / "x.parquet")
        assert table["source"].to_pylist() == ["b.fa", "deep/a.fa.gz"]
        assert table["id"].to_pylist() == ["one", "one"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input": "nothing.fa"}, "input=nothing.fa: no such file"),
        ({"output": "x.csv"}, "output=x.csv should end in .parquet,"),
        ({"encoder": "nowhere"}, "encoder=nowhere is not a run folder"),
        ({"layer": "7"}, "layer=7 does not exist: choose one from -3 to 2."),
        ({"checkpoint": "15"}, "there are steps: 10, 20"),
        ({"poling": "mean"}, "Did you mean 'pooling'?"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(
    run_folder: Path,
    fasta: tuple[Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    changed: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"encoder": str(run_folder), "input": str(fasta[0]), "output": "x.parquet"} | changed
    assert embed(*(f"{key}={value}" for key, value in words.items())) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_name_of_the_catalogue_is_found_below_its_root(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    words = (f"encoder={run_folder}", "input=yeast", "output=x.parquet", "data.cache=cache")
    assert embed(*words, "data.root=there") == 2
    said = capsys.readouterr().err
    assert "input=yeast: bio/pretrain/yeast_R64-1-1_genome.parquet is not here" in said
    assert "name your files by input." in said
    monkeypatch.setattr("ssl_suite.data.sources.check_files", lambda *_: None)  # this one is smaller
    path = tmp_path / "there" / "bio" / "pretrain" / "yeast_R64-1-1_genome.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"chrom": ["I", "II"], "name": ["x", "x"], "sequence": ["ACGT", "GATTACA"]}), path)
    assert embed(*words, "data.root=there") == 0
    assert list(read(tmp_path / "x.parquet")) == ["I", "II"]  # by the entry's column
    (tmp_path / "yeast").write_text(">mine\nACGT\n")  # a file of one's own comes first
    assert embed(*words, "data.root=there") == 0
    assert list(read(tmp_path / "x.parquet")) == ["mine"]


def test_a_bad_record_stops_or_is_skipped(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "x.fa").write_text(">good\nACGT\n>bad\nMKLV\n>fine\nGATTACA\n")
    words = (f"encoder={run_folder}", f"input={tmp_path / 'x.fa'}", f"output={tmp_path / 'x.parquet'}")
    assert embed(*words) == 2
    assert "bad" in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()
    assert embed(*words, "on_error=skip") == 0
    assert "skipped: 1 " in capsys.readouterr().err
    assert list(read(tmp_path / "x.parquet")) == ["good", "fine"]


def test_a_long_way_is_told(
    run_folder: Path,
    fasta: tuple[Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """After each forward pass where there is always time for it; the last line before the result tells of all."""
    monkeypatch.setattr(embed_command, "EVERY", -1.0)
    path, records = fasta
    assert embed(f"encoder={run_folder}", f"input={path}", f"output={tmp_path / 'x.parquet'}", "batch_tokens=200") == 0
    *told, _ = capsys.readouterr().err.splitlines()
    tokens = sum(map(len, records.values()))
    assert len(told) > 3 and told[-1].startswith(f"embedding: {tokens:,} tokens, ")


def test_records_of_one_name_keep_it_and_are_told_apart(run_folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "x.fa", tmp_path / "x.parquet"
    source.write_text(">same\nACGTACGTAC\n>other\nGGGTACGTAC\n>same\nTTGTACGTAC\n")
    assert embed(f"encoder={run_folder}", f"input={source}", f"output={output}") == 0
    table = pq.read_table(output).to_pydict()
    assert list(zip(table["id"], table["occurrence"], strict=True)) == [("same", 1), ("other", 1), ("same", 2)]
    assert not np.array_equal(table["embedding"][0], table["embedding"][2])
