"""Data sets of the Hugging Face hub as input: ``data.path=hf:NAME[@REVISION][:CONFIG[:SPLIT[[:N]]]]``.

``datasets`` streams the rows, this module writes them into parquet shards in the cache, and from then on they are files
like any others. Memory holds some rows at a time; a stream that is cut off goes on after its last finished shard. The
commit is settled at the first call and kept, so that a run can be repeated, and without a network.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import ParquetFragmentScanOptions

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import cache
from ssl_suite.data.fetch import offline

FORM = "hf:NAME[@REVISION][:CONFIG[:SPLIT]], such as hf:Salesforce/wikitext:wikitext-103-raw-v1:train"
PATTERN = re.compile(
    r"hf:(?P<name>[^@:\[\]]+)(?:@(?P<revision>[^:\[\]]+))?"
    r"(?::(?P<config>[^:\[\]]*)(?::(?P<split>[^:\[\]]+)(?:\[:(?P<limit>\d+(?:_\d+)*)\])?)?)?"
)
ROWS = 100  # taken off the stream at a time: pictures and recordings of 1 MB each make 100 MB
GROUP_BYTES = 16 << 20  # of Arrow memory in a row group
SHARD_BYTES = 256 << 20  # of Arrow memory in a shard: what an interruption loses at most
TRAIN, VALID = "train", ("validation", "valid", "val", "dev")
QUIET = ("datasets", "huggingface_hub", "httpx")  # loggers whose lines about each retry hide the one that counts
ANSWERS = {  # errors of the hub's client, the more special first, in a user's words
    "GatedRepoError": "its owner asks for consent: give it on the data set's page, then `hf auth login`",
    "RevisionNotFoundError": "the hub has no such revision of it; leave out @REVISION for the newest",
    "RepositoryNotFoundError": "the hub has no data set of that name, or a private one; check the spelling",
    "DatasetNotFoundError": "the hub has no data set of that name, or a private one; check the spelling",
}
Report = Callable[[str], None]


@dataclass(frozen=True)
class Name:
    """A data set's name in its parts; ``limit`` is the number of rows wanted of each split."""

    text: str
    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    limit: int | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder that is meant, if it is no name of the hub."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() or self.name.startswith((".", "/", "~")) else None


def parse(text: str) -> Name:
    """Take a name apart.

    Raises:
        SuiteError: it is not of the form.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise SuiteError(
            f"data.path={text} should be of the form {FORM} (for the first rows of a split: train[:10000])."
        )
    parts = {key: value or None for key, value in match.groupdict().items()}
    if (limit := parts.pop("limit")) and int(limit) == 0:
        raise SuiteError(f"data.path={text}: asks for 0 rows; write {parts['split']}[:1000], or leave it out.")
    return Name(text, **parts, limit=int(limit) if limit else None)  # type: ignore[arg-type]


def stream(text: str, given_cache: str | None, report: Report) -> tuple[list[Path], str]:
    """The parquet files of a data set, streamed into the cache where they are not there yet.

    Args:
        text: as in ``FORM``. Without SPLIT: ``train``, and the validation split where there is one.
        given_cache: ``data.cache``.
        report: takes a line now and then.

    Returns:
        The files, and what they are.

    Raises:
        SuiteError: no such data set, configuration or split; no network; ``datasets`` is not installed.
    """
    wanted = parse(text)
    target = cache.cache_folder(given_cache) / "hub" / key(wanted)
    target.mkdir(parents=True, exist_ok=True)
    with cache.lock(target / ".lock", lambda: report(f"data: another process is streaming {text}; waiting for it")):
        plan = read_plan(target)
        if not plan.get("complete"):
            try:
                fill(wanted, target, plan, report)
            except SuiteError:
                raise
            except Exception as error:  # whatever the data set's own files and the libraries make of each other
                raise explain(wanted, target, error) from None
            if key(wanted) != target.name:
                (target / "plan.json").unlink()
                raise SuiteError(f"data.path={text}: its files changed while they were read; start again.")
    files = [target / name for part in plan["splits"].values() for name in part["files"]]
    rows = sum(part["rows"] for part in plan["splits"].values())
    at = f" at {plan['revision'][:12]}" if plan.get("revision") else ""
    return files, f"{text}{at} ({', '.join(plan['splits'])}; {count(rows, 'row')} in the cache)"


def key(wanted: Name) -> str:
    """The folder's name: readable, and different wherever the rows may differ."""
    parts: list[Any] = [wanted.name, wanted.revision, wanted.config, wanted.split, wanted.limit]
    if wanted.folder is not None and wanted.folder.is_dir():  # it can change; a commit of the hub cannot
        files = sorted(path for path in wanted.folder.rglob("*") if path.is_file())
        parts += [[str(path), *cache.stamp(path)] for path in files]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", wanted.name).strip("._-")[-60:]
    return f"{slug}-{hashlib.sha256(json.dumps(parts).encode('utf-8')).hexdigest()[:16]}"


def read_plan(target: Path) -> dict[str, Any]:
    """What an earlier call settled and finished; empty where there was none, or a file of it is gone."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        plan = json.loads((target / "plan.json").read_text("utf-8"))
        if all((target / name).is_file() for part in plan["splits"].values() for name in part["files"]):
            return plan
    return {}


def fill(wanted: Name, target: Path, plan: dict[str, Any], report: Report) -> None:
    """Stream what is missing; ``plan`` is filled in and kept on the disk."""
    datasets = library(wanted)
    if not plan:
        plan["revision"] = commit(wanted)
    pinned = {"revision": plan["revision"]} if plan["revision"] else {}
    if "splits" not in plan:
        present = datasets.get_dataset_split_names(wanted.name, wanted.config, **pinned)
        plan["splits"] = {split: {"files": [], "rows": 0, "done": False} for split in splits(wanted, present)}
    report(f"data: streaming {wanted.text} ({', '.join(plan['splits'])}) into {target}")
    builder = datasets.load_dataset_builder(wanted.name, wanted.config, **pinned)
    if getattr(builder.config, "fragment_scan_options", True) is None:
        # Without Arrow's cache of what is to come, which holds a whole file of parquet.
        builder.config.fragment_scan_options = ParquetFragmentScanOptions(pre_buffer=False)
    for split, part in plan["splits"].items():
        if part["done"]:
            continue
        for file, size in shards(builder.as_streaming_dataset(split=split), split, wanted, part, target):
            part["files"].append(file)
            part["rows"] += size
            atomic.write_json(target / "plan.json", plan)
            report(f"data: {count(part['rows'], 'row')} of {split} so far")
        if not part["rows"]:
            raise SuiteError(f"data.path={wanted.text}: its split {split} is empty; choose another.")
        part["done"] = True
    plan["complete"] = True
    atomic.write_json(target / "plan.json", plan)


def library(wanted: Name) -> Any:
    """The package ``datasets``, silent.

    Raises:
        SuiteError: it is not installed, or the network is forbidden and needed.
    """
    if wanted.folder is None and (variable := offline()):
        raise SuiteError(
            f"data.path={wanted.text} is not in the cache and {variable}=1 forbids the network: download its parquet "
            f"files from https://huggingface.co/datasets/{wanted.name} elsewhere and give data.path=FOLDER."
        )
    if wanted.folder is not None and not wanted.folder.is_dir():
        raise SuiteError(f"data.path={wanted.text}: {wanted.folder} is not a folder.")
    try:
        import datasets
    except ImportError:
        raise SuiteError(f"data.path={wanted.text} needs the package datasets: pip install 'ssl_suite[hub]'.") from None
    datasets.disable_progress_bars()
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    return datasets


def commit(wanted: Name) -> str | None:
    """The commit that the revision stands for today; None for a local folder."""
    if wanted.folder is not None:
        return None
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    return api.dataset_info(wanted.name, revision=wanted.revision, timeout=30).sha


def splits(wanted: Name, present: list[str]) -> list[str]:
    """The splits to stream: the one asked for, else for training and validation, else the only one there is."""
    if wanted.split is not None:
        if wanted.split not in present:
            raise SuiteError(f"data.path={wanted.text}: has no split '{wanted.split}'; it has {', '.join(present)}.")
        return [wanted.split]
    if TRAIN in present:
        return [TRAIN, *[name for name in present if name in VALID][:1]]
    if len(present) == 1:
        return present
    raise SuiteError(
        f"data.path={wanted.text}: has no split 'train' but {', '.join(present)}; "
        f"choose one: hf:{wanted.name}:{wanted.config or ''}:{present[0]}"
    )


def shards(rows: Any, split: str, wanted: Name, part: dict[str, Any], target: Path) -> Iterator[tuple[str, int]]:
    """Write the rest of a split; yields the name and the rows of each shard when it is on the disk."""
    word = None  # of two splits in one input each row says its own
    if wanted.split is None and split in (TRAIN, *VALID):
        word = "train" if split == TRAIN else "valid"
    batches = tables(rows, part["rows"], wanted.limit, word)
    batch = next(batches, None)
    number = len(part["files"])
    while batch is not None:
        name, schema, length, size = f"{split}-{number:05d}.parquet", batch.schema, 0, 0
        with atomic.replacing(target / name) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as writer:
            # A table whose columns change (JSON) goes on in the next shard.
            while batch is not None and batch.schema == schema and size < SHARD_BYTES:
                writer.write_table(batch)
                length, size = length + len(batch), size + batch.nbytes
                batch = next(batches, None)
        yield name, length
        number += 1


def tables(rows: Any, done: int, limit: int | None, word: str | None) -> Iterator[Any]:
    """Arrow tables of about ``GROUP_BYTES``, pictures and recordings as the bytes of their files."""
    from datasets.table import embed_table_storage

    if limit is not None:
        rows = rows.take(limit)
    held: list[Any] = []
    for table in rows.skip(done).with_format("arrow").iter(batch_size=ROWS):
        table = embed_table_storage(table)
        if word is not None:
            names = [name for name in table.column_names if name != "split"]
            table = table.select(names).append_column("split", pa.array([word] * len(table)))
        table = table.replace_schema_metadata(None)
        if held and (held[0].schema != table.schema or sum(one.nbytes for one in held) >= GROUP_BYTES):
            yield pa.concat_tables(held)
            held = []
        held.append(table)
    if held:
        yield pa.concat_tables(held)


def explain(wanted: Name, target: Path, error: Exception) -> SuiteError:
    """What the system and the libraries say, in one line with what to do."""
    if isinstance(error, OSError) and error.errno and str(error.filename).startswith(str(target)):
        return SuiteError(f"{error.filename}: {error.strerror}; free space, or set data.cache.")
    what = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ConnectionError", "TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}:
        remedy = f"without a network, download its parquet files from https://huggingface.co/datasets/{wanted.name} "
        return SuiteError(f"data.path={wanted.text}: {what}; {remedy}elsewhere and give data.path=FOLDER.")
    for kind, words in ANSWERS.items():
        if kind in kinds:
            return SuiteError(f"data.path={wanted.text}: {words}.")
    return SuiteError(f"data.path={wanted.text}: cannot be streamed: {what}; the form is {FORM}.")
