"""Say what this machine can do and what is missing.

Versions, devices and their memory, the attention path that training will take, cores and threads, a C++ compiler for
torch.compile, optional packages, the data and cache folders with their free space, and a float32 matrix-product rate.

examples:
  ssl_suite doctor
  ssl_suite doctor --json > machine.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_suite.core import machine
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.machine import usable_cores
from ssl_suite.core.wording import count

REQUIRED = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "biopython", "hydra-core", "pydantic"),
    *("torchvision", "lightly", "torchaudio", "miditok", "symusic", "soundfile", "pillow"),
    *("pyyaml", "rich", "tensorboard", "matplotlib", "scikit-learn", "scipy", "jiwer", "jinja2"),
)
OPTIONAL = {  # package: (the extra that brings it, what it is for)
    "datasets": ("hub", "data.path=hf:NAME"),
    "psutil": ("bench", "peak memory in the benchmarks"),
    "huggingface_hub": ("pretrained", "downloading checkpoints"),
    "wandb": ("wandb", "train.wandb=true"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main(args: argparse.Namespace) -> int:
    facts = examine()
    print(json.dumps(facts, indent=1) if args.json else "\n".join(lines(facts)))
    return 0


def examine() -> dict[str, Any]:
    """Everything that is printed, as plain values. Memory and space in bytes, the rate in FLOP/s."""
    import torch

    devices = _devices()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version(name) for name in ("ssl_suite", *REQUIRED)},
        "optional": {name: {"version": version(name), "extra": extra} for name, (extra, _) in OPTIONAL.items()},
        "devices": devices,
        "attention": _attention(devices),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "compiler": _compiler(),
        "folders": _folders(),
        "float32_matmul_flops": _matmul_rate(),
    }


def version(package: str) -> str | None:
    """The installed version of a package, None when it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        from ssl_suite import __version__

        return __version__ if package == "ssl_suite" else None  # a checkout that is on the path but not installed


def _devices() -> list[dict[str, Any]]:
    import torch

    cpu = {"name": "cpu", "model": _cpu_model(), "memory": machine.memory(), "bf16": False}
    gpus = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        gpus.append({"name": f"cuda:{index}", "model": facts.name, "memory": facts.total_memory, "bf16": bf16})
    return [*gpus, cpu]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _attention(devices: list[dict[str, Any]]) -> dict[str, str]:
    """Which path ``ssl_suite.models.attention`` takes on the first device, and why."""
    first = devices[0]
    if first["bf16"]:
        return {"path": "varlen", "why": f"torch.nn.attention.varlen in bfloat16 on {first['model']}"}
    device = "a GPU without bfloat16" if first["name"] != "cpu" else "the CPU, which has no varlen kernel"
    return {"path": "sdpa", "why": f"scaled_dot_product_attention for each length, on {device}"}


def _compiler() -> str | None:
    """The C++ compiler that torch.compile would call."""
    named = os.environ.get("CXX")
    return next((path for name in (named, "g++", "clang++") if name and (path := shutil.which(name))), None)


def _folders() -> dict[str, dict[str, Any] | None]:
    """The data root (None when there is none), the cache of prepared stores, and where runs go by default."""
    from ssl_suite.data.cache import cache_folder

    root = os.environ.get("SSL_DATA_DIR")
    try:
        cache: dict[str, Any] = _folder(cache_folder(None))
    except SuiteError as error:
        cache = {"fault": str(error)}
    return {"data": _folder(Path(root)) if root else None, "cache": cache, "runs": _folder(Path("runs"))}


def _folder(path: Path) -> dict[str, Any]:
    """A folder's state; the free space is that of the nearest parent that exists."""
    path = path.expanduser().absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return {
        "path": str(path),
        "exists": path.is_dir(),
        "writable": os.access(existing, os.W_OK),
        "free": shutil.disk_usage(existing).free,
    }


def _matmul_rate() -> float:
    """Best of five products of 1,024-square matrices: 0.1 s on two cores, within a tenth of a larger one's rate."""
    import torch

    from ssl_suite.training.meters import matmul_flops

    return matmul_flops(torch.device("cuda" if torch.cuda.is_available() else "cpu"), n=1024)


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts for a reader, the missing things last, each with its remedy."""
    packages = "  ".join(f"{name} {found or 'MISSING'}" for name, found in facts["packages"].items())
    text = [f"python {facts['python']} on {facts['system']}", packages, ""]
    for device in facts["devices"]:
        memory = f"{device['memory'] / 2**30:.1f} GiB" if device["memory"] else "memory unknown"
        text.append(f"{device['name']:<8} {device['model']}, {memory}, bfloat16 {'yes' if device['bf16'] else 'no'}")
    text += [
        f"attention: {facts['attention']['path']} ({facts['attention']['why']})",
        f"{count(facts['cores'], 'core')}, {count(facts['threads'], 'thread')}; "
        f"C++ compiler: {facts['compiler'] or 'none'}",
        f"float32 matrix product: {facts['float32_matmul_flops'] / 1e9:,.0f} GFLOP/s",
        "",
    ]
    for name, folder in facts["folders"].items():
        if folder and "fault" not in folder:
            state = "" if folder["exists"] else ", not there yet"
            writable = "" if folder["writable"] else ", not writable"
            text.append(f"{name:<6} {folder['path']}: {folder['free'] / 2**30:.1f} GiB free{state}{writable}")
    return [*text, "", *_missing(facts)]


def _missing(facts: Mapping[str, Any]) -> list[str]:
    text = [f"missing: {name}: pip install ssl_suite" for name, found in facts["packages"].items() if not found]
    text += [
        f"optional, not installed: {name} ({OPTIONAL[name][1]}): pip install 'ssl_suite[{entry['extra']}]'"
        for name, entry in facts["optional"].items()
        if not entry["version"]
    ]
    if not facts["compiler"]:
        text.append("no C++ compiler: train.compile=true needs one on the CPU; install g++ or set CXX")
    text += [folder["fault"] for folder in facts["folders"].values() if folder and "fault" in folder]
    if not facts["folders"]["data"]:
        text.append("no data folder: set SSL_DATA_DIR or data.root= to use the catalogue's data sets")
    elif not facts["folders"]["data"]["exists"]:
        text.append(f"SSL_DATA_DIR={facts['folders']['data']['path']} does not exist: set it to a folder")
    return text or ["nothing is missing"]
