"""Convolutional encoders of pictures: torchvision's residual networks (He et al. 2015, arXiv:1512.03385).

The body is ``torchvision.models.resnet.ResNet`` without its classifier, under torchvision's parameter names, so that
weights go both ways and numbers stand beside published ones. A convnet gives one vector a picture and no states of
positions: the objectives that need no more than ``pooled`` train it.

Shapes: I pictures of a batch, S pixels a side, D channels of the last stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities import image_layout
from ssl_suite.modalities.base import Modality

LIBRARY, LARGER = "torchvision", "resnet50"

LAYOUTS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""The kind of block, and how many of them each stage has."""

STEMS = {"imagenet": (7, 2), "cifar": (3, 1), "half": (3, 2)}
"""Kernel and stride of the first convolution; behind that of ``imagenet`` stands a pooling of stride 2."""

STAGES = ("layer1", "layer2", "layer3", "layer4")
PUBLISHED_WIDTH = 64  # channels of the first stage in every published ResNet; each further stage has twice as many


@dataclass(frozen=True)
class ConvnetSpec:
    """What determines a convnet's shapes.

    Attributes:
        layout: a name of ``LAYOUTS``.
        stem: ``imagenet`` is 7 × 7 of stride 2 and a pooling of stride 2, ``cifar`` 3 × 3 of stride 1 and no pooling
            (SimCLR, Chen et al. 2020, appendix B.9), ``half`` 3 × 3 of stride 2 and no pooling.
        channels: of the first stage.
        width: D.
        size: S.
        flops_per_picture: matrix FLOPs of one forward pass over one picture.
    """

    kind: ClassVar[str] = "convnet"

    layout: str
    stem: str
    channels: int
    width: int
    size: int
    flops_per_picture: int

    @classmethod
    def from_section(cls, section: Mapping[str, Any], modality: Any) -> ConvnetSpec:
        """From the ``model`` section of a run's configuration; the FLOPs are counted on a body without data."""
        layout, stem, channels, size = section["layout"], section["stem"], section["channels"], modality.size
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            features_1D = body(layout, stem, channels).eval()(torch.empty(1, 3, size, size))
        return cls(layout, stem, channels, features_1D.shape[1], size, counter.get_total_flops())

    @property
    def words(self) -> str:
        """A line about it."""
        narrow = "" if self.channels == PUBLISHED_WIDTH else f", {self.channels} channels in its first stage"
        return f"{self.layout} with the {self.stem} stem{narrow}, {self.width} wide, torchvision layout"


def body(layout: str, stem: str, channels: int) -> ResNet:
    """(I, 3, S, S) to (I, D): torchvision's network without its classifier, at its random start."""
    block, depths = LAYOUTS[layout]
    network = ResNet(block, list(depths))
    if channels != PUBLISHED_WIDTH:
        network.inplanes = channels
        network.bn1 = nn.BatchNorm2d(channels)
        for stage, (name, depth) in enumerate(zip(STAGES, depths, strict=True)):
            planes, stride = channels * 2**stage, 2 if stage else 1
            setattr(network, name, network._make_layer(block, planes, depth, stride=stride))
    kernel, stride = STEMS[stem]
    network.conv1 = nn.Conv2d(3, channels, kernel, stride, padding=kernel // 2, bias=False)
    if stem != "imagenet":
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    for module in network.modules():  # as torchvision's constructor: norms already start at one and zero
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class Convnet(nn.Module):
    """Pictures to vectors, in the place of a transformer.

    Args:
        spec: the shapes.
        modality: finds the pictures in a batch.
    """

    def __init__(self, spec: ConvnetSpec, modality: Any) -> None:
        super().__init__()
        self.spec = spec
        self.modality = modality
        self.body = body(spec.layout, spec.stem, spec.channels)

    @property
    def width(self) -> int:
        """D, of the pooled vectors."""
        return self.spec.width

    def compile(self, *args: Any, **settings: Any) -> None:
        """Compile the body: the way to the pictures is a few copies."""
        self.body.compile(*args, **settings)

    @property
    def layers(self) -> list[nn.Module]:
        """The stages, each a unit of FSDP2."""
        return [getattr(self.body, name) for name in STAGES]

    def pooled(self, batch: Batch, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """(B, D) float32: the vector of each sequence's picture; zeros where there is none.

        Args:
            drop: applied to the vectors, (I, D).
        """
        real_I = self.modality.real(batch)
        features_ID = self.body(self._pictures(batch))
        if drop is not None:
            features_ID = drop(features_ID)
        vectors_BD = features_ID.new_zeros(len(batch.real_B), self.width, dtype=torch.float32)
        return vectors_BD.index_add(0, self.modality.sequences(batch), features_ID.float() * real_I[:, None])

    def _pictures(self, batch: Batch) -> Tensor:
        """(I, 3, S, S) float32, normalised by ImageNet's mean and deviation."""
        shown_I3SS = shown_pixels(self.modality, batch).float()
        mean_311, std_311 = (image_layout.channels(x, shown_I3SS)[:, None, None] for x in _NORMAL)
        normal_I3SS = (shown_I3SS - 255 * mean_311) / (255 * std_311)
        last = self.spec.channels >= LANES
        return normal_I3SS.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def shown_pixels(modality: Any, batch: Batch) -> Tensor:
    """(I, 3, S, S) uint8: the pictures of a batch; in the free places of a row its own ones once more.

    Batch norm takes its statistics over all places, and black pictures would be outliers in them. Only the last row of
    an epoch has such places; shapes depend on the run alone.
    """
    real_RI = modality.real(batch).view(batch.rows, -1)
    each = real_RI.shape[1]
    slot_I = torch.arange(each, device=real_RI.device)
    own_R1 = real_RI.sum(1, keepdim=True).clamp(min=1)  # the pictures of a row come first
    first_R1 = torch.arange(batch.rows, device=real_RI.device)[:, None] * each
    return modality.pixels(batch)[(first_R1 + slot_I % own_R1).flatten()]


_NORMAL = (image_layout.MEAN, image_layout.STD)
LANES = 16
"""Channels from which pictures are laid out channels last: 12 to 19 % more of them a second on a CPU core (ResNet-18
and -10, AVX2). With fewer than 8, torch 2.11 writes outside its memory in the backward pass of a 1 × 1 convolution of
stride 2 on AVX2; vectors of AVX-512 hold 16."""


def start(model: Mapping[str, Any], modality: Modality, objective: type[Any]) -> tuple[Convnet, None]:
    """The network of a ``model`` section, at its random start."""
    return Convnet(ConvnetSpec.from_section(model, modality), modality), None


def of_shapes(facts: Mapping[str, Any], modality: Modality) -> Convnet:
    """The network of saved shapes, with random weights."""
    return Convnet(ConvnetSpec(**facts), modality)


def moved(spec: ConvnetSpec, model: Mapping[str, Any], modality: Modality, objective: Any) -> ConvnetSpec:
    """Raise ``SuiteError``: no run starts from one."""
    raise SuiteError("is a run of a convnet, which no run starts from: name a run of a transformer, or resume it.")


def check(model: Mapping[str, Any], modality: type[Modality], objective: type[Any]) -> None:
    """Refuse a convnet where there are no pictures, or an objective that needs states of positions.

    Raises:
        SuiteError: the reason and a suggestion.
    """
    if not (hasattr(modality, "pixels") and hasattr(modality, "sequences")):
        raise SuiteError(
            f"model={model['name']} is a convnet and takes pictures, not modality={modality.name}: "
            "use modality=image, or a transformer such as model=tiny."
        )
    if not objective.pooled:
        raise SuiteError(
            f"model={model['name']} is a convnet: it gives a vector a picture and {objective.__name__} needs states of "
            "positions; use objective=simclr or byol, or a transformer such as model=tiny."
        )


def write(learner: Any, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put ``config.json`` and ``model.safetensors``, under torchvision's names, into a folder."""
    spec: ConvnetSpec = learner.encoder.spec
    weights = {name: x.detach().cpu().contiguous() for name, x in learner.encoder.body.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    facts = {"model_type": "resnet-torchvision", **vars(spec), "mean": image_layout.MEAN, "std": image_layout.STD}
    (folder / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


def opening(spec: ConvnetSpec, modality: Modality, architecture: str) -> str:
    """The lines of Python that open an exported folder with torchvision alone."""
    return CARD.format(
        build="\n".join(_building(spec)),
        width=spec.width,
        size=spec.size,
        mean=list(image_layout.MEAN),
        std=list(image_layout.STD),
    )


CARD = """import torch, torchvision
from safetensors.torch import load_file

{build}
model.fc = torch.nn.Identity()  # the output is the pooled vector, {width} numbers
model.load_state_dict(load_file("this folder/model.safetensors"))
model.eval()
mean, std = torch.tensor({mean}).view(3, 1, 1), torch.tensor({std}).view(3, 1, 1)


def vectors(pictures):  # (I, 3, {size}, {size}), 0 to 255
    return model((pictures / 255 - mean) / std)"""


def _building(spec: ConvnetSpec) -> list[str]:
    """The lines that make a network of these shapes by torchvision's means: two more than usual for a CIFAR stem."""
    block, depths = LAYOUTS[spec.layout]
    resnet, kind = "torchvision.models.resnet", f"torchvision.models.resnet.{block.__name__}"
    lines = [f"model = {resnet}.ResNet({kind}, {list(depths)})"]
    if hasattr(torchvision.models, spec.layout):
        lines = [f"model = torchvision.models.{spec.layout}(weights=None)"]
    if spec.channels != PUBLISHED_WIDTH:
        lines += [
            f"model.inplanes, model.bn1 = {spec.channels}, torch.nn.BatchNorm2d({spec.channels})",
            f"for i, depth in enumerate({list(depths)}):",
            f"    layer = model._make_layer({kind}, {spec.channels} * 2**i, depth, stride=2 if i else 1)",
            '    setattr(model, f"layer{i + 1}", layer)',
        ]
    kernel, stride = STEMS[spec.stem]
    if spec.stem != "imagenet" or spec.channels != PUBLISHED_WIDTH:
        sides = f"kernel_size={kernel}, stride={stride}, padding={kernel // 2}"
        lines.append(f"model.conv1 = torch.nn.Conv2d(3, {spec.channels}, {sides}, bias=False)")
    if spec.stem != "imagenet":
        lines.append("model.maxpool = torch.nn.Identity()")
    return lines
