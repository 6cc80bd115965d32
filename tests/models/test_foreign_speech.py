"""Speech encoders of ``transformers`` as starts of runs, held against the model's own classes and extractors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from ssl_suite.commands import embed
from ssl_suite.core import registry
from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.models.wrapped_speech import WrappedSpeech
from ssl_suite.settings import config, runs
from ssl_suite.training import build, restore
from ssl_suite.training.trainer import train

CONVS = {
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "do_stable_layer_norm": False,
}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, **CONVS}
ROWS = {"encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
WHISPER = {
    "d_model": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_source_positions": 70,
    **ROWS,
}
KINDS: dict[str, dict[str, Any]] = {
    "wav2vec2": SMALL,
    "hubert": {**SMALL, "feat_extract_norm": "layer", "conv_bias": True},
    "wavlm": SMALL,
    "data2vec-audio": {**SMALL, "conv_pos_kernel_size": 5},
    "whisper": {**WHISPER, "vocab_size": 60, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 1)},
}
LENGTHS = [30, 7, 30, 58]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, shape in KINDS.items():
        torch.manual_seed(1)
        made[kind] = folder = tmp_path_factory.mktemp(kind)
        AutoModel.from_config(AutoConfig.for_model(kind, **shape)).save_pretrained(folder)
        own = WhisperFeatureExtractor() if kind == "whisper" else Wav2Vec2FeatureExtractor(do_normalize=kind != "wavlm")
        own.save_pretrained(folder)
    return made


def parts(*words: str) -> tuple[dict, Any, Any, list[str]]:
    cfg, lines = config.compose(["modality=speech", "modality.max_length=60", "modality.codes=12", *words]), []
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    return cfg, modality, build.learner(cfg, modality, 1, lines.append), lines


def batch_of(v: Any) -> Batch:
    draw = np.random.default_rng(0)
    return ragged([draw.normal(0, 3000, (n, 320)).astype(np.int16) for n in LENGTHS], v, 60)


@pytest.mark.parametrize("kind", KINDS)
def test_each_position_gets_the_models_own_frame(folders: dict[str, Path], kind: str) -> None:
    _, speech, learner, lines = parts(f"model.init=hf:{folders[kind]}")
    encoder, batch = learner.encoder.eval(), batch_of(speech.vocabulary)
    model, own = AutoModel.from_pretrained(folders[kind]).eval(), AutoFeatureExtractor.from_pretrained(folders[kind])
    hidden = batch.values.clone()
    hidden[3:6] = speech.vocabulary.mask
    with torch.no_grad():
        for shown in (batch, batch.with_values(hidden)):
            states, start = encoder.layer_states(shown), 0
            assert len(states) == 3 and torch.equal(states[-1], encoder(shown))
            for length in LENGTHS:
                place = slice(start + 1, start + 1 + length)
                sound = batch.frames_NF[place].flatten().numpy() / np.float32(32768)
                mask = (shown.values[place] == speech.vocabulary.mask)[None]
                if kind == "whisper":
                    features = own(sound, sampling_rate=16000, return_tensors="pt").input_features[:, :, :140]
                    if not mask.any():  # it has nothing to show in the place of what is hidden
                        found = model.encoder(features).last_hidden_state[0, :length]
                        torch.testing.assert_close(states[-1][place], found, atol=1e-4, rtol=0)
                else:
                    values = own(sound, sampling_rate=16000, return_tensors="pt").input_values
                    values = torch.nn.functional.pad(values, (0, 80))
                    found = model(values, mask_time_indices=mask, output_hidden_states=True)
                    assert found.last_hidden_state.shape[1] == length
                    torch.testing.assert_close(states[-1][place], found.last_hidden_state[0], atol=1e-4, rtol=0)
                    torch.testing.assert_close(states[0][place], found.hidden_states[0][0], atol=1e-4, rtol=0)
                start += length + 2
    assert "frames of 20 ms" in lines[0]


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_only_what_the_states_need_is_trained_and_the_hidden_is_not_seen(folders: dict[str, Path], kind: str) -> None:
    _, speech, learner, _ = parts(f"model.init=hf:{folders[kind]}")
    encoder: WrappedSpeech = learner.encoder
    batch = batch_of(speech.vocabulary)
    learner.train()(batch, rng())[0].backward()
    trained = {name for name, p in learner.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in learner.named_parameters() if p.grad is not None}
    assert any("decoder" in name for name, _ in learner.named_parameters()) == (kind == "whisper")
    assert not any("decoder" in name for name in trained)
    inside = batch.values >= 5
    blind = batch.with_values(torch.where(inside, speech.vocabulary.mask, batch.values))
    silent = batch.with_values(blind.values, torch.zeros_like(batch.frames_NF))
    with torch.no_grad():
        apart = [float((encoder.eval()(blind) - encoder(other)).abs().max()) for other in (silent, batch)]
    assert apart[0] <= (0 if kind == "hubert" else 1e-3) < 1e-2 < apart[1]  # Whisper's features know a window's peak
    encoder.zero_grad()
    nothing = Batch(**{**vars(batch), "real_B": torch.zeros_like(batch.real_B)})
    encoder(nothing).sum().backward()
    assert all(
        p.grad is not None and not p.grad.any()
        for p in encoder.parameters()
        if p.requires_grad and p.dim() > 1 and p is not encoder.embeddings.table_VD
    )


def rng() -> Any:
    from ssl_suite.core.rng import Rng

    return Rng(0, 0, torch.zeros(1, dtype=torch.int64))


def test_flops_of_the_convolutions(folders: dict[str, Path]) -> None:
    """Counted from the shapes: wav2vec 2.0's seven layers, and one grouped convolution over places."""
    spec = parts(f"model.init=hf:{folders['hubert']}")[2].encoder.spec
    strides, kernels, inputs = np.cumprod([5, 2, 2, 2, 2, 2, 2]), [10, 3, 3, 3, 3, 2, 2], [1] + [8] * 6
    each = [320 / s * 2 * 8 * i * k for s, k, i in zip(strides, kernels, inputs, strict=True)]
    assert spec.features * 2 * 16 == pytest.approx(sum(each) + 2 * 16 * (16 // 2) * 16)


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_a_run_trains_resumes_embeds_and_is_exported(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    draw, sounds = np.random.default_rng(0), tmp_path / "sounds"
    sounds.mkdir()
    for i in range(12):
        tone = np.sin(np.arange(8000) * draw.uniform(0.05, 0.5)) * 0.3 + draw.normal(0, 0.01, 8000)
        soundfile.write(sounds / f"{i}.wav", tone, 16000)
    start = shutil.copytree(folders[kind], tmp_path / "start")
    words = ["modality=speech", "modality.max_length=27", "modality.codes=8", f"data.path={sounds}", "train.threads=1"]
    words += [f"model.init=hf:{start}", f"out={tmp_path / 'run'}", "train.steps=4", "train.checkpoint_every=2"]
    words += ["train.tokens_per_batch=108", "train.eval_tokens=108", "train.lr=1e-3"]
    cfg, out = runs.resolve_run(config.compose(words), words)
    out.mkdir()
    config.write(out / "config.yaml", cfg)
    train(cfg, out)
    last = out / "checkpoints" / "step_00000004"
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    shutil.rmtree(start)
    train(cfg, out)
    again = load_file(last / "model.safetensors")
    assert [name for name, x in expected.items() if not torch.equal(again[name], x)] == []
    model, info = AutoModel.from_pretrained(out / "encoder", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert json.loads((out / "encoder" / "config.json").read_text())["model_type"] == kind
    assert type(AutoFeatureExtractor.from_pretrained(out / "encoder")).__name__.endswith("FeatureExtractor")
    learned = restore.load_run(str(out), "best").encoder.model.state_dict()
    assert all(torch.equal(x, learned[name]) for name, x in model.state_dict().items())
    one = [f"encoder={out}", f"input={sounds / '0.wav'}", f"output={tmp_path / 'e.parquet'}"]
    embed.run(embed.parse_words(one, embed.KEYS))
    assert np.isfinite(np.array(pq.read_table(tmp_path / "e.parquet")["embedding"].to_pylist())).all()


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("hubert", ["objective=apc"], "trains with objective=mlm"),
        ("hubert", ["modality=image", "modality.max_length=null"], "cannot be trained on modality=image"),
        ("whisper", ["modality.max_length=128"], "set modality.max_length=72 or less"),
        ("hubert", ["model.dropout=0.1"], "knows no model.dropout"),
    ],
)
def test_what_cannot_be_is_one_line(folders: dict[str, Path], kind: str, words: list[str], message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        parts(f"model.init=hf:{folders[kind]}", *words)
    assert "\n" not in str(caught.value)
