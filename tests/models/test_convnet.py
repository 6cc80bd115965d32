"""Convnets: torchvision's networks to the bit, pictures found in any batch, exports that open without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torchvision.transforms import v2 as transforms

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.embedding import check
from ssl_suite.evaluation.encode import states
from ssl_suite.evaluation.items import Sequence
from ssl_suite.modalities.image import Image
from ssl_suite.models import convnet
from ssl_suite.models.convnet import Convnet, ConvnetSpec
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.base import Objective
from ssl_suite.settings import config
from ssl_suite.training import build, checkpoint
from ssl_suite.training.restore import load_run
from ssl_suite.training.trainer import train
from tests.modalities.pictures import laid_out, noise
from tests.training import children

SMALL = {"layout": "resnet10", "stem": "half", "channels": 4}


def made(size: int = 12, **section: Any) -> Convnet:
    torch.manual_seed(0)
    image = Image(size=size, patch=4)
    return Convnet(ConvnetSpec.from_section(SMALL | section, image), image)


@pytest.mark.parametrize("layout", ["resnet18", "resnet50"])
def test_the_published_networks_are_torchvisions(layout: str) -> None:
    """The same names, shapes and outputs; multiplications as torchvision's own tables count them."""
    image = Image(size=224, patch=32)
    spec = ConvnetSpec.from_section({"layout": layout, "stem": "imagenet", "channels": 64}, image)
    theirs = torchvision.models.get_model(layout, weights=None).eval()
    classifier = 2 * theirs.fc.weight.numel()
    published = torchvision.models.get_model_weights(layout).DEFAULT.meta["_ops"]  # 10**9 multiply-adds
    assert (spec.flops_per_picture + classifier) / 2e9 == pytest.approx(published, abs=6e-4)
    assert spec.width == theirs.fc.in_features
    theirs.fc = torch.nn.Identity()
    ours = convnet.body(layout, "imagenet", 64).eval()
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(pictures), theirs(pictures))


def test_stems_keep_the_resolution_they_promise() -> None:
    """SimCLR, appendix B.9: 32 × 32 pictures reach the last stage as 4 × 4; of ImageNet's stem 1 × 1 would be left."""
    for stem, side in (("cifar", 4), ("half", 2), ("imagenet", 1)):
        network, seen = convnet.body("resnet10", stem, 4), []
        network.layer4.register_forward_hook(lambda module, given, out, seen=seen: seen.append(out.shape))
        network(torch.zeros(2, 3, 32, 32))
        assert seen[0] == (2, 32, side, side)
    cifar = ConvnetSpec.from_section({"layout": "resnet18", "stem": "cifar", "channels": 64}, Image(size=32))
    assert cifar.flops_per_picture == pytest.approx(2 * 555.4e6, rel=1e-3)  # as the widely used CIFAR ResNet-18 has


def test_starts_as_torchvision_does() -> None:
    for name, x in convnet.body("resnet10", "half", 32).named_parameters():
        if x.dim() == 4:
            fan_out = x.shape[0] * x.shape[2] * x.shape[3]
            assert x.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.12), name
        else:
            assert (x == (1 if name.endswith("weight") else 0)).all(), name


def reference(model: Convnet, pictures: list[np.ndarray]) -> torch.Tensor:
    """(I, D) by torchvision's own transform and network."""
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return model.body(normalise(stacked))


def test_a_vector_for_each_sequence_that_has_a_picture() -> None:
    model = made().eval()
    pictures = [[noise(12, 12, 3, seed=i) for i in range(3)], [noise(12, 12, 3, seed=9)], []]
    batch = laid_out(model.modality, pictures, n=3 * model.modality.max_length + 5)
    with torch.no_grad():
        vectors_BD = model.pooled(batch)
        expected = reference(model, [*pictures[0], *pictures[1]])
    assert vectors_BD.shape == (len(batch.real_B), model.width) and model.width == 32
    torch.testing.assert_close(vectors_BD[batch.real_B], expected, atol=1e-5, rtol=1e-5)
    assert (vectors_BD[~batch.real_B] == 0).all()
    halved = model.pooled(batch, drop=lambda x: x / 2)
    torch.testing.assert_close(halved, vectors_BD / 2)
    assert encoder_flops(vars(model.spec), batch) == 4 * model.spec.flops_per_picture


def test_rows_that_are_not_full_repeat_their_own_pictures() -> None:
    """So a batch norm sees pictures in all places, the free ones of a row filled by its own."""
    model = made().train()
    pictures = [[noise(12, 12, 3, seed=i) for i in range(3)], [noise(12, 12, 3, seed=9)]]
    batch = laid_out(model.modality, pictures, n=3 * model.modality.max_length)
    vectors_BD = model.pooled(batch)
    seen = model.body.bn1.running_mean.clone()
    other = made().train()
    expected = reference(other, [*pictures[0], *[pictures[1][0]] * 3])
    torch.testing.assert_close(seen, other.body.bn1.running_mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(vectors_BD[batch.real_B], expected[:4], atol=1e-4, rtol=1e-4)


def test_the_card_names_the_library_that_opens_it() -> None:
    from ssl_suite.training import finish

    model = made()
    learner: Any = type(
        "Learner", (), {"encoder": model, "objective": type("O", (Objective,), {"predicts_ids": False})()}
    )
    cfg = {"modality": {"name": "image"}, "objective": {"name": "simclr"}, "model": {"name": "resnet18"}}
    cfg["data"] = {"name": "cifar10", "path": None}
    summary = {"steps": 1, "tokens": 2, "best_step": 1, "data_key": "k", "config_sha256": "c", "git_commit": None}
    card = finish.card(cfg, summary | {"version": "0"}, learner, model.modality)
    assert "library_name: torchvision" in card and "torchvision.models.resnet" in card


@pytest.mark.parametrize(
    "section",
    [
        {"layout": "resnet18", "stem": "cifar", "channels": 64},
        {"layout": "resnet18", "stem": "imagenet", "channels": 64},
        {"layout": "resnet50", "stem": "cifar", "channels": 8},
        SMALL,
    ],
    ids=lambda section: "-".join(map(str, section.values())),
)
def test_the_lines_of_the_card_open_an_export(section: dict[str, Any], tmp_path: Path) -> None:
    model = made(size=32, **section).train()
    pictures = [noise(32, 32, 3, seed=i) for i in range(2)]
    batch = laid_out(model.modality, [pictures], n=2 * model.modality.max_length)
    model.pooled(batch)  # moves the running statistics, which must travel, too
    model.eval()
    convnet.write(type("Learner", (), {"encoder": model})(), model.modality, tmp_path)
    names: dict[str, Any] = {}
    with torch.no_grad():
        exec(convnet.opening(model.spec, model.modality, "").replace("this folder", str(tmp_path)), names)
        found = names["vectors"](torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
        torch.testing.assert_close(found, model.pooled(batch)[:2], atol=1e-5, rtol=1e-5)
    facts = json.loads((tmp_path / "config.json").read_text())
    assert facts["model_type"] == "resnet-torchvision" and facts["layout"] == section["layout"]
    assert facts["stem"] == section["stem"] and facts["size"] == 32 and facts["mean"][0] == 0.485
    if section["layout"] == "resnet18":  # the names are torchvision's own
        theirs = torchvision.models.resnet18(weights=None)
        own = set(load_file(tmp_path / "model.safetensors"))
        assert set(theirs.state_dict()) - own == {"fc.weight", "fc.bias"} and not own - set(theirs.state_dict())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=resnet18", "modality=dna", "objective=simclr"], "model=resnet18 is a convnet and takes pictures, not"),
        (
            ["model=resnet18", "modality=image", "objective=mlm"],
            "it gives a vector a picture and MaskedLM needs",
        ),
        (["model=resnet18", "model.layers=3"], "model.layers is not a key of model as chosen, but of model="),
        (["model=resnet18", "model.stem=small"], "model.stem=small should be 'imagenet', 'cifar' or 'half'."),
        (
            ["model=resnet18", "model.layout=resnet19"],
            "model.layout=resnet19 should be 'resnet10', 'resnet18'",
        ),
        (["model=resnet18", "model.channels=0"], "model.channels=0 should be greater than or equal to 1."),
        (["model=resnet18", "model.init=hf:x"], "model.init=hf:x should be null."),
        (["model=resnet18", "model.kind=conv"], "model.kind=conv does not exist. Did you mean 'convnet'?"),
        (["model=tiny", "+model.kind=convnet"], "'model.layers' is not a known key."),
    ],
)
def test_what_does_not_fit_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        build.check_pair(config.compose(words))
    assert message in str(caught.value) and "\n" not in str(caught.value)


WORDS = (
    "modality=image modality.size=12 modality.patch=4 objective=simclr model=resnet10 model.channels=2 "
    "train.tokens_per_batch=176 train.tokens_per_row=44 train.steps=6 train.log_every=1 train.eval_every=6 "
    "train.eval_tokens=176 train.checkpoint_every=3 train.threads=1 train.optimiser=lars train.lr=0.05 train.clip=null"
)


def work(out: Path, parallel: str = "ddp") -> None:
    """What a process of the run does."""
    cfg = config.compose([*WORDS.split(), f"train.parallel={parallel}"])
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / "config.yaml", cfg)
    train(cfg, out)


def weights(out: Path, step: int = 6) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step_{step:08d}" / checkpoint.WEIGHTS)


def test_a_run_is_the_same_on_two_processes_and_opens_again(tmp_path: Path) -> None:
    """FSDP2, LARS, batch norms over both; then: resumed to the bit, restored, embedded, exported."""
    work(tmp_path / "one")
    one = weights(tmp_path / "one")
    children.run_group(work, tmp_path / "two", "fsdp", folder=tmp_path / "logs", world=2)
    for name, x in weights(tmp_path / "two").items():
        torch.testing.assert_close(x, one[name], atol=2e-5, rtol=1e-4, msg=name)

    newest = tmp_path / "one" / "checkpoints" / "step_00000006"
    newest.rename(tmp_path / "kept")
    work(tmp_path / "one")
    for name, x in weights(tmp_path / "one").items():
        assert torch.equal(x, one[name]), name

    loaded = load_run(str(tmp_path / "one"), "last")
    pictures = [noise(12, 12, 3, seed=i) for i in range(3)]
    patches = [p.reshape(3, 4, 3, 4, 3).transpose(0, 2, 1, 3, 4).reshape(9, 48) for p in pictures]
    given = states(loaded.encoder, loaded.modality, enumerate(map(Sequence, patches)), layer=-1)
    vectors = np.stack([vector for _, vector in given])
    with torch.no_grad():
        expected = reference(loaded.encoder, pictures)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=1e-5)
    for wrong in ({"layer": 0}, {"pooling": "cls"}):
        with pytest.raises(SuiteError, match="a convnet gives one vector"):
            check(loaded.encoder, **{"layer": -1, "pooling": "mean", **wrong})
    exported = load_file(tmp_path / "one" / "encoder" / "model.safetensors")
    for name, x in loaded.encoder.body.state_dict().items():
        assert torch.equal(exported[name], x), name


def test_the_seed_alone_decides_the_start() -> None:
    cfg = config.compose([*WORDS.split()])
    image = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    first, again, other = (build.learner(cfg, image, seed).encoder for seed in (3, 3, 4))
    assert torch.equal(first.body.conv1.weight, again.body.conv1.weight)
    assert not torch.equal(first.body.conv1.weight, other.body.conv1.weight)
    saved = json.loads(json.dumps(build.shapes(first)))
    assert build.restored(saved, cfg["objective"], image).encoder.spec == first.spec
