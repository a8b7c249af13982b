"""The probe with other names, on a model that finds the lesion under one name only; a real one is in test_brainfm.py."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from workbench.errors import ParameterError
from workbench.models.brainfm.open_channels import OpenChannels
from workbench.steps.renamed_sequences import renamed_sequences

LESION = np.zeros((4, 4, 4), np.uint8)
LESION[:2, 0, 0] = 1


class Named(OpenChannels):
    """Where the image is bright there is a lesion, if the name is t1's; otherwise it sees half of it."""

    divisor, minimum = 4, 4

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.asked: list[str] = []

    def refused(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name == "swi"]

    def forward(self, images: Tensor, present: Tensor, names: Sequence[str]) -> Any:  # type: ignore[override]
        (name,) = names
        self.asked.append(name)
        found = (images[:, 0] > 0).float()
        if name not in ("t1", "t1n"):
            found[:, 1:] = 0
        return SimpleNamespace(segmentation=torch.stack([0.5 - found, found - 0.5], dim=1))


@pytest.fixture
def setup_of() -> Any:
    """Two test cases of t1 and flair, of which the second has no mask, and a third one of t1 alone with nothing drawn."""
    cases = {
        name: SimpleNamespace(
            name=name, shape=(4, 4, 4), modalities=("t1", "flair"), present=(True, flair), label_set="lesion",
            labels=lambda drawn=drawn: drawn, images=lambda modalities: np.stack([LESION] * 2).astype(np.float32),
            brain=lambda: np.ones((4, 4, 4), bool),
        )
        for name, flair, drawn in (("a", True, LESION), ("b", True, None), ("c", False, np.zeros_like(LESION)))
    }  # fmt: skip
    model = Named()
    return SimpleNamespace(
        trained_model=lambda: model, modalities=("t1", "flair"), device="cpu", patch=(4, 4, 4), network=model,
        cases_by_split={"test": pd.DataFrame({"case": list(cases)})}, prepared=SimpleNamespace(case=cases.__getitem__),
        parameters=SimpleNamespace(method="named"), cohort=SimpleNamespace(info=SimpleNamespace(name="x", phantom=True)),
    )  # fmt: skip


def test_each_sequence_is_shown_under_its_own_and_the_other_names(setup_of: Any) -> None:
    table = renamed_sequences(setup_of, ["t1n", "dwi", "swi"])
    dice = table["mean Dice"].to_dict()
    assert dice[("t1", "t1")] == dice[("t1", "t1n")] == 1
    assert dice[("t1", "dwi")] == dice[("flair", "flair")] == pytest.approx(2 / 3, abs=1e-3)
    assert np.isnan(dice[("t1", "swi")]), "a name that is refused"
    assert "swi" not in setup_of.network.asked
    assert table.loc[("t1", "t1"), "similarity of the texts"] == 1
    assert table["cases"].to_dict() == {
        (own, shown): int(shown != "swi") for own in ("t1", "flair") for shown in (own, "t1n", "dwi", "swi")
    }, "of the others one has no mask, and in the other there is nothing to find"
    assert table.columns.name == "phantom cohort x"


def test_names_of_the_experiment_and_methods_of_fixed_channels_are_refused(setup_of: Any) -> None:
    with pytest.raises(ParameterError, match="flair is a sequence of this experiment"):
        renamed_sequences(setup_of, ["swi", "flair"])
    setup_of.trained_model = lambda: nn.Identity()
    with pytest.raises(ParameterError, match="named takes only the sequences it was built for"):
        renamed_sequences(setup_of, ["swi"])
