"""Tokenisers in the Hugging Face format, shared by the token modalities.

Every folder written here opens with ``transformers.AutoTokenizer``. Special tokens have the ids of
``modalities.base.Vocabulary``: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS

NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # in the order of SPECIAL_TOKENS
CHUNK = 4096  # letters of one training piece
# Pieces a BPE is trained on, 2.1 million letters: 4,096 tokens learnt from four times as many spell yeast chromosomes
# with 0.2 % fewer tokens and take six times as long.
SAMPLE = 512


def letter_map(table: Mapping[str, str]) -> normalizers.Normalizer:
    """A normaliser that replaces letters and removes white space.

    Args:
        table: what each letter becomes. Results must map to themselves, since the rules run one after the other.
    """
    sources: dict[str, str] = {}
    for letter, result in table.items():
        if letter != result:
            sources[result] = sources.get(result, "") + letter
    rules = [normalizers.Replace(Regex(f"[{letters}]"), result) for result, letters in sources.items()]
    return normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), ""), *rules])


def word_level(
    tokens: Iterable[str],
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Tokenizer:
    """A tokeniser that looks every piece up; ``tokens`` begin with the special ones."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return _finish(Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), normalizer, pre_tokenizer)


def bpe(
    tokens: Iterable[str],
    merges: list[tuple[str, str]],
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Tokenizer:
    """A byte-pair tokeniser from its vocabulary (special tokens first) and merges."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return _finish(Tokenizer(models.BPE(vocabulary, merges, unk_token="[UNK]")), normalizer, pre_tokenizer)


def _finish(
    tokenizer: Tokenizer,
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Tokenizer:
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL_TOKENS.index("[CLS]")), ("[SEP]", SPECIAL_TOKENS.index("[SEP]"))],
    )
    return tokenizer


def train_bpe(
    texts: Iterable[str], size: int, alphabet: Iterable[str], pre_tokenizer: pre_tokenizers.PreTokenizer
) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn merges (Sennrich, Haddow, Birch 2016).

    Args:
        texts: what to learn from, see ``sample_pieces``.
        size: letters and merged tokens together.
        alphabet: the letters.
        pre_tokenizer: cuts texts into the pieces that merges do not cross.

    Returns:
        The tokens (letters first, then one a merge, in order) and the merges; fewer than ``size`` where the input
        offers no more pairs.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [tuple(merge) for merge in model["merges"]]


def sample_pieces(texts: Iterable[str], seed: int = 0, count: int = SAMPLE) -> Iterator[str]:
    """``count`` pieces of ``CHUNK`` letters, spread evenly over an input of any size (reservoir sampling)."""
    draw = np.random.default_rng(seed)
    kept: list[str] = []
    seen = 0
    for text in texts:
        for start in range(0, len(text), CHUNK):
            if len(kept) < count:
                kept.append(text[start : start + CHUNK])
            elif (place := int(draw.integers(seen + 1))) < count:
                kept[place] = text[start : start + CHUNK]
            seen += 1
    return iter(kept)


def write(tokenizer: Tokenizer, folder: Path, max_length: int, special: Sequence[str] = SPECIAL_TOKENS) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, each beside and renamed.

    ``max_length`` becomes ``model_max_length``, so that ``truncation=True`` cuts where training did. ``special`` are
    the tokenizer's own words for ``SPECIAL_TOKENS``, in their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **dict(zip(NAMES, special, strict=True)),
    }
    for name, text in (
        ("tokenizer.json", tokenizer.to_str(pretty=True)),
        ("tokenizer_config.json", json.dumps(config, indent=2) + "\n"),
    ):
        atomic.write(folder / name, text)


def read(folder: Path) -> Tokenizer:
    """The tokeniser of a folder.

    Raises:
        SuiteError: there is none, or it is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SuiteError(f"{path}: does not exist; give a folder that a run or an export has written.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise SuiteError(f"{path}: is not a tokeniser ({str(error).splitlines()[0]}); write it again.") from None
