"""Go on with a sequence, or write one from nothing.

examples:
  ssl_suite generate encoder=runs/gpt "Once upon a time"
  ssl_suite generate encoder=runs/gpt temperature=0.8 top_p=0.95 samples=3 length=40 "The king" "The queen"
  ssl_suite generate encoder=runs/dna-clm samples=100 output=made.fasta
  ssl_suite generate encoder=runs/music-clm prompt=theme.mid output=tune.mid

settings:
  encoder=RUN         a run folder, trained with objective=clm
  length=N            tokens to add at most; what the model's window has room for
  temperature=1       below 1 the likely becomes likelier; 0 takes the likeliest token every time
  top_k=K             draw from the K likeliest tokens only
  top_p=P             draw from the likeliest tokens that together have probability P only
  samples=1           continuations of each prompt
  seed=0              fixes every draw; sample i is the same whatever samples= is
  prompt=FILE         begin with the first record of a file that the run's modality reads
  prompt_tokens=N     of that file, how many of its first tokens; half of the window
  checkpoint=best     best (lowest validation loss), last, or a step
  output=FILE         a file instead of the terminal: a sequence a line; .fa or .fasta for DNA and proteins; .mid for
                      music, tune-1.mid, tune-2.mid, … where there are several

A single sequence is shown on the terminal while it is written.

Pictures and speech are written as the units of their codebook, <17> <4> …: they cannot be turned back into a signal.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssl_suite.modalities.base import Modality
    from ssl_suite.models.generate import Generated
    from ssl_suite.training.restore import Loaded

KEYS = {
    "encoder": Key(example="runs/gpt"),
    "length": Key(None, int, least=1, example="40"),
    "temperature": Key(1.0, float, least=0, example="0.8"),
    "top_k": Key(None, int, least=1, example="40"),
    "top_p": Key(None, float, least=0, example="0.95"),
    "samples": Key(1, int, least=1, example="3"),
    "seed": Key(0, int, least=0, example="1"),
    "prompt": Key(None, example="theme.mid"),
    "prompt_tokens": Key(None, int, least=1, example="32"),
    "checkpoint": Key("best"),
    "output": Key(None, example="made.txt"),
}
FASTA, MIDI = (".fa", ".fasta"), (".mid", ".midi")
SILENT = "what the model wrote makes no whole note; train it longer, or take another seed= or a lower temperature="
TOGETHER = 1 << 16  # positions written at a time: 1 GB of keys and values at 12 layers of 768


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value | PROMPT", help="settings, and what to begin with")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of text")


def main(args: argparse.Namespace) -> int:
    # A prompt may hold a "=", such as "a = b"; a setting's name is one word.
    given = [word for word in args.words if "=" in word and word.partition("=")[0].isidentifier()]
    settings, prompts = parse_words(given, KEYS), [word for word in args.words if word not in given]
    if args.json and settings["output"]:
        raise SuiteError("--json prints to the terminal: leave output= out, or --json.")
    written = [""]

    def told(text: str) -> None:
        # A token may change how the last letters read, as half a UTF-8 letter does: those wait for the next one.
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")
        if whole.startswith(written[0]):
            print(whole[len(written[0]) :], end="", flush=True)
            written[0] = whole

    quiet = args.json or settings["output"]
    loaded, results = run(settings, prompts, None if quiet else told)
    modality = loaded.modality
    if settings["output"]:
        for path, heard in write(modality, results, Path(settings["output"]).expanduser()).items():
            print(f"wrote {path}" + (f" ({count(heard, 'note')})" if heard is not None else ""))
            if heard == 0:
                print(f"warning: {path} has no notes: {SILENT}.", file=sys.stderr)
    elif args.json:
        made = [
            {
                "text": text,
                "prompt_tokens": result.prompt,
                "tokens": [modality.vocabulary.tokens[i] for i in result.ids],
                "ended": result.ended,
            }
            for text, result in zip(texts_of(modality, results), results, strict=True)
        ]
        print(json.dumps(made, indent=1))
    elif len(results) == 1:
        print(texts_of(modality, results)[0].removeprefix(written[0]))
    else:
        print("\n".join(texts_of(modality, results)))
    for line in notes(modality, results, settings):
        print(line, file=sys.stderr)
    return 0


def run(
    settings: dict[str, Any], prompts: list[str], told: Callable[[str], None] | None = None
) -> tuple[Loaded, list[Generated]]:
    """Generate ``samples`` sequences from each prompt, or from [CLS] where there is none. Raises SuiteError: an encoder
    that cannot write, a prompt of another modality or one that does not fit, settings out of range, or an output that
    does not go with the modality."""
    import numpy as np

    from ssl_suite.commands.embed import device
    from ssl_suite.models.generate import causal_model, generate
    from ssl_suite.training import restore

    if settings["top_p"] is not None and not 0 < settings["top_p"] <= 1:
        raise SuiteError(f"top_p={settings['top_p']} should be above 0 and at most 1; leave it out for all tokens.")
    loaded = restore.load_run(settings["encoder"], settings["checkpoint"], device())
    if not hasattr(loaded.objective, "next_logits"):
        name = loaded.config["objective"]["name"]
        raise SuiteError(
            f"encoder={settings['encoder']} was trained with objective={name}, which does not learn to go on with a "
            "sequence: give a run of objective=clm."
        )
    modality = loaded.modality
    if settings["output"]:
        check(modality, Path(settings["output"]).expanduser())
    starts = starting_points(modality, prompts, settings) or [[]]
    repeated = [ids for ids in starts for _ in range(settings["samples"])]
    model = causal_model(loaded.encoder, loaded.objective, modality.vocabulary, modality.max_length)
    results: list[Generated] = []
    together = max(1, TOGETHER // modality.max_length)
    draws: dict[str, Any] = {key: settings[key] for key in ("length", "temperature", "top_k", "top_p")}
    if told and len(repeated) == 1:
        draws["told"] = lambda ids: told(modality.decode(np.array(ids, np.int64)))
    for first in range(0, len(repeated), together):
        some, seed = repeated[first : first + together], settings["seed"] + first
        results += generate(model, some, modality.vocabulary, modality.max_length, seed=seed, **draws)
    return loaded, results


def starting_points(modality: Modality, prompts: list[str], settings: dict[str, Any]) -> list[list[int]]:
    """The ids of every prompt: those typed, then that of ``prompt=FILE``. Raises SuiteError: a prompt that the modality
    cannot read, or that is shorter than a token."""
    from ssl_suite.commands.fill import shorten
    from ssl_suite.core.faults import FaultCounter
    from ssl_suite.core.records import Record

    kind = modality.name
    if modality.frame is not None and (prompts or settings["prompt"]):
        raise SuiteError(f"generate cannot begin with {kind} of yours: leave the prompt out, it starts from nothing.")
    if prompts and hasattr(modality, "write_midi"):
        raise SuiteError(f"{kind} cannot be typed: give prompt=FILE.mid, or no prompt.")
    found = []
    for number, text in enumerate(prompts, 1):
        ids = modality.encode(Record(f"prompt {number}", text, "command line")).values.tolist()
        if not ids:
            raise SuiteError(f"'{shorten(text)}' is shorter than one token: give more, or no prompt.")
        found.append(ids)
    if settings["prompt"]:
        path, most = Path(settings["prompt"]).expanduser(), settings["prompt_tokens"] or modality.max_length // 2
        if not path.is_file():
            raise SuiteError(f"prompt={path} is not a file: give one of {', '.join(modality.suffixes)}.")
        record = next(modality.read(path, FaultCounter("stop")), None)
        ids = modality.encode(record).values.tolist() if record else []
        if not ids:
            raise SuiteError(f"prompt={path}: its first record holds no whole token.")
        found.append(ids[:most])
    elif settings["prompt_tokens"]:
        raise SuiteError("prompt_tokens= cuts prompt=FILE: name the file, or leave it out.")
    return found


def check(modality: Modality, output: Path) -> None:
    """Refuse an output that cannot be written, before anything is generated."""
    musical, suffix = hasattr(modality, "write_midi"), output.suffix.lower()
    if musical != (suffix in MIDI):
        wanted = "a .mid file" if musical else "a text file (.mid is for music)"
        raise SuiteError(f"output={output}: {modality.name} is written to {wanted}.")
    if suffix in FASTA and modality.name not in ("dna", "protein"):
        raise SuiteError(f"output={output}: FASTA is for DNA and proteins; name a .txt file.")
    if not output.parent.is_dir():
        raise SuiteError(f"output={output}: there is no folder {output.parent}; make it first.")
    if output.is_dir():
        raise SuiteError(f"output={output} is a folder: name a file.")


def texts_of(modality: Modality, results: list[Generated]) -> list[str]:
    """What the results spell."""
    import numpy as np

    return [modality.decode(np.array(result.ids, np.int64)) for result in results]


def write(modality: Any, results: list[Generated], output: Path) -> dict[Path, int | None]:
    """Write all results; gives the files, with the number of notes where it is music."""
    import numpy as np

    try:
        if output.suffix.lower() in MIDI:
            several = len(results) > 1
            paths = [output.with_stem(f"{output.stem}-{n}") if several else output for n in range(1, len(results) + 1)]
            pairs = zip(paths, results, strict=True)
            return {path: modality.write_midi(np.array(result.ids, np.int64), path) for path, result in pairs}
        fasta = output.suffix.lower() in FASTA
        lines = [f">sample_{n}\n{x}" if fasta else x for n, x in enumerate(texts_of(modality, results), 1)]
        output.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    except OSError as error:
        raise SuiteError(f"output={output} cannot be written ({error.strerror or error}).") from error
    return {output: None}


def notes(modality: Modality, results: list[Generated], settings: dict[str, Any]) -> list[str]:
    """What a reader should know of the results."""
    lines = []
    room = modality.max_length - 2
    full = sum(not result.ended and len(result.ids) == room for result in results)
    if full and settings["length"] is None:
        lines.append(f"{full} of {len(results)} stopped where the model's window of {room} tokens ends, not by itself.")
    if modality.frame is not None:
        lines.append(f"These are units of the codebook of {modality.name}; they cannot be turned back into a signal.")
    return lines
