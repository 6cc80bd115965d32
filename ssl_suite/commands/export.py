"""Write a Hugging Face folder that opens without this package.

examples:
  ssl_suite export encoder=runs/first output=my-model
  ssl_suite export encoder=runs/first output=at-2000 checkpoint=2000
  python -c "from transformers import AutoModelForMaskedLM as A; A.from_pretrained('my-model', trust_remote_code=False)"

settings:
  encoder=RUN         a run folder, or RUN@STEP for one of its checkpoints
  output=FOLDER       a new folder, or an earlier export, which is replaced
  checkpoint=best     best (lowest validation loss), last, or a step
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite import __version__
from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json

if TYPE_CHECKING:
    from ssl_suite.training.restore import Loaded

KEYS = {"encoder": Key(example="runs/first"), "output": Key(example="my-model"), "checkpoint": Key("best")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def main(args: argparse.Namespace) -> int:
    settings = parse_words(args.words, KEYS)
    folder, opening = run(settings)
    print(f"wrote {folder}\nopen it without this package:\n\n{textwrap.indent(opening, '    ')}")
    return 0


def run(settings: dict[str, Any]) -> tuple[Path, str]:
    """Export one checkpoint of a run. Returns the folder, and the lines of Python that open it. Raises SuiteError: no
    such run or checkpoint, or an output that is something else than an earlier export."""
    folder = Path(settings["output"]).expanduser()
    atomic.check_own(folder, "output")
    from ssl_suite.training import build, restore

    loaded = restore.load_run(settings["encoder"], settings["checkpoint"])
    try:
        build.export(loaded.learner, loaded.modality, folder, describe(loaded.folder, loaded))
    except OSError as error:
        raise SuiteError(f"output={folder} cannot be written ({error.strerror or error}).") from error
    return folder, build.opening(loaded.learner, loaded.modality, str(folder))


def describe(source: Path, loaded: Loaded) -> str:
    """The folder's README: that of a finished run, with the facts of this checkpoint."""
    step = loaded.step
    from ssl_suite.training import checkpoint, finish

    manifest = checkpoint.manifest(source / "checkpoints" / f"step_{step:08d}")
    summary: dict[str, Any] = {"steps": step, "data_key": "unknown", "git_commit": None, "version": __version__}
    summary["config_sha256"] = hashlib.sha256((source / "config.yaml").read_bytes()).hexdigest()
    with contextlib.suppress(SuiteError):  # a run that has not finished has no summary yet
        summary |= read_json(source / "summary.json", "it is left out")
    summary |= {"tokens": manifest.get("tokens", 0), "best_step": step, "best_valid_loss": manifest.get("valid_loss")}
    return finish.card(loaded.config, summary, loaded.learner, loaded.modality)
