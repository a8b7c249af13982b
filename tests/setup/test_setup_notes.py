"""What a run says about fallbacks: sequences that are missing, wholly or in single cases."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pandas as pd

from workbench.models.method import MethodModule
from workbench.models.registry import create_model
from workbench.sampling.corruption import is_noisy
from workbench.setup.run_setup import RunSetup
from workbench.setup.setup_notes import corruption_notes, fallback_notes

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


def test_noise_in_training_is_said_with_its_cases(make_setup: Callable[..., RunSetup]) -> None:
    assert corruption_notes(make_setup()) == []
    setup = make_setup(mask_noise="eroded", mask_noise_mm=4.0, mask_noise_share=0.5, misregistration=2.0, seed=1, fold=1)
    cases = setup.training_cases.dropna(subset="segmentation")["case"]
    noisy = sum(is_noisy(1, case, 0.5) for case in cases)
    assert 0 < noisy < len(cases) < len(setup.training_cases)
    assert corruption_notes(setup) == [
        f"trained on noisy masks: eroded by 4 mm in {noisy} of {len(cases)} training cases; validation and test cases are clean",
        "trained on misregistered sequences: each but the first that a case shows lies 2 mm aside; "
        "validation and test cases are clean",
    ]
    (dropped,) = corruption_notes(make_setup(mask_noise="dropped", mask_noise_share=0.25))
    assert "each lesion is missing with a chance of 0.25" in dropped
