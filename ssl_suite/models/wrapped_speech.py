"""Speech encoders of ``transformers`` (wav2vec 2.0, HuBERT, WavLM, data2vec-audio, Whisper's) over a ragged batch.

A position of the speech modality is 20 ms of 16 kHz samples, and a frame of these models is as long. So the samples of
a sequence's positions, put together again, go through the model's own feature extractor, and each position gets the
frame that begins with it. [CLS] and [SEP] are no sound: at [CLS] stands the mean of the frames, at [SEP] zeros.

Shapes: J sequences of one length, T positions of each, A samples; N, D and V as in ``core.batch``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.models.padded import groups, scattered
from ssl_suite.models.wrapped import WrappedEncoder, WrappedSpec, counted_mlp, leaves

POSITION, RATE = 320, 16_000  # samples of a position, and of a second
CONVOLUTIONAL = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
WHISPER = "whisper"


@dataclass(frozen=True)
class SpeechSpec(WrappedSpec):
    """As ``WrappedSpec``, and what the model's ``preprocessor_config.json`` says of the extractor.

    ``features`` is such that ``models.flops`` counts the convolutions right: their matrix products for a position.
    """

    kind: ClassVar[str] = "wrapped_speech"

    extractor: dict[str, Any] = field(default_factory=dict)


class UnitTable(nn.Module):
    """The embeddings of units, which a masked objective's head shares; no input is looked up."""

    def __init__(self, spec: SpeechSpec) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(spec.vocabulary, spec.width, padding_idx=spec.pad)
        nn.init.trunc_normal_(self.tok_embeddings.weight, std=spec.init_std)

    @property
    def table_VD(self) -> Tensor:
        return self.tok_embeddings.weight


class WrappedSpeech(WrappedEncoder):
    """Args:
    model: ``AutoModel`` of one of the kinds above; of Whisper with its decoder, which is kept as it is.
    spec: its shapes.
    mask: the id of [MASK].
    """

    def __init__(self, model: Any, spec: SpeechSpec, mask: int) -> None:
        super().__init__()
        self.model, self.spec, self.mask, self.architecture = model, spec, mask, type(model).__name__
        self.whisper = spec.settings["model_type"] == WHISPER
        self.embeddings = UnitTable(spec)
        if self.whisper:
            self.mask_D = nn.Parameter(torch.zeros(spec.width))
            self._hide: Tensor | None = None
            self.core.conv2.register_forward_hook(self._hidden)
        else:
            model.config.apply_spec_augment, model.config.mask_feature_prob = True, 0.0  # masks are ours alone
            model.config.mask_time_prob = 0.0
            if not hasattr(model, "masked_spec_embed"):
                model.masked_spec_embed = nn.Parameter(torch.empty(spec.width).uniform_())
        self._freeze_idle()
        mlp_width = round(counted_mlp(self.core, spec.layers, spec.width))
        self.spec = replace(spec, mlp_width=mlp_width, features=self._convolutions() / spec.width / 2)

    @property
    def core(self) -> Any:
        """What is trained."""
        return self.model.encoder if self.whisper else self.model

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks."""
        return self.core.layers if self.whisper else self.core.encoder.layers

    def _run(self, batch: Batch, every: bool) -> list[Tensor]:
        assert batch.frames_NF is not None
        places, parts = [], []
        # None is padded: what stands beside a sequence would change it, for group norms and attention know no mask.
        for place_JT, seen_JT in groups(batch, bucket=1, least=3):
            sound_JA = batch.frames_NF[place_JT[:, 1:-1]].flatten(1).float() / 32768
            states = self._states(sound_JA, batch.values[place_JT[:, 1:-1]] == self.mask, every)
            ends = [(state.mean(1, keepdim=True), torch.zeros_like(state[:, :1])) for state in states]
            parts.append([torch.cat((a, state, z), 1) for state, (a, z) in zip(states, ends, strict=True)])
            places.append((place_JT, seen_JT))
        if not places:  # a batch of padding alone: every weight has a gradient, of zero
            states = self._silence(every)
            return [state.new_zeros((len(batch.values), self.width)) + 0 * state.sum() for state in states]
        return scattered(batch, places, parts)

    def _silence(self, every: bool) -> list[Tensor]:
        """(1, 2, D) of each layer, or of the last: the states of two positions without sound, the first one hidden."""
        device = next(self.model.parameters()).device
        hidden_JT = torch.tensor([[True, False]], device=device)
        return self._states(torch.zeros((1, 2 * POSITION), device=device), hidden_JT, every)

    def _states(self, sound_JA: Tensor, hidden_JT: Tensor, every: bool) -> list[Tensor]:
        """(J, T, D) of each layer, or of the last."""
        count = hidden_JT.shape[1]
        if self.whisper:
            self._hide = hidden_JT
            found = self.core(self.log_mel(sound_JA), output_hidden_states=every, return_dict=True)
            self._hide = None
        else:
            found = self.model(
                self.normalised(sound_JA),
                mask_time_indices=hidden_JT,
                output_hidden_states=every,
                return_dict=True,
            )
        states = [*found.hidden_states[:-1], found.last_hidden_state] if every else [found.last_hidden_state]
        return [state[:, :count] for state in states]

    def _hidden(self, module: nn.Module, given: Any, out_JDT: Tensor) -> Tensor:
        """Whisper has no embedding for what is hidden: ours stands in for the convolutions' output."""
        if self._hide is None:
            return out_JDT
        hide_JT = nn.functional.pad(self._hide, (0, out_JDT.shape[2] - self._hide.shape[1]))
        return torch.where(hide_JT[:, None], self.mask_D[:, None].to(out_JDT), out_JDT)

    def normalised(self, sound_JA: Tensor) -> Tensor:
        """As ``Wav2Vec2FeatureExtractor``, and silence behind, so that the last position has a whole frame."""
        if self.spec.extractor.get("do_normalize", True):
            mean_J1, var_J1 = sound_JA.mean(1, keepdim=True), sound_JA.var(1, keepdim=True, unbiased=False)
            sound_JA = (sound_JA - mean_J1) / (var_J1 + 1e-7).sqrt()
        return nn.functional.pad(sound_JA, (0, receptive(self.spec.settings) - POSITION))

    def log_mel(self, sound_JA: Tensor) -> Tensor:
        """(J, bands, 3000) as ``WhisperFeatureExtractor``: 30 s filled up with silence, each relative to its peak."""
        size, hop = self.spec.extractor.get("n_fft", 400), self.spec.extractor.get("hop_length", 160)
        samples = 2 * self.spec.settings["max_source_positions"] * hop
        with torch.autocast(sound_JA.device.type, enabled=False):
            padded_JA = nn.functional.pad(sound_JA, (0, samples - sound_JA.shape[1]))
            window = torch.hann_window(size, device=sound_JA.device)
            power = torch.stft(padded_JA, size, hop, window=window, return_complex=True)[..., :-1].abs() ** 2
            log = (self._mel.to(sound_JA.device).T @ power).clamp(min=1e-10).log10()
            log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0

    @cached_property
    def _mel(self) -> Tensor:
        from transformers import WhisperFeatureExtractor

        sizes = {"feature_size": self.spec.settings["num_mel_bins"]} | {
            key: self.spec.extractor[key] for key in ("n_fft", "hop_length") if key in self.spec.extractor
        }
        return torch.from_numpy(np.asarray(WhisperFeatureExtractor(**sizes).mel_filters, np.float32))

    def _freeze_idle(self) -> None:
        """Train what the states depend on alone: not Whisper's decoder, nor its table of positions, which is fixed."""
        if any(p.device.type == "meta" for p in self.model.parameters()):  # shapes alone
            return
        self.eval()
        with torch.enable_grad():
            states = self._silence(every=False)[-1]
        # By its place: what ``from_pretrained`` loads has lost the mark that it takes no gradient.
        fixed = {id(self.core.embed_positions.weight)} if self.whisper else set()
        reached = {id(p) for p in leaves(states)} - fixed
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in reached)

    def _convolutions(self) -> float:
        """FLOPs of the convolutions for one position: each weight is used once for each of its outputs."""
        if self.whisper:
            return 2.0 * (2 * self.core.conv1.weight.numel() + self.core.conv2.weight.numel())
        strides, total = self.model.config.conv_stride, 0.0
        for number, layer in enumerate(self.model.feature_extractor.conv_layers, 1):
            total += 2.0 * layer.conv.weight.numel() * POSITION / math.prod(strides[:number])
        places = (m.weight.numel() for m in self.model.encoder.modules() if isinstance(m, nn.Conv1d))
        return total + 2.0 * sum(places)


def receptive(settings: dict[str, Any]) -> int:
    """Samples that a frame of a convolutional extractor looks at."""
    reach, step = 1, 1
    for kernel, stride in zip(settings["conv_kernel"], settings["conv_stride"], strict=True):
        reach, step = reach + (kernel - 1) * step, step * stride
    return reach
