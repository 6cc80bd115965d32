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

from ssl_suite import __version__
from ssl_suite.core import machine
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count

EXTRAS = {"hub": "data.path=hf:NAME", "pretrained": "downloading checkpoints", "wandb": "train.wandb=true"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main(args: argparse.Namespace) -> int:
    facts = examine()
    print(json.dumps(facts, indent=1) if args.json else "\n".join(lines(facts)))
    return 0


def examine() -> dict[str, Any]:
    """Everything that is printed, as plain values. Memory and space in bytes, the rate in FLOP/s."""
    import torch

    from ssl_suite.training.meters import matmul_flops

    devices, compilers = _devices(), (os.environ.get("CXX"), "g++", "clang++")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {"ssl_suite": __version__, **_packages("")},
        "optional": {extra: _packages(extra) for extra in EXTRAS},
        "devices": devices,
        "attention": "varlen_attn in bfloat16" if devices[0]["bf16"] else "scaled_dot_product_attention",
        "cores": machine.usable_cores(),
        "threads": torch.get_num_threads(),
        "compiler": next((path for name in compilers if name and (path := shutil.which(name))), None),
        "folders": _folders(),
        "float32_matmul_flops": matmul_flops(torch.device("cuda" if torch.cuda.is_available() else "cpu"), n=1024),
    }


def _packages(extra: str) -> dict[str, str | None]:
    """The installed version of each package that this one requires, None where it is missing or does not fit."""
    from packaging.requirements import Requirement

    found: dict[str, str | None] = {}
    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires("ssl_suite") or []]
    except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
        return found
    for package in wanted:
        if not package.marker if not extra else package.marker and package.marker.evaluate({"extra": extra}):
            try:
                version = importlib.metadata.version(package.name)
            except importlib.metadata.PackageNotFoundError:
                version = ""
            found[package.name] = version if version and package.specifier.contains(version) else None
    return found


def _devices() -> list[dict[str, Any]]:
    """The GPUs, then the CPU."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        gpus.append({"name": f"cuda:{index}", "model": facts.name, "memory": facts.total_memory, "bf16": bf16})
    model = platform.processor() or platform.machine()
    return [*gpus, {"name": "cpu", "model": model, "memory": machine.memory(), "bf16": False}]


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


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts for a reader, the missing things last, each with its remedy."""
    packages = "  ".join(f"{name} {found or 'MISSING'}" for name, found in facts["packages"].items())
    text = [f"python {facts['python']} on {facts['system']}", packages, ""]
    for device in facts["devices"]:
        memory = f"{device['memory'] / 2**30:.1f} GiB" if device["memory"] else "memory unknown"
        text.append(f"{device['name']:<8} {device['model']}, {memory}, bfloat16 {'yes' if device['bf16'] else 'no'}")
    text += [
        f"attention: {facts['attention']}",
        f"{count(facts['cores'], 'core')}, {count(facts['threads'], 'thread')}; "
        f"C++ compiler: {facts['compiler'] or 'none'}",
        f"float32 matrix product: {facts['float32_matmul_flops'] / 1e9:,.0f} GFLOP/s",
        "",
    ]
    for name, folder in facts["folders"].items():
        if folder and "fault" not in folder:
            state = ", not there yet" * (not folder["exists"]) + ", not writable" * (not folder["writable"])
            text.append(f"{name:<6} {folder['path']}: {folder['free'] / 2**30:.1f} GiB free{state}")
    return [*text, "", *_missing(facts)]


def _missing(facts: Mapping[str, Any]) -> list[str]:
    folders = facts["folders"]
    text = [f"missing: {name}: pip install ssl_suite" for name, found in facts["packages"].items() if not found]
    text += [
        f"optional, not installed: {name} ({EXTRAS[extra]}): pip install 'ssl_suite[{extra}]'"
        for extra, packages in facts["optional"].items()
        for name, found in packages.items()
        if not found
    ]
    if not facts["compiler"]:
        text.append("no C++ compiler: train.compile=true needs one on the CPU; install g++ or set CXX")
    text += [folder["fault"] for folder in folders.values() if folder and "fault" in folder]
    if not folders["data"]:
        text.append("no data folder: set SSL_DATA_DIR or data.root= to use the catalogue's data sets")
    elif not folders["data"]["exists"]:
        text.append(f"SSL_DATA_DIR={folders['data']['path']} does not exist: set it to a folder")
    return text or ["nothing is missing"]
