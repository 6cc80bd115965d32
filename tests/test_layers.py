"""The direction of imports: each layer knows those before it and none after it."""

from __future__ import annotations

import ast
from pathlib import Path

import ssl_suite

PACKAGE = Path(ssl_suite.__file__).parent
LAYERS = (
    ("core",),
    ("settings",),
    ("modalities",),
    ("data",),
    ("models",),
    ("objectives",),
    ("training",),
    ("evaluation",),
    ("analysis",),
    ("leaderboard",),
    ("commands",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports of this package, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.startswith("ssl_suite.")}


def layer(dotted: str) -> str:
    return dotted.split(".")[1]


def test_no_module_imports_a_later_layer() -> None:
    upward = []
    for path in PACKAGE.rglob("*.py"):
        own = layer(f"ssl_suite.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}")
        for name in imported(path):
            if own in RANK and RANK.get(layer(name), -1) > RANK[own]:
                upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not upward


def test_every_folder_is_a_layer() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(RANK) - {"cli"}
