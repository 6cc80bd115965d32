"""How fast each modality's data are prepared, and whether memory stays flat as the input grows.

    python benchmarks/prepare.py                        every modality, on its built-in sample, repeated
    python benchmarks/prepare.py music speech           some
    python benchmarks/prepare.py --root /data           on real sets of the catalogue, where they are there

Each measurement is a process of its own that prepares copies of the input from nothing (an empty cache): once a base
amount, then ten times as much. Seconds are wall time of the preparation, imports left out; memory is the largest
resident set of the process and of its workers. For music the same files go through miditok alone, in the same run.
The last line is one JSON object: for each modality its rate in the unit that its users count, and the growth of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETS = {
    "text": "text/corpus/en_books.parquet",
    "dna": "bio/pretrain/yeast_R64-1-1_genome.parquet",
    "protein": "bio/pretrain/swissprot2014_sample.parquet",
    "music": "media/music/pretrain_classical.parquet",
    "image": "media/image/cifar10_60k_jpeg.parquet",
    "speech": "media/speech/librispeech_3spk_asr_pr.parquet",
}
# A key of the store's counts (or of its report) that is divided by the seconds, what for, and the unit's name.
UNITS = {
    "text": ("bytes", 1e6, "MB of text/s"),
    "dna": ("tokens", 1e6, "Mbase/s"),
    "protein": ("tokens", 1e6, "M residues/s"),
    "music": ("records", 1.0, "files/s"),
    "image": ("records", 1.0, "pictures/s"),
    "speech": ("tokens", 50.0, "x real time"),
}
BASE = {"text": 2, "dna": 2, "protein": 2, "music": 1, "image": 1, "speech": 1}  # copies of the input at 1x

CHILD = """
import json, resource, sys, time
from ssl_suite.core import registry
from ssl_suite.settings import config
from ssl_suite.data.prepare import prepare
words = json.loads(sys.argv[1])
cfg = config.compose(words)
modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
begun = time.monotonic()
store = prepare(modality, cfg["data"], report=lambda line: None)
seconds = time.monotonic() - begun
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({**store.report, "seconds": seconds, "peak_mib": peak / 1024}))
"""


@dataclass(frozen=True)
class Measured:
    """One preparation: the rate in the modality's unit, seconds, and the largest resident set in MiB."""

    rate: float
    seconds: float
    peak_mib: float


def inputs(modality: str, root: Path | None) -> list[Path]:
    """The files to copy: a catalogued set below ``root``, else the built-in sample."""
    if root is not None and (root / SETS[modality]).is_file():
        return [root / SETS[modality]]
    return sorted(path for path in (ROOT / "samples" / modality).iterdir() if path.is_file())


def text_bytes(paths: list[Path]) -> int:
    """UTF-8 bytes of the text in parquet or plain files, as they are on no disk: uncompressed."""
    import gzip

    import pyarrow.parquet as pq

    total = 0
    for path in paths:
        if path.suffix == ".parquet":
            total += sum(len(" ".join(row).encode()) for row in pq.read_table(path)["sentences"].to_pylist())
        else:
            total += len(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return total


def measure(modality: str, sources: list[Path], copies: int) -> Measured:
    """Prepare ``copies`` copies of the sources from nothing, in a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for i in range(copies):
            for path in sources:
                shutil.copy(path, folder / f"{i:03d}-{path.name}")
        words = [f"modality={modality}", f"data.path={folder}", f"data.cache={name}/cache"]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(words)], capture_output=True, text=True, cwd=ROOT, check=False
        )
        if done.returncode:
            raise SystemExit(f"{modality}: {done.stderr.strip().splitlines()[-1]}")
        facts = json.loads(done.stdout.splitlines()[-1])
    key, unit, _ = UNITS[modality]
    amount = copies * text_bytes(sources) if key == "bytes" else facts[key]
    return Measured(amount / unit / facts["seconds"], facts["seconds"], facts["peak_mib"])


def miditok_alone(sources: list[Path]) -> float:
    """Files a second of miditok's REMI on files that symusic has read, one core: what a music adapter adds to."""
    import pyarrow.parquet as pq
    from miditok import REMI
    from symusic import Score

    files: list[bytes] = []
    for path in sources:
        files += pq.read_table(path)["midi"].to_pylist() if path.suffix == ".parquet" else [path.read_bytes()]
    files = files[:300]
    tokenizer = REMI()
    tokenizer.one_token_stream = True
    begun = time.monotonic()
    for data in files:
        tokenizer.encode(Score.from_midi(data))
    return len(files) / (time.monotonic() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modalities", nargs="*", default=list(SETS), metavar="modality")
    parser.add_argument("--root", type=Path, default=os.environ.get("SSL_DATA_DIR"), help="a folder with real sets")
    args = parser.parse_args()
    root = Path(args.root) if args.root else None
    print("| modality | input | rate | 1x: s, MiB | 10x: s, MiB |\n|---|---|---|---|---|")
    result: dict[str, dict[str, float | str]] = {}
    for modality in args.modalities:
        sources = inputs(modality, root)
        one, ten = (measure(modality, sources, BASE[modality] * times) for times in (1, 10))
        shown = f"{ten.rate:,.0f} {UNITS[modality][2]}"
        facts: dict[str, float | str] = {"rate": round(ten.rate, 1), "unit": UNITS[modality][2]}
        facts["memory_growth"] = round(ten.peak_mib / one.peak_mib, 3)
        if modality == "music":
            facts["miditok_alone"] = round(miditok_alone(sources), 1)
            shown += f" (miditok alone, one core: {facts['miditok_alone']:,.0f})"
        result[modality] = facts
        columns = (f"{m.seconds:.1f}, {m.peak_mib:,.0f}" for m in (one, ten))
        print(f"| {modality} | {sources[0].name} | {shown} | {' | '.join(columns)} |", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
