import dataclasses
import json

import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.settings import config
from ssl_suite.training import build
from ssl_suite.training.learner import Learner
from tests.conftest import ragged

LENGTHS = [40, 7, 100, 1, 33]


def parts(*words: str) -> tuple[dict, object]:
    cfg = config.compose(["model=tiny", "modality.max_length=128", *words])
    return cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"])


def published(folder, vocabulary: int, **changes) -> ModernBertForMaskedLM:
    """A ModernBERT folder as its authors publish them: local and global layers, two rotary bases."""
    torch.manual_seed(1)
    special = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    cfg = ModernBertConfig(
        vocab_size=vocabulary, local_attention=16, initializer_range=0.2, **shape, **special, **changes
    )
    model = ModernBertForMaskedLM(cfg).eval()
    torch.nn.init.normal_(model.decoder.bias)
    model.save_pretrained(folder)
    return model


def logits_of(learner: Learner, batch) -> torch.Tensor:
    head = learner.objective.head
    return head(learner.encoder(batch), learner.encoder.embeddings.tok_embeddings.weight)


def assert_same_logits(model, learner, atol=1e-5):
    """Sequence by sequence without padding, and padded together with a mask: both equal the ragged batch."""
    batch = ragged(LENGTHS, high=20)
    ours = logits_of(learner.eval(), batch).split(LENGTHS)
    pieces = batch.values.split(LENGTHS)
    padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(p) for p in pieces], batch_first=True)
    together = model(input_ids=padded, attention_mask=mask).logits
    for i, piece in enumerate(pieces):
        torch.testing.assert_close(model(input_ids=piece[None]).logits[0], ours[i], atol=atol, rtol=0)
        torch.testing.assert_close(together[i, : len(piece)], ours[i], atol=atol, rtol=0)


@torch.no_grad()
def test_export_opens_in_transformers_with_equal_logits(tmp_path):
    cfg, dna = parts()
    learner = build.learner(cfg, dna, seed=5)
    torch.nn.init.normal_(learner.objective.head.bias)
    build.export(learner, dna, tmp_path / "encoder", "a card")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "encoder")
    assert_same_logits(model.eval(), learner)
    assert type(AutoModel.from_pretrained(tmp_path / "encoder")).__name__ == "ModernBertModel"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    assert tokenizer("ACGTN")["input_ids"] == [2, 5, 6, 7, 8, 9, 3]
    assert tokenizer.mask_token_id == 4
    assert (tmp_path / "encoder" / "README.md").read_text() == "a card"
    build.export(learner, dna, tmp_path / "encoder", "another card")  # replaces the folder as a whole
    assert (tmp_path / "encoder" / "README.md").read_text() == "another card"
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


@torch.no_grad()
def test_a_published_folder_is_a_starting_point_with_equal_logits(tmp_path):
    _, dna = parts()
    model = published(tmp_path / "published", len(dna.vocabulary))
    dna.save(tmp_path / "published")
    cfg, dna = parts(f"model.init=hf:{tmp_path / 'published'}")
    learner = build.learner(cfg, dna)
    assert learner.encoder.spec.windows == (None, 8, 8, None) and learner.encoder.spec.thetas[0] == 160_000.0
    assert_same_logits(model, learner)
    build.export(learner, dna, tmp_path / "again", "")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "again").eval()
    for name, x in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], x), name
    assert_same_logits(again, learner)


@torch.no_grad()
@pytest.mark.parametrize("size", [99, 20])
def test_a_folder_without_a_tokenizer_gives_its_body_and_fresh_embeddings(tmp_path, size):
    """Of an equal number of ids nothing is known either."""
    model = published(tmp_path / "published", size)
    cfg, dna = parts(f"model.init=hf:{tmp_path / 'published'}")
    learner = build.learner(cfg, dna)
    assert learner.encoder.embeddings.tok_embeddings.weight.shape == (len(dna.vocabulary), 64)
    body = model.state_dict()["model.layers.2.mlp.Wi.weight"]
    assert torch.equal(learner.encoder.layers[2].mlp.Wi.weight, body)
    assert torch.equal(learner.objective.head.dense.weight, model.state_dict()["head.dense.weight"])
    assert learner.objective.head.bias.abs().sum() == 0
    table, trained = learner.encoder.embeddings.tok_embeddings.weight, model.get_input_embeddings().weight
    assert not any((trained == row).all(1).any() for row in table)


@torch.no_grad()
def test_a_folders_embeddings_follow_the_strings_of_its_tokenizer(tmp_path):
    """Its letters stand in another order, its special tokens have other names."""
    tokens = ["T", "<cls>", "<pad>", "G", "<eos>", "x", "<unk>", "A", "<mask>", "C", *"0123456789"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, "<unk>"))
    roles = {"cls_token": "<cls>", "pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", **roles).save_pretrained(tmp_path)
    model = published(tmp_path, len(tokens))
    cfg, dna = parts(f"model.init=hf:{tmp_path}")
    lines = []
    learner = build.learner(cfg, dna, 3, lines.append)
    assert len(dna.vocabulary) == len(tokens) and " 9 of 20 tokens" in lines[0]
    order = [tokens.index(token) for token in ("<pad>", "<unk>", "<cls>", "<eos>", "<mask>", "A", "C", "G", "T")]
    assert torch.equal(learner.encoder.embeddings.tok_embeddings.weight[:9], model.get_input_embeddings().weight[order])
    assert torch.equal(learner.objective.head.bias[:9], model.decoder.bias[order])
    assert learner.objective.head.bias[9:].abs().sum() == 0  # N and the other codes


def test_starting_points_that_cannot_be_are_one_clear_line(tmp_path):
    _, dna = parts()
    published(tmp_path / "short", len(dna.vocabulary))
    weights = {
        "model.embeddings.norm.weight": torch.ones(64),
        "model.embeddings.tok_embeddings.weight": torch.ones(20, 64),
    }
    save_file(weights, tmp_path / "short" / "model.safetensors")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file(weights, tmp_path / "bert" / "model.safetensors")
    for reference, words in [
        (f"hf:{tmp_path / 'short'}", "do not fit"),
        (f"hf:{tmp_path / 'bert'}", "has no token of its own"),
        (str(tmp_path / "nothing"), "no config.json"),
    ]:
        cfg, dna = parts(f"model.init={reference}")
        with pytest.raises(SuiteError, match=words) as caught:
            build.learner(cfg, dna)
        assert "\n" not in str(caught.value)


def test_init_of_norms_and_weights_follow_the_spec():
    cfg, dna = parts()
    learner = build.learner(cfg, dna)
    spec = learner.encoder.spec
    assert spec.init_std == pytest.approx(0.02 * (768 / 128) ** 0.5) and spec.thetas == (128.0,) * 2
    # A normal cut at two standard deviations keeps 0.88 of its width.
    assert learner.encoder.layers[0].attn.Wqkv.weight.std().item() == pytest.approx(0.88 * spec.init_std, rel=0.05)
    assert learner.encoder.layers[0].mlp.Wo.weight.std().item() == pytest.approx(0.88 * spec.init_std / 2, rel=0.05)
    assert dataclasses.replace(spec, init_std=1.0).init_std == 1.0
