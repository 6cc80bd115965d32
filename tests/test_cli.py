"""The command line: help, errors in one line, exit codes, and what is not imported."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ssl_suite import cli
from ssl_suite.settings import config

SMALLER = {"train.tokens_per_batch": 2048, "train.rows_per_forward": 1, "modality.max_length": 256}


def call(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssl_suite", *words], capture_output=True, text=True, cwd=cwd, timeout=60
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: ssl_suite {name}" in shown
    assert shown.count(f"ssl_suite {name}") >= 2  # the usage line and at least one example


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"]):
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in cli.COMMANDS)


def test_group_of_commands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data"]) == 2
    assert "data verify" in capsys.readouterr().out
    assert cli.main(["data", "--help"]) == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ssl_suite 0.")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnu"], "'rnu' is not a command. Did you mean 'run'?"),
        (["data", "prepair"], "'data prepair' is not a command. Did you mean 'prepare'?"),
        (["run", "modality=dna", "objectve=mlm"], "Did you mean 'objective'?"),
        (["run", "--multrun"], "--multrun"),
        (["run", "--cfg", "all"], "--cfg"),
    ],
)
def test_fault_of_the_input_is_one_line_and_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err


def test_options_may_stand_between_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "seed=3", "--cfg", "job", "model=mini", "train.lr=1e-4"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 3\n" in shown
    assert "name: mini\n" in shown
    assert "lr: 0.0001\n" in shown


def test_interrupt_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def torch_on_a_cpu() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def torch_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 4 GiB.")


def numpy_and_python() -> None:
    np.empty(1 << 60, dtype=np.uint8)


def the_system() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def arrow() -> None:
    raise pa.lib.ArrowMemoryError("malloc of size 1152921504606846976 failed")


@pytest.mark.parametrize("fill", [torch_on_a_cpu, torch_on_a_gpu, numpy_and_python, the_system, arrow])
def test_memory_that_is_full_is_one_line_with_keys_that_need_less(
    fill: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_dispatch", lambda argv: fill())
    assert cli.main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    where = "the GPU" if fill is torch_on_a_gpu else "this machine"
    assert line.startswith(f"error: The memory of {where} is full")
    assert ("(2.50 GiB more were asked for)" in line) == (fill is torch_on_a_gpu)
    keys = set(re.findall(r"(?:train|model|modality|data)\.\w+(?:=\w+)?", line))
    config.compose([key if "=" in key else f"{key}={SMALLER[key]}" for key in keys])  # they exist


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_not_an_error(unbuffered: str) -> None:
    command = f"{sys.executable} -m ssl_suite --help | true; exit ${{PIPESTATUS[0]}}"
    variables = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=variables, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_module_and_script_are_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("ssl_suite")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    shown = subprocess.run([script, "run", "--help"], capture_output=True, text=True, cwd=tmp_path, timeout=60).stdout
    assert shown == call("run", "--help").stdout


@pytest.mark.parametrize("words", ["--help", "run --help", "data list --help", "rnu"])
def test_no_heavy_import(words: str) -> None:
    heavy = ("torch", "hydra", "omegaconf", "transformers", "numpy", "rich", "pyarrow", "matplotlib")
    code = (
        "import sys, ssl_suite.cli as cli; cli.main(sys.argv[1:]); "
        f"print('loaded', sorted(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded []\n")
