"""The command line: ``python -m ssl_suite COMMAND …``, the same as ``ssl_suite COMMAND …``.

A command is one line in ``COMMANDS`` and one file in ``ssl_suite/commands/`` with ``add_arguments(parser)`` and
``main(args) -> int``. The text that ``--help`` shows is the docstring of that function, or of its file.
Nothing here imports torch or hydra: ``--help`` answers in a fraction of a second.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from ssl_suite import __version__
from ssl_suite.commands.analyses import ANALYSES
from ssl_suite.core.errors import SuiteError, nearest, one_line_when_memory_is_full

COMMANDS = {
    "run": "ssl_suite.commands.run:main",
    "plan": "ssl_suite.commands.plan:main",
    "objectives": "ssl_suite.commands.objectives:main",
    "doctor": "ssl_suite.commands.doctor:main",
    "embed": "ssl_suite.commands.embed:main",
    "fill": "ssl_suite.commands.fill:main",
    "generate": "ssl_suite.commands.generate:main",
    "predict": "ssl_suite.commands.predict:main",
    "export": "ssl_suite.commands.export:main",
    "bench": "ssl_suite.commands.bench:main",
    **{f"analyse {name}": place for name, place in ANALYSES.items()},
    "board show": "ssl_suite.commands.board:show",
    "board verify": "ssl_suite.commands.board:verify",
    "board diff": "ssl_suite.commands.board:diff",
    "board render": "ssl_suite.commands.board:render",
    "tasks list": "ssl_suite.commands.tasks:list_tasks",
    "tasks validate": "ssl_suite.commands.tasks:validate",
    "tasks show": "ssl_suite.commands.tasks:show",
    "data list": "ssl_suite.commands.data:list_sets",
    "data fetch": "ssl_suite.commands.data:fetch",
    "data prepare": "ssl_suite.commands.data:prepare",
    "data verify": "ssl_suite.commands.data:verify",
    "data units": "ssl_suite.commands.data:units",
}

EXAMPLES = """examples:
  ssl_suite run modality=dna objective=mlm out=runs/first
  ssl_suite run modality=dna objective=mlm data.path=my.fasta model=mini
  ssl_suite fill encoder=runs/first "ACGT[MASK]ACGT"
  ssl_suite embed encoder=runs/first input=my.fasta output=my.parquet

ssl_suite COMMAND --help shows more of each."""

INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in one line."""

    def error(self, message: str) -> NoReturn:
        raise SuiteError(f"{message}. See {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it succeeded, 2 after a fault of the input (one line on stderr), 130 when interrupted.
    """
    if os.environ.get("SSL_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        os.environ["HF_HUB_OFFLINE"] = "1"  # before its client is imported, which reads it then
    try:
        with one_line_when_memory_is_full():
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SuiteError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of `ssl_suite … | head` has gone; python must not complain at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"ssl_suite {__version__}")
        return 0
    name, rest = _command(argv)
    if name not in COMMANDS:  # `ssl_suite data` or `ssl_suite data --help`
        print(overview(name))
        return 0 if rest else 2
    module, function = _load(COMMANDS[name])
    parser = Parser(
        prog=f"ssl_suite {name}",
        description=_text(module, function),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",  # ``run`` has a --help of its own, which knows words
    )
    module.add_arguments(parser)
    # Intermixed, so that options may stand between the words: run modality=dna -m train.lr=1e-3,3e-4
    try:
        args = parser.parse_intermixed_args(rest)
    except SystemExit as stop:  # --help has printed its text
        return int(stop.code or 0)
    return function(args)


def _command(argv: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and what follows it.

    Raises:
        SuiteError: no such command; the line names the nearest.
    """
    first, pair = argv[0], " ".join(argv[:2])
    if pair in COMMANDS:
        return pair, argv[2:]
    if first in COMMANDS:
        return first, argv[1:]
    second = [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]
    if not second:
        raise SuiteError(f"'{first}' is not a command.{nearest(first, {name.split()[0] for name in COMMANDS})}")
    if len(argv) == 1 or argv[1] in ("-h", "--help"):
        return first, argv[1:]
    raise SuiteError(f"'{pair}' is not a command.{nearest(argv[1], second)}")


def _load(path: str) -> tuple[ModuleType, Callable[[Any], int]]:
    name, _, attribute = path.partition(":")
    module = importlib.import_module(name)
    return module, getattr(module, attribute)


def _text(module: ModuleType, function: Callable) -> str:
    """What ``--help`` says: of a file's only command the file's docstring, else the function's."""
    return (module.__doc__ if function.__name__ == "main" else inspect.getdoc(function)) or ""


def overview(group: str = "") -> str:
    """The commands, one line each: all, or those that begin with the word ``group``."""
    names = [name for name in COMMANDS if not group or name.split()[0] == group]
    wide = max(map(len, names)) + 2
    lines = [f"  {name:<{wide}}{_text(*_load(COMMANDS[name])).strip().splitlines()[0]}" for name in names]
    head = [f"usage: ssl_suite {group + ' ' if group else ''}COMMAND …", "", "commands:"]
    return "\n".join([*head, *lines] if group else [*head, *lines, "", EXAMPLES])


if __name__ == "__main__":
    sys.exit(main())
