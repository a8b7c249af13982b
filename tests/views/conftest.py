"""What the views' tests read: a run folder, and the differences of an ablation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.evaluation.ablation import Deltas
from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="session")
def case_run(
    tiny_cohort: Cohort, make_case_run: Callable[[Cohort, Path], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run with predictions over the tiny cohort; see tests/case_run.py."""
    return make_case_run(tiny_cohort, tmp_path_factory.mktemp("case_runs"))


@pytest.fixture
def deltas() -> Deltas:
    """What three switches of a method change, by hand: one clearly harms, one is refused, one has no finished pair."""
    named = {"block": "unet", "arm": "no_attention", "cells": 2, "planned": 2, "seeds": 1, "remark": ""}
    rows = [
        {**named, "of": "WT", "metric": "dice", "value_reference": 0.8, "value": 0.7, "difference": -0.1, "low": -0.15,
         "high": -0.05, "p": 0.01, "p_holm": 0.02, "shift": -0.09, "shift_low": -0.14, "shift_high": -0.04, "p_wilcoxon": 0.0004,
         "better": 0.1, "worse": 0.85, "n": 60, "n_subjects": 40, "too_few": ""},
        {**named, "of": "WT", "metric": "hd95", "value_reference": 5.0, "value": 7.0, "difference": 2.0, "low": -1.0,
         "high": 5.0, "p": 0.2, "p_holm": 0.2, "shift": 1.0, "shift_low": -0.5, "shift_high": 2.5, "p_wilcoxon": 0.12,
         "better": 0.4, "worse": 0.6, "n": 10, "n_subjects": 8, "too_few": "8 subjects: p could not have come out below 0.1"},
        {**named, "of": "idh:mutant", "metric": "auc", "value_reference": 0.9, "value": float("nan"),
         "difference": float("nan"), "low": float("nan"), "high": float("nan"), "p": float("nan"), "p_holm": float("nan"),
         **dict.fromkeys(("shift", "shift_low", "shift_high", "p_wilcoxon", "better", "worse"), float("nan")), "n": 8,
         "n_subjects": 8, "too_few": ""},
    ]  # fmt: skip
    line = {"block": "unet", "planned": 2, "seeds": 1, "folds": 2, "remark": ""}
    arms = [
        line | {"arm": "no_attention", "cells": 2, "refused": ""},
        line | {"arm": "wider", "cells": 1, "refused": "other cases"},
        line | {"arm": "no_dropout", "cells": 0, "refused": ""},
    ]
    return Deltas(pd.DataFrame(rows), pd.DataFrame(arms))
