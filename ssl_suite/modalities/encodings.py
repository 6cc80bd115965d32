"""What a file that is not UTF-8 text is likely to be, and the command that makes it UTF-8."""

from __future__ import annotations

import codecs
import shlex
import unicodedata
from pathlib import Path
from typing import Any

from ssl_suite.core.faults import BadRecord

SAMPLE = 1 << 16  # bytes looked at around the place that is no UTF-8
BLOCK = 1 << 20
STRAY = 100  # a text may hold one NUL byte in so many
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),  # the first bytes of UTF-32's, too
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
GUESSES = (  # by the names of the letters beyond ASCII that a text in it has, and their share of these at least
    ("SHIFT_JIS", "HIRAGANA", 0.2),
    ("EUC-JP", "HIRAGANA", 0.2),
    ("EUC-KR", "HANGUL", 0.8),
    ("CP1251", "CYRILLIC SMALL", 0.6),
    ("KOI8-R", "CYRILLIC SMALL", 0.6),
    ("GB18030", "CJK UNIFIED", 0.8),
    ("BIG5", "CJK UNIFIED", 0.8),
)


def not_text(path: Path, source: Any) -> BadRecord:
    """The fault of a file that is not UTF-8 text.

    Args:
        path: of the file, for the message.
        source: its bytes, unpacked, a binary file that can be read from the beginning.
    """
    source.seek(0)
    head = source.read(SAMPLE)
    source.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    for number, line in enumerate(iter(lambda: source.readline(BLOCK), b""), start=1):
        bad = line.find(b"\0")
        try:
            decoder.decode(line if bad < 0 else line[:bad])
        except UnicodeDecodeError as error:
            bad, line = error.start, error.object  # with the bytes that a line of over ``BLOCK`` ended in
        if bad >= 0:
            sample = line[max(0, bad - SAMPLE) : bad + SAMPLE] + source.read(SAMPLE)
            return _fault(path, head, sample, f"line {number}, byte {bad + 1} (0x{line[bad]:02x})", line[bad] == 0)
    return _fault(path, head, head, "its end", False)


def _fault(path: Path, head: bytes, sample: bytes, place: str, nul: bool) -> BadRecord:
    found = next((name for mark, name in MARKS if head.startswith(mark)), None) or (
        wide(head) if nul else likely(sample)
    )
    if found is None and STRAY * sample.count(0) > len(sample):
        return BadRecord(f"{path}: holds NUL bytes ({place}), so it is no text; remove it.", "NUL bytes")
    if found is None:
        what, program = "is a NUL byte in a text; leave such bytes out", "tr -d '\\000'"
    elif found == "UTF-8":
        what, program = "is damaged UTF-8; leave the damage out", "iconv -c -f UTF-8 -t UTF-8"
    else:
        what, program = f"is not UTF-8 text but, it seems, {found}; convert it", f"iconv -f {found} -t UTF-8"
    command, new = conversion(path, program)
    return BadRecord(f"{path}: {place} {what} by `{command}`, and use {new}.", "not UTF-8" if found else "NUL bytes")


def wide(head: bytes) -> str | None:
    """UTF-16 without a mark: text in it has its NULs at every other place."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    most = max(even, odd)
    if most > len(head) // 8 and min(even, odd) <= most // 8:
        return "UTF-16LE" if odd > even else "UTF-16BE"
    return None


def likely(sample: bytes) -> str:
    """The encoding of a text that is not UTF-8, by the letters it would hold."""
    lenient = sample.decode("utf-8", "replace")
    beyond = [letter for letter in lenient if letter >= "\x80"]
    if 2 * beyond.count("\ufffd") < len(beyond):
        return "UTF-8"
    plain = sum(chr(byte).isalpha() for byte in sample if byte < 0x80)
    other = sum(byte >= 0x80 for byte in sample)
    for name, letters, share in GUESSES if other > plain else ():  # else accents between plain letters
        text = sample.decode(name, "replace")
        beyond = [letter for letter in text if letter >= "\x80"]
        named = sum(unicodedata.name(letter, "").startswith(letters) for letter in beyond)
        if beyond.count("\ufffd") < 3 and named > share * len(beyond) and len(beyond) >= 8:
            return name
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "CP1252" if any(0x80 <= byte < 0xA0 for byte in sample) else "ISO-8859-1"


def conversion(path: Path, program: str) -> tuple[str, str]:
    """The command that puts the file through a program, and the file that it writes.

    That stands in the current folder: the input's may be read-only, or be an input as a whole.
    """
    packed = path.suffix.lower() in (".gz", ".bgz")
    plain = path.with_suffix("") if packed else path
    new = f"{plain.stem}.utf8{plain.suffix}"
    old, made = shlex.quote(str(path)), shlex.quote(new)
    return (f"gzip -dc < {old} | {program} > {made}" if packed else f"{program} < {old} > {made}"), new
