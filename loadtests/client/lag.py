"""How far behind the client's own loop is: what decides whether its timing may be believed."""

from __future__ import annotations

from array import array

_LOW = 3  # bits that are kept of a value: buckets are at most an eighth wide


class Lags:
    """Counts durations in nanoseconds, in buckets that are at most 12.5% wide. Cheap enough for every event."""

    def __init__(self) -> None:
        self._buckets: array[int] = array("q", bytes(8 << _LOW << 6))
        self.count = 0
        self.most = 0

    def add(self, ns: int) -> None:
        """Counts one; below zero is zero."""
        if ns < 1 << _LOW:
            bucket = max(ns, 0)
        else:
            power = ns.bit_length() - _LOW - 1
            bucket = (power << _LOW) + (ns >> power)
        self._buckets[bucket] += 1
        self.count += 1
        self.most = max(self.most, ns)

    def quantile(self, share: float) -> int:
        """A duration in nanoseconds that this share of them does not exceed; 0 where none was counted."""
        wanted, seen = share * self.count, 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(_upper(bucket), self.most)
        return 0


def _upper(bucket: int) -> int:
    """The largest duration that falls into a bucket."""
    if bucket < 2 << _LOW:
        return bucket
    power = (bucket >> _LOW) - 1
    return (((bucket & (1 << _LOW) - 1) + (1 << _LOW) + 1) << power) - 1
