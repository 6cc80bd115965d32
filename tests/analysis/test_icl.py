"""In-context answers: kept keys and values change nothing, prompts have the right answers, sums are kept apart."""

import re

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ssl_suite.analysis import icl, icl_items
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.recipes import sums

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+=->? .,*:\n"


def speaker(model, end=0, window=4096):
    ids = lambda text: [LETTERS.index(letter) + 2 for letter in text.lower() if letter in LETTERS]  # noqa: E731
    text = lambda found: "".join(LETTERS[i - 2] for i in found if i >= 2)  # noqa: E731
    return icl.Speaker(model, ids, text, [1], end, end, [], "\n", window)


@pytest.fixture(scope="module")
def random_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=len(LETTERS) + 2, bos_token_id=1, eos_token_id=0, **sizes))
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(4)  # so that what is written depends on what stands before
    return made.eval()


def test_kept_keys_and_values_change_nothing(random_model):
    asked = ["3 + 4 =", "10 + 4 =", "7 + 1 =", "2 + 2 ="]
    found = icl.answers(speaker(random_model), "1 + 1 = 2\n", asked, 6)
    assert found == icl.answers(speaker(random_model), "1 + 1 = 2\n", asked, 6, cached=False)
    assert len(set(found)) > 1
    naive = []
    for prompt in asked:
        ids = [1, *speaker(random_model).ids("1 + 1 = 2\n" + prompt)]
        start = len(ids)
        for _ in range(6):
            ids.append(int(random_model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == 0:
                break
        naive.append(speaker(random_model).text(ids[start:]).partition("\n")[0].strip())
    assert found == naive


def test_a_prompt_beyond_the_window(random_model):
    with pytest.raises(SuiteError, match="do not fit the model's window of 10"):
        icl.answers(speaker(random_model, window=10), "", ["1 + 1 ="], 6)


class Adder:
    """A model that reads the last line and writes the right answer, or a wrong one where there is no shot."""

    def __init__(self, words):
        self.words, self.config = words, LlamaConfig()

    def __call__(self, **given):
        return None

    def generate(self, ids_JT, **given):
        rows = []
        for row in ids_JT.tolist():
            text = self.words.text(row)
            a, b = map(int, re.fullmatch(r"(\d+) \+ (\d+) =", text.rpartition("\n")[2]).groups())
            written = self.words.ids(f" {a + b + (chr(10) not in text)}\n")
            rows.append([*row, *written, *[0] * (8 - len(written))])
        return torch.tensor(rows)


def test_measure_counts_by_shots(monkeypatch):
    words = speaker(None)
    model = Adder(words)
    monkeypatch.setattr("transformers.DynamicCache", lambda config: None)
    rows = icl.measure(speaker(model), icl_items.load("add1"), [0, 3], 4, 12, 0)
    assert [row["accuracy"] for row in rows] == [0, 1]
    assert [row["draws"] for row in rows] == [1, 4]
    assert rows[1]["low"] == pytest.approx(12 / (12 + 1.959964**2))  # Wilson's bound where all are right
    with pytest.raises(SuiteError, match="need more"):
        icl.measure(speaker(model), icl_items.load("add1"), [90], 1, 20, 0)


def test_prompts_have_the_right_answers():
    assert {"add1", "add3", "subtract2", "multiply1", "copy", "reverse", "capitals", "antonyms", "syllogism"} <= set(
        icl_items.files()
    )
    right = {
        "add": lambda a, b: int(a) + int(b),
        "subtract": lambda a, b: int(a) - int(b),
        "multiply": lambda a, b: int(a) * int(b),
    }
    for name in icl_items.files():
        task = icl_items.load(name)
        found = icl_items.pairs(task, np.random.default_rng(0))
        assert len(found) >= 52, name  # 20 items and 32 shots
        assert len({prompt for prompt, _ in found}) == len(found)
        if task.rule in right:
            for prompt, answer in found:
                a, b = re.findall(r"\d+", prompt)
                assert int(answer) == right[task.rule](a, b)
                assert task.size in (len(a), len(b))
        if task.rule in ("copy", "reverse"):
            for prompt, answer in found:
                word = prompt.split()[0]
                assert answer.strip() == (word if task.rule == "copy" else word[::-1])
    yes = [answer for _, answer in icl_items.pairs(icl_items.load("syllogism"), np.random.default_rng(0))]
    assert yes.count(" yes") * 2 == len(yes)


def test_faulty_prompts(tmp_path):
    place = tmp_path / "icl" / "prompts"
    place.mkdir(parents=True)
    (place / "mine.yaml").write_text("title: t\nprompt: '{0}'\n")
    with pytest.raises(SuiteError, match="needs either pairs, or a rule"):
        icl_items.load("mine", str(tmp_path))
    (place / "mine.yaml").write_text("title: t\nprompt: '{0}'\nrule: ad\n")
    with pytest.raises(SuiteError, match="Did you mean"):
        icl_items.load("mine", str(tmp_path))
    with pytest.raises(SuiteError, match="no such prompts"):
        icl_items.load("ad1")


def test_sums_are_kept_apart():
    parts = sums.parts()
    below = [pair for name, pairs in parts.items() if name != "longer" for pair in pairs]
    assert sorted(below) == [(a, b) for a in range(100) for b in range(100)]
    trained = set(parts["train"])
    assert not {(b, a) for a, b in parts["pair"]} & trained
    assert {(b, a) for a, b in parts["order"]} <= trained
    assert not {a for a, _ in parts["number"]} & {a for a, _ in trained}
    assert {a for a, _ in parts["number"]} <= {b for _, b in trained}
    table = sums.sums([]).to_pylist()
    assert len(table) == len(trained)
    for row in table:
        a, b, c = (int("".join(part.split())) for part in re.split("[+=]", row["text"]))
        assert a + b == c
        assert (a, b) in trained
    assert [sums.carries(*pair) for pair in ((12, 13), (19, 13), (99, 1), (50, 60), (999, 1))] == [0, 1, 2, 1, 3]
