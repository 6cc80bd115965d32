"""Where text may be cut without changing a token of the tokenisers trained here: one pattern for them, one for us.

The tokenisers' pieces are a Han letter, a run of kana, a run of other letters and digits, or a single other sign; a
run or sign behind white space carries the mark of a word's start. ``HAN`` and ``WIDE`` (the punctuation of their
scripts, with the opening quotes that Chinese shares with English) and ``KANA`` are written without spaces and never
carry it.
"""

from __future__ import annotations

import re
import string
import unicodedata

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\U00030000-\U000323af"
QUOTES = "\u2018\u201c"
WIDE = "\u3000-\u303f\uff00-\uffef" + QUOTES
KANA = "\u3040-\u30ff\u31f0-\u31ff"
UNSPACED = HAN + WIDE + KANA
MARK = "▁"  # stands for the space before a word in BPE and Unigram tokens
CUT = 4096  # letters of a run: one that is longer is data, not a word, and is cut

# Signs at which we cut; others stay with their neighbours. Not <, = and >: with U+0338 they compose (≠).
BETWEEN = "\x01"  # stands between sentences; control characters of a text are spaces
SIGNS = (
    BETWEEN
    + re.escape("".join(sorted(set(string.punctuation) - set("<=>"))))
    + QUOTES
    + "\u2019\u201d\u2013\u2014\u2026«»"
)
SPACED_ONLY = re.compile(rf"\s?[^\s{SIGNS}]{{1,{CUT}}}|\s?[{SIGNS}]")
ANY = re.compile(rf"\s?[^\s{SIGNS}{UNSPACED}]{{1,{CUT}}}|\s?[{SIGNS}]|[{HAN}{WIDE}]|[{KANA}]{{1,{CUT}}}")

unspaced = re.compile(f"[{UNSPACED}]").search
beside_quotes = re.compile(f"[{UNSPACED.replace(QUOTES, '')}]").search
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

    The tokenisers trained here do the same. It is done before text is cut since accents may change places over a cut.
    """
    if text.isascii():  # where nothing is invisible and nothing composes
        return uncontrolled(text)
    text = uncontrolled(UNSEEN.sub("", text) if UNSEEN.search(text) else text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def cut(sentences: list[str]) -> list[str]:
    """The runs and signs of all sentences, each with the white space before it, and ``BETWEEN`` after each sentence.

    What stands behind no white space has none, and letters of unspaced scripts never have.
    """
    text = f"{BETWEEN} ".join(["", *sentences, ""]).replace("\n", " ")
    return (ANY if beside_quotes(text) else SPACED_ONLY).findall(text)[1:]


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
