"""What a page says in words: the experiment, the arms, and each finding in a sentence. No numbers are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_suite.leaderboard.table import Board, Column, Contrast, Table, contrast

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Introduction:
    """Title, the paragraph on top, what the published table beside ours is called, and whose encoder it had."""

    title: str
    paragraph: str
    lecture: str = "published"
    encoder: str = ""


INTRODUCTIONS = {
    "cross_domain": Introduction(
        "Does reading English help with proteins, DNA and music?",
        "A language model that was pre-trained on English text is given sequences that are not language: every kind of"
        " amino acid, of DNA base, of note is replaced by one English word, chosen at random, and the model is then"
        " trained to classify the result. If pre-training had taught it nothing but English, it should do no better"
        " than the same network trained from random weights. In a table of a lecture on self-supervised learning"
        " (after Kao & Lee 2021, arXiv:2103.07162) it did better on every task. Here the same is measured, on the data"
        " named below and with the same budget for every arm, and task by task the page says whether that holds.",
        "lecture",
        "the lecture's was BERT base",
    )
}

ARM_WORDS = {
    "specific-SSL": "made for the domain: an encoder that this suite pre-trained on such sequences, without labels.",
    "specific-scratch": "the same encoder from random weights: what specific-SSL gains over it, its pre-training gave.",
    "specific-CNN": "made for the domain: a small convolutional network, not pre-trained.",
    "BERT": "a text encoder pre-trained on English; each symbol of the sequence stands as a random English word.",
    "re-emb": "the layers of that text encoder, pre-trained, under fresh random embeddings of the symbols.",
    "rand": "the same network as BERT with random weights throughout: what BERT must beat.",
    "probe-random": "control: a random encoder that stays frozen; only a linear head on its features is trained.",
    "k-mer linear": "control: a linear model on counts of short pieces (k-mers), no neural network.",
    "majority": "control: always the most frequent class of the training set (for numbers: its mean).",
}

METRIC_WORDS = {
    "accuracy": ("accuracy", "share of test items that are right, in %"),
    "spearman": ("Spearman", "rank correlation of prediction and truth, × 100"),
    "pearson": ("Pearson", "linear correlation of prediction and truth, × 100"),
    "mcc": ("MCC", "Matthews correlation, × 100"),
    "f1": ("F1", "× 100"),
    "macro_f1": ("macro F1", "mean of the classes' F1, × 100"),
}
CORRELATIONS = ("spearman", "pearson", "mcc", "mean_pearson_spearman")

LEAKS = {
    "test_in_train": "test items that are also training items",
    "dev_in_train": "dev items that are also training items",
    "test_in_dev": "test items that are also dev items",
}


def introduction(benchmark: str) -> Introduction:
    return INTRODUCTIONS.get(benchmark) or Introduction(
        benchmark.replace("_", " ").capitalize(), f"All rows of the benchmark {benchmark}: arms by tasks."
    )


def metric(name: str) -> str:
    return METRIC_WORDS.get(name, (name, ""))[0]


def unit(name: str) -> str:
    """The metric with the scale that its numbers are shown on."""
    return f"{metric(name)}, %" if name == "accuracy" else f"{metric(name)} × 100"


def titled(column: Column, settings: bool) -> str:
    """The task's title; with ``settings`` the budget too."""
    return f"{column.task['title']} ({column.budget})" if settings else str(column.task["title"])


def points(value: float, sign: bool = False) -> str:
    """A score of 0..1 as points with one decimal; ``sign`` writes + before a gain."""
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    if text.strip("+-0.") == "":
        text = "0.0"
    return text.replace("-", MINUS)


def span(low: float, high: float, sign: bool = False) -> str:
    return f"{points(low, sign)} to {points(high, sign)}"


def probability(p: float) -> str:
    """``p = .031``; below a thousandth ``p < .001``."""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.removeprefix('0')}"


def probabilities(each: Contrast) -> list[str]:
    """``p = .011`` of the paired test alone and, if it is another, ``corrected .088``: Holm's over the columns."""
    corrected = probability(each.holm).removeprefix("p ").removeprefix("= ")
    return [probability(each.p), *([f"corrected {corrected}"] if each.holm != each.p else [])]


def tested(each: Contrast) -> str:
    """``p = .011, corrected .088``."""
    return ", ".join(probabilities(each))


def gain(each: Contrast) -> str:
    """``+7.4``; of a small test set, where only the interval is said, its interval."""
    return span(each.low, each.high, sign=True) if each.column.small else points(each.gain, sign=True)


def interval(each: Contrast) -> list[str]:
    """What goes with ``gain``; nothing where that is the interval already."""
    return [] if each.column.small else [span(each.low, each.high, sign=True)]


@dataclass(frozen=True)
class Finding:
    """The lecture's finding in one column.

    Attributes:
        status: ``yes``, ``no`` (the opposite was found), ``open`` (not told apart) or ``missing``.
        verdict: a few words. sentence: the same with numbers. between: a few words on re-emb.
        lecture: the lecture's own difference, "" without one.
        ahead: BERT's score is the higher one, told apart or not.
    """

    column: Column
    status: str
    verdict: str
    sentence: str
    between: str
    between_status: str
    lecture: str
    ahead: bool


def finding(board: Board, table: Table, column: Column, line: Any = None) -> Finding:
    """Whether BERT beats rand in this column, and whether re-emb lies between. ``line``: one of several BERT lines."""
    main = contrast(table, "BERT", "rand", column, line)
    words = {
        "better": ("yes", "holds: BERT is better than rand"),
        "worse": ("no", "the opposite: rand is better than BERT"),
        "open": ("open", "not shown: BERT and rand cannot be told apart"),
        None: ("missing", "not measured"),
    }
    status, verdict = words[main.outcome if main else None]
    between_status, said_of_it = between(table, column, main)
    said = [board.references.lecture.get((arm, column.reference)) for arm in ("BERT", "rand")]
    lecture = points((said[0][0] - said[1][0]) / 100, sign=True) if said[0] and said[1] else ""
    ahead = main is not None and main.gain > 0
    return Finding(column, status, verdict, sentence(main), said_of_it, between_status, lecture, ahead)


def sentence(main: Contrast | None) -> str:
    """BERT against rand, with the interval and p."""
    if main is None:
        return "not measured"
    if main.outcome == "open":
        interval = span(main.low, main.high, sign=True)
        return f"not shown. BERT {MINUS} rand is somewhere in {interval} points ({tested(main)})"
    low, high = sorted((abs(main.low), abs(main.high)))
    first, second = ("BERT", "rand") if main.gain > 0 else ("rand", "BERT")
    start = "holds." if main.gain > 0 else "the opposite."
    return f"{start} {first} is better than {second} by {span(low, high)} points ({tested(main)})"


def between(table: Table, column: Column, main: Contrast | None) -> tuple[str, str]:
    """Whether re-emb lies between the two of ``main``: a status as ``Finding`` has it, and words."""
    below = contrast(table, "BERT", "re-emb", column, main.first) if main else None
    above = contrast(table, "re-emb", "rand", column, below.second) if below else None
    if main is None or above is None or below is None:
        return "missing", "not measured"
    verdicts = {
        ("better", "better"): ("yes", "yes: better than rand, worse than BERT"),
        ("better", "open"): ("open", "better than rand, not told apart from BERT"),
        ("better", "worse"): ("no", "no: better than rand and than BERT"),
        ("open", "better"): ("open", "worse than BERT, not told apart from rand"),
        ("open", "open"): ("open", "not told apart from either"),
        ("open", "worse"): ("no", "no: better than BERT, not told apart from rand"),
        ("worse", "better"): ("no", "no: worse than both"),
        ("worse", "open"): ("no", "no: worse than rand, not told apart from BERT"),
        ("worse", "worse"): ("no", "no: worse than rand and better than BERT"),
    }
    return verdicts[above.outcome, below.outcome]


def summary(findings: Sequence[Finding]) -> str:
    """The finding over all columns of a table, in a sentence or two."""
    counted: Mapping[str, list[str]] = {
        status: [each.column.task["title"] for each in findings if each.status == status]
        for status in ("yes", "open", "no", "missing")
    }
    measured = len(findings) - len(counted["missing"])
    if not measured:
        return "BERT and rand have not been measured on the same task yet, so there is no finding."
    parts = [f"BERT is better than rand on {len(counted['yes'])} of {measured} tasks"]
    if 0 < len(counted["yes"]) < measured:
        parts[0] += f" ({', '.join(counted['yes'])})"
    if counted["open"]:
        parts.append(f"cannot be told apart from it on {len(counted['open'])} ({', '.join(counted['open'])})")
    if counted["no"]:
        parts.append(f"is worse on {len(counted['no'])} ({', '.join(counted['no'])})")
    text = _joined(parts) + "."
    of_all = "all " if measured == len(findings) else ""
    if len(counted["yes"]) == measured:
        text += f" The lecture's finding holds on {of_all}{measured} tasks measured."
    elif counted["yes"]:
        text += " The lecture's finding (BERT is better on all tasks) holds here in part."
    else:
        text += " The lecture's finding (BERT is better on all tasks) is not shown here on any task."
    if counted["open"]:
        ahead = sum(each.ahead for each in findings)
        text += f" Told apart or not, BERT's score is the higher one on {ahead} of {measured}."
    reembedded = [each for each in findings if each.between_status != "missing"]
    if reembedded:
        strict = sum(each.between_status == "yes" for each in reembedded)
        against = sum(each.between_status == "no" for each in reembedded)
        text += f" re-emb is shown to lie between the two on {strict} of {len(reembedded)}"
        text += f", and shown not to on {against}." if against else "; on none is it shown not to."
    if counted["missing"]:
        text += f" Not measured: {', '.join(counted['missing'])}."
    return text


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def pretraining(each: Contrast) -> str:
    """A sentence on specific-SSL against specific-scratch."""
    words = {
        "better": "pays: specific-SSL is better",
        "worse": "hurts: specific-SSL is worse",
        "open": "not shown: the two cannot be told apart",
    }
    return words[each.outcome]


def truncated(task: Mapping[str, Any]) -> str:
    """How many items are not read whole, and the symbols read of them: ``1,867 (to 126)``, [CLS] and [SEP] apart."""
    window = task.get("max_length")
    return f"{task['n_truncated']:,}" + (f" (to {window - 2})" if task["n_truncated"] and window else "")


def counted(used: int, full: int) -> str:
    """``500 of 21,446`` or, when all are used, ``21,446``."""
    return f"{used:,}" if used == full else f"{used:,} of {full:,}"


def part(task: Mapping[str, Any]) -> str:
    """``part of train and test`` where not all items of the split are used; else ""."""
    cut = [name for name in ("train", "test") if task[f"n_{name}"] < task[f"n_{name}_full"]]
    return f"part of {' and '.join(cut)}" if cut else ""


def leakage(task: Mapping[str, Any]) -> str:
    """Counts in words; which are zero is said too."""
    found = [
        f"{count} {LEAKS.get(key, key.replace('_', ' '))}" for key, count in sorted(task["leakage"].items()) if count
    ]
    if not task["leakage"]:
        return "not counted"
    return "; ".join(found) or "none found (exact copies)"


def missing(line: Any, column: Column, elsewhere: bool) -> str:
    """What an empty cell says; ``elsewhere``: the arm was measured on the task in another setting."""
    if line.arm == "majority" and column.metric in CORRELATIONS:
        return "undefined"
    return "other setting" if elsewhere else "not measured"
