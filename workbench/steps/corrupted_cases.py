"""The test side of training on noise: test cases judged clean, with misregistered sequences, and against noisy masks.

The evaluation that counts stays clean; this is beside it. What is wrong here is what training can have (`sampling.corruption`),
done to every test case: it asks whether a method that was trained on noise is hurt less by it, and what it costs on clean cases.
A prediction of the clean images is also held against wrong masks, which says what an evaluation on such masks would claim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.contracts import SEGMENTATION
from workbench.errors import ParameterError
from workbench.evaluation.intervals import mean_intervals
from workbench.evaluation.metrics import metric
from workbench.evaluation.segmentation import region_dice
from workbench.files import write_parquet
from workbench.inference.predict import predict_case
from workbench.labels import regions_of
from workbench.models.catalogue import card
from workbench.prepare.store import PreparedCase
from workbench.records.provenance import register
from workbench.sampling.corruption import MisregisteredCase, noisy_labels, registration_errors
from workbench.sampling.patches import box_centre
from workbench.setup.run_setup import RunSetup

CORRUPTED_FILE = "corrupted.parquet"
CLEAN = "clean"
COLUMNS = ["case", "subject", "test", "region", "dice"]


@dataclass(frozen=True)
class CorruptedTest:
    """One thing that is wrong with every test case."""

    name: str
    misregistration: float = 0.0
    """mm by which each sequence but the first that a case shows lies aside."""
    mask_noise: str = "none"
    """What is wrong with the mask that the clean prediction is held against."""
    distance: float = 0.0
    """How far it is eroded, dilated or shifted, mm."""
    share: float = 1.0
    """Of the cases; dropped: of their lesions."""


TESTS = (
    CorruptedTest(CLEAN),
    *(CorruptedTest(f"sequences {mm} mm aside", misregistration=mm) for mm in (1, 2, 3)),
    *(CorruptedTest(f"masks {kind} 3 mm", mask_noise=kind, distance=3.0) for kind in ("eroded", "dilated", "shifted")),
    CorruptedTest("masks without 30 % of lesions", mask_noise="dropped", share=0.3),
)


def corrupted_rows(setup: RunSetup) -> pd.DataFrame:
    """Dice of each region of the test cases in each of `TESTS`, on the prepared grid; kept in the run folder, made once.

    Returns:
        case, subject, test, region, dice (NaN where the region is not in the mask). Masks that are wrong by less than a voxel are
        left out.

    Raises:
        ParameterError: a method that does not segment.
    """
    if SEGMENTATION not in card(setup.parameters.method).tasks:
        raise ParameterError(f"{setup.parameters.method} does not segment: there is no Dice to compare")
    path = setup.run.folder / CORRUPTED_FILE
    if path.is_file():
        return pd.read_parquet(path)
    held_out, rows = setup.cases_by_split["test"], []
    for _, row in setup.progress.over(held_out.iterrows(), "corrupting", len(held_out)):
        case = setup.prepared.case(row["case"])
        if not case.label_set:
            continue
        truth, clean = np.asarray(case.labels()), predicted_labels(setup, case)
        there = dict(zip(case.modalities, case.present, strict=True))
        for test in TESTS:
            predicted, reference = clean, truth
            if test.misregistration:
                shown = [name for name in setup.modalities if there.get(name)]
                errors = registration_errors(setup.parameters.seed, case.name, shown, test.misregistration)
                predicted = predicted_labels(setup, MisregisteredCase(case.folder, errors))
            if test.mask_noise != "none":
                if 0 < test.distance < setup.parameters.spacing:
                    continue
                noisy = noisy_labels(
                    case, box_centre(case.shape), case.shape, kind=test.mask_noise, distance=test.distance, share=test.share,
                    seed=setup.parameters.seed,
                )  # fmt: skip
                assert noisy is not None
                reference = noisy
            rows += [
                (case.name, row["subject"], test.name, region, region_dice(predicted, reference, region))
                for region in regions_of(case.label_set)
            ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_parquet(path, table)
    register(setup.run.folder, CORRUPTED_FILE)
    return table


def predicted_labels(setup: RunSetup, case: PreparedCase) -> np.ndarray:
    """What the trained network calls each voxel of a prepared case, uint8, as in the ordinary prediction."""
    predicted = predict_case(
        setup.trained_model(), case, modalities=setup.modalities, present=setup.shown_in("test"), patch=setup.patch,
        device=setup.device, **setup.parameters.inference(),
    ).labels()  # fmt: skip
    assert predicted is not None
    return predicted


def corrupted_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of each test and region with its 95 % interval over subjects, and its difference from the clean one.

    Args:
        rows: of `corrupted_rows`.

    Returns:
        test, region, value, low, high, n (cases whose mask has the region), change: mean difference from `CLEAN` over the cases
        that both know; in the order of `TESTS`.
    """
    found = []
    for region, part in rows.groupby("region", sort=False):
        wide = part.pivot(index=["subject", "case"], columns="test", values="dice")
        wide = wide[[test.name for test in TESTS if test.name in wide]]
        subjects = wide.index.get_level_values("subject").to_numpy().astype(str)
        intervals = mean_intervals(wide.to_numpy(np.float64), subjects, [metric("dice").limits] * wide.shape[1])
        for name, interval in zip(wide.columns, intervals, strict=True):
            change = float((wide[name] - wide[CLEAN]).mean())
            found.append((name, region, interval.value, interval.low, interval.high, interval.n, change))
    table = pd.DataFrame(found, columns=["test", "region", "value", "low", "high", "n", "change"])
    order = {test.name: index for index, test in enumerate(TESTS)}
    return table.sort_values("test", key=lambda names: names.map(order), kind="stable", ignore_index=True)
