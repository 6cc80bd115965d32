"""Say what this machine can do and what is missing.

Versions, devices and their memory, the attention path that training will take, cores and threads, a C++ compiler for
torch.compile, the data and cache folders with their free space, and a float32 matrix-product rate.

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
import re
import shutil
from pathlib import Path
from typing import Any

from ssl_suite import __version__
from ssl_suite.core import machine
from ssl_suite.core.errors import SuiteError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main(args: argparse.Namespace) -> int:
    facts = examine()
    print(json.dumps(facts, indent=1) if args.json else "\n".join([*lines(facts), *missing(facts)]))
    return 0


def examine() -> dict[str, Any]:
    """Everything that is printed, as plain values. Memory and space in bytes, the rate in FLOP/s."""
    import torch

    from ssl_suite.training.meters import matmul_flops

    half, compilers = torch.cuda.is_available(), (os.environ.get("CXX"), "g++", "clang++")
    half = half and torch.cuda.is_bf16_supported(including_emulation=False)
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {"ssl_suite": __version__, **_packages()},
        "devices": [
            *({"name": f"cuda:{i}", "model": gpu.name, "memory": gpu.total_memory} for i, gpu in enumerate(gpus)),
            {"name": "cpu", "model": platform.processor() or platform.machine(), "memory": machine.memory()},
        ],
        "attention": "varlen_attn in bfloat16" if half else "scaled_dot_product_attention",
        "cores": machine.usable_cores(),
        "threads": torch.get_num_threads(),
        "compiler": next((path for name in compilers if name and (path := shutil.which(name))), None),
        "folders": _folders(),
        "float32_matmul_flops": matmul_flops(torch.device("cuda" if gpus else "cpu"), n=1024),
    }


def _packages() -> dict[str, str | None]:
    """The installed version of each package that this one requires; None where it is missing."""
    found: dict[str, str | None] = {}
    try:
        wanted = [line for line in importlib.metadata.requires("ssl_suite") or [] if "extra ==" not in line]
    except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
        return found
    for name in (re.split(r"[^\w.-]", line)[0] for line in wanted):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _folders() -> dict[str, dict[str, Any] | None]:
    """The data root (None when there is none), and the cache of prepared stores."""
    from ssl_suite.data.cache import cache_folder

    def state(path: Path) -> dict[str, Any]:
        existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        return {"path": str(path), "exists": path.is_dir(), "free": shutil.disk_usage(existing).free}

    root = os.environ.get("SSL_DATA_DIR")
    try:
        cache = state(cache_folder(None))
    except SuiteError as error:
        cache = {"fault": str(error)}
    return {"data": state(Path(root).expanduser()) if root else None, "cache": cache}


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts for a reader."""
    packages = "  ".join(f"{name} {found or 'MISSING'}" for name, found in facts["packages"].items())
    text = [f"python {facts['python']} on {facts['system']}", packages]
    for device in facts["devices"]:
        text.append(f"{device['name']:<8} {device['model']}, {(device['memory'] or 0) / 2**30:.1f} GiB")
    text += [
        f"attention: {facts['attention']}; C++ compiler: {facts['compiler'] or 'none'}",
        f"{facts['cores']} cores, {facts['threads']} threads; "
        f"float32 matrix product: {facts['float32_matmul_flops'] / 1e9:,.0f} GFLOP/s",
    ]
    there = {name: folder for name, folder in facts["folders"].items() if folder and "free" in folder}
    return text + [f"{name:<6} {x['path']}: {x['free'] / 2**30:.1f} GiB free" for name, x in there.items()]


def missing(facts: dict[str, Any]) -> list[str]:
    """What is missing, each with its remedy."""
    data, cache = facts["folders"]["data"], facts["folders"]["cache"]
    text = [f"missing: {name}: pip install ssl_suite" for name, found in facts["packages"].items() if not found]
    if not facts["compiler"]:
        text.append("no C++ compiler: train.compile=true needs one on the CPU; install g++ or set CXX")
    text += [cache["fault"]] if "fault" in cache else []
    if data is None:
        text.append("no data folder: set SSL_DATA_DIR or data.root= to use the catalogue's data sets")
    elif not data["exists"]:
        text.append(f"SSL_DATA_DIR={data['path']} does not exist: set it to a folder")
    return text or ["nothing is missing"]
