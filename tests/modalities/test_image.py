"""The image modality: patches, layouts, features and near copies against naive loops and libraries."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from scipy.fft import dctn

from ssl_suite.core import codebook
from ssl_suite.core.batch import ragged
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.image_layout import LUMA
from tests.modalities.pictures import SAMPLE, encoded, laid_out, noise, record, sample_records, stop, tiles


def patches_by_loop(pixels: np.ndarray, p: int) -> np.ndarray:
    side = len(pixels)
    return np.stack([pixels[y : y + p, x : x + p].reshape(-1) for y in range(0, side, p) for x in range(0, side, p)])


@pytest.mark.parametrize(("size", "patch"), [(32, 4), (224, 16), (24, 8), (3, 1)])
def test_frame_and_length_follow_from_size_and_patch(size: int, patch: int) -> None:
    image = Image(size=size, patch=patch, max_length=(size // patch) ** 2 + 2)
    assert image.frame.grid == (size // patch, size // patch)
    assert image.frame.width == image.frame.features == 3 * patch**2
    assert image.max_length == Image(size=size, patch=patch).max_length == (size // patch) ** 2 + 2
    assert image.recipe.blur == (0.5 if size >= 64 else 0.0)
    pixels = noise(size, size, 3)
    values = Image(size=size, patch=patch, min_side=1).encode(record(encoded(pixels))).values
    assert values.dtype == image.frame.dtype
    assert np.array_equal(values, patches_by_loop(pixels, patch))


def test_pixels_and_back() -> None:
    image = Image(size=12, patch=2)
    pictures = [[noise(12, 12, 3, seed=i) for i in range(3)], [noise(12, 12, 3, seed=9)], []]
    batch = laid_out(image, pictures, n=4 * image.max_length + 5)
    pixels, real = image.pixels(batch), image.real(batch)
    assert pixels.shape == (12, 3, 12, 12) and pixels.dtype == torch.uint8
    assert real.tolist() == [True, True, True, False, True, *[False] * 7]
    for i, want in zip((0, 1, 2, 4), [*pictures[0], *pictures[1]], strict=True):
        assert np.array_equal(pixels[i].permute(1, 2, 0).numpy(), want)
        start = int(batch.offsets_B1[image.sequences(batch)[i]])  # the sequence it is said to be in
        frames = batch.frames_NF[start + 1 : start + image.max_length - 1]
        assert np.array_equal(frames.numpy(), patches_by_loop(want, 2))
    assert (pixels[~real] == 0).all()
    same = image.with_pixels(batch, pixels)
    assert torch.equal(same.frames_NF, batch.frames_NF) and same.frames_NF is not batch.frames_NF
    other = image.with_pixels(batch, 255 - pixels)
    assert torch.equal(image.pixels(other)[real], 255 - pixels[real])
    assert (other.frames_NF[batch.values < 5] == 0).all()  # [CLS], [SEP] and padding


def test_pixels_of_a_batch_without_padding() -> None:
    image = Image()
    batch = ragged([patches_by_loop(pixels, 4) for pixels in tiles(3)], image.vocabulary, image.max_length)
    assert np.array_equal(image.pixels(batch).permute(0, 2, 3, 1).numpy(), tiles(3))
    assert image.sequences(batch).tolist() == [0, 1, 2] and image.real(batch).all()


def test_features_are_normalised_as_torchvision_does() -> None:
    from torchvision.transforms.functional import normalize

    image = Image()
    batch = laid_out(image, [list(tiles(2))], n=140)
    want = normalize(image.pixels(batch).float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    got = image.features(batch)
    assert got.dtype == torch.float32 and got.shape == (140, 48)
    for i, start in enumerate((0, 66)):
        loop = patches_by_loop(want[i].permute(1, 2, 0).numpy(), 4)
        np.testing.assert_allclose(got[start + 1 : start + 65], loop, atol=1e-5)


def test_patch_targets() -> None:
    image = Image()
    batch = laid_out(image, [list(tiles(2))], n=140)
    patches = np.concatenate([patches_by_loop(pixels, 4) for pixels in tiles(2)]) / 255
    want = (patches - patches.mean(1, keepdims=True)) / np.sqrt(patches.var(1, ddof=1, keepdims=True) + 1e-6)
    got = image.patch_targets(batch).numpy()
    np.testing.assert_allclose(got[(batch.values >= 5).numpy()], want, atol=1e-3)


@pytest.mark.parametrize(("patch", "width"), [(4, 13), (8, 13), (2, 11), (1, 4)])
def test_unit_features(patch: int, width: int) -> None:
    image = Image(patch=patch)
    batch = laid_out(image, [list(tiles(2))], n=2 * image.max_length)
    got = image.unit_features(batch).numpy()[(batch.values >= 5).numpy()]
    assert got.shape[1] == width
    patches = np.concatenate([patches_by_loop(pixels, patch) for pixels in tiles(2)])
    for row, values in zip(got[::5], patches[::5], strict=True):
        colours = values.reshape(patch, patch, 3) / 255
        y = colours @ np.array(LUMA)
        planes = [y, (colours[:, :, 2] - y) / 1.772, (colours[:, :, 0] - y) / 1.402]  # YCbCr of ITU-R BT.601
        parts = []
        for plane, below in zip(planes, (3, 2, 2), strict=True):
            numbers = dctn(plane, norm="ortho") / patch
            parts.append(
                [numbers[i, j] for i in range(min(patch, below)) for j in range(min(patch, below)) if i + j < below]
            )
        contrast = math.sqrt(sum(x * x for x in parts[0][1:]) + 0.00125)
        want = [parts[0][0], *(x / contrast for x in parts[0][1:]), math.log(contrast), *parts[1], *parts[2]]
        np.testing.assert_allclose(row, want, atol=2e-4)
    if patch > 2:
        assert got[:, 0] == pytest.approx(patches.reshape(-1, patch**2, 3).mean(1) @ np.array(LUMA) / 255, abs=1e-5)


def test_units_of_the_sample_are_all_used() -> None:
    image = Image()
    batch = ragged([patches_by_loop(pixels, 4) for pixels in tiles(400)], image.vocabulary, image.max_length)
    points = image.unit_features(batch)[batch.values >= 5]
    book = codebook.fit(points, 64, epochs=2)
    found = codebook.describe(*book.assign(points), points.shape[1], 64)
    assert found["used"] == 64 and found["perplexity"] > 25 and not found["collapsed"]


def test_the_built_in_sample() -> None:
    records = sample_records()
    assert SAMPLE.stat().st_size < 1_000_000
    assert len({item.name for item in records}) == len(records) == 2601
    assert len({item.tags["label"] for item in records}) == 16
    image = Image()
    for item in records[::40]:
        found = image.encode(item)
        assert found.values.shape == (64, 48) and not any(found.counts.values())


def shared(one: np.ndarray, other: np.ndarray) -> float:
    return len(np.intersect1d(one, other)) / len(np.union1d(one, other))


def hashed(pixels: np.ndarray | bytes, size: int = 32) -> np.ndarray:
    image = Image(size=size)
    found = image.near_duplicate_features(
        image.encode(record(pixels if isinstance(pixels, bytes) else encoded(pixels))).values
    )
    assert found.dtype == np.uint64 and len(np.unique(found)) == len(found) <= 8
    return found


def test_copies_are_kin_and_others_are_not() -> None:
    pictures = [pixels for pixels in tiles(600) if pixels.std() > 40]  # noise decides the signs of even surfaces
    assert len(pictures) > 150
    own = [hashed(pixels) for pixels in pictures]
    for change, at_least in (
        (lambda pixels: encoded(pixels, "JPEG", quality=90), 0.97),
        (lambda pixels: encoded(pixels, "JPEG", quality=50), 0.5),
        (lambda pixels: np.clip(pixels * 1.1 + 4, 0, 255).astype(np.uint8), 0.8),
        (lambda pixels: pixels[:, ::-1], 1.0),
        (lambda pixels: np.asarray(Pillow.fromarray(pixels).resize((64, 64), Pillow.Resampling.BICUBIC)), 0.97),
    ):
        copies = [
            shared(hashed(change(pixels)), found) >= Image.near_duplicate_similarity
            for pixels, found in zip(pictures, own, strict=True)
        ]
        assert np.mean(copies) >= at_least
    strangers = [shared(own[i], own[j]) >= Image.near_duplicate_similarity for i in range(len(own)) for j in range(i)]
    assert np.mean(strangers) < 1e-3


def test_a_hash_does_not_depend_on_the_size_it_is_read_at() -> None:
    big = np.asarray(Pillow.fromarray(tiles(8)[3]).resize((256, 256), Pillow.Resampling.BICUBIC))
    assert shared(hashed(big, 128), hashed(big, 64)) >= Image.near_duplicate_similarity
    assert len(hashed(np.full((32, 32, 3), 77, np.uint8))) == 4  # an even surface is its own mirror image


def test_save_and_load(tmp_path: Path) -> None:
    image = Image(codes=8)
    image.save(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (settings["modality"], settings["size"], settings["patch"], settings["codes"]) == ("image", 32, 4, 8)
    assert settings["mean"] == [0.485, 0.456, 0.406]
    points = torch.from_numpy(noise(500, 13)).float()
    image.codebook = codebook.fit(points, 8, epochs=1)
    image.save(tmp_path)
    other = Image(codes=8)
    other.load(tmp_path)
    assert torch.equal(other.codebook.assign(points)[0], image.codebook.assign(points)[0])


def test_fingerprints() -> None:
    base = Image().fingerprint()
    assert Image(flip=0.1, codes=9, units="run:x@1").fingerprint() == base  # change views and units, not the store
    for settings in ({"size": 64}, {"patch": 8}, {"min_side": 1}, {"max_pixels": 99}):
        assert Image(**settings).fingerprint() != base


@pytest.mark.shared
def test_cifar_as_jpeg() -> None:
    image = Image()
    path = Path(os.environ["SSL_DATA_DIR"]) / "media/image/cifar10_60k_jpeg.parquet"
    for i, item in enumerate(image.read(path, stop)):
        if i % 100 == 0:
            want = np.asarray(Pillow.open(io.BytesIO(item.data)))
            assert np.array_equal(image.encode(item).values, patches_by_loop(want, 4))
            assert item.tags.keys() == {"label", "split"}
    assert i == 59_999
