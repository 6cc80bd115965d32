"""torchvision's data sets by name, from folders made here."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from torchvision import datasets

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.data.sources import resolve
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.image_sets import NAMES, as_parquet, rows
from tests.modalities.pictures import stop, tiles


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two training files and a test file of CIFAR-10's format, three pictures each."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    flat = tiles(9).transpose(0, 3, 1, 2).reshape(9, -1)
    for i, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        content = pickle.dumps({"data": flat[3 * i : 3 * i + 3], "labels": [0, 1, i]})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({"label_names": ["plane", "car", "bird"]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, sums[name]] for name in list(sums)[:2]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta_sum = hashlib.md5(meta).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta_sum})
    return tmp_path


def test_a_changed_file_is_not_unpickled(cifar: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (cifar / "sprung",)

    (cifar / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(SuiteError, match=r"torchvision:CIFAR10 is not in .*, or damaged"):
        as_parquet("torchvision:CIFAR10", cifar, cifar, print)
    assert not (cifar / "sprung").exists()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for name, split, message in (
        ("CIFAR11", "train", r"torchvision:CIFAR11 is not one of .* Did you mean 'CIFAR10'\?"),
        ("CIFAR10", "valid", r"torchvision:CIFAR10 has no split 'valid'; use train or test\."),
        ("STL10", "training", r"torchvision:STL10: Unknown value 'training' for argument split\. Valid values"),
        ("MNIST", "train", r"torchvision:MNIST is not in .*; set data.root, or get it: python -c \"import torchvis"),
        ("STL10", "train", r"torchvision:STL10 is not in .*; set data.root, or get it: python -c \"import torchvis"),
        ("Food101", "train", r"torchvision:Food101 is not in .*; set data.root, or get it"),
        ("EuroSAT", "train", r"torchvision:EuroSAT is not in .*; set data.root, or get it"),
    ):
        with pytest.raises(SuiteError, match=message) as caught:
            as_parquet(f"torchvision:{name}:{split}", tmp_path, tmp_path, print)
        assert "\n" not in str(caught.value)


def test_every_name_exists() -> None:
    assert all(issubclass(getattr(datasets, name), datasets.VisionDataset) for name in NAMES)


def test_rows_of_any_data_set_of_pictures() -> None:
    fake = datasets.FakeData(size=5, image_size=(3, 40, 60), num_classes=3)
    for i, row in enumerate(rows(fake, "torchvision:FakeData", "all")):
        assert (row["id"], row["label"], row["split"]) == (f"all{i}", str(fake[i][1]), None)
        assert np.array_equal(Pillow.open(io.BytesIO(row["image"])), fake[i][0])


def test_a_picture_that_cannot_be_read() -> None:
    class Broken:
        classes = ("a", "b")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> tuple:
            if i == 2:
                raise OSError("image file is truncated")
            return Pillow.new("RGB", (32, 32)), 1 if i else -1

    found = rows(Broken(), "torchvision:X", "train")
    assert [next(found)["label"], next(found)["label"]] == [None, "b"]
    message = "torchvision:X: record 'train2' cannot be decoded (image file is truncated); download the data set again."
    with pytest.raises(BadRecord) as caught:
        next(found)
    assert str(caught.value) == message


def test_a_set_is_a_source_like_any_other(cifar: Path, tmp_path: Path) -> None:
    """``data.path=torchvision:NAME`` becomes a table of lossless pictures, made once."""
    lines: list[str] = []
    data = {"path": "torchvision:CIFAR10:train", "root": str(cifar), "cache": str(tmp_path / "cache")}
    image = Image()
    (path,) = resolve(image, data, lines.append).paths
    assert "writing 6 pictures" in lines[0]
    records = list(image.read(path, stop))
    assert [record.name for record in records] == [f"train{i}" for i in range(6)]
    assert [record.tags["label"] for record in records] == ["plane", "car", "plane", "plane", "car", "car"]
    assert {record.tags["split"] for record in records} == {"train"}
    for record, pixels in zip(records, tiles(9), strict=False):
        want = pixels.reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(64, 48)
        assert np.array_equal(image.encode(record).values, want)
    again = resolve(image, data | {"path": "torchvision:CIFAR10"}, lines.append)
    assert again.paths == [path] and len(lines) == 1
    with pytest.raises(SuiteError, match="Did you mean 'CIFAR10'"):
        resolve(image, data | {"path": "torchvision:CIFAR1O"}, lines.append)
