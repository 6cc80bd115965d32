"""Next-token prediction against transformers' ModernBertDecoder and plain loops."""

import dataclasses
import itertools
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, ModernBertDecoderConfig, ModernBertDecoderForCausalLM

from ssl_suite.core import registry
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.data.loader import Collator
from ssl_suite.modalities.dna import DNA
from ssl_suite.models import decoder_hub
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.generate import causal_model, generate
from ssl_suite.objectives.clm import CausalLM
from ssl_suite.objectives.next_token import next_labels
from ssl_suite.settings import config
from ssl_suite.training import build
from tests.conftest import ragged
from tests.data.fasta import random_bases, run, write

VOCABULARY = Vocabulary(tuple(map(str, range(20))), targets=(5, 18))
LENGTHS = [12, 3, 40, 2, 7, 7]
RNG = Rng(0, 0, torch.arange(1))


def parts(windows=(None, None), thetas=(64.0, 64.0)) -> tuple[Encoder, CausalLM]:
    torch.manual_seed(1)
    spec = EncoderSpec(2, 32, 2, 48, 20, windows=windows, thetas=thetas, init_std=0.3, causal=True)
    objective = CausalLM(types.SimpleNamespace(name="test", vocabulary=VOCABULARY), spec)
    torch.nn.init.normal_(objective.head.bias)
    return Encoder(spec), objective


def with_padding() -> Batch:
    """Two rows; one sequence has [PAD] at the end of its slot, one slot is empty, and each row ends in padding."""
    batch = ragged([6, 8, 0, 6, 10, 5, 0, 5], high=18, rows=2)
    values = batch.values.clone()
    values[11:14] = 0  # the end of the second slot; [SEP] stands before it
    values[10] = 3
    values[14:20] = values[35:40] = 0
    real = torch.tensor([True, True, False, False, True, True, False, False])
    return dataclasses.replace(batch, values=values, real_B=real)


def same_model(encoder: Encoder, objective: CausalLM) -> ModernBertDecoderForCausalLM:
    """transformers' model with these weights, by way of the dictionary that an exported folder holds."""
    cfg = decoder_hub.decoder_config(encoder.spec, VOCABULARY, 64)
    model = ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**cfg)).eval()
    state = {f"model.{name}": x for name, x in encoder.state_dict().items()} | objective.hub_weights()[1]
    missing, unexpected = model.load_state_dict(decoder_hub.to_decoder(state), strict=False)
    assert missing == ["decoder.weight"] and not unexpected  # tied to the embeddings
    return model


def padded(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences one a line, [PAD] at their ends, and the attention mask."""
    pieces = [piece for piece in batch.values.split(list(batch.lengths)) if len(piece)]
    ids = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(piece) for piece in pieces], batch_first=True)
    return ids, mask


def test_labels_are_those_of_a_loop():
    batch = with_padding()
    expected, bounds = np.full(40, -100), batch.offsets_B1.tolist()
    for sequence, (start, stop) in enumerate(itertools.pairwise(bounds)):
        for i in range(start, stop - 1):
            if batch.real_B[sequence] and batch.values[i] != 0 and batch.values[i + 1] != 0:
                expected[i] = batch.values[i + 1]
    assert next_labels(batch, VOCABULARY).tolist() == expected.tolist()
    assert (expected != -100).sum() == 5 + 4 + 9 + 4
    whole = ragged([4, 5])  # the last position of the last sequence has nothing behind it
    assert next_labels(whole, VOCABULARY).tolist() == [*whole.values[1:4], -100, *whole.values[5:9], -100]


@pytest.mark.parametrize(
    ("windows", "thetas"), [((None, None), (64.0, 64.0)), ((None, 3), (500.0, 20.0)), ((5, 5), (20.0, 20.0))]
)
def test_logits_and_loss_are_those_of_transformers(windows, thetas):
    encoder, objective = parts(windows, thetas)
    model, batch = same_model(encoder, objective), ragged(LENGTHS, high=18)
    ids, mask = padded(batch)
    total, count, _ = objective(encoder, batch, RNG)
    output = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    logits = objective.next_logits(encoder, encoder(batch))
    torch.testing.assert_close(output.logits[mask == 1], logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, total / count, atol=1e-6, rtol=1e-6)
    ours = torch.autograd.grad(total / count, encoder.layers[0].attn.Wqkv.weight, retain_graph=True)[0]
    attention = model.model.layers[0].attn
    weights = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    theirs = torch.autograd.grad(output.loss, weights)
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-6, rtol=1e-4)


def test_padding_is_neither_predicted_nor_seen():
    encoder, objective = parts()
    batch = with_padding()
    total, count, metrics = objective(encoder, batch, RNG)
    loss = right = symbols = symbol_loss = 0.0
    bounds = batch.offsets_B1.tolist()
    for start, stop in itertools.pairwise(bounds):
        ids = batch.values[start:stop]
        ids = ids[ids != 0]
        if len(ids) < 2:
            continue
        alone = dataclasses.replace(ragged([len(ids)]), values=ids)
        logits = objective.next_logits(encoder, encoder(alone))[:-1]
        each = F.cross_entropy(logits, ids[1:], reduction="none")
        loss += each.sum().item()
        right += (logits.argmax(-1) == ids[1:]).sum().item()
        inside = (ids[1:] >= 5) & (ids[1:] < 18)
        symbols += inside.sum().item()
        symbol_loss += each[inside].sum().item()
    assert count.item() == 22 and total.item() == pytest.approx(loss, rel=1e-5)
    assert metrics["accuracy"] == (right, 22)
    assert metrics["symbol_loss"][0].item() == pytest.approx(symbol_loss, rel=1e-5)
    assert metrics["symbol_loss"][1].item() == symbols == 18  # four [SEP]


def test_no_position_sees_what_follows_it():
    encoder, objective = parts()
    batch = ragged([20, 20], high=18)
    before = objective.next_logits(encoder, encoder(batch))
    values = batch.values.clone()
    values[12:20] = 5
    after = objective.next_logits(encoder, encoder(batch.with_values(values)))
    torch.testing.assert_close(before[:12], after[:12], atol=1e-6, rtol=0)
    assert not torch.allclose(before[12:20], after[12:20], atol=1e-2)
    torch.testing.assert_close(before[20:], after[20:], atol=1e-6, rtol=0)


def test_every_weight_takes_a_gradient():
    encoder, objective = parts()
    objective(encoder, with_padding(), RNG)[0].backward()
    for name, weight in [*encoder.named_parameters(), *objective.named_parameters()]:
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_names_map_there_and_back():
    encoder, objective = parts()
    state = {f"model.{name}": x for name, x in encoder.state_dict().items()} | objective.hub_weights()[1]
    there = decoder_hub.to_decoder(state)
    assert sorted(n for n in there if "layers.1.attn." in n) == [
        f"model.layers.1.attn.{part}.weight" for part in ("Wo", "k_proj", "q_proj", "v_proj")
    ]
    back = decoder_hub.from_decoder(there)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    bare = decoder_hub.decoder_config(encoder.spec, VOCABULARY, 64, "ModernBertModel")
    assert bare["architectures"] == ["ModernBertDecoderModel"] and bare["model_type"] == "modernbert-decoder"


@torch.no_grad()
def test_an_exported_folder_opens_for_generation_and_is_a_starting_point(tmp_path):
    words = ["model=tiny", "modality.max_length=64", "objective=clm"]
    cfg = config.compose(words)
    dna = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    learner = build.learner(cfg, dna, seed=5)
    build.export(learner, dna, tmp_path / "encoder", "a card")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "encoder").eval()
    assert type(model).__name__ == "ModernBertDecoderForCausalLM"
    batch = ragged(LENGTHS)
    ids, mask = padded(batch)
    expected = learner.objective.next_logits(learner.encoder, learner.encoder(batch))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask == 1], expected, atol=1e-5, rtol=0)
    again = build.learner(config.compose([*words, f"model.init={tmp_path}"]), dna, seed=6)
    assert torch.equal(again.objective.next_logits(again.encoder, again.encoder(batch)), expected)
    both = config.compose([*words, "objective=mlm", f"model.init={tmp_path}"])
    with pytest.raises(SuiteError, match="sees from the left only"):
        build.learner(both, dna)


@torch.no_grad()
def test_a_published_decoder_is_a_starting_point(tmp_path):
    """With local layers, whose reach transformers counts with the position itself."""
    cfg = config.compose(["model=tiny", "objective=clm", f"model.init={tmp_path}"])
    dna = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    torch.manual_seed(2)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    model = ModernBertDecoderForCausalLM(
        ModernBertDecoderConfig(
            vocab_size=len(dna.vocabulary), local_attention=16, initializer_range=0.2, **shape, **special
        )
    ).eval()
    model.save_pretrained(tmp_path)
    dna.save(tmp_path)
    learner = build.learner(cfg, dna)
    assert learner.encoder.spec.windows == (None, 7, 7, None)
    batch = ragged(LENGTHS)
    ids, mask = padded(batch)
    ours = learner.objective.next_logits(learner.encoder, learner.encoder(batch))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask == 1], ours, atol=1e-5, rtol=0)


def test_only_the_end_of_a_record_is_predicted(tmp_path):
    """Windows of 62 bases of records of 62, 130 and 310: of 9 or so ends one a record is a [SEP], counted from the
    records' own lengths; every other window ends without one, and all of its bases but none else are targets."""
    dna = DNA(max_length=64)
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(n, i) for i, n in enumerate([62, 130, 310] * 8)})
    store = run(path, dna)[0]
    objective = CausalLM(dna, EncoderSpec(1, 32, 2, 48, 20, windows=(None,), thetas=(64.0,), causal=True))
    for split in ("train", "valid"):
        windows = store.split(split)
        make = Collator(store, split, dna.vocabulary, 128, 2, 64, arranger=objective.arranger)
        batch = make.rows([np.array([i]) for i in range(len(windows))])
        labels, bounds = next_labels(batch, dna.vocabulary), batch.offsets_B1.tolist()
        ends = 0
        for i in range(len(windows)):
            start, length = int(windows.starts_S[i]), int(windows.lengths_S[i])
            whole = start + length in np.cumsum(store.record_lengths)
            own = labels[bounds[3 * i] : bounds[3 * i + 1]]
            assert own[own != -100].tolist() == [*store.values[start : start + length].tolist(), *[3] * whole]
            ends += whole
        assert (labels == 3).sum() == ends and 0 < ends < len(windows)


@torch.no_grad()
def test_generate_of_transformers_goes_on_with_a_prompt(tmp_path):
    """The exported tokenizer adds [CLS] before and nothing behind, and plain ``generate`` writes what ours does."""
    dna = DNA(max_length=64)
    cfg = config.compose(["model=tiny", "model.init_std=0.3", "modality.max_length=64", "objective=clm"])
    learner = build.learner(cfg, dna, seed=3)
    build.export(learner, dna, tmp_path / "encoder", "a card")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "encoder").eval()
    prompt = tokenizer("ACGTAC", return_tensors="pt")
    assert prompt["input_ids"].tolist() == [[2, 5, 6, 7, 8, 5, 6]] and set(prompt) == {"input_ids", "attention_mask"}
    assert tokenizer("AC", "GT")["input_ids"] == [2, 5, 6, 7, 8]
    written = model.generate(**prompt, max_new_tokens=20, do_sample=False, suppress_tokens=[0, 1, 2, 4])[0].tolist()
    own = causal_model(learner.encoder.eval(), learner.objective, dna.vocabulary, 64)
    ours = generate(own, [[5, 6, 7, 8, 5, 6]], dna.vocabulary, 64, 20, temperature=0)[0]
    assert written[1:7] == [5, 6, 7, 8, 5, 6] and len(written) > 7
    assert [i for i in written[1:] if i != 3] == ours.ids
    build.export(build.learner(config.compose(["model=tiny"]), dna), dna, tmp_path / "masked", "a card")
    assert AutoTokenizer.from_pretrained(tmp_path / "masked")("AC")["input_ids"] == [2, 5, 6, 3]
