"""Choice: log-probabilities are transformers' own loss, whatever the batch; a model that learned a text prefers it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ssl_suite.core.batch import ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import causal, encoders, references, tasks
from ssl_suite.evaluation.metrics import METRICS
from ssl_suite.evaluation.predictions import objects
from tests.evaluation import text_models
from tests.evaluation.heads.planted import WORDS, measured, sentence, task
from tests.models.test_generate import VOCABULARY, WINDOW, causal_model, parts

FACTS: dict[str, Any] = {"modality": {"name": "text", "max_length": 32}, "metrics": ["top1", "mrr"], "select": "top1"}


def save(folder: Path, kind: str) -> Path:
    """A causal model with its byte-level tokeniser; GPT-2 begins with nothing, Llama with its <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    if kind == "llama":
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>").save_pretrained(folder)
    torch.manual_seed(3)
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 0}
    if kind == "llama":
        shapes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        model: Any = LlamaForCausalLM(LlamaConfig(**sizes, **shapes, max_position_embeddings=64))
    else:
        model = GPT2LMHeadModel(GPT2Config(**sizes, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp(request.param), request.param)


def loss(folder: Path, text: str, prompt: str) -> tuple[float, int]:
    """Minus transformers' summed loss on the tokens of a text behind its prompt, and their count."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    if not prompt and ids[0, 0] != 0:  # the first token's probability is that behind the beginning of a text
        ids = torch.cat((torch.zeros(1, 1, dtype=torch.int64), ids), 1)
    labels = ids.clone()
    labels[:, : tokenizer(prompt, return_tensors="pt").input_ids.shape[1] if prompt else 0] = -100
    with torch.no_grad():
        mean = model(input_ids=ids, labels=labels).loss
    count = int((labels[:, 1:] != -100).sum())
    return -mean.item() * count, count


def rows_of(prompts: bool) -> list[dict[str, Any]]:
    draw, rows = random.Random(4), []
    for i in range(40):
        choices = [" ".join(sentence(draw, 1, 5)) for _ in range(2 + i % 3)]
        place = draw.randrange(len(choices))
        rows.append({"prompt": " ".join(sentence(draw)), "choices": choices, "label": str(place)})
    return rows if prompts else [{**row, "label": row["choices"][int(row["label"])]} for row in rows]


@pytest.mark.parametrize(("prompts", "normalise"), [(True, "none"), (False, "tokens")])
def test_scores_are_transformers_own_loss(tmp_path, folder: Path, prompts: bool, normalise: str, monkeypatch) -> None:
    monkeypatch.setattr(causal, "AT_ONCE", 60)
    rows = rows_of(prompts)
    inputs = ["prompt", "choices"] if prompts else "choices"
    made = task(tmp_path, rows, inputs=inputs, label="label", head={"name": "choice", "normalise": normalise}, **FACTS)
    found, accuracy = measured(made, tmp_path / "out", "zero_shot", f"hf:{folder}")
    part, answers, right = found.data.parts["test"], found.predictions["test"][1], 0
    for row, label, scores in zip(rows[36:], part.labels_I, answers, strict=True):
        expected = []
        for choice in row["choices"]:
            prompt = row["prompt"] if prompts else ""
            total, count = loss(folder, f"{prompt} {choice}".strip(), prompt)
            expected.append(total / (count if normalise == "tokens" else 1))
        np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-4)
        place = int(row["label"]) if prompts else row["choices"].index(row["label"])
        assert label.tolist() == [int(i == place) for i in range(len(row["choices"]))]
        right += int(np.argmax(expected)) == place
    assert accuracy == right / 4
    assert found.encoder["weights_sha256"] and found.protocol["head"]["normalise"] == normalise


def test_the_first_of_a_ranking() -> None:
    labels = objects([np.array(x) for x in ([0, 1], [1, 0, 0], [0, 0, 1], [0, 0])])
    scores = objects([np.array(x) for x in ([0.1, 0.2], [0.0, 1.0, 0.5], [2.0, 1.0, 2.0], [1.0, 0.0])])
    assert METRICS["top1"].compute(labels, scores) == pytest.approx((1 + 0 + 0.5) / 3)


def test_a_run_gives_the_probabilities_of_its_own_head() -> None:
    encoder, objective = parts()
    made = causal.Causal(causal_model(encoder, objective, VOCABULARY, WINDOW), [VOCABULARY.cls], [VOCABULARY.cls])
    texts = [np.array(ids) for ids in ([7, 8, 9], [11, 12, 13, 14, 15, 16], [29])]
    for ids, found in zip(texts, made.log_probabilities(texts, prompted=False), strict=True):
        batch = ragged([ids], VOCABULARY, WINDOW)
        logits_TV = objective.next_logits(encoder, encoder(batch)[: len(ids)]).detach()
        np.testing.assert_allclose(found, logits_TV.log_softmax(-1)[range(len(ids)), ids], rtol=1e-4, atol=1e-5)


def test_what_has_no_likelihoods_is_refused(tmp_path) -> None:
    made = task(tmp_path, rows_of(True), inputs=["prompt", "choices"], label="label", head="choice", **FACTS)
    bert = text_models.save(tmp_path / "bert", "bert")
    assert causal.looks_ahead(BertLMHeadModel(BertConfig.from_pretrained(bert)))
    section = tasks.modality_section(made)
    for encoder, match in (("random:tiny", "gives no likelihoods"), (f"hf:{bert}", "choose a model with a causal")):
        reference = references.parse(encoder)
        with pytest.raises(SuiteError, match=match):
            encoders.open_causal(reference, encoders.modality_for(reference, section, made.name))
    wrong = [{**row, "label": "9"} for row in rows_of(True)]
    with pytest.raises(SuiteError, match=r"row 1: the label '9' is none of its 2 choices"):
        measured(
            task(tmp_path, wrong, inputs=["prompt", "choices"], label="label", head="choice", **FACTS),
            tmp_path / "out",
            "zero_shot",
            f"hf:{bert}",
        )
