"""What images and speech share: signals that are framed into positions, and units from a k-means codebook.

A position holds a raw frame (``Frame``). ``features`` turns frames into what the encoder's linear map takes and
``unit_features`` into what k-means clusters, both on the device. The nearest codebook entry of a position is its unit,
an id like a token's, so that masked prediction is one classification everywhere (HuBERT, Hsu et al. 2021,
arXiv:2106.07447; BEiT, Bao et al. 2022, arXiv:2106.08254).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS, Frame, Vocabulary
from ssl_suite.core.wording import count
from ssl_suite.modalities.base import Modality

FIRST = len(SPECIAL_TOKENS)
Codes = Annotated[int, Field(ge=2, le=1 << 16)]
RUN = "run:"  # units from the layer of a pre-trained encoder: run:PATH@LAYER


class SignalModality(Modality):
    """The base of signal modalities. A subclass sets ``frame`` in ``__post_init__`` and calls that of this class.

    Attributes:
        frame: what a position holds.
        codes: entries of the codebook.
        units: ``signal`` clusters ``unit_features``, ``run:PATH@LAYER`` the states of a run's encoder.
        codebook: None until it has been fitted (``training.units``) or loaded.
    """

    frame: Frame
    codes: int
    units: str
    codebook: Codebook | None = None

    def __post_init__(self) -> None:
        units = self.units
        if units != "signal" and not (units.startswith(RUN) and "@" in units):
            raise SuiteError(f"modality.units={units} should be signal, or run:PATH@LAYER such as run:runs/first@2.")

    @property
    def vocabulary(self) -> Vocabulary:
        """The special tokens and a token a unit."""
        return Vocabulary((*SPECIAL_TOKENS, *(f"<{i}>" for i in range(self.codes))), (FIRST, FIRST + self.codes))

    def features(self, batch: Batch) -> Tensor:
        """(N, G) float32, ``frame.features`` numbers a position, of about unit size; no gradient flows into it."""
        raise NotImplementedError

    def unit_features(self, batch: Batch) -> Tensor:
        """(N, U) float32, what k-means clusters: a perceptually meaningful distance is a Euclidean one here."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What a reader of an exported folder needs to make frames: goes into ``preprocessor_config.json``."""
        return self.fingerprint()

    def save(self, folder: Path) -> None:
        """Write ``preprocessor_config.json``, and ``codebook.safetensors`` where there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"modality": self.name, **self.settings(), "codes": self.codes}, indent=2)
        (folder / "preprocessor_config.json").write_text(text + "\n", encoding="utf-8")
        if self.codebook is not None:
            self.codebook.save(folder / "codebook.safetensors")

    def load(self, folder: Path) -> None:
        """Take the codebook of a folder, if it holds one.

        Raises:
            SuiteError: it has another number of entries.
        """
        path = folder / "codebook.safetensors"
        if not path.is_file():
            return
        found = Codebook.load(path)
        if len(found) != self.codes:
            raise SuiteError(
                f"{path}: has {count(len(found), 'entry', 'entries')}, modality.codes={self.codes}; "
                f"set it to {len(found)}."
            )
        self.codebook = found
