"""Sentence boundaries."""

from __future__ import annotations

import time

import pytest

from ssl_suite.modalities.text_sentences import split

CASES = [
    "It was late. | He left!  | Did she? | Yes.",
    "Mr. Smith met Dr. J. R. Jones. | They spoke of e.g. cats.",
    'He said "Go!" and went. | "Stop!" | She ran. | (It rained.) | Then sun.',
    "It cost 3.14 in the U.S. Army. | See No. 5 for more. | He said no. | Then it ended in 1914. | War came.",
    "Am 3. Mai kam Hr. Meier. | Er ging.",
    "Wait... | What?! | He paused... then went on.",
    "a title without a stop\n\n | and a paragraph in\nwrapped lines. | The end",
    "Он ушёл. | Она осталась! | ¿Qué? | ¡Vale! | «Oui.» | Non.",
    "هل أنت هنا؟ | نعم. | यह वाक्य है। | दूसरा वाक्य।",
    "他说：“你好！”|“再见。”|然后走了。|你呢？",
    "これは本です。|「はい。」|ペンは？ |はい",
    "我用iPhone。Hello there. | 再见。",  # no cut before Latin letters without a space: tokens would change
]


@pytest.mark.parametrize("marked", CASES)
def test_sentences(marked: str) -> None:
    """Bars stand where sentences should be parted, and are not in the text."""
    assert split(marked.replace("|", "")) == [sentence.strip() for sentence in marked.split("|")]


def test_nothing_is_lost() -> None:
    text = "".join(CASES * 3) + "\n\n \n... !? 。。\n"
    assert "".join("".join(split(text)).split()) == "".join(text.split())
    assert split("") == split(" \n\n ") == []


@pytest.mark.parametrize("text", ["." * 10**6, '." ' * 10**5, "\n " * 10**6, "。” " * 10**5, "a" * 10**7])
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    split(text)
    assert time.process_time() - begun < 3
