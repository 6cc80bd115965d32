"""Picture encoders of ``transformers`` (ViT, DINOv2, Swin, ResNet, ConvNeXt, EfficientNet …) over a ragged batch.

The pictures of a batch are resized, cropped and normalised by the checkpoint's own image processor. A picture's vector
is the model's own: its class token, or the mean over its feature map where there is none.

Shapes: I pictures of a batch, S pixels a side, P patches of the modality; N, B and D as in ``core.batch``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.models.convnet import shown_pixels
from ssl_suite.models.foreign import REMEDY, reason, refuse_missing, settings_of, with_weights, without_dropout
from ssl_suite.models.wrapped import leaves

PROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class ImageSpec:
    """What the rest of the suite asks of its shapes.

    Attributes:
        width: D.
        flops_per_picture: matrix FLOPs of one forward pass over one picture.
    """

    kind: ClassVar[str] = "wrapped_image"

    width: int
    flops_per_picture: int


class WrappedImage(nn.Module):
    """Pictures to vectors, and to states of the modality's patches.

    Args:
        model: ``AutoModel`` of a picture encoder.
        processor: ``AutoImageProcessor`` of the same folder.
        modality: finds the pictures in a batch.
    """

    def __init__(self, model: Any, processor: Any, modality: Any) -> None:
        super().__init__()
        self.model, self.processor, self.modality = model, processor, modality
        self.layers = nn.ModuleList()
        blank_13SS = torch.zeros((1, 3, modality.size, modality.size), dtype=torch.uint8)
        # The counter knows no flash attention of CPUs.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            vector_1D, map_1Dhw = self.eval()._vectors(blank_13SS)
        self.spec = ImageSpec(vector_1D.shape[1], counter.get_total_flops())
        self.reached = {id(parameter) for x in (vector_1D, map_1Dhw) for parameter in leaves(x)}
        for parameter in model.parameters():  # not a pooler that nothing reads
            parameter.requires_grad_(id(parameter) in self.reached)

    @property
    def width(self) -> int:
        """D."""
        return self.spec.width

    def _vectors(self, pixels_I3SS: Tensor) -> tuple[Tensor, Tensor]:
        """(I, D) the pictures' vectors, and (I, D, h, w) their states by place."""
        given = self.processor(images=pixels_I3SS, return_tensors="pt", device=pixels_I3SS.device)["pixel_values"]
        states = self.model(pixel_values=given, return_dict=True).last_hidden_state
        if states.dim() == 4:
            return states.mean((2, 3)), states
        # Tokens: class and register tokens stand before those of patches. A hierarchy of stages has patches alone.
        rows, columns = (side // self.model.config.patch_size for side in given.shape[2:])
        if states.shape[1] < rows * columns:
            rows = columns = isqrt(states.shape[1])
        first = states.shape[1] - rows * columns
        patches = states[:, first:]
        return states[:, 0] if first else patches.mean(1), patches.transpose(1, 2).unflatten(2, (rows, columns))

    def pooled(self, batch: Batch) -> Tensor:
        """(B, D) float32: the vector of each sequence's picture; zeros where there is none."""
        real_I = self.modality.real(batch)
        vectors_ID, _ = self._vectors(shown_pixels(self.modality, batch))
        vectors_BD = vectors_ID.new_zeros(len(batch.real_B), self.width, dtype=torch.float32)
        return vectors_BD.index_add(0, self.modality.sequences(batch), vectors_ID.float() * real_I[:, None])

    def forward(self, batch: Batch) -> Tensor:
        """(N, D): at each patch of the modality the mean of the states there, at [CLS] the picture's vector."""
        vectors_ID, map_IDhw = self._vectors(shown_pixels(self.modality, batch))
        patches_IPD = F.adaptive_avg_pool2d(map_IDhw, self.modality.cells).flatten(2).transpose(1, 2)
        whole_ID = vectors_ID[:, None]
        pictures = torch.cat((whole_ID, patches_IPD, torch.zeros_like(whole_ID)), 1)
        pictures = pictures * self.modality.real(batch)[:, None, None]
        rows = pictures.unflatten(0, (batch.rows, -1)).flatten(1, 2)
        free = len(batch.values) // batch.rows - rows.shape[1]
        return F.pad(rows, (0, 0, 0, free)).flatten(0, 1)


def open_folder(folder: Path, modality: Any, scratch: bool = False) -> WrappedImage:
    """The encoder of a folder with its weights, or of its shapes alone.

    Raises:
        SuiteError: it is no picture encoder, or its weights are damaged or missing.
    """
    from transformers import AutoImageProcessor, AutoModel

    facts = read_json(folder / "config.json", REMEDY)
    if not (folder / PROCESSOR).is_file():
        raise SuiteError(f"has no {PROCESSOR}, which says how pictures are resized and normalised; {REMEDY}.")
    if "mask_ratio" in facts:
        raise SuiteError(f"is a {facts.get('model_type')} model, which hides patches at random: save it as a vit.")
    settings = without_dropout(settings_of(folder, facts).to_dict())
    for key in [key for key in vars(settings) if key.startswith(("drop_path", "drop_connect"))]:
        setattr(settings, key, 0.0)
    with torch.device("meta"):
        shell = AutoModel.from_config(settings, trust_remote_code=False)
    if shell.main_input_name != "pixel_values":
        raise SuiteError(f"is a {facts.get('model_type')} model, which does not read pictures alone.")
    missing: list[str] = []
    if scratch:
        model = AutoModel.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    else:
        model, missing = with_weights(AutoModel, folder, settings)
    try:
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        found = WrappedImage(model, processor, modality)
    except Exception as error:  # of many kinds: sizes that do not fit the model, values of other types
        raise SuiteError(f"does not take pictures as its {PROCESSOR} says ({reason(error)}); {REMEDY}.") from None
    refuse_missing(folder, [name for name in missing if id(model.get_parameter(name)) in found.reached])
    return found
