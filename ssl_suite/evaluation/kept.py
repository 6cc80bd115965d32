"""A trained trial that is kept for use: its weights, task and tokeniser; and what it says of inputs without labels.

``bench … keep=true`` writes, in the folder of each trial that is tested, ``model/``:

    model.json         encoder, seed, classes           NAME@SPLIT.yaml    the task
    model.safetensors  the weights of encoder and head  modality/          tokeniser or other learnt parts

The shapes of the encoder come from the run or the ``hf:`` folder that it was made of.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.core.records import Record
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation import encoders, inference, items, references, task_data, tasks
from ssl_suite.evaluation.heads import head_class
from ssl_suite.evaluation.heads.base import Head, Labels
from ssl_suite.evaluation.predictions import objects
from ssl_suite.evaluation.tables import Rows
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.training.learner import Learner

if TYPE_CHECKING:
    from ssl_suite.evaluation.trial import Plan, TrialComponents

MODEL, FACTS, WEIGHTS, MODALITY = "model", "model.json", "model.safetensors", "modality"
KINDS = ("classes", "values", "tags", "answers")  # of predictions that are made of inputs alone


@dataclass(frozen=True)
class Kept:
    """A kept trial; ``stand_in`` are labels that give its head the classes or the scale that it was trained with."""

    task: tasks.Task
    modality: Modality
    encoder: Any
    weights: dict[str, torch.Tensor]
    facts: dict[str, Any]
    stand_in: np.ndarray

    @property
    def head(self) -> type[Head]:
        """The class of its head."""
        return head_class(self.task.head["name"])


def write(folder: Path, plan: Plan, learner: Learner, parts: TrialComponents) -> Path:
    """Keep a trial whose chosen weights the learner has; returns the folder. Raises SuiteError: its encoder is frozen,
    of which a trial has no weights."""
    if plan.protocol == "probe":
        raise SuiteError("keep=true is for encoders that are tuned; leave it out with protocol=probe.")
    task, out, reference = plan.task, folder / MODEL, references.parse(plan.encoder)
    name = os.path.abspath(Path(reference.name).expanduser()) if Path(reference.name).exists() else reference.name
    out.mkdir(exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in learner.state_dict().items()}, out / WEIGHTS)
    shutil.copyfile(task.path, out / f"{task.name}.yaml")
    parts.modality.save(out / MODALITY)
    labels_I = parts.data.parts["train"].labels_I
    scale = [float(labels_I.mean() + sign * labels_I.std()) for sign in (-1, 1)] if task.kind == "values" else []
    facts = {
        "task": task.name,
        "encoder": plan.encoder.replace(reference.name, name, 1) if reference.name else plan.encoder,
        "seed": plan.seed,
        "keep_special": plan.keep_special,
        "pooling": plan.budget.pooling,
        "max_length": parts.modality.max_length,
        "chunks": plan.budget.chunks,
        "classes": list(parts.data.classes),
        "scale": scale,
    }
    atomic.write_json(out / FACTS, facts)
    return out


def read(folder: str | Path) -> Kept:
    """A kept trial by its folder, or by the ``model`` in it. Raises SuiteError: there is none, or what its encoder was
    made of is not where it was."""
    place = Path(folder).expanduser()
    place = place if (place / FACTS).is_file() else place / MODEL
    if not (place / FACTS).is_file():
        raise SuiteError(
            f"encoder={folder}: holds no trained trial ({MODEL}/{FACTS}); make one: ssl_suite bench NAME task=TASK "
            "encoder=REF keep=true, which names its folder."
        )
    facts = read_json(place / FACTS, "measure it again with keep=true")
    task = tasks.load(place / f"{facts['task']}.yaml")
    if task.kind not in KINDS:
        raise SuiteError(f"encoder={folder}: was trained on {task.name}, whose {task.kind} need more than its inputs.")
    reference = references.parse(facts["encoder"])
    section = {**tasks.modality_section(task), "max_length": facts["max_length"]}
    modality = encoders.modality_for(reference, section, task.name)
    if not references.modality_source(reference):
        modality.load(place / MODALITY)
    opened = encoders.open_encoder(reference, modality, facts["seed"], True, 0.0, facts["keep_special"])
    weights = load_file(place / WEIGHTS)
    return Kept(task, modality, opened.encoder, weights, facts, np.array(facts["scale"]))


def inputs_of(kept: Kept, records: Sequence[Sequence[Record]]) -> TaskData:
    """The items of records (one an input of the task) as the part ``test``. Raises BadRecord: one cannot be read."""
    task, modality = replace(kept.task, cluster=None), kept.modality
    layout = kept.head.layout[len(task.inputs) - 1]()
    found = {
        row: tuple(layout.read(modality, record, k) for k, record in enumerate(each))
        for row, each in enumerate(records)
    }
    size = len(records)
    rows = Rows(
        ("train", "test"), [""] * size, np.ones(size, np.int8), np.arange(size, dtype=np.int32), {}, np.ones(size, bool)
    )
    blank = {"classes": lambda item: 0, "values": lambda item: 0.0, "tags": lambda item: np.zeros(len(item[0]), int)}
    values = [blank.get(task.kind, lambda item: [""])(found[row]) for row in range(size)]
    labels = Labels(np.array(values) if task.kind in ("classes", "values") else objects(values))
    window = items.Window(modality.max_length - FRAME, task.overflow, kept.facts["chunks"], modality.vocabulary.sep)
    data = task_data.lay_out(task, modality, layout, found, rows, labels, window, 0)
    data.classes = tuple(kept.facts["classes"])
    data.parts["train"] = replace(data.parts["train"], labels_I=kept.stand_in)
    return data


def answers(kept: Kept, records: Sequence[Sequence[Record]]) -> list[dict[str, Any]]:
    """What a kept trial says of records: of each ``prediction`` (classes by name) and ``probability``, None where its
    head has none; of answers also the ``text`` that they are cut from and their ``place``. Raises as ``inputs_of``."""
    from ssl_suite.training.distributed import processes

    data = inputs_of(kept, records)
    head = kept.head(kept.encoder, data, **{"pooling": kept.facts["pooling"], **kept.task.head_settings})
    learner = Learner(kept.encoder, head)
    learner.load_state_dict(kept.weights)
    with processes({"threads": None, "precision": "auto"}) as group:
        outputs_S = inference.outputs(learner.to(group.device), data, kept.modality, "test", group)
    part, names = data.parts["test"], data.classes
    found = head.decode(outputs_S, data, part)
    shares, places = head.confidence(outputs_S, data, part), head.places(outputs_S, data, part)
    named = {"classes": lambda answer: names[answer], "tags": lambda answer: [names[tag] for tag in answer]}
    make = named.get(kept.task.kind, lambda answer: answer.item() if hasattr(answer, "item") else answer)
    return [
        {"prediction": make(answer), "probability": None if shares is None else shares[i]}
        | ({} if places is None else {"text": part.contexts[i], "place": places[i]})
        for i, answer in enumerate(found)
    ]
