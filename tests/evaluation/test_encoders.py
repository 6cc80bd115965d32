"""From references to encoders: what a symbol looks like to a text encoder, what stays of it, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, T5Config, T5Model

from ssl_suite.core import registry
from ssl_suite.core.batch import ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.encoders import Opened, digest, identity, modality_for, open_encoder
from ssl_suite.evaluation.references import parse
from ssl_suite.evaluation.text_encoders import FIRST_WORD, mapping, native
from ssl_suite.modalities.base import Modality
from ssl_suite.settings import config
from ssl_suite.training import restore
from tests.commands.conftest import make_run
from tests.evaluation import text_models
from tests.evaluation.text_models import KINDS, POSITIONS, WIDTH, alone, spans

TABLES = ("word_embeddings.weight", "tok_embeddings.weight")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: text_models.save(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
    return made | {"residues": text_models.save(tmp_path_factory.mktemp("residues"), "esm", words=31)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "base", [])


def section(name: str, **changes: Any) -> dict[str, Any]:
    return config.option("modality", name) | {"max_length": 60} | changes


def modality(name: str, **changes: Any) -> Modality:
    return registry.build(registry.MODALITIES, "modality", section(name, **changes))


PROTEIN = modality("protein", max_length=POSITIONS)


def opened(reference: str, given: Modality = PROTEIN, seed: int = 1, **more: Any) -> Opened:
    return open_encoder(parse(reference), given, seed, **more)


def table(found: Opened) -> Tensor:
    return found.encoder.model.get_input_embeddings().weight.detach()


def others(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All weights but the embeddings of words."""
    return {name: x for name, x in state.items() if not name.endswith(TABLES)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_special", [True, False])
def test_a_mapped_sequence_is_a_sequence_of_words(folders: dict[str, Path], kind: str, keep_special: bool) -> None:
    """The states are those of the untouched model on the words' own ids."""
    found = opened(f"hf:{folders[kind]}+map=107", keep_special=keep_special)
    model, tokenizer = AutoModel.from_pretrained(folders[kind]), AutoTokenizer.from_pretrained(folders[kind])
    words_V = mapping(PROTEIN.vocabulary, tokenizer, len(tokenizer), parse("hf:x+map=107"), 1, keep_special)
    given = text_models.batch([2, 31, POSITIONS, 44], PROTEIN.vocabulary, n=300)
    with torch.no_grad():
        states = found.encoder.layer_states(given)
    for span in spans(given):
        expected = alone(model, torch.from_numpy(words_V)[given.values[span]])
        for state, reference in zip(states, expected, strict=True):
            torch.testing.assert_close(state[span], reference, atol=1e-5, rtol=0)
    assert not found.encoder.training and found.pretrain_step is None
    assert found.params == sum(p.numel() for p in found.encoder.parameters() if p.requires_grad)


def test_words_are_distinct_and_follow_the_seed(folders: dict[str, Path]) -> None:
    tokenizer, v = AutoTokenizer.from_pretrained(folders["mpnet"]), PROTEIN.vocabulary
    rows = len(tokenizer)

    def drawn(text: str, seed: int, keep_special: bool = True) -> np.ndarray:
        return mapping(v, tokenizer, rows, parse(f"hf:x+{text}"), seed, keep_special)

    pairs = {v.cls: 0, v.pad: 1, v.sep: 2, v.unk: 3, v.mask: 1300}  # RoBERTa's order; the mask is among the words
    special = [v.pad, v.unk, v.cls, v.sep, v.mask]
    seen = set()
    for seed in range(30):
        kept, mapped = drawn("map", seed), drawn("map", seed, keep_special=False)
        assert {i: kept[i] for i in special} == pairs
        assert len(set(mapped)) == len(v) and not set(mapped) & set(tokenizer.all_special_ids)
        assert mapped.min() >= FIRST_WORD and mapped.max() < 1300
        np.testing.assert_array_equal(np.delete(kept, special), np.delete(mapped, special))
        np.testing.assert_array_equal(kept, drawn(f"map={seed}", seed=77))  # a number stands above the run's seed
        seen.add(tuple(kept))
    assert len(seen) == 30


def test_the_digest_is_of_the_text_encoder(folders: dict[str, Path], tmp_path: Path) -> None:
    """Whatever its words stand for, and with whichever seed; also where a pooler had to be made up."""
    masked = text_models.save(tmp_path, "bert")
    AutoModelForMaskedLM.from_pretrained(masked).save_pretrained(masked)
    assert not any("pooler" in name for name in load_file(masked / "model.safetensors"))
    seen = []
    for folder in (masked, folders["bert"]):
        words = [("+map=3", 1), ("+map=3", 2), ("+map", 1), ("+reembed", 1), ("+reembed", 2)]
        found = {opened(f"hf:{folder}{word}", seed=seed).weights_sha256 for word, seed in words}
        assert len(found) == 1
        seen.append(found.pop())
    assert seen[0] != seen[1]


def test_two_folders_of_one_name_are_two_encoders(folders: dict[str, Path], tmp_path: Path) -> None:
    first = tmp_path / "a" / "net"
    shutil.copytree(folders["bert"], first)
    second = tmp_path / "b" / "net"
    shutil.copytree(first, second)
    same, other = (parse(f"hf:{folder}+map") for folder in (first, second))
    assert same.short == other.short and identity(same) == identity(other)
    config = second / "config.json"
    config.write_text(config.read_text() + " ")
    assert identity(same) != identity(other)


@pytest.mark.parametrize("kind", KINDS)
def test_reembed_changes_the_embeddings_alone(folders: dict[str, Path], kind: str) -> None:
    found, again, other = (opened(f"hf:{folders[kind]}+reembed", seed=seed) for seed in (5, 5, 6))
    own = others(AutoModel.from_pretrained(folders[kind]).state_dict())
    for one in (found, other):
        kept = others(one.encoder.model.state_dict())
        assert kept.keys() == own.keys() and all(torch.equal(x, own[name]) for name, x in kept.items())
        assert table(one).shape == (len(PROTEIN.vocabulary), WIDTH)
        assert table(one).std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(table(found), table(again))
    assert not torch.isclose(table(found), table(other)).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("addition", ["+map", "+reembed"])
def test_scratch_keeps_the_shapes_and_nothing_else(folders: dict[str, Path], kind: str, addition: str) -> None:
    reference = f"hf:{folders[kind]}{addition}"
    trained = opened(reference)
    found, again, other = (opened(reference, seed=seed, scratch=True) for seed in (1, 1, 2))
    state, theirs = found.encoder.state_dict(), trained.encoder.state_dict()
    assert {name: x.shape for name, x in state.items()} == {name: x.shape for name, x in theirs.items()}
    equal = [name for name, x in found.encoder.named_parameters() if torch.equal(x, theirs[name])]
    assert all(addition == "+reembed" and name.endswith(TABLES) for name in equal)  # whose seed is the same
    assert digest(found.encoder) == digest(again.encoder) != digest(other.encoder)
    assert (found.weights_sha256, found.note, found.params) == (None, "", trained.params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scratch", [False, True])
def test_dropout_is_what_is_asked_for(folders: dict[str, Path], kind: str, scratch: bool, tmp_path: Path) -> None:
    """0 makes training mode deterministic, whatever the configuration calls its shares; None leaves them."""
    given = text_models.batch([20, 30], PROTEIN.vocabulary)
    silent = opened(f"hf:{folders[kind]}+map", scratch=scratch, dropout=0.0).encoder.train()
    assert torch.equal(silent(given), silent(given))
    noisy = opened(f"hf:{folders[kind]}+map", scratch=scratch, dropout=0.4).encoder.train()
    assert not torch.equal(noisy(given), noisy(given))
    assert {m.p for m in noisy.modules() if isinstance(m, nn.Dropout) and m.p} == {0.4}
    own = opened(f"hf:{folders[kind]}+map", scratch=scratch, dropout=None).encoder
    expected = AutoModel.from_pretrained(folders[kind])
    assert [m.p for m in own.modules() if isinstance(m, nn.Dropout)] == [
        m.p for m in expected.modules() if isinstance(m, nn.Dropout)
    ]


def test_a_native_vocabulary_is_spelled(folders: dict[str, Path]) -> None:
    """Residues of an ESM; of a text encoder without capitals their letters; what nobody has is its [UNK]."""
    v = PROTEIN.vocabulary
    for folder, case, special in (
        ("residues", str.upper, dict(zip((v.cls, v.pad, v.sep, v.unk), range(4), strict=True))),
        ("bert", str.lower, dict(zip((v.pad, v.unk, v.cls, v.sep, v.mask), range(5), strict=True))),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folders[folder])
        found_V, ids = native(v, tokenizer, 2000, parse("hf:x")), tokenizer.get_vocab()
        for i, token in enumerate(v.tokens):
            assert found_V[i] == special.get(i, ids.get(case(token), ids[tokenizer.unk_token])) or i == v.mask
        assert found_V[v.mask] == tokenizer.mask_token_id
        low, high = v.targets
        assert len(set(found_V[low:high])) == 20 and tokenizer.unk_token_id not in found_V[low:high]
        opened(f"hf:{folders[folder]}")


def test_text_goes_in_as_its_own_tokeniser_cuts_it(folders: dict[str, Path]) -> None:
    for kind in ("bert", "mpnet"):
        reference = parse(f"hf:{folders[kind]}")
        text = modality_for(reference, section("text"), "cola")
        words = [f"word{i}" for i in (3, 999, 77)]
        content = np.array([text.vocabulary.tokens.index(word) for word in words])
        given = ragged([content], text.vocabulary, 60)
        tokenizer, model = AutoTokenizer.from_pretrained(folders[kind]), AutoModel.from_pretrained(folders[kind])
        ids = [tokenizer.cls_token_id, *tokenizer.convert_tokens_to_ids(words), tokenizer.sep_token_id]
        with torch.no_grad():
            found = open_encoder(reference, text, 0).encoder(given)
        torch.testing.assert_close(found, alone(model, torch.tensor(ids))[-1], atol=1e-5, rtol=0)


def test_a_run_is_opened_as_it_was_saved(run: Path, tmp_path: Path) -> None:
    dna = modality_for(parse(str(run)), section("dna", max_length=44), "h3")
    assert (dna.name, dna.max_length) == ("dna", 44)
    found, loaded = opened(str(run), dna), restore.load_run(str(run))
    assert found.weights_sha256 == digest(loaded.encoder) and found.pretrain_step == 20
    assert found.note == "pre-trained here with objective=mlm"
    given = ragged([np.arange(5, 9).repeat(5)], dna.vocabulary, 44)
    assert torch.equal(found.encoder(given), loaded.encoder(given))
    fresh, again, other = (opened(str(run), dna, seed=seed, scratch=True) for seed in (1, 1, 2))
    assert digest(fresh.encoder) == digest(again.encoder) != digest(other.encoder)
    assert (fresh.weights_sha256, fresh.pretrain_step, fresh.params) == (None, None, found.params)
    state = fresh.encoder.state_dict()
    assert all(not torch.equal(state[name], x) for name, x in loaded.encoder.state_dict().items() if x.dim() > 1)


def test_encoders_without_weights_of_their_own_follow_the_seed() -> None:
    dna, image = modality("dna"), modality("image", max_length=None, size=12)
    given = ragged([np.arange(5, 9).repeat(5)], dna.vocabulary, 60)
    for reference in ("random:tiny", "cnn"):
        found, again, other = (opened(reference, dna, seed=seed) for seed in (1, 1, 2))
        assert digest(found.encoder) == digest(again.encoder) != digest(other.encoder)
        assert found.weights_sha256 is None and found.encoder(given).shape == (22, found.encoder.width)
    assert opened("random:resnet10", image).encoder.spec.kind == "convnet"  # for pictures, as the objectives' own is


@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_counted(folders: dict[str, Path], kind: str) -> None:
    enough, more = modality("protein", max_length=POSITIONS), modality("protein", max_length=POSITIONS + 1)
    with torch.no_grad():
        states = opened(f"hf:{folders[kind]}+map", enough).encoder(text_models.batch([POSITIONS], enough.vocabulary))
    assert states.isfinite().all()
    refused(rf"has {POSITIONS} positions, the task needs {POSITIONS + 1}: ", f"hf:{folders[kind]}+map", more)


def refused(message: str, *arguments: Any, **more: Any) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        opened(*arguments, **more)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("encoder=")


def test_what_does_not_fit_the_task_is_refused(folders: dict[str, Path], run: Path) -> None:
    few = r"its vocabulary has 0 words from id 1,000 on, the task 33 symbols: .*\+reembed"
    refused(few, f"hf:{folders['residues']}+map")
    refused(few, f"hf:{folders['residues']}+map", scratch=True)
    opened(f"hf:{folders['residues']}+reembed")
    kmers = modality("dna", tokenizer="kmer", k=5)
    refused("has 300 words from id 1,000 on, the task 1,0", f"hf:{folders['mpnet']}+map", kmers)
    refused(
        r"no token for 1,024 of the task's symbols \(AAAAA, .*\+map to put random words", f"hf:{folders['bert']}", kmers
    )
    picture = modality("image", max_length=None)
    refused("reads tokens, modality=image gives frames", "cnn", picture)
    refused("reads signals: it has no words to map", f"hf:{folders['bert']}+map", picture)
    with pytest.raises(SuiteError, match="is of modality=dna, task stability of protein: write ") as caught:
        modality_for(parse(str(run)), section("protein"), "stability")
    assert "\n" not in str(caught.value)
    with pytest.raises(SuiteError, match="convnet and takes pictures"):
        opened("random:resnet10")


def test_checkpoints_are_held_against_what_they_should_be(folders: dict[str, Path], tmp_path: Path) -> None:
    def copy(name: str, change: Any) -> str:
        folder = Path(shutil.copytree(folders["bert"], tmp_path / name))
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return f"hf:{folder}+map"

    query, places = "encoder.layer.1.attention.self.query.weight", "embeddings.position_embeddings.weight"
    opened(copy("whole", lambda weights: weights.pop("pooler.dense.weight")))  # which nobody reads
    refused(rf"of its weights 1 are not in its files \({query}\)", copy("missing", lambda weights: weights.pop(query)))
    refused(
        rf"of its weights 1 are not in its files \({places}\)",
        copy("shorter", lambda weights: weights.update({places: weights[places][:50].clone()})),
    )
    refused(r"of its weights 3\d are not in its files \(.*, …\)", copy("none", lambda weights: weights.clear()))
    for kind in KINDS:
        fresh = f"hf:{text_models.save(tmp_path / f'fresh-{kind}', kind, noise=0.0)}"
        refused("its weights are as a constructor leaves them; .*protocol=scratch", fresh + "+map")
        opened(fresh + "+map", scratch=True)


def test_what_is_no_text_encoder_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    t5 = Path(shutil.copytree(folders["bert"], tmp_path / "t5"))
    T5Model(T5Config(vocab_size=1300, d_model=16, num_layers=1, num_heads=2, d_ff=16, d_kv=8)).save_pretrained(t5)
    for scratch in (False, True):
        refused("t5 has a decoder too; BERT, ", f"hf:{t5}+map", scratch=scratch)
    refused(r"there is no such folder; give hf:FOLDER", f"hf:{tmp_path}/nowhere+map")
    (tmp_path / "empty").mkdir()
    refused("cannot be opened by transformers .*Unrecognized model", f"hf:{tmp_path}/empty+map")
    damaged = Path(shutil.copytree(folders["bert"], tmp_path / "damaged"))
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    refused("cannot be opened by transformers as a text encoder", f"hf:{damaged}+map")


def test_tuning_after_pretraining_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "tuned"))
    (folder / "config_sentence_transformers.json").write_text("{}")
    assert opened(f"hf:{folder}+map").note == "tuned for sentence similarity after its pre-training"
    assert opened(f"hf:{folders['bert']}+map").note == ""
