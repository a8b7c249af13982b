"""Random streams by name: every draw is a function of (seed, purpose, step), never of what was drawn before.

This is what makes a resumed run equal an undisturbed one to the bit, and a phantom equal on any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(0, "augment", step)``. Suits `torch.manual_seed` as well."""
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, e.g. ``stream(0, "order", epoch)``."""
    return np.random.default_rng(derive_seed(seed, *purpose))
