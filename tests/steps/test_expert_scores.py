"""Experts scored alone beside the fused output: who reads what, what is kept when it is interrupted, and the table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.models.mome.single_image_unet import PooledUNet
from workbench.models.registry import create_model
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.expert_scores import EXPERTS_FILE, expert_scores

TRUTH = np.zeros((4, 4, 4), np.uint8)
TRUTH[:2, 0, 0] = 1  # two voxels


class Run:
    """A run folder as far as these functions need one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, *parts: str) -> Path:
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    """Three test cases: t1 and flair, flair alone, and one without a mask; experts for t1 and flair."""
    shown = {"a": (True, True), "b": (False, True), "c": (True, True)}
    cases = {
        name: SimpleNamespace(
            name=name, modalities=("t1", "flair"), present=there, label_set="lesion",
            labels=lambda name=name: None if name == "c" else TRUTH,
        )
        for name, there in shown.items()
    }  # fmt: skip
    rows = pd.DataFrame({
        "case": list(cases), "subject": list("ABC"), "site": "s", "labels": "lesion",
        "t1": ["x", None, "x"], "flair": "x",
    })  # fmt: skip
    model = create_model("mome", modalities=("t1", "flair"), classes=2, width=4, levels=3)
    return SimpleNamespace(
        run=Run(tmp_path), network=model, trained_model=lambda: model,
        device="cpu", modalities=("t1", "flair"), classes=2, patch=(8, 8, 8),
        split={"a": "test", "b": "test", "c": "external"}, training={},
        cases_by_split={"test": rows[:2], "external": rows[2:]}, prepared=SimpleNamespace(case=cases.__getitem__),
        parameters=ExperimentParameters.build("mome", {"size": "demo", "subsets": "all", "resamples": 100}).resolve(),
        progress=SimpleNamespace(over=lambda items, *_: items),
        cohort=SimpleNamespace(info=SimpleNamespace(name="mixed", phantom=True)),
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, tuple[str, ...]]]:
    """(case, who, sequences shown) of each prediction. Alone an expert finds both voxels and two more, fused one of them."""
    calls: list[tuple[str, str, tuple[str, ...]]] = []

    def predict(network: Any, case: Any, *, modalities: tuple[str, ...], present: tuple[str, ...], **_: Any) -> Any:
        alone = isinstance(network, PooledUNet)
        calls.append((case.name, f"expert {modalities[0]}" if alone else "all", present))
        labels = np.zeros_like(TRUTH)
        labels[: 4 if alone else 1, 0, 0] = 1
        return SimpleNamespace(labels=lambda: labels)

    monkeypatch.setattr("workbench.steps.expert_scores.predict_case", predict)
    return calls


def test_each_expert_reads_its_own_sequence_and_so_does_the_mixture(experiment: Any, asked: list[Any]) -> None:
    scores = expert_scores(experiment)
    assert asked == [
        ("a", "expert t1", ("t1",)), ("a", "all", ("t1",)), ("a", "expert flair", ("flair",)), ("a", "all", ("flair",)),
        ("b", "expert flair", ("flair",)), ("b", "all", ("flair",)),
    ]  # fmt: skip
    assert list(zip(scores["case"], scores["sequence"], strict=True)) == [("a", "t1"), ("a", "flair"), ("b", "flair")]
    assert scores["alone"].tolist() == pytest.approx([2 * 2 / 6] * 3)
    assert scores["fused"].tolist() == pytest.approx([2 * 1 / 3] * 3)
    assert not (experiment.run.folder / "experts").exists()
    again = expert_scores(experiment)
    assert len(asked) == 6, "done once"
    pd.testing.assert_frame_equal(again, scores)


def test_an_interruption_loses_one_case_at_most(experiment: Any, asked: list[Any]) -> None:
    def broken(items: Iterable[Any], *_: Any) -> Any:
        yield next(iter(items))
        raise KeyboardInterrupt

    whole = experiment.progress
    experiment.progress = SimpleNamespace(over=broken)
    with pytest.raises(KeyboardInterrupt):
        expert_scores(experiment)
    assert not (experiment.run.folder / EXPERTS_FILE).exists()
    experiment.progress = whole
    assert len(expert_scores(experiment)) == 3
    assert [call[0] for call in asked].count("a") == 4, "the first case was kept"
