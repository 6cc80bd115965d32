"""Random views of pictures: each step against torchvision's functional with the same parameters, and the draws."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as reference

from ssl_suite.core.batch import Batch
from ssl_suite.modalities import image_views as views
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.image_views import BRIGHTNESS, CONTRAST, HUE, SATURATION, Recipe
from tests.modalities.pictures import floats, laid_out, noise, rng, tiles

SIMCLR = Recipe(crop=0.08, flip=0.5, jitter=0.8, strength=0.5, grey=0.2, blur=0.0, solarise=0.0)
ADJUST = {
    BRIGHTNESS: reference.adjust_brightness,
    CONTRAST: reference.adjust_contrast,
    SATURATION: reference.adjust_saturation,
    HUE: reference.adjust_hue,
}


def draws(count: int, step: int = 0) -> Tensor:
    return rng(step).uniform(count * views.DRAWS).view(-1, views.DRAWS)


def close(got: Tensor, want: Tensor, within: float = 1e-5) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() < within


def test_crop_and_flip_is_resized_crop() -> None:
    pictures, drawn = floats(60), draws(60)
    boxes, flips = views.crop_boxes(drawn, 32, 0.08), drawn[:, views.FLIP] < 0.5
    got = views.crop_and_flip(pictures, boxes, flips)
    assert 15 < flips.sum() < 45
    for picture, box, flip, one in zip(pictures, boxes.long().tolist(), flips.tolist(), got, strict=True):
        want = reference.resized_crop(picture, *box, [32, 32], antialias=False)
        antialiased = reference.resized_crop(picture, *box, [32, 32], antialias=True)  # the same: nothing shrinks
        for other in (want, antialiased):
            close(one, reference.hflip(other) if flip else other)


def test_a_crop_of_the_whole_is_the_picture_itself() -> None:
    pictures = floats(5)
    whole = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(5, 4)
    close(views.crop_and_flip(pictures, whole, torch.zeros(5, dtype=torch.bool)), pictures)


@pytest.mark.parametrize("smallest", [0.08, 0.5, 1.0])
def test_boxes_are_distributed_as_torchvisions(smallest: float) -> None:
    count = 6000
    torch.manual_seed(3)
    picture = torch.zeros(3, 32, 32)
    get = transforms.RandomResizedCrop.get_params
    want = np.array([get(picture, [smallest, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    got = views.crop_boxes(draws(count), 32, smallest).numpy()
    for column in range(4):
        assert stats.ks_2samp(got[:, column], want[:, column]).pvalue > 1e-3
    # and the two sides together, which each alone would not show
    assert stats.ks_2samp(got[:, 2] * 1000 + got[:, 3], want[:, 2] * 1000 + want[:, 3]).pvalue > 1e-3
    assert (got[:, :2] >= 0).all() and (got[:, :2] + got[:, 2:] <= 32).all() and (got[:, 2:] >= 1).all()


@pytest.mark.parametrize("kind", list(ADJUST))
@pytest.mark.parametrize("factor", [0.2, 0.6, 1.0, 1.4, 1.8])
def test_one_step_of_the_jitter(kind: int, factor: float) -> None:
    pictures = floats(30)
    turn = (factor - 1) / 2 if kind == HUE else factor  # hue turns by up to half a circle
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(30, 1)
    factors[:, kind] = turn
    got = views.colour_jitter(pictures, factors, draws(30)[:, views.ORDER].argsort(1))
    close(got, ADJUST[kind](pictures, turn), within=1e-4 if kind == HUE else 1e-5)


def naive_jitter(pictures: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    changed = []
    for picture, some, kinds in zip(pictures, factors.tolist(), order.tolist(), strict=True):
        for kind in kinds:
            picture = ADJUST[kind](picture, some[kind])
        changed.append(picture)
    return torch.stack(changed)


def test_the_four_steps_in_every_order() -> None:
    """Equal where nothing is clamped on the way: faint pictures in the middle of the range."""
    pictures = 0.45 + 0.1 * floats(48)
    orders = torch.tensor(list(permutations(range(4)))).repeat(2, 1)
    factors = views.jitter_factors(draws(48), SIMCLR)[0]
    close(views.colour_jitter(pictures, factors, orders), naive_jitter(pictures, factors, orders), within=1e-4)


def test_what_is_clamped_less_often_hardly_differs() -> None:
    """The stated deviation: torchvision clamps after each of the four steps, here the hue and the end do."""
    pictures, sure = floats(300), Recipe(0.08, 0.5, 1.0, 0.5, 0.2, 0.0, 0.0)
    factors, order = views.jitter_factors(draws(300), sure)
    error = (views.colour_jitter(pictures, factors, order) - naive_jitter(pictures, factors, order)).abs()
    assert error.mean() < 0.5 / 255
    assert (error < 0.5 / 255).float().mean() > 0.93


def test_jitter_factors_are_distributed_as_torchvisions() -> None:
    count = 4000
    torch.manual_seed(1)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    drawn = [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(count)]
    factors, order = views.jitter_factors(draws(count), SIMCLR)
    applied = draws(count)[:, views.JITTER] < 0.8
    assert applied.float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert torch.equal(factors[~applied], torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(int((~applied).sum()), 4))
    for kind in ADJUST:
        want = [one[1 + kind] for one in drawn]
        assert stats.ks_2samp(factors[applied][:, kind].numpy(), want).pvalue > 1e-3
    seen = np.bincount((order @ torch.tensor([64, 16, 4, 1])).numpy(), minlength=256)
    assert (seen > 0).sum() == 24  # every order of the four
    assert stats.chisquare(seen[seen > 0]).pvalue > 1e-3


def test_strong_jitter_has_no_negative_factors() -> None:
    strong = Recipe(0.08, 0.5, 1.0, 2.0, 0.2, 0.0, 0.0)
    factors = views.jitter_factors(draws(500), strong)[0]
    assert factors[:, :3].min() >= 0 and factors[:, :3].max() > 2.5


def test_grey() -> None:
    pictures = floats(10)
    close(views.luma(pictures).expand_as(pictures), reference.rgb_to_grayscale(pictures, 3))


@pytest.mark.parametrize(("size", "kernel"), [(32, 3), (96, 9), (224, 23)])
def test_blur(size: int, kernel: int) -> None:
    assert views.kernel_size(size) == kernel
    pictures = torch.nn.functional.interpolate(floats(4), size=(size, size))
    sigmas = [0.1, 0.5, 1.0, 2.0]
    got = views.gaussian_blur(pictures, torch.tensor(sigmas), kernel)
    for picture, sigma, one in zip(pictures, sigmas, got, strict=True):
        close(one, reference.gaussian_blur(picture, [kernel, kernel], [sigma, sigma]))


def test_solarise() -> None:
    pictures = floats(10)
    close(views.solarise(pictures), reference.solarize(pictures, 0.5))
    eight_bits = (pictures * 255).round().to(torch.uint8)
    got = (views.solarise(eight_bits.float() / 255) * 255).round().to(torch.uint8)
    assert torch.equal(got, reference.solarize(eight_bits, 128))


@pytest.mark.parametrize("key", ["flip", "jitter", "grey", "blur", "solarise"])
def test_probabilities(key: str) -> None:
    """A step of probability p changes that share of the pictures, and none of the others."""
    nothing = {"crop": 1.0, "flip": 0.0, "jitter": 0.0, "strength": 0.5, "grey": 0.0, "blur": 0.0, "solarise": 0.0}
    pictures = torch.from_numpy(noise(400, 3, 32, 32)).float() / 255  # which every step changes
    whole = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    drawn = draws(400)
    boxes = views.crop_boxes(drawn, 32, 1.0)
    still = (boxes == whole).all(1)  # the others are cut: 32 × 32 of another aspect fits nowhere
    for chance in (0.0, 0.3, 1.0):
        view = views.random_views(pictures, drawn, Recipe(**(nothing | {key: chance})))
        changed = ((view - pictures).abs().amax((1, 2, 3)) > 1e-4)[still].float().mean().item()
        assert changed == pytest.approx(chance, abs=0.08)


def batch_of(modality: Image, counts: tuple[int, ...] = (3, 1, 0)) -> Batch:
    pictures, taken = list(tiles(sum(counts))), []
    for count in counts:
        taken.append([pictures.pop(0) for _ in range(count)])
    return laid_out(modality, taken, n=3 * modality.max_length + 11)


def test_augment_is_the_steps_one_by_one() -> None:
    """The whole batch at once against torchvision picture by picture, given the same draws."""
    modality = Image(blur=0.5, solarise=0.3, strength=0.2)
    batch = batch_of(modality)
    view = modality.augment(batch, rng(4, rows=3))
    drawn = rng(4, rows=3).uniform(3 * views.DRAWS).view(-1, views.DRAWS)
    recipe = modality.recipe
    assert torch.equal(view.values, batch.values) and torch.equal(view.offsets_B1, batch.offsets_B1)
    real = modality.real(batch)
    assert real.tolist() == [True] * 4 + [False] * 5
    before, after = modality.pixels(batch), modality.pixels(view)
    for i in range(9):
        if not real[i]:
            assert (after[i] == 0).all()
            continue
        u = drawn[i : i + 1]
        picture = before[i].float() / 255
        picture = reference.resized_crop(
            picture, *views.crop_boxes(u, 32, recipe.crop)[0].long().tolist(), [32, 32], antialias=False
        )
        picture = reference.hflip(picture) if u[0, views.FLIP] < 0.5 else picture
        picture = naive_jitter(picture[None], *views.jitter_factors(u, recipe))[0]
        picture = reference.rgb_to_grayscale(picture, 3) if u[0, views.GREY] < 0.2 else picture
        if u[0, views.BLUR] < 0.5:
            picture = reference.gaussian_blur(picture, [3, 3], [0.1 + 1.9 * u[0, views.SIGMA].item()] * 2)
        picture = reference.solarize(picture, 0.5) if u[0, views.SOLARISE] < 0.3 else picture
        off = (after[i].float() - picture * 255).abs()
        assert off.median() <= 0.5 + 1e-3  # rounding to 8 bits
        assert off.mean() < 1.5  # what clamping between the steps changes


def test_views_depend_on_seed_step_and_row_alone() -> None:
    modality = Image()
    batch = batch_of(modality, (3, 3))
    both = modality.pixels(modality.augment(batch, rng(7, rows=2)))
    assert torch.equal(both, modality.pixels(modality.augment(batch, rng(7, rows=2))))
    assert not torch.equal(both, modality.pixels(modality.augment(batch, rng(8, rows=2))))
    second = laid_out(modality, [list(tiles(6)[3:])], n=3 * modality.max_length + 11)
    alone = modality.pixels(modality.augment(second, rng(7, rows=1, first=1)))
    assert (both[3:].int() - alone.int()).abs().max() <= 1  # another batch size may round otherwise


def test_special_positions_and_padding_stay() -> None:
    modality = Image(solarise=1.0)
    batch = batch_of(modality)
    before = batch.frames_NF.clone()
    view = modality.augment(batch, rng(1, rows=3))
    assert view.frames_NF.dtype == torch.uint8
    assert torch.equal(batch.frames_NF, before)  # the batch itself is not written to
    special = batch.values < 5
    assert (view.frames_NF[special] == 0).all()
    assert (view.frames_NF[~special] != before[~special]).any(1).float().mean() > 0.5


def test_no_step_waits_for_the_host() -> None:
    """Traced with no data at all: nothing reads a value, so no shape depends on one."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    modality = Image(blur=0.5, solarise=0.5)
    batch = batch_of(modality)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = batch._map(mode.from_tensor)
        view = modality.augment(fake, rng(1, rows=3))
        assert view.frames_NF.shape == batch.frames_NF.shape
        assert modality.features(view).shape == (len(batch.values), 48)
        assert modality.unit_features(view).shape == (len(batch.values), 13)


def test_an_angle_of_hue_goes_round() -> None:
    pictures = floats(20)
    close(views.turn_hue(pictures, torch.full((20,), 1.0)), pictures, within=1e-4)
    thirds = pictures
    for _ in range(3):
        thirds = views.turn_hue(thirds, torch.full((20,), 1 / 3))
    close(thirds, pictures, within=1e-4)
    assert math.isclose(views.turn_hue(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([1 / 3]))[0, 1], 1.0)
