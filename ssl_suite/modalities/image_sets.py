"""Picture data sets that torchvision knows by name, from a folder where they have been downloaded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.wording import count
from ssl_suite.modalities.image_files import SPLITS

PREFIX = "torchvision:"

# How each is asked for a split: by ``train=True``, by ``split="train"``, or not at all. Left out are those whose
# loaders unpickle files that nobody has checked; CIFAR's are pickles, which torchvision holds against their MD5 first.
BY_FLAG = ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST")
BY_NAME = (
    "Country211",
    "DTD",
    "FGVCAircraft",
    "Flowers102",
    "Food101",
    "GTSRB",
    "Imagenette",
    "OxfordIIITPet",
    "RenderedSST2",
    "STL10",
    "SVHN",
)
WHOLE = ("Caltech101", "Caltech256", "EuroSAT", "SUN397")
NAMES = (*BY_FLAG, *BY_NAME, *WHOLE)
ROWS = 1024


def as_parquet(text: str, root: Path, cache: Path, report: Callable[[str], None]) -> Path:
    """The pictures of ``torchvision:NAME[:SPLIT]`` (``train`` where no split is named) as a table of PNGs in the cache.

    It is made once for what a folder holds: its name carries a hash of the size and of three of the pictures.

    Args:
        root: the folder that torchvision keeps the data set in.

    Raises:
        SuiteError: an unknown name or split, the data set is not there or damaged, or a picture cannot be decoded.
    """
    name, _, split = text.removeprefix(PREFIX).partition(":")
    split = split or "train"
    if name not in NAMES:
        raise SuiteError(f"{PREFIX}{name} is not one of torchvision's picture data sets.{nearest(name, NAMES)}")
    dataset = opened(name, root, split)
    digest = hashlib.sha256(str(len(dataset)).encode())
    for i in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        digest.update(dataset[i][0].convert("RGB").tobytes())
    path = cache / "torchvision" / f"{name}-{split}-{digest.hexdigest()[:16]}.parquet"
    if not path.is_file():
        report(f"data: writing {count(len(dataset), 'picture')} of {text} to {path}")
        with atomic.replacing(path) as unfinished:
            write_table(rows(dataset, text, split), unfinished)
    return path


def opened(name: str, root: Path, split: str) -> Any:
    """The ``torchvision.datasets`` object."""
    from torchvision import datasets

    if name in BY_FLAG and split not in ("train", "test"):
        raise SuiteError(f"{PREFIX}{name} has no split '{split}'; use train or test.")
    which: dict[str, Any] = {"train": split == "train"} if name in BY_FLAG else {"split": split}
    try:
        return getattr(datasets, name)(str(root), **({} if name in WHOLE else which))
    except ImportError as error:
        raise SuiteError(f"{PREFIX}{name} needs {error.name}; install it: pip install {error.name}.") from None
    except ValueError as error:  # "Unknown value 'x' for argument split. Valid values are …"
        raise SuiteError(f"{PREFIX}{name}: {first_line(error)}") from None
    except (RuntimeError, OSError) as error:
        how = f"python -c \"import torchvision; torchvision.datasets.{name}('{root}', download=True)\""
        raise SuiteError(
            f"{PREFIX}{name} is not in {root}, or damaged ({first_line(error)}); set data.root, or get it: {how}"
        ) from None


def rows(dataset: Any, source: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of any data set of (picture, class) pairs; classes are named where ``dataset.classes`` names them."""
    classes = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    for i in range(len(dataset)):
        name, packed = f"{split}{i}", io.BytesIO()
        try:
            picture, target = dataset[i]
            picture.save(packed, "PNG", compress_level=1)
        except Exception as error:  # decoders raise whatever they stumble over
            why = first_line(error) or type(error).__name__
            message = f"{source}: record '{name}' cannot be decoded ({why}); download the data set again."
            raise BadRecord(message, "damaged") from None
        known = isinstance(target, int) and target >= 0  # -1 marks the unlabelled ones of STL10
        label = str(classes[target] if classes else target) if known else None
        yield {"id": name, "image": packed.getvalue(), "label": label, "split": split if split in SPLITS else None}


def write_table(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Write id, image, label and split columns, ``ROWS`` rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.string()), ("split", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def first_line(error: Exception) -> str:
    """An exception's text as part of a message."""
    return (str(error).splitlines() or [""])[0]
