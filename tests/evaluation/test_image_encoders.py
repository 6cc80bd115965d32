"""Picture encoders of ``transformers`` by reference, held against the model's own classes and image processors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    ViTImageProcessor,
)

from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.evaluation.encoders import open_encoder
from ssl_suite.evaluation.references import parse
from ssl_suite.modalities.image import Image
from tests.evaluation.heads.planted import measured, task
from tests.modalities.pictures import encoded

TOKENS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "vit": ({**TOKENS, "image_size": 48, "patch_size": 8}, ViTImageProcessor(size={"height": 48, "width": 48})),
    "dinov2": ({**TOKENS, "image_size": 56, "patch_size": 14, "drop_path_rate": 0.1}, ViTImageProcessor(size=56)),
    "resnet": (
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        ConvNextImageProcessor(size={"shortest_edge": 40}, crop_pct=0.875),
    ),
    "efficientnet": (
        {"image_size": 64, "hidden_dim": 320, "width_coefficient": 0.25, "depth_coefficient": 0.25},
        EfficientNetImageProcessor(size={"height": 64, "width": 64}),
    ),
}
IMAGE = Image(size=24, patch=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, (shape, processor) in KINDS.items():
        torch.manual_seed(1)
        made[kind] = folder = tmp_path_factory.mktemp(kind)
        AutoModel.from_config(AutoConfig.for_model(kind, **shape)).save_pretrained(folder)
        processor.save_pretrained(folder)
    return made


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3)).astype(np.uint8)


def batch_of(count: int) -> Batch:
    values = [IMAGE.encode(Record(str(i), encoded(x), "x")).values for i, x in enumerate(pictures(count))]
    return ragged(values, IMAGE.vocabulary, IMAGE.max_length)


@torch.no_grad()
def own_features(folder: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model's own classes say of the pictures: a vector each, and their last states."""
    processor = AutoImageProcessor.from_pretrained(folder)
    given = processor(images=list(torch.from_numpy(pictures(count)).permute(0, 3, 1, 2)), return_tensors="pt")
    found = AutoModel.from_pretrained(folder).eval()(**given)
    states = found.last_hidden_state
    return (states[:, 0] if states.dim() == 3 else found.pooler_output.flatten(1)), states


@pytest.mark.parametrize("kind", KINDS)
def test_a_pictures_vector_is_the_models_own(kind: str, folders: dict[str, Path]) -> None:
    opened = open_encoder(parse(f"hf:{folders[kind]}"), IMAGE, 1)
    expected, states = own_features(folders[kind], 3)
    batch = batch_of(3)
    with torch.no_grad():
        torch.testing.assert_close(opened.encoder.pooled(batch), expected, atol=1e-5, rtol=0)
        positions = opened.encoder(batch).view(3, IMAGE.max_length, -1)
    torch.testing.assert_close(positions[:, 0], expected, atol=1e-5, rtol=0)
    if kind == "vit":  # 6 x 6 patches of its own: those of the modality
        torch.testing.assert_close(positions[:, 1:-1], states[:, 1:], atol=1e-5, rtol=0)
    assert opened.weights_sha256 and opened.encoder.width == expected.shape[1]
    opened.encoder.pooled(batch).sum().backward()
    trained = {name for name, p in opened.encoder.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in opened.encoder.named_parameters() if p.grad is not None}
    assert not any("pooler" in name for name in trained)


def test_flops_are_those_of_its_matrix_products(folders: dict[str, Path]) -> None:
    """ViT by hand: patches of 8 x 8, 37 tokens, two layers of 4 D^2 + 2 D M, with scores and weighted values."""
    d, m, t = 16, 24, 37
    expected = 2 * 36 * 192 * d + 2 * (2 * t * (4 * d * d + 2 * d * m) + 4 * t * t * d)
    found = open_encoder(parse(f"hf:{folders['vit']}"), IMAGE, 1).encoder.spec.flops_per_picture
    assert found == pytest.approx(expected, rel=0.01)


def test_its_shape_alone_has_weights_by_the_seed(folders: dict[str, Path]) -> None:
    reference, batch = parse(f"hf:{folders['resnet']}"), batch_of(2)
    bare = [open_encoder(reference, IMAGE, seed, scratch=True) for seed in (5, 5, 6)]
    with torch.no_grad():
        vectors = [opened.encoder.pooled(batch) for opened in bare]
    assert torch.equal(vectors[0], vectors[1]) and not torch.allclose(vectors[1], vectors[2])
    assert bare[0].weights_sha256 is None


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_task_is_measured_with_it(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    rows = [
        {"image": encoded((draw.integers(0, 100, (24, 24, 3)) + 150 * bright).astype(np.uint8)), "label": str(bright)}
        for _ in range(10)
        for bright in (0, 1)
    ]
    facts: dict[str, Any] = {"modality": {"name": "image", "size": 24, "max_length": None}, "inputs": "image"}
    made = task(tmp_path, rows, label="label", head="classification", metrics=["accuracy"], select="accuracy", **facts)
    for protocol in ("probe", "finetune"):
        found, _ = measured(made, tmp_path / "out", protocol, f"hf:{folders[kind]}", epochs=1, probe_steps=20)
        assert found.encoder["weights_sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "does not read pictures alone"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text(
                json.dumps(ViTImageProcessor(size={"height": 30, "width": 30}).to_dict(), default=str)
            ),
            "does not take pictures as its preprocessor_config.json says",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(change: Any, message: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["vit"], tmp_path / "vit")
    change(folder)
    with pytest.raises(SuiteError, match=message) as caught:
        open_encoder(parse(f"hf:{folder}"), IMAGE, 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(SuiteError, match="no words to map"):
        open_encoder(parse(f"hf:{folders['vit']}+map"), IMAGE, 1)
