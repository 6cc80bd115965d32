"""Names seen in a file: a duplicate is found at about 32 bytes a record, whatever the length of the names."""

from __future__ import annotations

from array import array


class SeenNames:
    """A hash table from names to the place (line or row) where each was first seen.

    Two ``array``s with open addressing instead of a dict: 24 to 48 bytes a name against some 150, which matters with
    a hundred million reads. It stores 64-bit hashes, not names: two different names of ten million share one with
    probability 3e-6.
    """

    def __init__(self) -> None:
        self._allocate(1 << 10)

    def _allocate(self, slots: int) -> None:
        self._hashes = array("q", bytes(8 * slots))
        self._places = array("q", bytes(8 * slots))  # 0 marks a free slot
        self._mask, self._used = slots - 1, 0

    def add(self, name: str, place: int) -> int | None:
        """Where ``name`` was seen before, else None, and then ``place`` (1 or more) is remembered."""
        if 3 * self._used > 2 * self._mask:
            self._grow()
        return self._insert(hash(name), place)

    def _insert(self, key: int, place: int) -> int | None:
        slot = key & self._mask
        while self._places[slot]:
            if self._hashes[slot] == key:
                return self._places[slot]
            slot = (slot + 1) & self._mask
        self._hashes[slot], self._places[slot] = key, place
        self._used += 1
        return None

    def _grow(self) -> None:
        hashes, places = self._hashes, self._places
        self._allocate(2 * len(hashes))
        for key, place in zip(hashes, places, strict=True):
            if place:
                self._insert(key, place)
