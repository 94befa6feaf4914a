"""Names the type of NumPy arrays in signatures."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

# Shapes and element types are in the docstrings.
Array: TypeAlias = NDArray[Any]
