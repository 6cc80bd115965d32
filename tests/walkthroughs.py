"""The walk-throughs of CONTRIBUTING.md: their blocks, written into a folder and run as they stand."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.core import registry

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"


def blocks(heading: str) -> dict[str, str]:
    """The fenced blocks of a section, each under the file name in the line before it, or under its language."""
    page = PAGE.read_text(encoding="utf-8")
    assert f"### Walk-through: {heading}\n" in page
    section = re.split(r"^##", page.split(f"### Walk-through: {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    found = re.findall(r"^(?:`([^`\n]+)`)?[^\n]*\n\n```(\w+)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return {name or language: text for name, language, text in found}


def write(heading: str, home: Path) -> dict[str, str]:
    """Put the files of a section where it says; returns its blocks."""
    found = blocks(heading)
    assert sum(bool(line.strip()) for text in found.values() for line in text.splitlines()) < 80
    for name, text in found.items():
        if "." in name:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
    return found


def install(home: Path) -> None:
    """Install the package of a folder into ``site`` below it, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", home / "site", home], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def find_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find what was installed, as if it had been there at its start."""
    monkeypatch.syspath_prepend(home / "site")
    monkeypatch.setattr(registry, "outside", registry.outside.__wrapped__)  # without what was found before
    monkeypatch.chdir(home)


def run(commands: str, *more: str) -> None:
    """Run lines of ``python FILE`` and ``ssl_suite …`` in this process; what trains gets ``more`` words."""
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        if program == "python":
            runpy.run_path(words[0])
        else:
            assert program == "ssl_suite" and cli.main([*words, *(more if words[0] in ("bench", "run") else ())]) == 0
