"""Data sets by name, streamed into the cache by ``datasets``; a local folder stands in for one of the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import hub
from ssl_suite.data.hub import parse, stream
from ssl_suite.data.sources import resolve
from ssl_suite.modalities.dna import DNA
from tests.data.http_server import serving

PNG = bytes.fromhex(  # 1 x 1, grey
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's; no word to the network, which a local folder must not need."""
    pytest.importorskip("huggingface_hub.constants")  # which keeps what the variable was when it was imported
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of 350 training, 30 validation and 20 test rows; its own column ``split`` is something else."""
    pytest.importorskip("datasets")
    base = tmp_path / "set"
    base.mkdir()
    for name, count in (("train", 350), ("validation", 30), ("test", 20)):
        rows = [f"{name}{i}" for i in range(count)]
        table = pa.table({"sequence": ["ACGT"] * count, "id": rows, "split": ["odd"] * count})
        pq.write_table(table, base / f"{name}-00000.parquet")
    return base


def rows(paths: list[Path]) -> list[dict]:
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:imdb", ("imdb", None, None, None, None)),
        ("hf:a/b@refs/pr/1:conf:train[:1_000]", ("a/b", "refs/pr/1", "conf", "train", 1000)),
        ("hf:a/b::test", ("a/b", None, None, "test", None)),
        ("hf:a/b@v1:conf", ("a/b", "v1", "conf", None, None)),
    ],
)
def test_the_form_of_a_name(text: str, parts: tuple) -> None:
    name = parse(text)
    assert (name.name, name.revision, name.config, name.split, name.limit) == parts


@pytest.mark.parametrize(
    "text", ["hf:", "hf:a[:3]", "hf:a:b:c:d", "hf:a::", "hf:a::train[3:]", "hf:a::train[:0]", "hf:a@"]
)
def test_names_of_no_form(text: str) -> None:
    with pytest.raises(SuiteError, match=r"should be of the form|asks for 0 rows"):
        parse(text)


def test_training_and_validation_come_and_test_does_not(folder: Path) -> None:
    lines: list[str] = []
    paths, described = stream(f"hf:{folder}", None, lines.append)
    assert [path.name for path in paths] == ["train-00000.parquet", "validation-00000.parquet"]
    found = rows(paths)
    assert [row["id"] for row in found] == [f"train{i}" for i in range(350)] + [f"validation{i}" for i in range(30)]
    assert [row["split"] for row in found] == ["train"] * 350 + ["valid"] * 30
    assert described == f"hf:{folder} (train, validation; 380 rows in the cache)"
    assert lines[0].startswith(f"data: streaming hf:{folder} (train, validation) into ")
    again: list[str] = []
    assert stream(f"hf:{folder}", None, again.append)[0] == paths
    assert again == []


def test_a_split_of_ones_own_and_its_first_rows(folder: Path) -> None:
    found = rows(stream(f"hf:{folder}::test", None, print)[0])
    assert (len(found), {row["split"] for row in found}) == (20, {"odd"})  # no second split: the table is as it was
    found = rows(stream(f"hf:{folder}::train[:130]", None, print)[0])
    assert [row["id"] for row in found] == [f"train{i}" for i in range(130)]


def test_a_stream_that_breaks_goes_on_after_its_last_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a batch each; the third is cut off while it is written, and only what follows it is streamed again."""
    monkeypatch.setattr(hub, "GROUP_BYTES", 1)
    monkeypatch.setattr(hub, "SHARD_BYTES", 1)
    asked: list[int] = []
    real = hub.tables
    monkeypatch.setattr(hub, "tables", lambda rows, done, *rest: asked.append(done) or real(rows, done, *rest))
    written: list[Path] = []

    def broken(path: Path) -> None:
        written.append(path)
        if len(written) == 5:  # each shard, and the plan that names it
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hub.atomic, "sync_all", broken)
        with pytest.raises(KeyboardInterrupt):
            stream(f"hf:{folder}", None, print)
    paths, _ = stream(f"hf:{folder}", None, print)
    assert asked == [0, 200, 0]  # the rest of train, then validation
    assert [path.name for path in paths] == [f"train-{i:05d}.parquet" for i in range(4)] + ["validation-00000.parquet"]
    assert [row["id"] for row in rows(paths)][:350] == [f"train{i}" for i in range(350)]
    assert sorted(path.name for path in paths[0].parent.glob("*.parquet")) == sorted(path.name for path in paths)


def test_a_lost_shard_is_streamed_again(folder: Path) -> None:
    paths, _ = stream(f"hf:{folder}", None, print)
    paths[0].unlink()
    assert len(rows(stream(f"hf:{folder}", None, print)[0])) == 380


def test_a_folder_that_changes_is_another_data_set(folder: Path) -> None:
    first, _ = stream(f"hf:{folder}", None, print)
    path = folder / "train-00000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 7), path)
    os.utime(path, ns=(1, 1))
    second, _ = stream(f"hf:{folder}", None, print)
    assert first[0].parent != second[0].parent
    assert len(rows(second)) == 37


def test_pictures_come_as_the_bytes_of_their_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pytest.importorskip("PIL")
    for name in ("cat", "dog"):
        (tmp_path / "set/train" / name).mkdir(parents=True)
        (tmp_path / f"set/train/{name}/x.png").write_bytes(PNG)
    found = rows(stream(f"hf:{tmp_path}/set", None, print)[0])
    assert [row["image"]["bytes"] for row in found] == [PNG, PNG]
    assert [row["label"] for row in found] == [0, 1]


def test_columns_that_change_on_the_way(tmp_path: Path) -> None:
    """JSON whose column is empty at first: the table goes on in another file."""
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    lines = ['{"text": "a", "more": null}\n'] * 150 + ['{"text": "b", "more": "c"}\n'] * 150
    (tmp_path / "set/train.jsonl").write_text("".join(lines))
    found = rows(stream(f"hf:{tmp_path}/set", None, print)[0])
    assert [row["text"] for row in found] == ["a"] * 150 + ["b"] * 150


def test_runs_read_it_like_files(folder: Path) -> None:
    sources = resolve(DNA(), {"path": f"hf:{folder}"}, report=lambda text: None)
    records = [record for path in sources.paths for record in DNA().read(path, print)]
    assert len(records) == 380
    assert records[-1].tags["split"] == "valid"


def test_a_data_set_of_the_hub(folder: Path, tmp_path: Path) -> None:
    """Through the real client, which reads HF_ENDPOINT when it is imported, from a stand-in for the hub."""
    commit, api = "c" * 40, "/api/datasets/owner/name"
    facts = {"_id": "1", "id": "owner/name", "sha": commit, "private": False, "gated": False, "tags": []}
    facts |= {"downloads": 0, "likes": 0, "disabled": False, "siblings": []}
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    tree = [{"type": "file", "oid": "0" * 40, "size": len(raw), "path": name} for name, raw in contents.items()]
    code = "import sys; from ssl_suite.data import hub\nfor text in sys.argv[1:]: print(hub.stream(text, None, str)[1])"
    with serving() as site:
        site.files = {f"/datasets/owner/name/resolve/{commit}/{name}": raw for name, raw in contents.items()}
        site.files |= {path: json.dumps(facts).encode() for path in (api, f"{api}/revision/{commit}")}
        site.files[f"{api}/tree/{commit}?recursive=false&expand=false"] = json.dumps(tree).encode()
        site.headers = {"X-Repo-Commit": commit, "X-Error-Code": "EntryNotFound"}
        own = {"HF_ENDPOINT": site.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
        command = [sys.executable, "-c", code, "hf:owner/name", "hf:owner/name::test[:7]", "hf:owner/name"]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "hf:owner/name at cccccccccccc (train, validation; 380 rows in the cache)",
        "hf:owner/name::test[:7] at cccccccccccc (test; 7 rows in the cache)",
        "hf:owner/name at cccccccccccc (train, validation; 380 rows in the cache)",
    ], done.stderr
    asked = [path for _, path, _ in site.requests if "resolve" in path]
    assert asked and all(f"/resolve/{commit}/" in path for path in asked)  # never main, which may change on the way


def test_answers_of_the_hub_in_a_users_words() -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    for kind, words in (
        (errors.GatedRepoError, "asks for consent"),
        (errors.RepositoryNotFoundError, "no data set of that name"),
        (errors.RevisionNotFoundError, "no such revision"),
    ):
        assert words in str(hub.explain(parse("hf:a/b@c"), Path("none"), kind.__new__(kind)))


def fault(text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        stream(text, None, print)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    assert fault(f"hf:{folder}::tran").endswith("has no split 'tran'; it has train, validation, test.")
    assert "BuilderConfig 'nope' not found" in fault(f"hf:{folder}:nope")
    assert fault(f"hf:{tmp_path}/none").endswith(f"{tmp_path}/none is not a folder.")
    (tmp_path / "bare").mkdir()
    assert "cannot be streamed" in fault(f"hf:{tmp_path}/bare")
    (folder / "train-00000.parquet").write_bytes(b"PAR1 no parquet")
    assert "cannot be streamed" in fault(f"hf:{folder}")


def test_a_choice_of_splits_without_train(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    for name in ("test", "validation"):
        pq.write_table(pa.table({"x": [1]}), tmp_path / f"set/{name}-0.parquet")
    assert "has no split 'train' but" in fault(f"hf:{tmp_path}/set")
    (tmp_path / "set/test-0.parquet").unlink()
    assert len(rows(stream(f"hf:{tmp_path}/set", None, print)[0])) == 1


def test_offline_and_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = fault("hf:owner/name:conf:train")
    assert line.startswith("data.path=hf:owner/name:conf:train is not in the cache and HF_HUB_OFFLINE=1 forbids")
    assert "https://huggingface.co/datasets/owner/name elsewhere and give data.path=FOLDER" in line
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert fault(f"hf:{tmp_path}").endswith("needs the package datasets: pip install 'ssl_suite[hub]'.")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    assert fault("hf:owner/name").endswith("elsewhere and give data.path=FOLDER.")
