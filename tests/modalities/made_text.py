"""Text and tokenisers made for the tests of the text modality."""

from __future__ import annotations

import functools
import gzip
import json
import pickle

from ssl_suite.core.records import Record
from ssl_suite.core.resources import folder
from ssl_suite.modalities.text import Text

OTHERS = {
    "zh": "他说：“你好！”然后，我们去了北京。那里的人很多，我爱iPhone手机。（2024年）" * 3,
    "ja": "これは本です。「はい」と彼は言った。カタカナも使います。ﾊﾝｶｸ！",
    "ru": "Это предложение — первое. А вот второе: ещё «ёлка» и йод. Война и мир.",
    "ar": "هذا نص عربي، وهو قصير. هل هذا سؤال؟ نعم.",
    "de": "Größe und Straße: das „Mädchen“ läuft. Am 3. Mai kam Hr. Meier.",
    "hi": "यह एक वाक्य है। दूसरा वाक्य यहाँ है।",
    "ko": "한국어 문장입니다. 두 번째 문장입니다!",
    "th": "ภาษาไทยไม่มีช่องว่าง ระหว่างคำ",
    "signs": "a<=b, c≠d; x̸=y … 😀👍🏽 (50%) \u200bseen\u00adless \x07bell e\u0301 ﬁ Ａ１ don't \ufeff “q”"
    " ‘r’ a\u0338 ▁x _y_",
}


@functools.cache
def english() -> list[str]:
    """The first chapters of the built-in sample."""
    path = folder("samples") / "text" / "austen_three_novels.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line, _ in zip(file, range(6), strict=False)]


@functools.cache
def pickled(kind: str, vocab_size: int, lower_case: bool, strip_accents: bool) -> bytes:
    text = Text(tokenizer=kind, vocab_size=vocab_size, lower_case=lower_case, strip_accents=strip_accents)
    text.fit(record(one) for one in [*english(), *(other * 3 for other in OTHERS.values())])
    return pickle.dumps(text)


def fitted(kind: str, vocab_size: int = 1500, lower_case: bool = False, strip_accents: bool = False, **later) -> Text:
    """A text modality with a trained tokeniser; ``later`` are settings that do not touch it."""
    text: Text = pickle.loads(pickled(kind, vocab_size, lower_case, strip_accents))
    for key, value in later.items():
        assert hasattr(text, key)
        setattr(text, key, value)
    return text


def record(data: str | list[str], name: str = "r") -> Record:
    return Record(name, data, "x.txt")


def ids(text: Text, data: str | list[str]) -> list[int]:
    return text.encode(record(data)).values.tolist()
