"""The objectives, and which modality each makes sense for.

examples:
  ssl_suite objectives
        the matrix: + runs, - is refused
  ssl_suite objectives speech
        what speech can be trained with, and why not with the rest
  ssl_suite objectives --json
        the same for scripts
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ssl_suite.core import registry, resources
from ssl_suite.core.errors import SuiteError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("modality", nargs="?", help="one modality, with the reason of every refusal")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace) -> int:
    table = matrix()
    if args.modality is not None and args.modality not in registry.MODALITIES:
        raise SuiteError(f"modality={args.modality} does not exist.{nearest(args.modality, registry.MODALITIES)}")
    if args.json:
        print(json.dumps(table, indent=1))
    elif args.modality is not None:
        for name, reasons in table.items():
            print(f"{'-' if reasons[args.modality] else '+'} {name:<12}{reasons[args.modality] or idea(name)}")
    else:
        names = list(registry.MODALITIES)
        print(" " * 12 + "".join(f"{name:<9}" for name in names))
        for name, reasons in table.items():
            marks = "".join(f"{'-' if reasons[modality] else '+':<9}" for modality in names)
            print(f"{name:<12}{marks}{idea(name)}")
    return 0


def matrix() -> dict[str, dict[str, str]]:
    """For each objective and modality, why they make no sense together; empty where they do."""
    modalities = {name: registry.load(registry.MODALITIES, "modality", name) for name in registry.MODALITIES}
    classes: dict[str, Any] = {
        name: registry.load(registry.OBJECTIVES, "objective", name) for name in registry.OBJECTIVES
    }
    return {name: {modality: cls.refuses(of) for modality, of in modalities.items()} for name, cls in classes.items()}


def idea(name: str) -> str:
    """The first line of the objective's configuration file, where it has one."""
    path = resources.folder("conf") / "objective" / f"{name}.yaml"
    if not path.is_file():  # of another package
        return ""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
