"""Pre-train an encoder: any modality, any objective, on one process or many.

examples:
  ssl_suite run modality=dna objective=mlm
        on the built-in genome; writes runs/dna-mlm-<time>
  ssl_suite run modality=dna objective=mlm data.path=my.fasta model=mini train.steps=5000 out=runs/mine
        on your own file, folder, or glob
  ssl_suite run out=runs/mine resume=true train.steps=10000
        goes on where runs/mine stopped, with its own settings, to more steps
  ssl_suite run modality=dna objective=mlm launch.processes=2
        two processes under torchrun; launch=slurm and launch=torchrun for clusters
  ssl_suite run -m model=tiny,mini seed=0,1 out=runs/sizes
        a sweep: four runs, one after another, in runs/sizes/model=tiny,seed=0 and so on
  ssl_suite run model=base train.lr=3e-4 --cfg job
        prints the configuration and does nothing
  ssl_suite run modality=dna objective=simclr --help
        explains every key of the groups that are named

The groups are modality, objective, model, data, train and launch; --cfg job shows every key of each.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from typing import Any

from ssl_suite.settings import config


def explained(cfg: dict[str, Any], group: str) -> str:
    """Every key of a group with its value and what it means."""
    from ssl_suite.core.schema import help_text
    from ssl_suite.settings.schema import section_class

    texts, lines = help_text(section_class(cfg, group)), [f"{group}={cfg[group].get('name', 'default')}"]
    for key in (key for key in cfg[group] if key != "name"):
        text = " ".join(texts.get(key, "").split()).replace("``", "`")
        shown = f"  {key}: {json.dumps(cfg[group][key], ensure_ascii=False)}"
        lines += textwrap.wrap(f"{shown:<30}  {text}", 120, subsequent_indent=" " * 32, drop_whitespace=True)
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, such as model=mini or train.lr=3e-4")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: run the product of a=1,2 b=x,y")
    parser.add_argument("--cfg", choices=["job"], help="print the configuration and stop")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own laid out like conf/; it comes first")
    parser.add_argument("-h", "--help", action="store_true", help="this; with key=value, what its group's keys mean")
    parser.set_defaults(print_help=parser.print_help)


def main(args: argparse.Namespace) -> int:
    if args.help:
        cfg = config.compose(args.words, args.config_dir) if args.words else {}
        named = dict.fromkeys(re.split(r"[.=]", word.lstrip("+~"))[0] for word in args.words)
        groups = [group for group in named if isinstance(cfg.get(group), dict)]
        if groups:
            print("\n\n".join(explained(cfg, group) for group in groups))
        else:
            args.print_help()
        return 0
    if args.multirun:
        from ssl_suite.training import sweep

        return sweep.run(args.words, args.config_dir, show=args.cfg is not None)
    from ssl_suite.settings import runs

    cfg = config.compose(args.words, args.config_dir)
    if args.cfg:
        print(config.dump(runs.resolve_run(cfg, args.words)[0] if cfg["resume"] else cfg), end="")
        return 0
    from ssl_suite.training import estimate, launch

    cfg, out = runs.resolve_run(cfg, args.words)
    return launch.start(estimate.steps_for_minutes(cfg, out), out)
