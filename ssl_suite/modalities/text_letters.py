"""The scripts of text, its cleaning, and the pieces that tokens of the tokenisers trained here do not cross.

The tokenisers' pieces are a Han letter, a run of kana, a run of other letters and digits, or a single other sign; a
run or sign behind white space carries the mark of a word's start. ``HAN`` and ``WIDE`` (the punctuation of their
scripts, with the opening quotes that Chinese shares with English) and ``KANA`` are written without spaces and never
carry it.
"""

from __future__ import annotations

import re
import unicodedata

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\U00030000-\U000323af"
WIDE = "\u3000-\u303f\uff00-\uffef\u2018\u201c"
KANA = "\u3040-\u30ff\u31f0-\u31ff"
UNSPACED = HAN + WIDE + KANA
MARK = "▁"  # stands for the space before a word in BPE and Unigram tokens

unspaced = re.compile(f"[{UNSPACED}]").search
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
ASCII_CONTROL = bytes([*range(0x09), *range(0x0E, 0x20), 0x7F])
INVISIBLE = "\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffd"
UNSEEN = re.compile(f"[{INVISIBLE}]")


def uncontrolled(text: str) -> str:
    """``text`` with control characters as spaces; mostly the same object."""
    # Of ASCII: a tenth of the time of a search by pattern.
    if text.isascii() and len(text.encode("ascii").translate(None, ASCII_CONTROL)) == len(text):
        return text
    return CONTROL.sub(" ", text) if CONTROL.search(text) else text


def cleaned(text: str) -> str:
    """``text`` with control characters as spaces, without invisible format characters, and canonically composed.

    The tokenisers trained here do the same. It is done before text is split since accents may change places over a cut.
    """
    if text.isascii():  # where nothing is invisible and nothing composes
        return uncontrolled(text)
    text = uncontrolled(UNSEEN.sub("", text) if UNSEEN.search(text) else text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def pieces(marked: bool) -> str:
    """The pattern (Oniguruma) of what tokens do not cross.

    Args:
        marked: runs and signs may begin with ``MARK``.
    """
    mark = f"{MARK}?" if marked else ""
    word = rf"[\p{{L}}\p{{M}}\p{{N}}&&[^{UNSPACED}]]+"
    sign = rf"[^\s\p{{L}}\p{{M}}\p{{N}}{MARK}{UNSPACED}]"
    return f"[{HAN}{WIDE}]|[{KANA}]+|{mark}{word}|{mark}{sign}"


def begins_inside(text: str) -> bool:
    """Whether a token without mark goes on with a word: it begins with a letter or digit of a script with spaces.

    A word behind an opening quote has no mark either, and so goes with the quote.
    """
    first = text[:1]
    return (first.isalnum() or first == "\ufffd" or not first.isprintable()) and not unspaced(first)
