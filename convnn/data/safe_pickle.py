"""A reader of pickles that hold data and nothing else: numpy arrays, bytes, strings, numbers, lists and dicts."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct


def load(content: bytes) -> Any:
    """What the pickle holds. Raises pickle.UnpicklingError if it names anything else, or is damaged.

    Python 2 strings are read as latin-1, which is how the CIFAR files were written.
    """
    try:
        return _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise pickle.UnpicklingError(f"damaged: {type(error).__name__}: {error}") from error


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into the protocols of Python 2; a general codec could unpack a bomb."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"names the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # the names before and since numpy 2
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no data needs")
        return _ALLOWED[module, name]
