"""Training BPE, WordPiece and Unigram tokenisers on text in any script.

All three cut text into the same pieces (``text_letters.pieces``), so they agree on what a word is: a Han letter, a
stretch of letters and digits, or a single other sign, as in BERT (Devlin et al. 2019). Letters that are too rare for
the vocabulary become [UNK].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS
from ssl_suite.modalities import tokenizers
from ssl_suite.modalities.text_letters import INVISIBLE, MARK, pieces

# Pieces of 4,096 letters that a tokeniser is trained on: 4.2 million letters of seven languages take 4 s of one core
# for BPE and WordPiece, 16 s for Unigram.
SAMPLE = 1024
KINDS = ("bpe", "wordpiece", "unigram")


def normalizer(lower_case: bool, strip_accents: bool) -> normalizers.Normalizer:
    """Canonical composition, one space for white space and control characters, no invisible format characters.

    Accents are the combining marks U+0300 to U+036F: BERT strips all marks, which turns Japanese が into か.
    """
    steps: list[Any] = [normalizers.NFC()]
    if lower_case:
        steps.append(normalizers.Lowercase())
    if strip_accents:
        accents = normalizers.Replace(Regex(r"[\u0300-\u036f]"), "")
        steps += [normalizers.NFD(), accents, normalizers.NFC()]
    space = normalizers.Replace(Regex(r"[\s\p{Cc}]+"), " ")
    unseen = normalizers.Replace(Regex(f"[{INVISIBLE}]"), "")
    return normalizers.Sequence([unseen, space, *steps, normalizers.Replace(MARK, "_")])


def untrained(kind: str, lower_case: bool, strip_accents: bool) -> Tokenizer:
    """The tokeniser without its vocabulary."""
    marked = kind != "wordpiece"
    model: Any = {
        "bpe": lambda: models.BPE(unk_token="[UNK]"),
        "wordpiece": lambda: models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=200),
        "unigram": models.Unigram,
    }[kind]()
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer(lower_case, strip_accents)
    # Behind ``invert`` the pattern says what is kept: of the mark before a Han letter nothing is.
    split = pre_tokenizers.Split(Regex(pieces(marked)), "removed", invert=True)
    mark = [pre_tokenizers.Metaspace(MARK, "always", split=False)] if marked else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), *mark, split])
    tokenizer.decoder = decoders.Metaspace(MARK, "always") if marked else decoders.WordPiece("##", cleanup=True)
    return tokenizer


def train(kind: str, texts: Iterable[str], size: int, lower_case: bool, strip_accents: bool) -> Tokenizer:
    """Train on a sample of ``texts``.

    Args:
        kind: one of ``KINDS``.
        texts: of any length and number; memory holds ``SAMPLE`` pieces.
        size: tokens of the vocabulary at most, special ones included.

    Raises:
        SuiteError: there is no text.
    """
    tokenizer = untrained(kind, lower_case, strip_accents)
    sample = tokenizers.sample_pieces(joined(texts), count=SAMPLE)
    normal = [tokenizer.normalizer.normalize_str(text) for text in sample]
    letters = Counter(chain.from_iterable(normal))
    del letters[" "]
    if not letters:
        raise SuiteError(f"the input has no text to train modality.tokenizer={kind} on; give more, or another column.")
    # WordPiece may hold a letter twice, as the first of a word and not, so half the vocabulary always suffices.
    common = [letter for letter, _ in letters.most_common((size - len(SPECIAL_TOKENS) - 1) // 2)]
    rare = dict.fromkeys(map(ord, letters.keys() - set(common)), " ")
    normalizer, tokenizer.normalizer = tokenizer.normalizer, normalizers.Sequence([])
    tokenizer.train_from_iterator((text.translate(rare) for text in normal), trainer(kind, size))
    tokenizer.normalizer = normalizer
    return finished(tokenizer, SPECIAL_TOKENS)


def trainer(kind: str, size: int) -> Any:
    """The library's trainer; special tokens get the first ids."""
    settings: Any = {"vocab_size": size, "special_tokens": list(SPECIAL_TOKENS), "show_progress": False}
    if kind == "unigram":
        return trainers.UnigramTrainer(unk_token="[UNK]", **settings)
    return trainers.BpeTrainer(**settings) if kind == "bpe" else trainers.WordPieceTrainer(**settings)


def joined(texts: Iterable[str]) -> Iterator[str]:
    """Short texts put together, so that pieces of the sample are of like length: a line counts as a line."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= tokenizers.CHUNK:
            yield "\n".join(held)
            held, size = [], 0
    if held:
        yield "\n".join(held)


def finished(tokenizer: Tokenizer, special: tuple[str, ...]) -> Tokenizer:
    """With [CLS] before and [SEP] behind a text, under whatever names, and nothing cut or filled up.

    Args:
        special: the words for ``SPECIAL_TOKENS``; new ones are added at the end of the vocabulary.
    """
    tokenizer.add_special_tokens(list(special))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _, _, cls, sep, _ = special
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[cls, "$A", sep],
        pair=[cls, "$A", sep, "$B:1", f"{sep}:1"],
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (cls, sep)],
    )
    return tokenizer
