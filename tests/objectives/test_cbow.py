"""CBOW against a plain loop over positions and neighbours with two matrices."""

import dataclasses
import itertools
import types

import pytest
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.cbow import CBOW, word2vec_text
from tests.conftest import ragged

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a b", *(f"w{i}" for i in range(13)))
MODALITY = types.SimpleNamespace(name="test", vocabulary=Vocabulary(TOKENS, targets=(5, 20)))


def parts(**settings) -> tuple[Encoder, CBOW]:
    torch.manual_seed(1)
    encoder = Encoder(EncoderSpec(1, 8, 2, 16, 20, windows=(None,), thetas=(64.0,), init_std=0.5))
    objective = CBOW(MODALITY, encoder, **settings)
    torch.nn.init.normal_(objective.output.weight)
    return encoder, objective


def data() -> Batch:
    """Two rows with unknown symbols, a sequence of one symbol, an empty slot and padding."""
    batch = ragged([12, 3, 0, 5, 9, 8, 0, 3], high=20, rows=2)
    values = batch.values.clone()
    values[4] = values[5] = 1
    values[15:20] = values[37:] = 0
    real = torch.tensor([True, True, False, False, True, True, False, False])
    return dataclasses.replace(batch, values=values, real_B=real)


def loop(table: torch.Tensor, output: torch.Tensor, batch: Batch, window: int, picks: set[int]):
    """(loss, count) by Mikolov's description, one position after the other."""
    loss, count, bounds = torch.zeros(()), 0, batch.offsets_B1.tolist()
    ids = batch.values.tolist()
    for start, stop in itertools.pairwise(bounds):
        for i in range(start, stop):
            around = range(max(start, i - window), min(stop, i + window + 1))
            words = [ids[j] for j in around if j != i and ids[j] >= 5]
            if i not in picks or ids[i] < 5 or not words:
                continue
            mean = torch.stack([table[word] for word in words]).mean(0)
            loss = loss - torch.log_softmax(output @ mean, 0)[ids[i]]
            count += 1
    return loss, count


@pytest.mark.parametrize("window", [1, 2, 5, 50])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_loss_and_gradients_are_those_of_two_matrices(window, rate):
    encoder, objective = parts(window=window, rate=rate)
    batch = data()
    known = batch.values >= 5
    picks, valid = objective.choose(batch, Rng(3, 0, torch.arange(2)), known)
    assert len(picks) == len(set(picks.tolist())) == (40 if rate == 1 else 12)
    picks = picks[valid].tolist()
    total, count, metrics = objective(encoder, batch, Rng(3, 0, torch.arange(2)))
    table = encoder.embeddings.tok_embeddings.weight.detach().clone().requires_grad_()
    output = objective.output.weight.detach().clone().requires_grad_()
    loss, number = loop(table, output, batch, window, set(picks))
    assert number == count.item() == metrics["accuracy"][1].item() > 5
    torch.testing.assert_close(total, loss)
    total.backward()
    loss.backward()
    torch.testing.assert_close(encoder.embeddings.tok_embeddings.weight.grad, table.grad)
    torch.testing.assert_close(objective.output.weight.grad, output.grad)


def test_only_the_two_tables_are_trained():
    encoder, objective = parts()
    trained = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    assert trained == ["embeddings.tok_embeddings.weight"]
    objective(encoder, data(), Rng(0, 0, torch.arange(2)))[0].backward()
    for weight in (encoder.embeddings.tok_embeddings.weight, *objective.parameters()):
        assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_it_starts_at_the_entropy_of_guessing():
    torch.manual_seed(1)
    encoder = Encoder(EncoderSpec(1, 8, 2, 16, 20, windows=(None,), thetas=(64.0,)))
    total, count, _ = CBOW(MODALITY, encoder)(encoder, data(), Rng(0, 0, torch.arange(2)))
    assert (total / count).item() == pytest.approx(torch.tensor(20.0).log().item())


def test_neighbours_in_a_language_of_pairs_become_neighbours():
    """Symbols come in pairs that stand beside each other; training finds each one's partner."""
    encoder, objective = parts(window=1)
    pair = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(0))
    line = torch.stack((5 + 2 * pair, 6 + 2 * pair), 1)  # 5 6, 7 8, … each pair a sequence
    values = torch.cat((torch.full((200, 1), 2), line, torch.full((200, 1), 3)), 1).flatten()
    batch = dataclasses.replace(ragged([4] * 200), values=values)
    weights = [encoder.embeddings.tok_embeddings.weight, objective.output.weight]
    optimiser = torch.optim.Adam(weights, 0.1)
    for step in range(30):
        total, count, metrics = objective(encoder, batch, Rng(0, step, torch.arange(1)))
        optimiser.zero_grad()
        (total / count).backward()
        optimiser.step()
    assert metrics["accuracy"][0] == count == 400 and (total / count).item() < 0.05


def test_word2vec_text_is_read_back(tmp_path):
    table = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    word2vec_text(tmp_path / "v.txt", ["the", "a b", "Ġé"], table)
    first, *lines = (tmp_path / "v.txt").read_text("utf-8").splitlines()
    assert first == "3 4"
    names, rows = zip(*(line.split(" ", 1) for line in lines), strict=True)
    assert names == ("the", "a\\u0020b", "Ġé")
    read = torch.tensor([[float(x) for x in row.split(" ")] for row in rows])
    torch.testing.assert_close(read, table, atol=1e-6, rtol=1e-6)


def test_the_exported_vectors_are_the_input_table_without_special_tokens(tmp_path):
    encoder, objective = parts()
    objective.write_beside(encoder, MODALITY, tmp_path)
    lines = (tmp_path / "vectors.txt").read_text("utf-8").splitlines()
    assert lines[0] == "15 8" and [line.split()[0] for line in lines[1:3]] == ["the", "a\\u0020b"]
    last = [float(x) for x in lines[-1].split()[1:]]
    assert last == pytest.approx(encoder.embeddings.tok_embeddings.weight[19].tolist(), rel=1e-5)


def test_flops_are_those_of_the_output_product():
    from torch.utils.flop_counter import FlopCounterMode

    encoder, objective = parts()
    batch = ragged([20, 20], high=20)
    with FlopCounterMode(display=False) as counter:
        objective(encoder, batch, Rng(0, 0, torch.arange(1)))[0].backward()
    assert objective.flops({}, batch) == counter.get_total_flops()
