"""Reading pictures: files, tables of encoded files, and the decoding of one into square RGB pixels.

Pillow decodes: 11,000 CIFAR JPEGs a second on one core, against 35,000 of ``torchvision.io``, which knows four formats
and neither palettes, 16 bits nor CMYK. Only the formats listed here are opened: Pillow would run
Ghostscript for others. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.tables import Wanted, read_encoded

PLUGINS = (  # imported, so that Pillow need not look for them
    PngImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    TiffImagePlugin,
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".parquet")
PICTURES = Wanted(("image", "jpeg", "png", "img", "jpg", "picture", "bytes"), "image", "bytes")
SPLITS = ("train", "training", "valid", "validation", "val", "dev", "test", "testing")
LARGEST = 178_956_970  # pixels: Pillow opens none beyond, twice its own limit for a warning
ORIENTATION = 0x0112  # the EXIF tag
UNKNOWN_RANGE = ("I", "F")  # modes of 32 bits: nobody says which number is white


def read(
    path: Path,
    fault: Fault,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
) -> Iterator[Record]:
    """The pictures of one file, undecoded: one of a picture file, one a row of a parquet file.

    A picture file's tags are ``label``, the name of its folder (the ImageFolder layout), and ``split`` where its
    folder or the one above is called train, val, test or the like.

    Raises:
        BadRecord: the file cannot be read, is empty, or too large for a picture.
    """
    limit = Limit(max_record_mb)
    return read_encoded(path, fault, PICTURES, column, id_column, limit, tags=folder_tags(path))


def folder_tags(path: Path) -> dict[str, str]:
    """What the folders of ``…/split/label/name.png`` or ``…/label/name.png`` say of a picture."""
    label, above = path.absolute().parent.name, path.absolute().parent.parent.name
    split = next((word for word in (above, label) if word.lower() in SPLITS), None)
    return {"label": label} | ({"split": split} if split else {})


def decode(record: Record, size: int, smallest: int, most: int) -> tuple[np.ndarray, dict[str, int]]:
    """The middle square of a picture, resized.

    Turned as its EXIF block says; the first frame of several; transparent pixels over white; palettes, grey, CMYK
    and YCbCr as RGB; of 16 bits the upper 8. The largest centred square is resized by Pillow's bilinear filter, which
    averages over all pixels it shrinks; a JPEG of more than twice the size is decoded at a half, a quarter or an
    eighth of its resolution first.

    Args:
        record: an encoded file.
        size: side of the square, in pixels.
        smallest: the shortest side that is accepted.
        most: the most pixels that are decoded.

    Returns:
        (size, size, 3) uint8, and counts of pictures that were ``resized``, ``cropped``, ``turned``, ``grey``,
        ``transparent``, or ``animated``.

    Raises:
        BadRecord: it is no picture, damaged, too small, too large, or of a kind whose white is unknown.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which are not used
        # Decoders raise whatever they stumble over (OSError, SyntaxError, struct.error, KeyError …): all mean damage.
        try:
            image = Image.open(io.BytesIO(record.data), formats=FORMATS)
            width, height = image.size
        except UnidentifiedImageError:
            raise bad(record, "is not a PNG, JPEG, WebP, BMP, GIF or TIFF image; remove it", "no image") from None
        except Image.DecompressionBombError:
            raise too_many(record, f"more than {LARGEST:,} pixels", LARGEST) from None
        except Exception as error:
            raise damaged(record, error) from None
        if width * height > most:
            raise too_many(record, f"{width} × {height} pixels, more than {most:,}", most)
        if min(width, height) < smallest:
            lower = f"remove it or lower modality.min_side={smallest}"
            raise bad(record, f"has {width} × {height} pixels, too few; {lower}", "too small")
        if image.mode in UNKNOWN_RANGE:
            raise bad(record, f"has 32-bit pixels (mode {image.mode}); save it with 8 or 16 bits", "32-bit pixels")
        try:
            return square(image, size)
        except Exception as error:
            raise damaged(record, error) from None


def square(image: Image.Image, size: int) -> tuple[np.ndarray, dict[str, int]]:
    """``decode`` once the picture has been accepted."""
    counts = {"animated": int(animated(image)), "resized": int(min(image.size) != size)}
    share = 2 * size / min(image.size)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and share <= 0.5:
        image.draft(None, (int(image.width * share), int(image.height * share)))  # at least so large
    counts["turned"] = int(orientation(image) > 1)
    if counts["turned"]:
        image = ImageOps.exif_transpose(image)
    image, plain = rgb(image)
    width, height = image.size
    side = min(width, height)
    counts |= plain | {"cropped": int(width != height)}
    if (width, height) != (size, size):
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(image), counts


def animated(image: Image.Image) -> bool:
    """Whether a picture has frames after the first one (pages of a TIFF are not counted: it reads them all)."""
    try:
        return image.format in ("GIF", "WEBP", "PNG") and bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame does not matter
        return False


def orientation(image: Image.Image) -> int:
    """What the EXIF block says, 1 (upright) where there is none or it cannot be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata of a picture that may be whole
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def rgb(image: Image.Image) -> tuple[Image.Image, dict[str, int]]:
    """A picture as 8-bit RGB, and whether it was grey or had transparent pixels."""
    image.load()
    if image.mode.startswith("I;16"):
        # Pillow's conversion cuts off at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    counts = {"grey": int(image.mode in ("1", "L", "LA", "La")), "transparent": 0}
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        counts["transparent"] = int(np.asarray(with_alpha)[..., 3].min() < 255)
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB"), counts
    return (image if image.mode == "RGB" else image.convert("RGB")), counts


def bad(record: Record, what: str, reason: str) -> BadRecord:
    """A fault of one picture."""
    return BadRecord(f"{record.source}: record '{record.name}' {what}.", reason)


def too_many(record: Record, what: str, most: int) -> BadRecord:
    """The fault of a picture that would fill the memory."""
    remedy = "shrink it" if most >= LARGEST else f"shrink it, or raise modality.max_pixels={most} if you trust it"
    return bad(record, f"has {what}; {remedy}", "too many pixels")


def damaged(record: Record, error: Any) -> BadRecord:
    """The fault of a picture that its decoder gave up."""
    why = (str(error).splitlines() or [""])[0] or type(error).__name__
    return bad(record, f"cannot be decoded ({why}); repair or remove it", "damaged")
