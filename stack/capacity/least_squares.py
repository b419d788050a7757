"""Least squares for a handful of unknowns: weights that cannot be negative, or two of either sign. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


class FitError(ValueError):
    """The measurements do not determine what is asked; the text says what is missing."""


def nonnegative(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[float, ...]:
    """The weights of at least 0 whose sums come nearest to `values`, each miss counted relative to its value.

    Every set of unknowns that may be zero is tried, so the answer is exact; meant for up to four unknowns.
    Raises FitError without rows or with a value that is not positive.
    """
    if not rows or any(value <= 0 for value in values):
        raise FitError("a fit needs at least one measurement, and every measured value has to be positive")
    scaled = [[part / value for part in row] for row, value in zip(rows, values, strict=True)]
    unknowns = len(rows[0])
    best, least = (0.0,) * unknowns, float(len(rows))
    for size in range(1, unknowns + 1):
        for chosen in itertools.combinations(range(unknowns), size):
            found = _solve(scaled, chosen)
            if found is None or min(found) < 0:
                continue
            weights = [0.0] * unknowns
            for column, weight in zip(chosen, found, strict=True):
                weights[column] = weight
            miss = sum((sum(map(float.__mul__, row, weights)) - 1) ** 2 for row in scaled)
            if miss < least * (1 - 1e-9):
                best, least = tuple(weights), miss
    return best


def pair(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The two weights with which the first two of each row come nearest to its third (normal equations).

    Raises FitError when the rows do not tell them apart.
    """
    first, both, second = (sum(row[one] * row[two] for row in rows) for one, two in ((0, 0), (0, 1), (1, 1)))
    left, right = (sum(row[one] * row[2] for row in rows) for one in (0, 1))
    determinant = first * second - both**2
    if determinant <= 1e-12 * first * second:
        raise FitError("these measurements do not tell the two unknowns apart")
    return (left * second - right * both) / determinant, (right * first - left * both) / determinant


def _solve(rows: Sequence[Sequence[float]], chosen: Sequence[int]) -> list[float] | None:
    """Unbounded weights of these columns for a right side of 1 (normal equations); None when they are not unique."""
    scale = [max(abs(row[column]) for row in rows) for column in chosen]
    if not all(scale):
        return None
    columns = [[row[column] / top for row in rows] for column, top in zip(chosen, scale, strict=True)]
    size = len(columns)
    matrix = [
        [*(sum(map(float.__mul__, left, right)) for right in columns), sum(left)] for left in columns
    ]  # the last column is the right side
    for pivot in range(size):
        largest = max(range(pivot, size), key=lambda line: abs(matrix[line][pivot]))
        if abs(matrix[largest][pivot]) < 1e-9:
            return None
        matrix[pivot], matrix[largest] = matrix[largest], matrix[pivot]
        for line in range(size):
            if line != pivot:
                factor = matrix[line][pivot] / matrix[pivot][pivot]
                matrix[line] = [a - factor * b for a, b in zip(matrix[line], matrix[pivot], strict=True)]
    return [matrix[line][size] / matrix[line][line] / scale[line] for line in range(size)]
