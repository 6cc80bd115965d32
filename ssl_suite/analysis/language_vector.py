"""Is there a vector from one language to another? Added to the states of a layer, it should make a masked language
model write the other language (Liu et al. 2020, arXiv:2004.09205).

Shapes: V tokens, L + 1 hidden states (0 is the embedder's output), D width, N positions of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.analysis import languages
from ssl_suite.analysis.report import Colours, Report
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation import encode, items
from ssl_suite.training import restore


def measure(given: dict[str, Any], say: Callable[[str], None]) -> Report:
    """Read, train what is missing, take the vector from disjoint sentences, and add it to those with translations."""
    begun = time.monotonic()
    code = given["pair"].partition("-")[2]
    if given["encoder"] is None and code != languages.FAKE:
        raise SuiteError(f"encoder= is missing for pair={given['pair']}: add encoder=RUN, of objective=mlm.")
    try:
        alphas = [float(one) for one in given["alphas"].split(",")]
    except ValueError:
        raise SuiteError(f"alphas={given['alphas']} should be numbers with commas, such as 0,1,2.") from None
    found = languages.read(code, 2 * given["sentences"], given["corpus"], given["place"])
    name = given["encoder"] or languages.trained(given, say)[-1]
    loaded = restore.load_run(name)
    if loaded.modality.name != "text" or loaded.objective.command != "fill":
        raise SuiteError(f"encoder={name} is no run of modality=text with objective=mlm, whose head writes words.")
    # The first half of the sentences gives the vector, the second is what is turned: no sentence is in both.
    half = len(found.parallel) // 2
    known = [_sequences(side[: len(side) // 2], loaded.modality) for side in (found.en, found.other)]
    tried = found.parallel[half : half + given["sentences"]]
    source = _sequences([en for en, _ in tried], loaded.modality)
    wanted = _sequences([other for _, other in tried], loaded.modality)
    own_V = belongs(known[0], known[1], len(loaded.modality.vocabulary))
    means = [mean_states(loaded.encoder, loaded.modality, side) for side in known]
    step_LD = means[1] - means[0]
    noise_LD = np.random.default_rng(given["seed"]).normal(size=step_LD.shape)
    noise_LD *= np.linalg.norm(step_LD, axis=1, keepdims=True) / np.linalg.norm(noise_LD, axis=1, keepdims=True)
    rows = []
    for layer in range(len(step_LD)):
        for alpha in alphas:
            for kind, vectors_LD in {"language": step_LD, "random": noise_LD}.items():
                if kind == "random" and not alpha:
                    continue
                written = decoded(loaded, source, layer, alpha * vectors_LD[layer])
                row = {"vector": kind, "layer": layer, "alpha": alpha}
                rows.append(row | scores(written, wanted, own_V, loaded.modality.vocabulary.tokens))
    return _report(rows, name, len(source), given, time.monotonic() - begun)


def _sequences(sentences: Sequence[str], modality: Any) -> list[np.ndarray]:
    room = modality.max_length - FRAME
    return [modality.located(Record(str(i), one, "sentences"))[0][:room] for i, one in enumerate(sentences)]


def belongs(source: Sequence[np.ndarray], target: Sequence[np.ndarray], size: int) -> np.ndarray:
    """(V,) bool: whether a token is more frequent in the target language's sentences than in the source's."""
    one_V, two_V = (
        np.bincount(np.concatenate(side), minlength=size) / sum(map(len, side)) for side in (source, target)
    )
    found: np.ndarray = two_V > one_V
    return found


def mean_states(encoder: Any, modality: Any, sequences: Sequence[np.ndarray]) -> np.ndarray:
    """(L + 1, D): the mean state of all positions between [CLS] and [SEP]."""
    total, count = 0.0, 0
    given = ((i, items.Sequence(ids)) for i, ids in enumerate(sequences))
    for _, states_TLD in encode.states(encoder, modality, given, "position", at_once=2048):
        total = total + states_TLD.sum(0, dtype=np.float64)
        count += len(states_TLD)
    return np.asarray(total) / count


@torch.no_grad()
def decoded(loaded: Any, sequences: Sequence[np.ndarray], layer: int, step_D: np.ndarray) -> list[np.ndarray]:
    """The likeliest token at each position when a vector is added to the states of a layer and the rest is run."""
    encoder, size = loaded.encoder.eval(), len(loaded.modality.vocabulary)
    step = torch.from_numpy(step_D).float()
    module = encoder.embeddings if layer == 0 else encoder.layers[layer - 1]

    def compute(batch: Batch) -> Tensor:
        logits_NV = loaded.objective.logits(encoder, encoder(batch))[:, :size]
        return logits_NV.argmax(-1, keepdim=True)

    hook = module.register_forward_hook(lambda module, given, out_ND: out_ND + step.to(out_ND))
    try:
        given = ((i, items.Sequence(ids)) for i, ids in enumerate(sequences))
        found = encode.run_batches(given, loaded.modality, encode.device_of(encoder), compute, "position", at_once=2048)
        return [ids_T1[:, 0].astype(np.int64) for _, ids_T1 in found]
    finally:
        hook.remove()


def scores(
    written: Sequence[np.ndarray], wanted: Sequence[np.ndarray], own_V: np.ndarray, tokens: Sequence[str]
) -> dict[str, float]:
    """The share of tokens of the target language, and BLEU-1 (0 to 100) over tokens.

    It is told against the translations and, as what frequent words alone give, against those of the next sentences.
    """
    from sacrebleu.metrics import BLEU

    texts = [[" ".join(tokens[i] for i in ids) for ids in side] for side in (written, wanted)]
    bleu = BLEU(max_ngram_order=1, tokenize="none", force=True)
    moved = texts[1][1:] + texts[1][:1]
    own, other = (float(bleu.corpus_score(texts[0], [wanted]).score) for wanted in (texts[1], moved))
    return {"target share": float(own_V[np.concatenate(written)].mean()), "BLEU-1": own, "of another sentence": other}


def _report(rows: list[dict[str, Any]], name: str, count: int, given: Mapping[str, Any], seconds: float) -> Report:
    plain = next(row for row in rows if row["alpha"] == 0) if any(row["alpha"] == 0 for row in rows) else None
    best = max((row for row in rows if row["vector"] == "language"), key=lambda row: row["BLEU-1"])
    same = [r for r in rows if r["vector"] == "random" and (r["layer"], r["alpha"]) == (best["layer"], best["alpha"])]
    answer = [
        f"{given['pair']}: at best (layer {best['layer']}, {best['alpha']:g} times the vector) "
        f"{best['target share']:.1%} of the tokens written are of the target language, BLEU-1 {best['BLEU-1']:.1f} "
        f"against the translations and {best['of another sentence']:.1f} against those of other sentences"
        + (f"; with nothing added {plain['target share']:.1%} and {plain['BLEU-1']:.1f}" if plain else "")
        + (f"; with a random vector {same[0]['target share']:.1%} and {same[0]['BLEU-1']:.1f}." if same else ".")
    ]
    notes = [
        f"Encoder {name}; {count:,} sentences are turned; the vector is the difference of the mean states of other "
        "sentences of the two languages, special tokens left out.",
        "A token is of the target language when it is more frequent there; BLEU-1 is over tokens, in any "
        "order. The best layer and alpha are chosen on the same sentences: all are in the table.",
        f"Seed {given['seed']}; {seconds:.0f} s.",
    ]
    settings = {key: given[key] for key in ("encoder", "pair", "tokens", "alphas", "sentences", "seed", "budget")}
    page = f"language_vector-{given['pair']}"
    caption = (
        "By layer, a line for each alpha: the share of tokens of the target language, and BLEU-1 against the "
        "translations. Dotted: a random vector as long."
    )
    return Report(
        page, "Is there a vector from one language to another?", answer, rows, {page: partial(_draw, rows)}, notes,
        given["command"], settings, captions={page: caption},
    )  # fmt: skip


def _draw(rows: Sequence[Mapping[str, Any]], figure: Any, colours: Colours) -> None:
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("target share", "BLEU-1"), strict=True):
        for colour, alpha in zip(colours.series * 4, dict.fromkeys(row["alpha"] for row in rows), strict=False):
            for kind, style in {"language": "o-", "random": ":"}.items():
                line = [row for row in rows if (row["vector"], row["alpha"]) == (kind, alpha)]
                label = f"{alpha:g}" if kind == "language" else None
                places, values = [row["layer"] for row in line], [row[key] for row in line]
                axes.plot(places, values, style, color=colour, label=label, markersize=3)
        axes.set_xticks(sorted({row["layer"] for row in rows}))
        axes.set(xlabel="layer", ylabel=key, ylim=(0, None))
    panels[0].legend(title="alpha", fontsize=8)
