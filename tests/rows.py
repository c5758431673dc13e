"""A row of the table of operators: what to call, what NumPy says, and what must be refused."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Row:
    """One call of one operator.

    `arrays` are float64 unless the operator wants indices. `reference(*arrays, **settings)` is the
    answer of NumPy. `differentiable` tells for which arrays the gradient is compared with finite
    differences (default: all). `wrong` is a pair `(arrays, settings)` that must raise MXNetError,
    with `says` in its message beside the operator's name. `symmetric` compares gradients along
    symmetric matrices only, for operators that read one triangle and mean both.
    """

    op: str
    arrays: tuple
    settings: dict = field(default_factory=dict)
    reference: object = None
    differentiable: tuple | None = None
    wrong: tuple | None = None
    says: str = ""
    symmetric: bool = False
    note: str = ""  # tells rows of the same operator apart

    def __post_init__(self):
        if self.differentiable is None:
            self.differentiable = tuple(range(len(self.arrays)))

    @property
    def id(self):
        return f"{self.op}-{self.note}" if self.note else self.op


def positive(*shape, seed=0):
    """Numbers in [0.5, 1.5): positive and away from kinks."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def signed(*shape, seed=0):
    """Numbers in (-1, 1), at least 0.1 away from 0."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1.0, shape) * rng.choice([-1.0, 1.0], shape)
