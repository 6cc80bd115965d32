"""Reading and tagging held to independent scores; sizes of batches; labels that do not fit."""

from __future__ import annotations

import collections
import random
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from seqeval.metrics import accuracy_score

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import inference, task_data, tasks, trial
from ssl_suite.evaluation.heads.span import Span
from ssl_suite.evaluation.heads.tagging import IGNORED
from ssl_suite.evaluation.metrics import METRICS
from ssl_suite.evaluation.predictions import objects
from ssl_suite.training.distributed import processes
from ssl_suite.training.learner import Learner
from tests.evaluation import text_models
from tests.evaluation.heads.planted import budget, kept_trial, sentence, task

HERE = {"root": None, "cache": None}


def reference_scores(accepted: list[str], given: str) -> tuple[float, float]:
    """Exact match and F1 by the steps of the SQuAD paper's section 6.1, written for this test with other means."""

    def bag(text: str) -> list[str]:
        kept = text.lower().translate({ord(sign): None for sign in string.punctuation})
        return [word for word in re.split(r"\s+", kept) if word and word not in ("a", "an", "the")]

    best = (0.0, 0.0)
    for answer in accepted:
        right, said = bag(answer), bag(given)
        left = collections.Counter(right)
        left.subtract(said)
        common = len(right) - sum(count for count in left.values() if count > 0)
        exact = float(right == said)
        if not right or not said:
            f1 = exact
        else:
            precision, recall = common / len(said), common / len(right)
            f1 = 0.0 if not common else 2 / (1 / precision + 1 / recall)
        best = (max(best[0], exact), max(best[1], f1))
    return best


GOLDEN = [
    (["the cat"], "A cat.", 1.0, 1.0),  # articles, case and punctuation
    (["U.S. Army"], "the us army", 1.0, 1.0),
    (["in London", "London", "London, England"], "London", 1.0, 1.0),  # several answers: the best
    (["Denver Broncos"], "Broncos", 0.0, 2 / 3),  # cut short
    (["Broncos"], "the Denver Broncos of 2015", 0.0, 0.4),
    (["seven"], "", 0.0, 0.0),  # nothing is given
    (["the"], "an", 1.0, 1.0),  # nothing is left of either
    (["the"], "cat", 0.0, 0.0),
    (["a b b"], "b b b", 0.0, 0.8),
]


@pytest.mark.parametrize(("accepted", "given", "exact", "f1"), GOLDEN)
def test_golden_answers(accepted: list[str], given: str, exact: float, f1: float) -> None:
    one, answers = objects([accepted]), objects([given])
    assert METRICS["exact_match"].compute(one, answers) == exact
    assert METRICS["answer_f1"].compute(one, answers) == pytest.approx(f1)
    assert reference_scores(accepted, given) == (exact, pytest.approx(f1))


def test_answers_agree_with_another_implementation() -> None:
    draw, words = random.Random(0), ["the", "A", "cat", "dog", "Cat,", "sat.", "on", "(a)", "mat", "an"]
    accepted = objects([[" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(3)] for _ in range(300)])
    given = objects([" ".join(draw.choices(words, k=draw.randint(0, 5))) for _ in range(300)])
    found = np.array([reference_scores(*pair) for pair in zip(accepted, given, strict=True)]).mean(0)
    assert METRICS["exact_match"].compute(accepted, given) == pytest.approx(found[0])
    assert METRICS["answer_f1"].compute(accepted, given) == pytest.approx(found[1])


def test_tags_agree_with_seqeval() -> None:
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 20, 50)
    labels, given = (objects([draw.integers(0, 4, size) for size in sizes]) for _ in range(2))
    names = [[[f"B-{tag}" for tag in each] for each in side] for side in (labels, given)]
    assert METRICS["tag_accuracy"].compute(labels, given) == pytest.approx(accuracy_score(*names))
    masked = objects([np.where(draw.random(len(each)) < 0.5, each, IGNORED) for each in labels])
    pairs = [(a, b) for x, y in zip(masked, given, strict=True) for a, b in zip(x, y, strict=True) if a >= 0]
    assert METRICS["tag_accuracy"].compute(masked, given) == pytest.approx(np.mean([a == b for a, b in pairs]))


@pytest.mark.parametrize("kind", ["tags", "answers"])
@pytest.mark.parametrize("encoder", ["random:tiny", "bert"])
def test_the_size_of_a_batch_changes_no_prediction(kind: str, encoder: str, tmp_path: Path) -> None:
    if encoder == "bert":
        text_models.save(tmp_path / "bert", "bert")
        encoder = f"hf:{tmp_path / 'bert'}"
    plan, folder = kept_trial(tmp_path, kind, encoder, epochs=1)
    with processes({"threads": 1, "precision": "auto"}) as group:
        parts = trial.build(plan, group.device, folder)
        learner = Learner(parts.encoder, parts.head)
        learner.load_state_dict(load_file(folder / "model" / "model.safetensors"))
        longest = int(parts.data.sizes("test").max())
        made = [
            inference.predict(learner, parts.data, parts.modality, "test", group, at_once=longest * size)
            for size in (1, 7, 64)
        ]
    for other in made[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(made[0], other, strict=True))


def test_a_word_without_a_tag_is_neither_trained_on_nor_scored(tmp_path: Path) -> None:
    draw, rows = random.Random(5), []
    for _ in range(60):
        words = sentence(draw)
        rows.append({"words": words, "tags": [word[0] if i % 2 else "_" for i, word in enumerate(words)]})
    facts: dict[str, Any] = {"inputs": "words", "label": "tags", "head": "tagging"}
    made = task(tmp_path, rows, **facts, metrics=["tag_accuracy"], select="tag_accuracy")
    plan = trial.Plan(made, "random:tiny", "finetune", budget(epochs=1), 1, 3e-3, HERE)
    parts = trial.build(plan, torch.device("cpu"), tmp_path / "t")
    assert "_" not in parts.data.classes
    targets = parts.head.targets_T.numpy()
    expected = sum(tag != "_" for row in rows for tag in row["tags"] if row["split"] == "train")
    assert (targets != IGNORED).sum() == expected
    labels = parts.data.parts["test"].labels_I
    assert METRICS["tag_accuracy"].compute(labels, labels) == 1.0
    majority = parts.head.majority(parts.data, parts.data.parts["test"])
    assert METRICS["tag_accuracy"].compute(labels, majority) == 1.0  # a word has one tag here


def test_the_first_words_are_as_many_as_answers_most_often_have(tmp_path: Path) -> None:
    rows = [
        {"q": "who?", "text": "one two three four", "answers": ["one two"] if i % 3 else ["three"], "starts": [0]}
        for i in range(30)
    ]
    rows += [{"q": "who?", "text": "北京是首都", "answers": ["北京"], "starts": [0]} for _ in range(2)]
    made = task(tmp_path, rows, **READING)
    modality = tasks.build_modality(made)
    data = task_data.load(made, modality, HERE, {})
    assert set(Span.majority(data, data.parts["test"])) == {"one two", "北京"}


READING: dict[str, Any] = {"inputs": ["q", "text"], "label": ["answers", "starts"], "head": "span"}
READING |= {"metrics": ["answer_f1"], "select": "answer_f1"}
TAGS: dict[str, Any] = {"inputs": "words", "label": "tags", "head": "tagging", "metrics": ["tag_accuracy"]}
TAGS |= {"select": "tag_accuracy"}
CLASSES: dict[str, Any] = {"inputs": "text", "label": "class", "head": "classification", "metrics": ["accuracy"]}
CLASSES |= {"select": "accuracy"}


def reading(i: int) -> dict[str, Any]:
    return {"q": "who?", "text": f"a cat number {i}", "answers": ["dog" if i in (3, 5) else "cat"], "starts": [2]}


def tagged(i: int) -> dict[str, Any]:
    return {"words": ["red", "cat"], "tags": ["A", "B", "C"] if i == 4 else ["A", "B"]}


def classified(i: int) -> dict[str, Any]:
    return {"text": f"cat {i}", "class": "new" if i == 29 else str(i % 2)}


@pytest.mark.parametrize(
    ("make", "facts", "expected"),
    [
        (reading, READING, r"row 4: the answer 'dog' is not in its text; .* \(2 rows of 30 with such a fault\)"),
        (tagged, TAGS, r"row 5 has 2 words and 3 tags; each word needs one\.$"),
        (classified, CLASSES, r"1 row of test have the label 'new', which no row of train has"),
    ],
)
def test_labels_that_do_not_fit_are_named(make: Any, facts: dict[str, Any], expected: str, tmp_path: Path) -> None:
    made = task(tmp_path, [make(i) for i in range(30)], **facts)
    with pytest.raises(SuiteError, match=expected):
        task_data.load(made, tasks.build_modality(made), HERE, {})


def test_a_budget_keeps_the_same_questions_of_every_language(tmp_path: Path) -> None:
    rows = [reading(i + 6) | {"id": f"q{i % 10}"} for i in range(30)]
    rows += [row | {"text": f"ein {row['text']}"} for row in reversed(rows[20:])]
    parts = ("train", "dev", "test", "de")
    splits = {"column": "split", **{part: part for part in parts}}
    made = task(tmp_path, rows, **READING, parallel="id", cluster="id", splits=splits)
    rows = [row | {"split": parts[i // 10]} for i, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    data = task_data.load(made, tasks.build_modality(made), HERE, {"test": 4, "de": 4})
    kept = [{rows[start + int(i)]["id"] for i in data.parts[part].rows_I} for part, start in (("test", 20), ("de", 30))]
    assert kept[0] == kept[1] and len(kept[0]) == 4


def test_frozen_embeddings_stay_and_the_rest_moves(tmp_path: Path) -> None:
    text_models.save(tmp_path / "bert", "bert")
    _, folder = kept_trial(tmp_path, "tags", f"hf:{tmp_path / 'bert'}", freeze="embeddings", epochs=1)
    tuned = load_file(folder / "model" / "model.safetensors")
    own = load_file(tmp_path / "bert" / "model.safetensors")
    moved = {name: not torch.equal(tuned[f"encoder.model.{name}"], own[name]) for name in own if "pooler" not in name}
    assert not any(was for name, was in moved.items() if name.endswith("embeddings.weight"))
    assert all(was for name, was in moved.items() if "attention.self.query.weight" in name)
    assert budget().facts() == budget(freeze="nothing").facts()
    assert budget(freeze="embeddings").facts()["freeze"] == "embeddings"
