"""Names seen in a file: repeats are counted at about 32 bytes a name, whatever its length."""

from __future__ import annotations

from array import array


class SeenNames:
    """A hash table from names to how often each was seen.

    Two ``array``s with open addressing instead of a dict: 24 to 48 bytes a name against some 150, which matters with
    a hundred million reads. It stores 64-bit hashes, not names: two different names of ten million share one with
    probability 3e-6.
    """

    def __init__(self) -> None:
        self._allocate(1 << 10)

    def _allocate(self, slots: int) -> None:
        self._hashes = array("q", bytes(8 * slots))
        self._counts = array("q", bytes(8 * slots))  # 0 marks a free slot
        self._mask, self._used = slots - 1, 0

    def add(self, name: str) -> int:
        """How often ``name`` has been seen now, 1 for the first time."""
        if 3 * self._used > 2 * self._mask:
            self._grow()
        return self._insert(hash(name), 1)

    def _insert(self, key: int, count: int) -> int:
        slot = key & self._mask
        while self._counts[slot] and self._hashes[slot] != key:
            slot = (slot + 1) & self._mask
        self._used += not self._counts[slot]
        self._hashes[slot] = key
        self._counts[slot] += count
        return self._counts[slot]

    def _grow(self) -> None:
        hashes, counts = self._hashes, self._counts
        self._allocate(2 * len(hashes))
        for key, count in zip(hashes, counts, strict=True):
            if count:
                self._insert(key, count)
