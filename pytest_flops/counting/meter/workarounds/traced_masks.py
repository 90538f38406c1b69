"""transformers takes every fake tensor for one that is traced, and makes no use of its values.

transformers: where a mask hides nothing, or positions are those of one sequence, it goes without a
mask. While a graph is traced, whose values may differ later, it does not look, and a tensor that
`is_fake_tensor` is a sign of that. Fakes in a step here may have their values: see `known_values`.
Seen in: transformers 5.24; 4.57 did not ask, and looked.
May go when: `test_a_mask_without_padding_is_counted_as_it_runs` passes without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.replacing import replaced

AS_IF_PADDED = (
    "counted as if there were padding: transformers asks for a mask whose values are not known"
)


@contextmanager
def reading_known_masks(assumptions: set[str]) -> Iterator[None]:
    """While active, transformers reads fakes that have values; of another, it is an assumption."""
    library: Any = sys.modules.get("transformers.utils.import_utils")
    if not hasattr(library, "is_fake_tensor"):
        yield
        return

    def is_unknown(_before: object, tensor: object) -> bool:
        if not isinstance(tensor, FakeTensor) or tensor.constant is not None:
            return False
        assumptions.add(AS_IF_PADDED)
        return True

    with replaced(library, "is_fake_tensor", is_unknown):
        yield
