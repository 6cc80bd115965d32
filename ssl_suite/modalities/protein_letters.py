"""The protein alphabet: residues, codes, stops and gaps, and the check that a record is protein at all."""

from __future__ import annotations

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CODES = "XBZJUO"  # any; D or N; E or Q; I or L; selenocysteine; pyrrolysine
STOP, GAP = "*", "-"
LETTERS = RESIDUES + CODES + STOP + GAP
GAPS = b"-."  # a2m writes a dot where another sequence has an insertion
PLAIN = (RESIDUES + RESIDUES.lower()).encode("ascii")
LOWER = bytes(range(ord("a"), ord("z") + 1))
NOT_LOWER = bytes(set(range(256)) - set(LOWER))
NUCLEOTIDES = b"ACGTUNacgtun"
# Of 516,371 Swiss-Prot entries one has a larger share of these letters, and it is made of A and T alone (P02732, an
# antifreeze protein); the next, of at least 20 residues, has 0.81.
DNA_SHARE, DNA_LENGTH, DNA_KINDS = 0.9, 20, 3


def spelling(ambiguous: str, soft_mask: str, gaps: str) -> dict[str, str]:
    """What each accepted letter is read as; the empty text where it is dropped.

    Args:
        ambiguous: ``x`` reads B, Z, J, U and O as X; otherwise each stays.
        soft_mask: ``x`` reads lower case as X; ``upper`` as its upper case.
        gaps: ``drop`` leaves ``-`` and ``.`` out; otherwise both are ``-``.
    """
    upper = {letter: "X" if ambiguous == "x" and letter in CODES else letter for letter in RESIDUES + CODES}
    lower = {letter.lower(): "X" if soft_mask == "x" else read for letter, read in upper.items()}
    gap = "" if gaps == "drop" else GAP
    return upper | lower | {STOP: STOP, "-": gap, ".": gap}


def checked_letters(record: Record, ambiguous: str, soft_mask: str, stops: str, gaps: str) -> tuple[bytes, dict]:
    """The record's letters without final stops (and without gaps, where they are dropped), and what was met.

    Returns:
        The letters, and counts: ``residues`` (codes included), ``ambiguous`` (codes), ``final_stops``,
        ``inner_stops``, ``behind_stop`` (letters that ``stops=cut`` drops), ``gaps`` and ``soft_masked``.

    Raises:
        BadRecord: DNA, letters that are no residues, nothing but gaps and stops, or what a setting refuses.
    """
    raw = record.data if isinstance(record.data, bytes) else record.data.encode("utf-8")
    if len(raw) >= DNA_LENGTH and len(raw.translate(None, NUCLEOTIDES)) <= (1 - DNA_SHARE) * len(raw):
        refuse_dna(record, raw)
    counts = {"residues": len(raw), "ambiguous": 0}
    odd = raw.translate(None, PLAIN)  # mostly empty; everything below then costs nothing
    if odd:
        seen = odd.upper()
        number = {letter: seen.count(letter.encode("ascii")) for letter in CODES + STOP + "-."}
        if sum(number.values()) != len(seen):
            refuse_letters(record, raw)
        ambiguous_number = sum(number[letter] for letter in CODES)
        if ambiguous == "error" and ambiguous_number:
            refuse_setting(record, raw, CODES, "a code for several or rare residues", "ambiguous=keep or x")
        raw, counts = without_stops_and_gaps(record, raw, stops, gaps)
        counts |= {"ambiguous": ambiguous_number, "gaps": number["-"] + number["."]}
    if soft_mask == "x":
        counts["soft_masked"] = len(raw.translate(None, NOT_LOWER))
    return raw, counts


def without_stops_and_gaps(record: Record, raw: bytes, stops: str, gaps: str) -> tuple[bytes, dict[str, int]]:
    """The letters that become tokens, and counts of the others.

    A final ``*`` is the stop codon of a translated reading frame, no part of the protein.
    """
    if gaps == "error":
        refuse_setting(record, raw, "-.", "a gap", "gaps=drop or keep")
    core = raw.rstrip(b"*-.")
    inner, final = core.count(b"*"), raw.count(b"*", len(core))
    if inner and stops == "error":
        refuse_setting(record, core, STOP, "a stop inside a protein", "stops=keep or cut")
    kept, behind = core + raw[len(core) :].replace(b"*", b""), 0
    if inner and stops == "cut":
        kept = raw[: raw.index(b"*")]
        behind = len(raw[len(kept) :].translate(None, b"*" + GAPS))
    letters = kept.translate(None, GAPS)
    if not letters.strip(b"*"):
        raise BadRecord(f"{record.source}: record '{record.name}': has no residue; remove it.", "no residue")
    counts = {"residues": len(letters) - letters.count(b"*"), "final_stops": final, "inner_stops": inner}
    return (letters if gaps == "drop" else kept), counts | ({"behind_stop": behind} if behind else {})


def refuse_dna(record: Record, raw: bytes) -> None:
    """Raise where a record made of A, C, G, T, U and N has at least three of the bases."""
    upper = raw.upper()
    if (b"A" in upper) + (b"C" in upper) + (b"G" in upper) + (b"T" in upper or b"U" in upper) >= DNA_KINDS:
        raise BadRecord(
            f"{record.source}: record '{record.name}': its {len(raw):,} letters are A, C, G, T or N (nine in ten at "
            "least), so it is DNA, not protein; use modality=dna.",
            "DNA given as protein",
        )


def refuse_letters(record: Record, raw: bytes) -> None:
    """Raise, naming the letters that are no residues."""
    text = raw.decode("utf-8", "replace")
    wrong = sorted(set(text) - set(LETTERS + LETTERS.lower() + "."), key=text.index)
    first = text.index(wrong[0]) + 1
    shown = ", ".join(letter if letter.isprintable() and letter != " " else repr(letter) for letter in wrong[:5])
    shown += ", …" if len(wrong) > 5 else ""
    raise BadRecord(
        f"{record.source}: record '{record.name}': {shown} (first at position {first}) "
        f"{'is' if len(wrong) == 1 else 'are'} not protein; remove what is no residue.",
        "not protein",
    )


def refuse_setting(record: Record, raw: bytes, letters: str, what: str, remedy: str) -> None:
    """Raise where any of ``letters``, which a setting forbids, occurs."""
    text = raw.decode("ascii").upper()
    place, letter = min(((text.find(letter), letter) for letter in letters if letter in text), default=(-1, ""))
    if place >= 0:
        raise BadRecord(
            f"{record.source}: record '{record.name}': {letter} at position {place + 1} is {what}; "
            f"set modality.{remedy}.",
            what.removeprefix("a "),
        )
