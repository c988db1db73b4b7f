"""Which chunks of a blob are here: a bitmap, least significant bit first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ChunkMap:
    """A set of chunk indices in [0, count). One Python integer: unions and differences cost microseconds at 36,000 chunks."""

    __slots__ = ("_bits", "count")

    def __init__(self, count: int, chunks: Iterable[int] = ()) -> None:
        self.count = count
        self._bits = 0
        for index in chunks:
            self.add(index)

    @classmethod
    def full(cls, count: int) -> ChunkMap:
        return cls._of(count, (1 << count) - 1)

    @classmethod
    def span(cls, count: int, chunks: range) -> ChunkMap:
        """A contiguous range of chunks. Raises IndexError where it leaves the blob."""
        if chunks and not 0 <= chunks.start < chunks.stop <= count:
            raise IndexError(f"chunks {chunks.start} … {chunks.stop} of a map of {count}")
        return cls._of(count, ((1 << len(chunks)) - 1) << chunks.start if chunks else 0)

    @classmethod
    def union(cls, count: int, maps: Iterable[ChunkMap]) -> ChunkMap:
        """Of any number of maps of one blob, at the cost of one."""
        bits = 0
        for each in maps:
            bits |= each._bits  # noqa: SLF001  # its own class
        return cls._of(count, bits)

    @classmethod
    def _of(cls, count: int, bits: int) -> ChunkMap:
        made = cls.__new__(cls)  # half of what `|` costs would be a constructor that has nothing to do
        made.count = count
        made._bits = bits  # noqa: SLF001  # its own class
        return made

    @classmethod
    def from_bytes(cls, count: int, data: bytes) -> ChunkMap:
        """Raises ValueError unless `data` has exactly the bytes for `count` bits and sets none beyond."""
        if len(data) != -(-count // 8):
            raise ValueError(f"a map of {count} chunks takes {-(-count // 8)} bytes, not {len(data)}")
        bits = int.from_bytes(data, "little")
        if bits >> count:
            raise ValueError("a chunk map has bits beyond its last chunk")
        return cls._of(count, bits)

    def to_bytes(self) -> bytes:
        return self._bits.to_bytes(-(-self.count // 8), "little")

    def add(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"no chunk {index} in a map of {self.count}")
        self._bits |= 1 << index

    def discard(self, index: int) -> None:
        self._bits &= ~(1 << index)

    def __contains__(self, index: int) -> bool:
        return index >= 0 and bool(self._bits >> index & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()

    def __bool__(self) -> bool:
        return self._bits != 0

    def __iter__(self) -> Iterator[int]:
        for start, count in self.runs():
            yield from range(start, start + count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChunkMap) and (self.count, self._bits) == (other.count, other._bits)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"ChunkMap({len(self)}/{self.count})"

    @property
    def complete(self) -> bool:
        return len(self) == self.count

    def copy(self) -> ChunkMap:
        return self._of(self.count, self._bits)

    def missing(self) -> ChunkMap:
        """The chunks that are not here."""
        return self._of(self.count, ((1 << self.count) - 1) & ~self._bits)

    def __or__(self, other: ChunkMap) -> ChunkMap:
        return self._of(self.count, self._bits | other._bits)

    def __and__(self, other: ChunkMap) -> ChunkMap:
        return self._of(self.count, self._bits & other._bits)

    def __sub__(self, other: ChunkMap) -> ChunkMap:
        return self._of(self.count, self._bits & ~other._bits)

    def rarest(self, offers: Iterable[ChunkMap], levels: int) -> ChunkMap:
        """Those of these chunks that the fewest of the offers hold, at least one; from `levels` on all are alike.

        Bitmaps are added up in unary (`held_by[k]`: by more than k offers), for a blob may have 36,000 chunks."""
        held_by = [0] * levels
        for offer in offers:
            bits = offer._bits & self._bits  # noqa: SLF001  # its own class
            for level, before in enumerate(held_by):
                if not bits:
                    break
                held_by[level] = before | bits
                bits &= before
        for level, bits in enumerate(held_by):
            more = held_by[level + 1] if level + 1 < levels else 0
            if rare := bits & ~more:
                return self._of(self.count, rare)
        return self._of(self.count, 0)

    def holds(self, chunks: range) -> bool:
        """Whether every chunk of a (contiguous) range is here."""
        if not chunks:
            return True
        mask = (1 << len(chunks)) - 1
        return (self._bits >> chunks.start) & mask == mask

    def prefix(self) -> int:
        """How many chunks from the first on are here without a gap."""
        return (~self._bits & (self._bits + 1)).bit_length() - 1

    def runs(self) -> Iterator[tuple[int, int]]:
        """The set as maximal runs (first, count), in order."""
        bits, base = self._bits, 0
        while bits:
            skip = (bits & -bits).bit_length() - 1
            bits >>= skip
            base += skip
            length = (~bits & (bits + 1)).bit_length() - 1
            yield base, length
            bits >>= length
            base += length
