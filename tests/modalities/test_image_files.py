"""Picture files of every kind against Pillow's own reading, and one line for each kind of bad file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from ssl_suite.core import limits
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.modalities import image_files
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.image_files import decode, folder_tags, read
from tests.modalities.fuzz import survive
from tests.modalities.pictures import encoded, noise, record, stop, tiles

PICTURE = tiles(8)[3]


def decoded(data: object, size: int = 32) -> np.ndarray:
    return decode(record(data), size, 8, 10**8)[0]


def counts(data: object) -> dict[str, int]:
    return {name: count for name, count in decode(record(data), 32, 8, 10**8)[1].items() if count}


def fault(data: object, smallest: int = 8, most: int = 10**8) -> tuple[str, str]:
    with pytest.raises(BadRecord) as caught:
        decode(record(data), 32, smallest, most)
    text = str(caught.value)
    assert text.startswith("folder/one.png: record 'one' ")
    assert "\n" not in text
    return text.removeprefix("folder/one.png: record 'one' "), caught.value.reason


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "train" / "cats" / "tom.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(PICTURE))
    (found,) = read(path, stop)
    assert (found.name, found.data, found.source) == ("tom", path.read_bytes(), str(path))
    assert found.tags == {"label": "cats", "split": "train"}


@pytest.mark.parametrize(
    ("path", "tags"),
    [
        ("/data/val/dog/x.png", {"label": "dog", "split": "val"}),
        ("/data/Test/x.png", {"label": "Test", "split": "Test"}),
        ("/cifar100/test/train/x.png", {"label": "train", "split": "test"}),
        ("/data/flat/x.png", {"label": "flat"}),
    ],
)
def test_tags_of_a_path(path: str, tags: dict[str, str]) -> None:
    assert folder_tags(Path(path)) == tags


@pytest.mark.parametrize("column", ["image", "jpeg", "img", "png"])
@pytest.mark.parametrize("paired", [False, True])
def test_parquet(tmp_path: Path, column: str, paired: bool) -> None:
    files = [encoded(noise(9, 9, 3, seed=i)) for i in range(5)]
    data = [{"bytes": data, "path": None} for data in files] if paired else files
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({column: data, "label": [0, 1, 2, 0, 1], "split": ["train"] * 4 + ["test"]}), path)
    found = list(read(path, stop))
    assert [item.data for item in found] == files
    assert found[4].tags == {"label": "1", "split": "test"}
    assert found[4].name == "row5"


def test_a_parquet_row_without_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [encoded(PICTURE), None]}), path)
    with pytest.raises(BadRecord, match=r"row 2 has no image; remove it\."):
        list(read(path, stop))
    skipping = FaultCounter("skip")
    assert len(list(read(path, skipping))) == 1
    assert skipping.counts == {"no image": 1}


def test_unusable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(BadRecord, match=r"x\.png: cannot be read \(No such file"):
        list(read(path, stop))
    path.write_bytes(b"")
    with pytest.raises(BadRecord, match=r"x\.png: is empty; remove it or give one with content."):
        list(read(path, stop))
    path.write_bytes(encoded(PICTURE))
    monkeypatch.setattr(limits, "RECORD_MB", 1)
    path.write_bytes(bytes(1 << 20) + b"1")
    with pytest.raises(BadRecord, match=r"x\.png: has 1 MB, more than data\.max_record_mb=1; cut it into parts, or"):
        list(read(path, stop))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_lossless_formats_give_the_pixels_back(form: str) -> None:
    few_colours = PICTURE // 64 * 64  # GIF has 256
    data = encoded(few_colours, form, **({"lossless": True} if form == "WEBP" else {}))
    assert np.array_equal(decoded(data), few_colours)
    assert counts(data) == {}


def test_jpeg_gives_the_pixels_of_pillow() -> None:
    data = encoded(PICTURE, "JPEG", quality=80)
    assert np.array_equal(decoded(data), np.asarray(Pillow.open(io.BytesIO(data))))


@pytest.mark.parametrize(("height", "width"), [(48, 80), (81, 33), (200, 32), (32, 33), (9, 9), (20, 400)])
def test_resize_and_crop(height: int, width: int) -> None:
    pixels = np.asarray(Pillow.fromarray(PICTURE).resize((width, height), Pillow.Resampling.BICUBIC))
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    want = Pillow.fromarray(pixels).resize((32, 32), Pillow.Resampling.BILINEAR, (left, top, left + side, top + side))
    assert np.array_equal(decoded(encoded(pixels)), np.asarray(want))
    # Resizing the whole and cropping then differs in the filter's reach over the cut only.
    scale = 32 / side
    whole = ImageOps.fit(Pillow.fromarray(pixels), (32, 32), Pillow.Resampling.BILINEAR)
    assert np.abs(decoded(encoded(pixels)).astype(int) - np.asarray(whole)).mean() <= 1
    assert counts(encoded(pixels)) == {
        name: 1 for name, is_so in (("resized", scale != 1), ("cropped", height != width)) if is_so
    }


def test_a_large_jpeg_is_decoded_small() -> None:
    large = Pillow.fromarray(PICTURE).resize((1024, 768), Pillow.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    exact = decoded(Pillow.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(decoded(data).astype(int) - exact).mean() < 1.5
    assert counts(data) == {"resized": 1, "cropped": 1}


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits(form: str) -> None:
    deep = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    got = decoded(encoded(deep, form))
    assert np.array_equal(got, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, 2))
    assert len(np.unique(got)) == 256  # neither cut off at 255 nor wrapped round
    assert counts(encoded(deep, form)) == {"grey": 1}


def test_sixteen_bit_colour() -> None:
    """A PNG written by hand, for Pillow writes none: the upper byte of each channel is kept."""
    deep = (noise(32, 32, 3).astype(int) * 256 + 77).astype(">u2")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(decoded(data), deep >> 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bits_are_refused(dtype: type) -> None:
    text, reason = fault(encoded(np.ones((32, 32), dtype), "TIFF"))
    assert text == f"has 32-bit pixels (mode {'I' if dtype is np.int32 else 'F'}); save it with 8 or 16 bits."
    assert reason == "32-bit pixels"


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    ink = Pillow.fromarray(PICTURE).convert("CMYK")
    data = encoded(ink, form, **({"quality": 98} if form == "JPEG" else {}))
    assert Pillow.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(decoded(data).astype(int) - PICTURE).max() <= (12 if form == "JPEG" else 0)


def test_grey_black_and_white_and_palettes() -> None:
    grey = Pillow.fromarray(PICTURE).convert("L")
    assert np.array_equal(decoded(encoded(grey)), np.asarray(grey.convert("RGB")))
    assert counts(encoded(grey)) == {"grey": 1}
    black = grey.convert("1")
    assert np.array_equal(decoded(encoded(black)), np.asarray(black.convert("RGB")))
    palette = Pillow.fromarray(PICTURE).quantize(16)
    assert np.array_equal(decoded(encoded(palette)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode: str) -> None:
    pixels = Pillow.fromarray(PICTURE)
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:8], alpha[8:16] = 0, 128
    if mode == "P":
        palette = Pillow.fromarray(PICTURE // 128 * 128).quantize(8)
        data, base = encoded(palette, transparency=3), np.asarray(palette.convert("RGB"))
        alpha = np.where(np.asarray(palette) == 3, 0, 255)
        assert (alpha == 0).any()
    else:
        whole = pixels if mode == "RGBA" else pixels.convert("L")
        base = np.asarray(whole.convert("RGB"))
        whole = whole.convert(mode)
        whole.putalpha(Pillow.fromarray(alpha))
        data = encoded(whole)
    share = (alpha / 255)[:, :, None]
    assert np.abs(decoded(data) - (base * share + 255 * (1 - share))).max() <= 1
    assert counts(data)["transparent"] == 1
    opaque = pixels.convert("RGBA")
    assert np.array_equal(decoded(encoded(opaque)), PICTURE)
    assert counts(encoded(opaque)) == {}


def test_the_first_frame_of_an_animation() -> None:
    frames = [Pillow.fromarray(tiles(8)[i] // 128 * 128) for i in (1, 2, 5)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decoded(data), np.asarray(frames[0]))
    assert counts(data) == {"animated": 1}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_exif_orientation(form: str, turned: int) -> None:
    exif = Pillow.Exif()
    exif[image_files.ORIENTATION] = turned
    plain = encoded(PICTURE, form)
    data = encoded(PICTURE, form, exif=exif)
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decoded(data), np.asarray(upright))
    assert np.array_equal(decoded(data), decoded(plain)) is (turned == 1)
    assert counts(data) == ({"turned": 1} if turned > 1 else {})


def test_a_damaged_exif_block_is_ignored() -> None:
    exif = Pillow.Exif()
    exif[image_files.ORIENTATION] = 6
    data = encoded(PICTURE, "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    broken = data[:at] + b"\xff" * 12 + data[at + 12 :]
    assert np.array_equal(decoded(broken), decoded(encoded(PICTURE, "JPEG")))


def test_one_pixel() -> None:
    assert fault(encoded(noise(1, 1, 3))) == (
        "has 1 × 1 pixels, too few; remove it or lower modality.min_side=8.",
        "too small",
    )
    one = decode(record(encoded(noise(1, 1, 3))), 32, 1, 100)[0]
    assert (one == noise(1, 1, 3)).all() and one.shape == (32, 32, 3)


def test_too_many_pixels() -> None:
    """Files of a few hundred bytes that would unpack to gigabytes: the header is enough to refuse them."""
    bomb = bytearray(encoded(noise(8, 8, 3), "BMP"))
    bomb[18:26] = struct.pack("<ii", 12_000, 12_000)
    text = "has 12000 × 12000 pixels, more than 1,000,000; shrink it, or raise modality.max_pixels=1000000"
    assert fault(bytes(bomb), most=10**6) == (f"{text} if you trust it.", "too many pixels")
    bomb[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert fault(bytes(bomb))[0].startswith("has more than 178,956,970 pixels; shrink it.")


def test_a_long_thin_picture_stays_small() -> None:
    """Resized as a whole, 32 pixels would become 320,000 × 32 here."""
    assert decoded(encoded(noise(8, 80_000, 3))).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "data", [b"hello, world", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"MThd\0\0\0\6"]
)
def test_what_is_no_picture(data: bytes) -> None:
    assert fault(data) == ("is not a PNG, JPEG, WebP, BMP, GIF or TIFF image; remove it.", "no image")


def test_damaged_pictures() -> None:
    for form in ("PNG", "JPEG"):
        text, reason = fault(encoded(noise(32, 32, 3), form)[:400])
        assert text.startswith("cannot be decoded (")
        assert text.endswith("); repair or remove it.")
        assert reason == "damaged"


def test_a_text_file_in_a_class_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cats"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(PICTURE))
    (folder / "labels.jpg").write_text("cat, cat, dog\n")
    image, skipping = Image(), FaultCounter("skip")
    with pytest.raises(SuiteError, match=r"labels\.jpg: record 'labels' is not a PNG, JPEG"):
        [image.encode(item) for path in sorted(folder.iterdir()) for item in image.read(path, stop)]
    kept = 0
    for path in sorted(folder.iterdir()):
        for item in image.read(path, skipping):
            try:
                kept += len(image.encode(item).values) == 64
            except BadRecord as error:
                skipping(error)
    assert (kept, skipping.counts) == (1, {"no image": 1})
    assert not "labels.txt".endswith(Image.suffixes)  # a folder's text files are not looked at


@pytest.mark.parametrize(
    ("suffix", "forms", "count"),
    [
        (".jpg", [("JPEG", {"quality": 90}), ("JPEG", {"progressive": True, "quality": 60})], 2000),
        (".png", [("PNG", {}), ("PNG", {"optimize": True})], 2000),
        (".gif", [("GIF", {})], 200),
        (".webp", [("WEBP", {"quality": 50}), ("WEBP", {"lossless": True})], 200),
        (".bmp", [("BMP", {})], 200),
        (".tif", [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})], 200),
    ],
)
def test_damaged_files(tmp_path: Path, suffix: str, forms: list, count: int) -> None:
    pictures = [Pillow.fromarray(tiles(8)[i]).resize((24, 17)) for i in (0, 4)]
    grey = pictures[0].convert("L")
    valid = [encoded(picture, form, **settings) for form, settings in forms for picture in (*pictures, grey)]
    seen = survive(Image(size=16), suffix, valid, tmp_path, count)
    assert seen["loaded"] > count / 50
    assert seen["damaged"] + seen["no image"] > count / 50
    assert seen.total() - seen["records"] == count
