"""Music tokens against miditok and naive loops, their way back to MIDI, BPE, tokeniser files, and what identifies."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import miditok
import numpy as np
import pytest
from symusic import Score

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS, Record
from ssl_suite.core.resources import folder
from ssl_suite.modalities.music import Music
from tests.modalities.fuzz import stop
from tests.modalities.made_music import midi, note, piece, record

KINDS = ["remi", "tsd", "pitch"]
MADE = [piece(1), piece(2, programs=(40, 0, 70)), piece(3, programs=(0, 0), drums=True), piece(4, notes=200)]
CLS, SEP = 2, 3


@cache
def chorales() -> list[Record]:
    (path,) = (folder("samples") / "music").glob("*.parquet")
    return list(Music().read(path, stop))


def reference(music: Music) -> Any:
    """miditok's tokeniser of the same settings, as a user of miditok would write it."""
    config = miditok.TokenizerConfig(
        pitch_range=(0, 127),
        drums_pitch_range=(0, 127),
        beat_res={(0, 4): music.resolution, (4, 12): 4},
        special_tokens=["PAD", "UNK", "CLS", "SEP", "MASK"],
        use_velocities=music.velocities > 0,
        num_velocities=music.velocities or 1,
        use_programs=music.programs != "none",
        program_changes=music.programs == "change",
        use_pitchdrum_tokens=music.programs != "none",
        use_tempos=music.tempos > 0,
        num_tempos=music.tempos or 2,
        tempo_range=(20, 250),
        log_tempos=True,
        delete_equal_successive_tempo_changes=True,
        delete_equal_successive_time_sig_changes=True,
        use_time_signatures=True,
        time_signature_range={4: list(range(1, 13)), 8: [1, 3, 5, 6, 7, 9, 11, 12]},
        remove_duplicated_notes=True,
    )
    return {"remi": miditok.REMI, "tsd": miditok.TSD}[music.tokenizer](config)


def tokens_of(encoded: Any) -> list[str]:
    (sequence,) = encoded if isinstance(encoded, list) else [encoded]
    return list(sequence.tokens)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(
    "settings", [{}, {"programs": "note", "resolution": 8}, {"velocities": 0, "tempos": 0}], ids=str
)
def test_tokens_are_those_of_miditok(kind: str, settings: dict) -> None:
    music = Music(tokenizer=kind, **settings)  # type: ignore[arg-type]
    judge = reference(music)
    for data in [*MADE, *(one.data for one in chorales()[:8])]:
        values = music.encode(record(data)).values
        assert music.decode(values).split() == tokens_of(judge.encode(Score.from_midi(data)))
    low, high = music.vocabulary.targets
    assert music.vocabulary.tokens[:low] == SPECIAL_TOKENS
    assert low == 5
    assert high == len(music.vocabulary)
    assert len(judge) == high
    assert music.encode(record(MADE[0])).values.tolist() == judge.encode(Score.from_midi(MADE[0])).ids


@pytest.mark.parametrize("kind", KINDS[:2])
def test_one_part_for_all_instruments(kind: str) -> None:
    music = Music(tokenizer=kind, programs="none")  # type: ignore[arg-type]
    for data in (MADE[0], MADE[3]):  # one instrument: the same as miditok without programs
        values = music.encode(record(data)).values
        assert music.decode(values).split() == tokens_of(reference(music).encode(Score.from_midi(data)))
    values = music.encode(record(MADE[2])).values
    assert not any(token.startswith(("Program", "PitchDrum")) for token in music.decode(values).split())


def test_pitches_by_onset() -> None:
    music = Music(tokenizer="pitch")
    for data in MADE:
        score = Score.from_midi(data)
        notes = sorted((one.time, one.pitch) for track in score.tracks if not track.is_drum for one in track.notes)
        assert (music.encode(record(data)).values - 5).tolist() == [pitch for _, pitch in notes]
    assert music.vocabulary.tokens[5:] == tuple(f"Pitch_{i}" for i in range(128))
    assert music.encode(record(MADE[0])).bounds is None


@pytest.mark.parametrize("kind", KINDS[:2])
def test_bounds_are_bar_lines(kind: str) -> None:
    """A bar of 3/4, bars of 6/8, then of 4/4: see ``made_music.piece``. TSD has none for a bar without an event."""
    music = Music(tokenizer=kind)  # type: ignore[arg-type]
    (track,) = Score.from_midi(MADE[3]).tracks
    starts = [0, 36, *range(72, 600, 48)]
    filled = [
        b for b, end in zip(starts, [*starts[1:], 648], strict=True) if any(b <= n.time < end for n in track.notes)
    ]
    found = music.encode(record(MADE[3]))
    assert found.bounds is not None
    assert found.bounds[0] == 0
    assert (np.diff(found.bounds) > 0).all()
    if kind == "remi":
        assert (found.values[found.bounds] == music.vocabulary.tokens.index("Bar_None")).all()
        assert len(found.bounds) == sum(start <= track.notes[-1].time for start in starts)
    else:
        assert len(found.bounds) == len(filled)


def heard(score: Any) -> set[tuple[int, int, int, int]]:
    """Notes as (program, time, pitch, duration), times in twelfths of a quarter."""
    score = score.resample(12) if score.ticks_per_quarter != 12 else score
    programs = [-1 if track.is_drum else track.program for track in score.tracks]
    pairs = zip(programs, score.tracks, strict=True)
    return {(program, n.time, n.pitch, n.duration) for program, track in pairs for n in track.notes}


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_way_back_gives_the_same_notes(kind: str, tmp_path: Path) -> None:
    """On-grid music comes back as it was; loudness and tempo to the nearest of 32 levels."""
    music = Music(tokenizer=kind)  # type: ignore[arg-type]
    for data in (MADE[0], MADE[1], MADE[3], piece(5, programs=(0, 24), drums=True)):  # no two tracks of a program: MIDI
        score = Score.from_midi(data)  # cannot tell which of two equal notes ends first
        values = music.encode(record(data)).values
        music.write_midi(values, tmp_path / "back.mid")
        back = Score(tmp_path / "back.mid")
        assert heard(back) == heard(score)
        assert [path.name for path in tmp_path.iterdir()] == ["back.mid"]
        again = music.encode(Record("r", (tmp_path / "back.mid").read_bytes(), "x"))
        kept = [
            [token for token in music.decode(ids).split() if "Program" not in token]  # tracks come in another order
            for ids in (again.values, values)
        ]
        assert sorted(kept[0]) == sorted(kept[1])
        loud = {(n.time, n.pitch): n.velocity for track in score.tracks for n in track.notes if not track.is_drum}
        for track in back.resample(12).tracks:
            assert all(abs(n.velocity - loud.get((n.time, n.pitch), n.velocity)) <= 3 for n in track.notes) or drums(
                score
            )


def drums(score: Any) -> bool:
    return len(score.tracks) > 1  # two instruments may play the same pitch at once


def test_the_way_back_of_pitches_and_of_scraps() -> None:
    music = Music(tokenizer="pitch")
    values = music.encode(record(MADE[0])).values
    score = music.score(np.concatenate([[CLS], values, [SEP, 0, 0]]))
    assert [n.pitch for n in score.tracks[0].notes] == (values - 5).tolist()
    assert Score.from_midi(score.dumps_midi()).note_num() == len(values)
    draw = np.random.default_rng(0)
    for kind in KINDS:  # whatever a model makes can be written
        music = Music(tokenizer=kind)  # type: ignore[arg-type]
        whole = music.encode(record(MADE[1])).values
        for ids in (draw.integers(0, len(music.vocabulary), 300), whole[7:90], whole[:0]):
            Score.from_midi(music.score(ids).dumps_midi())
        assert music.score(whole[7:90]).note_num() >= 9


@cache
def trained(kind: str) -> Music:
    music = Music(tokenizer=kind, vocab_size=900)  # type: ignore[arg-type]
    music.fit(iter([*chorales()[:40], Record("bad", b"junk", "x")]))
    return music


@pytest.mark.parametrize("kind", ["remi", "tsd"])
def test_bpe_of_miditok(kind: str, tmp_path: Path) -> None:
    music, plain = trained(kind), Music(tokenizer=kind)  # type: ignore[arg-type]
    assert len(music.vocabulary) == music.vocabulary.targets[1] == 900
    assert music.vocabulary.tokens[: len(plain.vocabulary)] == plain.vocabulary.tokens
    music.save(tmp_path)
    judge = {"remi": miditok.REMI, "tsd": miditok.TSD}[kind](params=tmp_path / "miditok.json")
    for one in chorales()[40:50]:
        base, found = plain.encode(one).values, music.encode(one)
        assert len(found.values) < 0.7 * len(base)
        assert music.decode(found.values).replace("▁", "").replace("+", " ").split() == plain.decode(base).split()
        assert music._flat(found.values).tolist() == base.tolist()
        assert found.bounds is not None
        assert all(music.vocabulary.tokens[i].startswith("▁") for i in found.values[found.bounds])
        assert found.values.tolist() == judge.encode(Score.from_midi(one.data)).ids
        assert music.identity(found.values) == plain.identity(base)
        assert heard(music.score(found.values)) == heard(plain.score(base))
    with pytest.raises(SuiteError, match="has not been trained"):
        Music(tokenizer=kind, vocab_size=900).encode(record(MADE[0]))  # type: ignore[arg-type]
    with pytest.raises(SuiteError, match="no bar to train"):
        Music(vocab_size=900).fit(iter([]))


@pytest.mark.parametrize(
    "make", [*(lambda kind=kind: Music(tokenizer=kind) for kind in KINDS), lambda: trained("remi")]
)
def test_auto_tokenizer_reads_what_spell_writes(tmp_path: Path, make: Any) -> None:
    from transformers import AutoTokenizer

    music = make()
    music.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    values = music.encode(record(MADE[2])).values
    assert tokenizer(music.decode(values))["input_ids"] == [CLS, *values.tolist(), SEP]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == list(music.vocabulary.tokens)
    assert tokenizer.model_max_length == 256
    again = pickle.loads(pickle.dumps(music))
    again.load(tmp_path)
    assert np.array_equal(again.encode(record(MADE[2])).values, values)


def test_a_saved_folder_opens_with_miditok(tmp_path: Path) -> None:
    music = Music()
    music.save(tmp_path)
    judge = miditok.REMI(params=tmp_path / "miditok.json")
    assert judge.encode(Score.from_midi(MADE[1])).ids == music.encode(record(MADE[1])).values.tolist()


def test_load_restores_a_bpe_and_refuses_another_vocabulary(tmp_path: Path) -> None:
    music = trained("remi")
    music.save(tmp_path)
    again = Music(vocab_size=900)
    assert again.fingerprint() != music.fingerprint()
    again.load(tmp_path)
    assert again.fingerprint() == music.fingerprint()
    for other in (Music(), Music(tokenizer="pitch"), Music(vocab_size=900, resolution=8)):
        with pytest.raises(SuiteError, match="other tokens than"):
            other.load(tmp_path)
    with pytest.raises(SuiteError, match="it is a REMI without a BPE, not a TSD"):
        Music(tokenizer="tsd", vocab_size=900).load(tmp_path)
    settings = json.loads((tmp_path / "miditok.json").read_text())
    (tmp_path / "miditok.json").write_text(json.dumps(settings)[:500])
    with pytest.raises(SuiteError, match="holds no tokeniser that can be used"):
        Music(vocab_size=900).load(tmp_path)
    with pytest.raises(SuiteError, match="does not exist"):
        Music().load(tmp_path / "nothing")


def moved(data: bytes, semitones: int, faster: float = 1.0) -> bytes:
    score = Score.from_midi(data).shift_pitch(semitones)
    for one in score.tempos:
        one.tempo *= faster
    return score.dumps_midi()


@pytest.mark.parametrize("kind", KINDS)
def test_identity_is_that_of_any_key_tempo_and_instrument(kind: str) -> None:
    music = Music(tokenizer=kind)  # type: ignore[arg-type]

    def of(data: bytes) -> bytes:
        return music.identity(music.encode(record(data)).values.astype(np.uint16))

    score = Score.from_midi(MADE[0])
    score.tracks[0].program = 73
    assert of(MADE[0]) == of(moved(MADE[0], 5)) == of(moved(MADE[0], -7, 1.5)) == of(score.dumps_midi())
    assert of(MADE[0]) != of(MADE[3])
    short = [midi(note(0, 60, 240) + note(wait, 64, 240)) for wait in (0, 480)]
    up = midi(note(0, 65, 240) + note(0, 69, 240))
    assert of(short[0]) == of(up)
    assert (of(short[0]) == of(short[1])) == (kind == "pitch")  # few notes: their rhythm counts, where it is known
    assert len({of(one.data) for one in chorales()[:30]}) == 30
    assert len(of(MADE[0])) == 16


def test_intervals_do_not_depend_on_the_tokeniser() -> None:
    """A piece without unisons has the same intervals in all tokenisers."""
    data = piece(7, notes=40)
    digests = {Music(tokenizer=kind).identity(Music(tokenizer=kind).encode(record(data)).values) for kind in KINDS}  # type: ignore[arg-type]
    assert len(digests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_kin_of_near_copies(kind: str) -> None:
    music = Music(tokenizer=kind)  # type: ignore[arg-type]

    def of(data: bytes) -> set[int]:
        found = music.near_duplicate_features(music.encode(record(data)).values)
        assert found.dtype == np.uint64
        return set(found.tolist())

    one, copy, other = of(MADE[3]), of(moved(MADE[3], 4)), of(piece(9, notes=200))
    score = Score.from_midi(MADE[3])
    for i in (20, 90, 150):
        score.tracks[0].notes[i].pitch += 1
    near = of(score.dumps_midi())
    assert one == copy
    assert len(one & near) / len(one | near) > music.near_duplicate_similarity
    assert not one & other
    assert not of(midi(note(0, 60, 240) + note(0, 64, 240)))
    assert "interval" in music.near_duplicate_kind


def test_the_sample() -> None:
    music = Music()
    found = [music.encode(one) for one in chorales()]
    assert len(found) == 384
    assert sum(one.counts["notes"] for one in found) == 90_499
    assert len({music.identity(one.values) for one in found}) == 384
    assert len({one.name for one in chorales()}) == 384


@pytest.mark.shared
def test_real_files_give_the_tokens_of_miditok() -> None:
    import os

    path = Path(os.environ["SSL_DATA_DIR"]) / "media/music/pretrain_classical.parquet"
    music = Music()
    judge = reference(music)
    same = left = 0
    for place, one in enumerate(music.read(path, stop)):
        found = music.encode(one)
        if place % 20 == 0:
            left += 1
            same += music.decode(found.values).split() == tokens_of(judge.encode(Score.from_midi(one.data)))
    assert same >= 0.8 * left  # others have metres that miditok ignores, or tempos after their last note
