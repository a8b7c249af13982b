"""What a run says about fallbacks: sequences that are missing, wholly or in single cases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from workbench.models.method import MethodModule
from workbench.models.registry import create_model
from workbench.setup.setup_notes import fallback_notes

SMALL: dict[str, Any] = {"feature_size": 12, "window": 4, "cmd_channels": 4, "checkpointing": False}


def found(model: MethodModule, t2: str, flair: str) -> list[str]:
    """The notes, for a character per case ('.' = not acquired), the first three of which train."""
    cases = pd.DataFrame({name: [None if c == "." else c for c in text] for name, text in (("t2", t2), ("flair", flair))})
    rows = {"train": cases[:3], "validation": cases[3:4], "test": cases[4:], "external": cases[:0]}
    run: Any = SimpleNamespace(
        parameters=SimpleNamespace(method=model.name, withheld=tuple, processes=1),
        cases_by_split=rows,
        modalities=model.modalities,
    )
    return fallback_notes(run, model)


def test_cases_that_are_read_without_cmd_are_counted() -> None:
    both = create_model("mts_unet", modalities=("t2", "flair"), markers=("idh",), **SMALL)
    assert found(both, "xxxxx", "xxxxx") == []
    assert found(both, "x.xx.", "xxxx.") == [
        "1 of 3 training and 1 of 2 held-out cases lack t2 or flair: their IDH is read from TAFE alone"
    ]
    assert found(both, "...xx", "xxxxx") == [
        "no training case has t2: nothing is learned from it",
        "3 of 3 training and 0 of 2 held-out cases lack t2 or flair: their IDH is read from TAFE alone",
    ]


def test_a_model_without_cmd_says_so_in_the_notes_and_counts_no_case() -> None:
    for options in ({"markers": ("codel",)}, {"markers": ("idh",), "streams": "tafe"}):
        assert found(create_model("mts_unet", modalities=("t2", "flair"), **SMALL, **options), "x.xx.", "xxxx.") == []
    (note,) = found(create_model("mts_unet", modalities=("t2",), markers=("idh",), **SMALL), "x.xx.", "xxxx.")
    assert note.startswith("mts_unet: no CMD: it needs t2 and flair")
    assert "read from TAFE" in note
