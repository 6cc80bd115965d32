"""The items of tasks against what was written into their tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.data.loader import Collator
from ssl_suite.data.sources import Sources
from ssl_suite.evaluation import task_data, tasks
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.speech import Speech
from tests.evaluation.test_tasks import GOOD, write
from tests.modalities.made_music import piece
from tests.modalities.made_speech import sound_file, tone

COMPLEMENT = str.maketrans("ACGT", "TGCA")
REGRESSION = {"head": "regression", "metrics": ["spearman"], "select": "spearman"}
SPLITS = ("valid", "train", "other", "test", "train", "train", "test", "valid", "train", "test")


def sequences(count: int, length: int = 20, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("ACGT"), length + i % 3)) for i in range(count)]


def table(folder: Path, content: dict[str, Sequence[Any]], **changes: Any) -> tasks.Task:
    """A task on a table of these columns."""
    path = write(folder, **changes)
    pq.write_table(pa.table({key: list(value) for key, value in content.items()}), path.parent / "mine.parquet")
    return tasks.load(path)


def dna(folder: Path, **changes: Any) -> tuple[tasks.Task, dict[str, list]]:
    content = {"sequence": sequences(len(SPLITS)), "label": list("babaabbabb"), "split": list(SPLITS)}
    content |= {key: changes.pop(key) for key in list(changes) if key in content and isinstance(changes[key], list)}
    return table(folder, content, **changes), content


def load(task: tasks.Task, limits: dict | None = None, **place: Any) -> task_data.TaskData:
    return task_data.load(task, tasks.build_modality(task), place, limits or {})


def spelled(data: task_data.TaskData, modality: DNA, part: str) -> list[str]:
    windows = data.split(part)
    spans = zip(windows.starts_S.tolist(), windows.lengths_S.tolist(), strict=True)
    return [modality.decode(data.values[start : start + length]) for start, length in spans]


def test_every_row_is_in_its_place(tmp_path: Path) -> None:
    task, columns = dna(tmp_path, modality={"name": "dna", "max_length": 23})
    modality, data = tasks.build_modality(task), load(task)
    assert data.classes == ("a", "b")
    for part, value in (("train", "train"), ("dev", "valid"), ("test", "test")):
        rows = [i for i, split in enumerate(SPLITS) if split == value]
        found = data.parts[part]
        assert spelled(data, modality, part) == [columns["sequence"][i][:21] for i in rows]
        assert task_data.symbols(data, modality, part) == [columns["sequence"][i][:21] for i in rows]
        assert [data.classes[i] for i in found.labels_I] == [columns["label"][i] for i in rows]
        assert found.rows_I.tolist() == found.windows.records_S.tolist() == list(range(len(rows)))
        assert (found.full, found.truncated) == (len(rows), sum(len(columns["sequence"][i]) > 21 for i in rows))
    assert data.parts["train"].truncated == 2 and data.values.dtype == np.uint8
    assert data.record_name(1, "test") == "mine@first:test row 2"
    assert data.data_sha256 == hashlib.sha256((tmp_path / "bio/mine.parquet").read_bytes()).hexdigest()


def test_the_loader_takes_it_for_a_store(tmp_path: Path) -> None:
    task, columns = dna(tmp_path)
    modality, data = tasks.build_modality(task), load(task)
    collator = Collator(data, "test", modality.vocabulary, n=60, slots=2, max_length=34)  # type: ignore[arg-type]
    batch = collator.rows([np.array([2, 0])])
    ids = {letter: i for i, letter in enumerate(modality.vocabulary.tokens)}
    third, first = columns["sequence"][9], columns["sequence"][3]
    expected = [2, *(ids[x] for x in third), 3, 2, *(ids[x] for x in first), 3]
    assert batch.values.tolist() == expected + [0] * (60 - len(expected))
    assert batch.index_B.tolist() == [2, 0, -1]


def test_chunks_hold_every_token_once(tmp_path: Path) -> None:
    task, columns = dna(tmp_path, overflow="chunks", modality={"name": "dna", "max_length": 9})
    modality, data = tasks.build_modality(task), load(task)
    texts = [text for text, split in zip(columns["sequence"], SPLITS, strict=True) if split == "test"]
    found = data.parts["test"]
    expected = [(i, text[at : at + 7]) for i, text in enumerate(texts) for at in range(0, len(text), 7)]
    assert list(zip(found.windows.records_S.tolist(), spelled(data, modality, "test"), strict=True)) == expected
    assert (len(found), found.truncated) == (3, 0)
    assert task_data.symbols(data, modality, "test") == texts


def test_few_chunks_lie_evenly_over_the_item(tmp_path: Path) -> None:
    task, columns = dna(tmp_path, overflow="chunks", modality={"name": "dna", "max_length": 6})
    modality = tasks.build_modality(task)
    data = task_data.load(task, modality, {}, {}, chunks=3)
    texts = [text for text, split in zip(columns["sequence"], SPLITS, strict=True) if split == "train"]
    expected = []
    for text in texts:
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
        count = len(pieces)
        expected += pieces if count <= 3 else [pieces[count // 6], pieces[count // 2], pieces[5 * count // 6]]
    assert spelled(data, modality, "train") == expected
    assert data.parts["train"].truncated == sum(len(text) > 12 for text in texts) > 0
    assert "".join(task_data.symbols(data, modality, "train")) == "".join(expected)


def test_the_middle_is_what_is_read_of_a_long_item(tmp_path: Path) -> None:
    task, columns = dna(tmp_path, overflow="middle", modality={"name": "dna", "max_length": 22})
    modality, data = tasks.build_modality(task), load(task)
    texts = [text for text, split in zip(columns["sequence"], SPLITS, strict=True) if split == "train"]
    expected = [text[(len(text) - 20) // 2 :][:20] if len(text) > 20 else text for text in texts]
    assert expected != [text[:20] for text in texts]
    assert spelled(data, modality, "train") == task_data.symbols(data, modality, "train") == expected
    assert data.parts["train"].truncated == sum(len(text) > 20 for text in texts)


def test_limits_keep_the_same_rows_whatever_else_changes(tmp_path: Path) -> None:
    count = 60
    split = ["train", "train", "valid", "test"] * (count // 4)
    task, _ = dna(
        tmp_path, sequence=sequences(count), label=[float(i) for i in range(count)], split=split, **REGRESSION
    )
    data_sha256 = hashlib.sha256((tmp_path / "bio/mine.parquet").read_bytes()).hexdigest()
    full = load(task)
    kept: dict[int, set] = {}
    for limit in (5, 12, 30, 99):
        data = load(task, {"train": limit, "dev": None, "test": 4})
        keys = {i: hashlib.sha256(f"{data_sha256}:train:{i}".encode()).hexdigest() for i in range(30)}
        assert data.parts["train"].rows_I.tolist() == sorted(sorted(keys, key=keys.__getitem__)[:limit])
        assert (len(data.parts["dev"]), len(data.parts["test"]), data.parts["test"].full) == (15, 4, 15)
        assert np.array_equal(data.parts["train"].labels_I, full.parts["train"].labels_I[data.parts["train"].rows_I])
        same = ("classes", "data_sha256", "split_sha256", "leakage")
        assert [getattr(data, key) for key in same] == [getattr(full, key) for key in same]
        kept[limit] = set(data.parts["train"].rows_I.tolist())
    assert kept[5] < kept[12] < kept[30] == kept[99]
    with pytest.raises(SuiteError, match=r"limits.train=0 should be at least 1"):
        load(task, {"train": 0})
    with pytest.raises(SuiteError, match=r"no split 'tets' to limit. Did you mean 'test'"):
        load(task, {"tets": 1})


def test_copies_between_splits_are_counted(tmp_path: Path) -> None:
    texts = sequences(len(SPLITS))
    texts[3] = texts[1][::-1].translate(COMPLEMENT)  # test and train, the other strand
    texts[6] = texts[9] = texts[4].lower()  # two of test, and train
    texts[7] = texts[9]  # of dev, test and train
    task, _ = dna(tmp_path, sequence=texts)
    expected = {"dev_in_train": 1, "test_in_train": 3, "test_in_dev": 2}
    assert load(task).leakage == load(task, {"train": 3}).leakage == expected


def test_the_digest_of_a_split_is_of_inputs_labels_and_order(tmp_path: Path) -> None:
    task, columns = dna(tmp_path / "1")
    digest = load(task).split_sha256
    kmers, _ = dna(tmp_path / "2", modality={"name": "dna", "max_length": 34, "tokenizer": "kmer", "k": 3})
    assert load(kmers).split_sha256 == digest  # the same test, whatever reads it
    relabelled = [*columns["label"][:6], "a", *columns["label"][7:]]
    moved = columns["sequence"][:]
    moved[3], moved[6] = moved[6], moved[3]
    for i, change in enumerate(({"label": relabelled}, {"sequence": moved})):
        other, _ = dna(tmp_path / f"3{i}", **change)
        assert load(other).split_sha256 != digest


def test_a_tokeniser_is_trained_on_train_alone(tmp_path: Path) -> None:
    texts = ["ACACACACACACACAC" if split == "train" else "GTTGTTGTTGTTGTTG" for split in SPLITS]
    task, _ = dna(tmp_path, sequence=texts, modality={"name": "dna", "tokenizer": "bpe", "vocab_size": 24})
    modality = tasks.build_modality(task)
    data = task_data.load(task, modality, {}, {"train": 3})
    alone = tasks.build_modality(task)
    alone.fit(iter([Record(f"r{i}", texts[1], "x") for i in range(SPLITS.count("train"))]))
    assert modality.vocabulary.tokens == alone.vocabulary.tokens
    assert not any("G" in token and len(token) > 1 for token in modality.vocabulary.tokens[5:])
    (first, *_) = task_data.symbols(data, modality, "train")
    assert len(first) < 16 and all(ord(letter) >= 0xF0000 for letter in first)


def test_regression_from_csv_with_a_blank_line(tmp_path: Path) -> None:
    texts = sequences(6)
    lines = [f"{texts[i]},{i - 2.5},{split}" for i, split in enumerate(["train", "test", "dev"] * 2)]
    splits = {"column": "split", "train": "train", "dev": "dev", "test": "test"}
    path = write(tmp_path, data="file:my.csv", splits=splits, **REGRESSION)
    (tmp_path / "bio/my.csv").write_text("\n".join(["sequence,label,split", *lines[:2], "", *lines[2:]]) + "\n")
    task = tasks.load(path)
    data = load(task)
    assert data.classes == () and data.parts["test"].labels_I.dtype == np.float64
    assert data.parts["test"].labels_I.tolist() == [-1.5, 1.5] and data.parts["dev"].labels_I.tolist() == [-0.5, 2.5]
    assert spelled(data, tasks.build_modality(task), "dev") == [texts[2], texts[5]]


def test_several_files_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = dna(tmp_path)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    whole = pq.read_table(tmp_path / "bio/mine.parquet")
    pq.write_table(whole.slice(0, 4), paths[0])
    pq.write_table(whole.slice(4), paths[1])
    one = load(task)
    monkeypatch.setattr(task_data, "find_sources", lambda *args: Sources(paths, "two"))
    two = load(task)
    assert np.array_equal(one.values, two.values) and one.split_sha256 == two.split_sha256
    assert one.data_sha256 != two.data_sha256


def test_music_is_compared_in_any_key(tmp_path: Path) -> None:
    """The sixth piece is the second, in another key."""
    from symusic import Score

    midi = [piece(seed) for seed in range(len(SPLITS))]
    midi[6] = Score.from_midi(midi[1]).shift_pitch(3).dumps_midi()
    columns = {"midi": midi, "label": list("babaabbabb"), "split": list(SPLITS)}
    modality = {"name": "music", "tokenizer": "pitch", "max_length": 18}
    task = table(tmp_path, columns, inputs="midi", modality=modality, overflow="chunks")
    data = load(task)
    assert data.leakage == {"dev_in_train": 0, "test_in_train": 1, "test_in_dev": 0}
    train, test = (task_data.symbols(data, tasks.build_modality(task), part) for part in ("train", "test"))
    assert [ord(b) - ord(a) for a, b in zip(train[0], test[1], strict=True)] == [3] * len(train[0])
    assert int(data.split("train").lengths_S.max()) == 16


def test_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sounds: only those that are kept are decoded, and the others are compared by their bytes."""
    sounds = [sound_file(tone(0.4 + 0.05 * i)) for i in range(len(SPLITS))]
    sounds[6] = sounds[1]
    columns = {"audio": sounds, "label": list("babaabbabb"), "split": list(SPLITS)}
    task = table(tmp_path, columns, inputs="audio", modality={"name": "speech", "max_length": 27})
    modality, decoded, encode = tasks.build_modality(task), [], Speech.encode
    monkeypatch.setattr(Speech, "encode", lambda self, record: decoded.append(record.name) or encode(self, record))
    data = task_data.load(task, modality, {}, {"train": 3, "dev": 2})
    assert len(decoded) == 3 + 2 + 3
    assert data.values.shape[1:] == (320,) and data.values.dtype == np.int16
    assert data.leakage == {"dev_in_train": 0, "test_in_train": 1, "test_in_dev": 0}
    windows = data.split("test")
    whole = modality.encode(Record("r", sounds[9], "x")).values
    start = int(windows.starts_S[2])
    assert np.array_equal(data.values[start : start + 25], whole[:25])
    lengths = [len(modality.encode(Record("r", sounds[i], "x")).values) for i in (3, 6, 9)]
    assert data.parts["test"].truncated == sum(length > 25 for length in lengths) > 0
    with pytest.raises(SuiteError, match="have no units"):
        _ = data.ids
    with pytest.raises(SuiteError, match="frames, not tokens"):
        task_data.symbols(data, modality, "test")


def test_only_train_may_skip_rows(tmp_path: Path) -> None:
    texts = sequences(len(SPLITS))
    texts[1], texts[5] = "ACGT!!", ""
    task, _ = dna(tmp_path, sequence=texts)
    with pytest.raises(SuiteError, match=r"record 'row2'.*not DNA"):
        load(task)
    data = load(task, on_error="skip")
    train = data.parts["train"]
    assert (train.rows_I.tolist(), train.full, train.skipped, data.parts["test"].skipped) == ([1, 3], 4, 2, 0)
    texts[9] = "ACGT!!"
    task, _ = dna(tmp_path, sequence=texts)
    with pytest.raises(SuiteError, match=r"dev and test skip no row: .*row2"):
        load(task, on_error="skip")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": "labl", "head": "classification"}, "has no column 'labl'. Did you mean 'label'?"),
        ({"inputs": "seqence"}, "has no column 'seqence'. Did you mean 'sequence'?"),
        (
            {"splits": {**GOOD["splits"], "test": "tset"}},
            "no row has tset in column 'split', so test",
        ),
        ({"label": list("babcabbabc")}, "2 rows of test have the label 'c', which no row of train has"),
        ({"label": list("aaaaaaaaaa")}, "the label of the 4 items of train is always a"),
        ({"label": list("babbabbabb")}, "the label of the 3 items of test is always b"),
        ({"label": [*"babaabb", None, *"bb"]}, "mine.parquet: row 8 has no label"),
        ({"label": [1.0, 2, 3, 4, 5, float("nan"), 7, 8, 9, 10], **REGRESSION}, "row 6 has the label nan"),
        ({"label": [1.0, 2, 3, float("inf"), 5, 6, 7, 8, 9, 10], **REGRESSION}, "row 4 has the label inf"),
        ({"label": [1.0, 2, 3, 4, 5, 6, 4, 8, 9, 4], **REGRESSION}, "3 items of test is always 4.0"),
        ({"label": list("babaabbabb"), **REGRESSION}, "row 1 has the label b; regression takes finite numbers"),
        ({"data": "file:none.parquet"}, "none.parquet is not here"),
        ({"data": "file:mine@first.yaml"}, "is no table"),
        ({"sequence": [""] * 10}, "row 1 has no sequence"),
        ({"sequence": [1] * 10}, "column 'sequence' holds int64, not text"),
        ({"data": "splice"}, "data=splice: bio/dna/splice.parquet is not here"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, changes: dict, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    task, _ = dna(tmp_path, **changes)
    with pytest.raises(SuiteError) as caught:
        load(task)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_more_faults(tmp_path: Path) -> None:
    columns = {"sequence": sequences(10), "label": list("babaabbabb"), "split": list(SPLITS)}
    task = table(tmp_path, {**columns, "row": range(10)})
    with pytest.raises(SuiteError, match="has a column 'row'"):
        load(task)
    task, _ = dna(tmp_path)
    with pytest.raises(SuiteError, match="is for modality=dna, not protein"):
        task_data.load(task, tasks.build_modality(tasks.find("cross_domain", "stability")), {}, {})
    with pytest.raises(SuiteError, match="1 item of train that the budget keeps is always"):
        load(task, {"train": 1})
    (tmp_path / "bio/mine.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SuiteError, match=r"mine\.parquet"):
        load(task)
    path = write(tmp_path, data="file:my.csv")
    (tmp_path / "bio/my.csv").write_text("sequence,label,split\nACGT,a,train\nACGT,a\n")
    with pytest.raises(SuiteError, match="row 2 has 2 fields, the header 3"):
        load(tasks.load(path))


def test_the_samples_need_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    task = tasks.find("sample", "gc")
    data = load(task)
    for part in tasks.PARTS:
        texts = task_data.symbols(data, tasks.build_modality(task), part)
        shares = [(text.count("G") + text.count("C")) / len(text) for text in texts]
        np.testing.assert_allclose(shares, data.parts[part].labels_I, atol=1e-12)
    task = tasks.find("sample", "voice")
    data = load(task)
    assert {name: (len(part), len(part.windows) > len(part)) for name, part in data.parts.items()} == {
        "train": (240, True),
        "dev": (80, True),
        "test": (80, True),
    }
    highest = {}
    for text, label in zip(
        task_data.symbols(data, tasks.build_modality(task), "test"), data.parts["test"].labels_I, strict=True
    ):
        highest.setdefault(data.classes[label], []).append(np.mean([ord(letter) for letter in text]))
    means = {name: np.mean(values) for name, values in highest.items()}
    assert sorted(means, key=means.__getitem__) == ["bass", "tenor", "alto", "soprano"]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "items", "truncated", "copies"),
    [
        ("splice", (2871, 159, 160), (0, 0, 0), {"dev_in_train": 10, "test_in_train": 13, "test_in_dev": 0}),
        ("h3", (1347, 150, 1497), (0, 0, 0), {"dev_in_train": 0, "test_in_train": 0, "test_in_dev": 0}),
        ("stability", (53614, 2512, 12851), None, {"dev_in_train": 0, "test_in_train": 26, "test_in_dev": 0}),
    ],
)
def test_real_tasks(name: str, items: tuple, truncated: tuple | None, copies: dict) -> None:
    """Counts of the data's own description; 26 proteins are in train and test of TAPE's stability."""
    data = load(tasks.find("cross_domain", name))
    assert tuple(len(part) for part in data.parts.values()) == items
    assert truncated in (None, tuple(part.truncated for part in data.parts.values()))
    assert data.leakage == copies


def test_clusters_are_a_columns_values_or_families_of_near_copies(tmp_path: Path) -> None:
    one, other = sequences(2, 60)
    texts = sequences(len(SPLITS), 60, seed=1)
    texts[3], texts[6], texts[9] = one, other, one[:30] + "A" + one[31:]  # the test part
    task, _ = dna(tmp_path, sequence=texts, cluster="near copies")
    data = load(task)
    a, b, c = data.parts["test"].clusters_I.tolist()  # type: ignore[union-attr]
    assert a == c != b and data.parts["train"].clusters_I is None
    task, _ = dna(tmp_path, cluster="label")
    assert load(task).parts["test"].clusters_I.tolist() == [0, 1, 1]  # type: ignore[union-attr]
    task, _ = dna(tmp_path, cluster=["label", "split"])
    found = load(task).parts["test"].clusters_I
    assert found.shape == (3, 2) and found.max() == 2  # type: ignore[union-attr]
    assert found[:, 0].tolist() == [0, 1, 1] and set(found[:, 1]) == {2}  # type: ignore[index]
    with pytest.raises(SuiteError, match="cluster=near copies is not for modality=speech; name a column"):
        task_data.clusters(tasks.Task(**vars(task) | {"cluster": "near copies"}), Speech(), "test", None, [], [])  # type: ignore[arg-type]
