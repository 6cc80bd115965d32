"""Ask a trained trial about your own sentences, pairs of them, or a text and a question.

examples:
  ssl_suite predict encoder=runs/sentiment input=sentences.txt
  ssl_suite predict encoder=runs/sentiment input=sentences.txt --json
  ssl_suite predict encoder=runs/reading question="Who smiled at Elizabeth?" document=story.txt

settings:
  encoder=TRIAL       a folder that `ssl_suite bench NAME task=TASK encoder=REF keep=true` names
  task=NAME           checked against what the trial was trained on; may be left out
  input=FILE          a line an item: a sentence; of a task of two inputs both, with a tab between them
  question=TEXT, document=FILE   in the place of input=, for a task that reads: the answer is printed, and the document
                      with the answer in [[…]]

A line an item comes out: the label, its probability, and the item; of tags each word with its tag. --json prints all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.errors import SuiteError

KEYS = {
    "encoder": Key(example="runs/bench-text-small/trials/TRIAL"),
    "task": Key(None, example="squad"),
    "input": Key(None, example="sentences.txt"),
    "question": Key(None, example='"Who wrote it?"'),
    "document": Key(None, example="story.txt"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see above")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of text")


def main(args: argparse.Namespace) -> int:
    given = parse_words(args.words, KEYS)
    found = run(given)
    print(json.dumps(found, indent=1, ensure_ascii=False) if args.json else "\n".join(map(line, found)))
    return 0


def run(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each item ``inputs``, ``prediction``, ``probability`` (None of values) and of an answer ``place`` in letters.
    Raises SuiteError: no such trial, one of another task, or a file that cannot be read."""
    from ssl_suite.core.records import Record
    from ssl_suite.evaluation import kept

    trial = kept.read(given["encoder"])
    if given["task"] not in (None, trial.task.name, trial.task.base):
        raise SuiteError(f"task={given['task']}: encoder={given['encoder']} was trained on {trial.task.name}.")
    source, texts = items(given, trial.task.inputs)
    records = [[Record(f"line {i + 1}", text, source) for text in each] for i, each in enumerate(texts)]
    return [{"inputs": list(each)} | answer for each, answer in zip(texts, kept.answers(trial, records), strict=True)]


def items(given: dict[str, Any], columns: list[str]) -> tuple[str, list[tuple[str, ...]]]:
    """The file's name for messages, and the inputs of each item."""
    question, document = given["question"], given["document"]
    if (question is None) != (document is None) or (question is None) == (given["input"] is None):
        raise SuiteError("Give input=FILE, or question=TEXT and document=FILE.")
    if question is not None:
        if len(columns) != 2:
            raise SuiteError(
                f"question= and document= are two inputs, the task has one ({columns[0]}): use input=FILE."
            )
        return document, [(question, contents("document", document))]
    source, found = given["input"], []
    for number, text in enumerate(contents("input", given["input"]).splitlines(), 1):
        fields = tuple(text.split("\t")) if len(columns) > 1 else (text,)
        if not text.strip():
            continue
        if len(fields) != len(columns) or not all(field.strip() for field in fields):
            raise SuiteError(
                f"{source}: line {number} has {len(fields)} fields between tabs; the task takes "
                f"{' and '.join(columns)}."
            )
        found.append(fields)
    if not found:
        raise SuiteError(f"input={source}: has no line with text.")
    return source, found


def contents(key: str, name: str) -> str:
    """A file's text."""
    try:
        return Path(name).expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SuiteError(f"{key}={name} cannot be read: {reason}.") from None


def line(found: dict[str, Any]) -> str:
    """An item for a reader."""
    answer, share = found["prediction"], found["probability"]
    if isinstance(answer, list):
        return " ".join(f"{word}/{tag}" for word, tag in zip(found["inputs"][0].split(), answer, strict=True))
    shown = f"{answer:.4f}" if isinstance(answer, float) else f"{answer}\t{share:.3f}"
    if "place" not in found:
        return "\t".join([shown, *found["inputs"]])
    begin, end = found["place"]
    return f"{shown}\n\n{found['text'][:begin]}[[{answer}]]{found['text'][end:]}"
