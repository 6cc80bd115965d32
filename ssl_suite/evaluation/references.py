"""What ``encoder=`` may name.

    RUN                 a run folder of this suite; RUN@STEP is one of its checkpoints, RUN the best
    RUN+reembed         its blocks under a fresh embedder: a run of one modality on the tasks of another
    RUN+reembed+moments, +permuted   controls: random blocks with the mean and deviation of each of its weights; its
                        blocks in another order
    hf:NAME_OR_PATH     any ``AutoModel`` of ``transformers``: its own tokens, where they spell the task's symbols; for
                        speech a folder of wav2vec 2.0, HuBERT, WavLM, data2vec or Whisper (its encoder); for images
                        a folder of ViT, DINOv2, Swin, ResNet, ConvNeXt, EfficientNet, …
    hf:…+map            every symbol is a random word of the text encoder (Kao & Lee 2021, arXiv:2103.07162); the
                        choice follows the run's seed, or is fixed by ``+map=SEED``
    hf:…+reembed        fresh embeddings of the symbols under the text encoder's layers
    random:PRESET       this suite's encoder of ``conf/model/PRESET.yaml`` with random weights
    cnn                 ``models.sequence_cnn``
    fbank               filter-bank features of speech, for ``probe``, ``linear`` and ``knn``
    kmer, none          no encoder: for ``protocol=linear`` on counts of k-mers, and ``protocol=majority``

Under ``protocol=scratch`` every one of them keeps its shape and gets random weights.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.settings.run_reference import CONFIG, is_run

HF, RANDOM = "hf:", "random:"
CONTROLS = ("moments", "permuted")
ADDITIONS = ("map", "reembed", *CONTROLS)
NETLESS = ("kmer", "none")  # names that stand for no network
PRESET = "mini"


@dataclass(frozen=True)
class Reference:
    """A parsed ``encoder=``.

    Attributes:
        kind: ``run``, ``hf``, ``random``, ``cnn``, ``fbank``, ``kmer`` or ``none``.
        name: the folder (with its ``@STEP``), the name on the hub, or the preset.
        map: whether symbols are mapped onto words; ``map_seed`` None follows the run's seed.
        reembed: whether the symbols get fresh embeddings.
        control: ``moments`` or ``permuted``, see ``evaluation.controls``; "" for the weights as they are.
    """

    kind: str
    name: str = ""
    map: bool = False
    map_seed: int | None = None
    reembed: bool = False
    control: str = ""

    @property
    def varies(self) -> bool:
        """Whether the encoder that is opened depends on the run's seed."""
        return self.kind == "random" or self.reembed or (self.map and self.map_seed is None)

    @property
    def short(self) -> str:
        """Without the folders it lies in: what a row says."""
        name = self.name
        if self.kind == "run" or (self.kind == "hf" and Path(name).expanduser().exists()):
            path = Path(os.path.abspath(Path(name).expanduser()))
            name = path.parent.name if path.name == "model" else path.name  # packages keep weights in PACKAGE/model
        seed = "" if self.map_seed is None else f"={self.map_seed}"
        prefix = {"hf": HF, "random": RANDOM, "run": "run:"}.get(self.kind, self.kind)
        control = f"+{self.control}" if self.control else ""
        return prefix + name + f"+map{seed}" * self.map + "+reembed" * self.reembed + control


def modality_source(reference: Reference) -> str:
    """The reference whose own modality encodes a task's records; "" where the task's does."""
    if (reference.kind == "run" and reference.reembed) or reference.kind not in ("run", "hf"):
        return ""
    return (HF if reference.kind == "hf" else "") + reference.name


def parse(text: str) -> Reference:
    """Read an ``encoder=``. Raises SuiteError: an unknown addition, or one that this kind does not take."""
    base = text
    words: list[str] = []
    while match := re.fullmatch(rf"(.+)\+(map(?:=[0-9]+)?|{'|'.join(ADDITIONS[1:])})", base):
        base = match[1]
        words.insert(0, match[2])
    if not Path(base.removeprefix(HF)).expanduser().exists():  # a folder may have a + in its name
        base, *unknown = base.split("+")
        if unknown:
            hint = nearest(unknown[0].partition("=")[0], ADDITIONS)
            raise SuiteError(f"encoder={text}: '+{unknown[0]}' is not known; write +map, +map=SEED or +reembed.{hint}")
    found = _base(base, text)
    takes = {"hf": ("map", "reembed"), "run": ("reembed", *CONTROLS)}.get(found.kind, ())
    for word in words:
        key, _, value = word.partition("=")
        if key in CONTROLS and not (found.kind == "run" and "reembed" in words):
            raise SuiteError(f"encoder={text}: +{word} is for RUN+reembed.")
        if key not in takes:
            offers = "text encoders (hf:NAME_OR_PATH)" if key == "map" else "run folders and hf:NAME_OR_PATH"
            raise SuiteError(f"encoder={text}: +{word} is for {offers}.")
        if key == "map":
            found = replace(found, map=True, map_seed=int(value) if value else None)
        else:
            found = replace(found, reembed=True) if key == "reembed" else replace(found, control=key)
    if found.map and found.reembed:
        raise SuiteError(f"encoder={text}: symbols are either mapped or re-embedded; keep one of the two.")
    return found


def _base(base: str, text: str) -> Reference:
    if base.startswith(HF):
        if base == HF:
            raise SuiteError(f"encoder={text} names no model: write hf:NAME_OR_PATH.")
        return Reference("hf", base.removeprefix(HF))
    if base.startswith(RANDOM) or base == "random":
        preset = base.removeprefix(RANDOM) if ":" in base else PRESET
        presets = sorted(path.stem for path in (resources.folder("conf") / "model").glob("*.yaml"))
        if preset not in presets:
            raise SuiteError(f"encoder={text}: there is no model '{preset}'.{nearest(preset, presets)}")
        return Reference("random", preset)
    if base in ("cnn", "fbank", *NETLESS):
        return Reference(base)
    if not is_run(base):
        raise SuiteError(
            f"encoder={text}: '{base}' is not a run folder (no {CONFIG} in it). "
            f"Name one, or write hf:NAME_OR_PATH, random:PRESET, cnn, fbank or kmer."
        )
    return Reference("run", base)
