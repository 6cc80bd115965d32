"""Sense accuracy against scikit-learn and a naive loop, on planted vectors; the built-in sets; faulty tables."""

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from ssl_suite.analysis import layout, senses
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encoders, references
from ssl_suite.modalities.text import Text

PLACE = {"root": None, "cache": None}


def uses(labels, train=None, word="w"):
    parts = train if train is not None else [False] * len(labels)
    return [senses.Use(str(i), word, s, "w", 0, 1, t) for i, (s, t) in enumerate(zip(labels, parts, strict=True))]


def test_leave_one_out_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    vectors_ND, labels = rng.normal(size=(40, 8)), np.array(["a", "b", "b", "c"] * 10)
    vectors_ND[labels == "a"] += 1
    rows, controls = senses.accuracies(uses(labels), vectors_ND[:, None], 0)
    one = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    expected = cross_val_score(one, vectors_ND - vectors_ND.mean(0), labels, cv=LeaveOneOut()).mean()
    assert rows[0]["accuracy"] == pytest.approx(expected)
    assert controls == {"words": 1, "majority": 0.5}
    assert rows[0]["shuffled"] == pytest.approx(0.375, abs=0.08)  # .25² + .5² + .25²


def test_a_train_part_is_what_others_are_compared_with():
    rng = np.random.default_rng(1)
    vectors_ND, labels = rng.normal(size=(60, 5)), rng.choice(["a", "b"], 60)
    train = rng.random(60) < 0.6
    rows, _ = senses.accuracies(uses(labels, train), vectors_ND[:, None], 0)
    mean_D = vectors_ND[train].mean(0)
    fitted = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(vectors_ND[train] - mean_D, labels[train])
    assert rows[0]["accuracy"] == pytest.approx(fitted.score(vectors_ND[~train] - mean_D, labels[~train]))


def test_planted_senses_and_vectors_that_are_all_the_same():
    vectors_NLD = np.ones((6, 2, 4), np.float32)
    vectors_NLD[:3, 1, 0] = 5
    vectors_NLD += np.random.default_rng(0).normal(scale=1e-8, size=(6, 1, 4)).astype(np.float32)
    rows, _ = senses.accuracies(uses(list("aaabbb")), vectors_NLD, 0)
    assert rows[1]["accuracy"] == 1
    assert rows[1]["cosine_same"] == pytest.approx(1)
    assert rows[1]["cosine_other"] == pytest.approx(-1)
    assert rows[0]["accuracy"] == pytest.approx(2 / 5)  # all are equally near: 2 of the 5 others have the sense


def test_cosines_are_those_of_a_loop():
    vectors_ND = np.random.default_rng(3).normal(size=(5, 3))
    left_ND = vectors_ND - vectors_ND.mean(0)
    found_NN = senses.cosines(vectors_ND, vectors_ND.mean(0))
    for i in range(5):
        for j in range(5):
            a_D, b_D = left_ND[i], left_ND[j]
            assert found_NN[i, j] == pytest.approx(a_D @ b_D / np.sqrt((a_D @ a_D) * (b_D @ b_D)))


@pytest.mark.parametrize(("name", "each"), [("apple", 5), ("pingguo", 10)])
def test_built_in_sets(name, each):
    found = senses.read(name, None, None, 0, PLACE)
    assert sorted(use.sense for use in found) == ["company"] * each + ["fruit"] * each
    assert all(use.text == use.text.lower() and use.text[use.start : use.end] == use.word for use in found)
    assert len({use.text for use in found}) == 2 * each


def test_places_of_the_apples_do_not_tell_the_sense():
    found = senses.read("apple", None, None, 0, PLACE)
    places = [
        sorted(len(use.text[: use.start].split()) for use in found if use.sense == sense)
        for sense in ("fruit", "company")
    ]
    assert places[0] == places[1]


def test_vectors_are_the_states_of_the_words_tokens():
    modality = Text(vocab_size=80, max_length=8)
    text = "the apple and the pear and the plum and the apple again"
    modality.fit(iter([senses.Record("a", text, "a")]))
    encoder = encoders.open_encoder(references.parse("random:tiny"), modality, 0).encoder
    use = senses.Use("1", "apple", "fruit", text, text.rindex("apple"), text.rindex("apple") + 5, False)
    found_NLD = senses.vectors([use], encoder, modality)
    ids_T, places_T2, _ = modality.located(senses.Record("a", text, "a"))
    inside = [i for i, (a, b) in enumerate(places_T2) if a < use.end and b > use.start]
    first = min(max(inside[0] - 3, 0), len(ids_T) - 6)
    cut = senses.items.Sequence(ids_T[first : first + 6])
    ((_, states_TLD),) = senses.encode.states(encoder, modality, [(0, cut)], "position")
    kept = [i - first for i in inside if i < first + 6]
    np.testing.assert_allclose(found_NLD[0], states_TLD[kept].mean(0), rtol=1e-5, atol=1e-6)


def test_faulty_tables(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("text,sense\nan apple,fruit\na pear,fruit\n")
    with pytest.raises(SuiteError, match="column 'word'"):
        senses.read(str(path), None, None, 0, PLACE)
    with pytest.raises(SuiteError, match="row 2: 'apple' does not stand in 'a pear'"):
        senses.read(str(path), "apple", None, 0, PLACE)
    with pytest.raises(SuiteError, match="no such file, built-in set"):
        senses.read("nothing", None, None, 0, PLACE)
    path.write_text("text\nan apple\n")
    with pytest.raises(SuiteError, match="column 'sense'"):
        senses.read(str(path), "apple", None, 0, PLACE)


def test_most_draws_of_each_word_and_part(tmp_path):
    path = tmp_path / "my.csv"
    rows = [f"{w},s,{w} {i},{p}" for w in "ab" for p in ("train", "test") for i in range(6)]
    path.write_text("\n".join(["word,sense,text,split", *rows]))
    found = senses.read(str(path), None, 2, 0, PLACE)
    assert len(found) == 8
    assert [use.text for use in found] == [use.text for use in senses.read(str(path), None, 2, 0, PLACE)]


def test_planes():
    rng = np.random.default_rng(0)
    vectors_ND = np.concatenate([rng.normal(size=(15, 6)), rng.normal(size=(15, 6)) + 8])
    vectors_ND[:15] -= 8
    for method in ("auto", "pca"):
        places_N2, _ = layout.flat(vectors_ND, 0, method)
        near = np.linalg.norm(places_N2[:, None] - places_N2, axis=2) + 1e9 * np.eye(30)
        assert ((near.argmin(1) < 15) == (np.arange(30) < 15)).all()
    assert not layout.flat(np.ones((4, 3)), 0)[0].any()
