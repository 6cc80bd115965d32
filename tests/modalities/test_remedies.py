"""Inputs as other programs write them: read, or one line whose remedy is followed here and works."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.faults import SKIP, BadRecord, FaultCounter
from ssl_suite.core.records import Record
from ssl_suite.modalities import encodings, sequence_files, text_read
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.music import Music
from tests.modalities.made_music import midi
from tests.modalities.made_speech import encoded, sound_file, tone

WORDS = {
    "CP1251": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n",
    "KOI8-R": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n",
    "SHIFT_JIS": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n",
    "EUC-JP": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n",
    "GB18030": "我们的世界是一个很大的世界，有许多不同的人和事物。\n",
    "BIG5": "我們的世界是一個很大的世界，有許多不同的人和事物。\n",
    "EUC-KR": "모든 행복한 가정은 서로 닮았고 불행한 가정은 제각각 나름으로 불행하다.\n",
    "CP1252": "Café “crème” déjà vu – l’été dernier à la plage.\n",
    "ISO-8859-1": "Café crème déjà vu, l'été dernier à la plage.\n",
    "UTF-16": "Café crème déjà vu.\n",
    "UTF-16LE": "Café crème déjà vu.\n",
    "UTF-16BE": "Café crème déjà vu.\n",
    "UTF-32": "Café crème déjà vu.\n",
}


def followed(error: BadRecord) -> Path:
    """Run the command of a message beside its file; gives the file that it says to use."""
    folder = Path(str(error).partition(": ")[0]).parent
    command = re.search("`(.+)`", str(error))[1]
    subprocess.run(command, shell=True, check=False, cwd=folder)  # iconv -c leaves 1 after damage
    return folder / str(error).rsplit("use ", 1)[1].removesuffix(".")


@pytest.mark.parametrize("name", WORDS)
def test_the_likely_encoding_and_a_command_that_converts_it(tmp_path: Path, name: str) -> None:
    text = WORDS[name] * 20
    for file, data in (("it's a.txt", text.encode(name)), ("b.txt.gz", gzip.compress(text.encode(name)))):
        path = tmp_path / file
        path.write_bytes(data)
        with pytest.raises(BadRecord, match=f"is not UTF-8 text but, it seems, {name};") as caught:
            list(text_read.read(path, FaultCounter()))
        (record,) = text_read.read(followed(caught.value), FaultCounter())
        assert record.data == text


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"\0"])
def test_a_few_damaged_bytes_are_left_out_by_the_command(tmp_path: Path, damage: bytes) -> None:
    path, text = tmp_path / "x.jsonl", '{"text": "Café crème"}\n' * 40
    path.write_bytes(text.encode()[:400] + damage + text.encode()[400:])
    with pytest.raises(BadRecord, match=r"line 17, byte \d+ .* leave ") as caught:
        list(text_read.read(path, FaultCounter()))
    assert [record.data for record in text_read.read(followed(caught.value), FaultCounter())] == ["Café crème"] * 40


def test_binary_is_no_text() -> None:
    assert encodings.wide(np.random.default_rng(0).bytes(4096) + bytes(4096)) is None


@pytest.mark.parametrize("mark", [",", ";", "|", "\t"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz"])
def test_fields_are_separated_by_what_the_header_shows(tmp_path: Path, mark: str, name: str) -> None:
    path = tmp_path / name
    above = {",": "# made by hand, once\n", ";": "\ufeffsep=;\r\n"}.get(mark, "")
    rows = f'Text{mark}label\n"one, ""two"";\tor|\nthree"{mark}0\nfour{mark}1\n'
    path.write_bytes((gzip.compress if name.endswith("gz") else bytes)((above + rows).encode()))
    found = [(record.data, record.tags["label"]) for record in text_read.read(path, FaultCounter())]
    assert found == [('one, "two";\tor|\nthree', "0"), ("four", "1")]


def test_tables_that_are_broken_say_where(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for text, fault in (
        ('text;label\na;1\n"open;1\nb;2\n', "the row that begins at line 3 has a quote that is never closed"),
        ("text;label\n", "holds a header and no row"),
        ("a;b\nc;d\n", "set data.column to one of a, b, or name the columns in a first line."),
    ):
        path.write_text(text)
        with pytest.raises(BadRecord, match=fault):
            list(text_read.read(path, FaultCounter()))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_comments_of_fasta_are_passed_over_and_counted(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.fa"
    lines = ("; made by hand", "#twice", "", ">a\tfirst", "acgt", ";in it", "NN", "; between", ">b", "ACGU", "# last")
    path.write_text(end.join(lines), newline="")
    found = [(record.name, record.data, record.counts) for record in sequence_files.read(path, FaultCounter())]
    assert found == [("a", "acgtNN", {"comment lines": 4}), ("b", "ACGU", {"comment lines": 1})]


def test_gaps_of_an_alignment(tmp_path: Path) -> None:
    path, plain = tmp_path / "x.fa", tmp_path / "plain.fa"
    path.write_text(">a-1.1\nAC--GT.\n")
    (record,) = sequence_files.read(path, FaultCounter())
    with pytest.raises(BadRecord, match="take the gaps of the alignment out: sed") as caught:
        DNA().encode(record)
    command = re.search("sed .* PLAIN", str(caught.value))[0].replace("ALIGNED", str(path)).replace("PLAIN", str(plain))
    subprocess.run(command, shell=True, check=True)
    assert [(r.name, r.data) for r in sequence_files.read(plain, FaultCounter())] == [("a-1.1", "ACGT")]


def longest_wait(data: bytes) -> float:
    """The longest time between two events of a MIDI file without running status gaps, in quarter notes."""
    longest, at = 0, 14
    while at < len(data):
        end, at, status = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big"), at + 8, 0
        while at < end:
            wait = 0
            while True:
                wait, at = wait << 7 | data[at] & 127, at + 1
                if data[at - 1] < 128:
                    break
            longest = max(longest, wait)
            if data[at] & 128:
                status, at = data[at], at + 1
            at += 2 + data[at + 1] if status == 0xFF else 1 if status >> 4 in (12, 13) else 2
    return longest / int.from_bytes(data[12:14], "big")


@pytest.mark.parametrize("tokenizer", ["remi", "tsd", "pitch"])
def test_what_a_model_wrote_in_any_order_has_no_time_that_runs_backwards(tmp_path: Path, tokenizer: str) -> None:
    music, draw = Music(tokenizer=tokenizer), np.random.default_rng(0)  # type: ignore[arg-type]
    for number in range(6):
        ids = draw.integers(5, len(music.vocabulary), 400)
        path = tmp_path / f"{number}.mid"
        notes = music.write_midi(ids, path)
        assert longest_wait(path.read_bytes()) < 400  # a step back is 2^28 ticks: 11 million quarters at 24 ticks
        assert notes == len(music.score(ids).tracks[0].notes) + sum(len(t.notes) for t in music.score(ids).tracks[1:])
    assert longest_wait(bytes.fromhex("4d546864000000060000000100184d54726b00000008fffffe4000ff2f0000")) > 1e6


def test_a_file_of_wrapped_times_without_notes_says_so() -> None:
    wrapped = bytes.fromhex("ff5804040218 08 ffffff40 ff51030 7a120".replace(" ", ""))
    with pytest.raises(BadRecord, match=r"has no notes, and [\d,]+ quarter notes between its events"):
        Music().encode(Record("r", midi(b"\0" + wrapped, division=24), "x.mid"))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_id3_tags_around_a_sound_file(kind: str) -> None:
    data = sound_file(tone(1.5), kind=kind)
    tag = b"ID3\4\0\x10\0\0\2\5" + bytes(2 * 128 + 5) + b"3DI\4\0\x10\0\0\2\5"
    for around in (tag + data, tag + tag + bytes(9) + data, tag + data + b"TAG" + b"x" * 125):
        assert np.array_equal(encoded(around), encoded(data)) and len(encoded(data)) == 75


def test_a_bad_record_names_the_key_that_leaves_it_out() -> None:
    with pytest.raises(BadRecord) as caught:
        FaultCounter()(BadRecord("x: is bad; mend it.", "bad"))
    assert str(caught.value) == f"x: is bad; mend it. To leave bad records out and count them, set {SKIP}."
    assert caught.value.advised() is caught.value and caught.value.reason == "bad"
