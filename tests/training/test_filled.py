"""What a masked model puts into the holes of held-out data: the holes, the guesses, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl_suite.commands import fill
from ssl_suite.data.prepare import prepare
from ssl_suite.training import filled, restore
from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.filled import Piece
from tests.commands.conftest import make_run
from tests.modalities.made_text import fitted
from tests.training.test_checkpoint import ALONE

PIECES = [
    Piece("It is a truth"),
    Piece(" un", " un"),
    Piece("i", "e"),
    Piece("versally"),
    Piece(" ", ""),
    Piece("known"),
]


@pytest.mark.parametrize("name", ["dna", "text"])
def test_the_guesses_are_those_of_fill(name: str, tmp_path: Path) -> None:
    words = [f"modality={name}"]
    if name == "text":
        fitted("bpe").save(tmp_path / "words")
        words.append(f"modality.tokenizer=hf:{tmp_path / 'words'}")
    loaded = restore.load_run(str(make_run(tmp_path / "run", words, steps=(1,))))
    store = prepare(loaded.modality, loaded.config["data"], report=lambda line: None)
    evaluator = Evaluator(store, loaded.modality, loaded.config["train"], ALONE, loaded.objective)
    found = filled.passages(loaded, evaluator, count=3)
    assert len(found) == 3
    windows, vocabulary = store.split("valid"), loaded.modality.vocabulary
    for pieces, window in zip(found, evaluator.rows[0], strict=False):
        ids = store.ids[windows.starts_S[window] :][: windows.lengths_S[window]].astype(np.int64)
        assert "".join(piece.text for piece in pieces) == loaded.modality.decode(ids).replace("\n", " ")
        holes = [i for i, piece in enumerate(pieces) if piece.guess is not None]
        assert 0 < len(holes) <= 0.25 * len(ids)
        ids[holes] = vocabulary.mask
        for i, best in zip(holes, fill.predict(loaded, ids.tolist(), top=1), strict=True):
            token = vocabulary.tokens.index(best["tokens"][0]["token"])
            alone = loaded.modality.decode(np.array([token]))
            assert best["position"] == i + 1 and pieces[i].guess.strip() == alone.replace("\n", " ").strip()


def test_a_passage_in_a_terminal() -> None:
    holes, guesses = filled.lines(PIECES)
    assert holes == "It is a truth____versally_known"
    assert guesses == "It is a truth[ un](e|i)versally(| )known"


def test_an_example_has_its_hole_where_the_model_was_right() -> None:
    long = [Piece("a" * 40), Piece("b", "c"), Piece("d", "d"), Piece("e" * 50)]
    assert filled.example([PIECES, long]) == "a" * 29 + "b[MASK]" + "e" * 30
    inside = [Piece("a " * 20), Piece("b", "b"), Piece("c"), Piece(" the", " the"), Piece(" end" * 10)]
    assert filled.example([PIECES, inside]) == ("a " * 20 + "bc")[-30:] + " [MASK]" + (" end" * 10)[:30]
    assert filled.example([PIECES, inside[:3]]) == ""


def test_the_picture_shows_right_and_wrong(tmp_path: Path) -> None:
    from matplotlib.image import imread

    def coloured(pieces: list[Piece]) -> tuple[bool, bool]:
        filled.draw([pieces], {}, "title", tmp_path / "x.png")
        reds, greens, blues = np.moveaxis(imread(tmp_path / "x.png")[..., :3], -1, 0)
        return bool((greens > reds + 0.3).any()), bool((reds > blues + 0.5).any())

    assert coloured([Piece("It"), Piece("is", "is")]) == (True, False)
    assert coloured([Piece("It"), Piece("is", "was")]) == (False, True)
    filled.draw([PIECES] * 2, {"the model": 0.5, "always the commonest": 0.1}, "title", tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
