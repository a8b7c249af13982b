"""Paired deltas of a factorial against SciPy, statsmodels and brute force; what is refused; what is incomplete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from workbench.errors import ParameterError
from workbench.evaluation.ablation import Cell, ablation_deltas, join_deltas
from workbench.evaluation.delong import delong
from workbench.evaluation.intervals import difference_intervals
from workbench.evaluation.paired_tests import sign_flip

FOLDS, SEEDS, PER_FOLD = 3, 2, 14
EFFECTS = {"baseline": 0.0, "no_attention": -0.04, "wider": 0.0}


def cell(arm: str, fold: int, seed: int, *, split: str = "test", sessions: int = 1) -> Cell:
    """Subjects of a fold with their Dice and HD95; the arm's effect is known."""
    rng = np.random.default_rng(fold if split == "test" else 99)  # the patients: of the fold
    subjects = [f"s{fold if split == 'test' else 9}{index:02d}" for index in range(PER_FOLD) for _ in range(sessions)]
    ease, truth = rng.normal(0, 0.05, len(subjects)), (rng.random(len(subjects)) < 0.5).astype(float)
    noise = np.random.default_rng([fold, seed, sum(map(ord, arm))])  # the training
    head = {"case": [f"{name}-{index % sessions}" for index, name in enumerate(subjects)], "subject": subjects, "split": split,
            "present": "t1+flair", "site": "a"}  # fmt: skip
    dice = 0.8 + ease + EFFECTS[arm] + noise.normal(0, 0.03, len(subjects))
    parts = [pd.DataFrame(head | {"region": "WT", "metric": m, "value": v, "n_truth": 100}) for m, v in
             (("dice", dice), ("hd95", 20 * (1 - dice)))]  # fmt: skip
    logit = (truth - 0.5) * 2 + 8 * EFFECTS[arm] * (truth - 0.5) + noise.normal(0, 1.2, len(subjects)) + fold
    markers = pd.DataFrame(
        head | {"marker": "idh", "class": "mutant", "truth": truth, "logit": logit, "probability": expit(logit)}
    )
    return Cell("unet", arm, fold, seed, f"sweep/{arm}{fold}{seed}", pd.concat(parts), markers, "abc", 800.0)


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [cell(arm, fold, seed) for arm in EFFECTS for fold in range(FOLDS) for seed in range(SEEDS)]


def row(found, arm: str, metric: str) -> pd.Series:
    table = found.table
    return table[(table["arm"] == arm) & (table["metric"] == metric)].iloc[0]


def values(cells: list[Cell], arm: str, metric: str = "dice") -> pd.Series:
    """case -> mean over the seeds."""
    tables = [c.metrics[c.metrics["metric"] == metric] for c in cells if c.arm == arm]
    return pd.concat(tables).groupby("case")["value"].mean().sort_index()


def test_difference_and_p_are_those_of_the_subjects_mean_over_seeds(cells: list[Cell]) -> None:
    found = ablation_deltas(cells, resamples=300)
    delta = values(cells, "no_attention") - values(cells, "baseline")
    line = row(found, "no_attention", "dice")
    assert line["difference"] == pytest.approx(delta.mean())
    assert line["value"] - line["value_reference"] == pytest.approx(delta.mean())
    assert line["p"] == sign_flip(delta.to_numpy()[:, None])[0] < 0.001
    assert line["p_wilcoxon"] == pytest.approx(stats.wilcoxon(delta, method="exact").pvalue)
    assert (line["test"], line["too_few"]) == ("sign flips", "")
    assert line["shift_low"] < line["shift"] < line["shift_high"] < 0
    assert (line["better"], line["worse"]) == ((delta > 0).mean(), (delta < 0).mean())
    distance = row(found, "no_attention", "hd95")
    assert (distance["better"], distance["worse"]) == (line["better"], line["worse"]), "of a distance, less is better"
    assert line["low"] < -0.04 < line["high"]
    assert line["high"] < 0
    assert (line["n"], line["n_subjects"], line["cells"], line["planned"], line["seeds"]) == (42, 42, 6, 6, 2)
    null = row(found, "wider", "dice")
    assert null["low"] < 0 < null["high"]


def test_one_seed_has_the_interval_of_the_other_comparisons(cells: list[Cell]) -> None:
    single = [c for c in cells if c.seed == 0]
    line = row(ablation_deltas(single, resamples=500), "no_attention", "dice")
    delta = values(single, "no_attention") - values(single, "baseline")
    interval = difference_intervals(delta.to_numpy()[:, None], [case[:3] + case[3] for case in delta.index])[0]
    assert (line["low"], line["high"]) == pytest.approx((interval.low, interval.high))


def test_the_family_is_every_p_of_the_table(cells: list[Cell]) -> None:
    found = ablation_deltas(cells, resamples=100)
    assert sorted(found.table["metric"].unique()) == ["auc", "brier", "dice", "hd95"]
    assert found.family == 2 * 3, "two switches; dice, HD95 and AUC are tested, the Brier score is not"
    tested = found.table[found.table["p"].notna()]
    assert tested["p_holm"].tolist() == pytest.approx(multipletests(tested["p"], method="holm")[1])
    assert found.table.loc[found.table["metric"] == "brier", "p_holm"].isna().all()


def test_auc_compares_cases_of_one_fold_only(cells: list[Cell]) -> None:
    """Scores of fold k are shifted by k: pooled they would rank folds, not patients."""
    line = row(ablation_deltas(cells, resamples=200), "no_attention", "auc")
    areas, pairs = {"baseline": [], "no_attention": []}, []
    for fold in range(FOLDS):
        for arm, kept in areas.items():
            kept.append(np.mean([roc_auc_score(c.markers["truth"], c.markers["probability"])
                                 for c in cells if c.arm == arm and c.fold == fold]))  # fmt: skip
        truth = next(c for c in cells if c.fold == fold).markers["truth"]
        pairs.append(truth.sum() * (1 - truth).sum())
    expected = {arm: np.average(kept, weights=pairs) for arm, kept in areas.items()}
    assert line["value_reference"] == pytest.approx(expected["baseline"])
    assert line["value"] == pytest.approx(expected["no_attention"])
    assert line["low"] < line["difference"] < line["high"]
    assert 0 < line["p"] <= 1


def test_auc_of_one_fold_and_seed_is_tested_by_delong() -> None:
    pair = [cell(arm, 0, 0, sessions=2) for arm in ("baseline", "no_attention")]
    line = row(ablation_deltas(pair, resamples=100), "no_attention", "auc")
    a, b = (c.markers for c in pair)
    oracle = delong(a["truth"], b["probability"], a["probability"], a["subject"].tolist())
    assert (line["difference"], line["p"]) == pytest.approx((oracle.difference, oracle.p))


def test_variances_of_folds_add_up(cells: list[Cell]) -> None:
    single = [c for c in cells if c.seed == 0]
    line = row(ablation_deltas(single, resamples=100), "wider", "auc")
    variances, pairs, freedom = [], [], []
    for fold in range(FOLDS):
        a, b = (next(c.markers for c in single if (c.arm, c.fold) == (arm, fold)) for arm in ("baseline", "wider"))
        found = delong(a["truth"], b["probability"], a["probability"])
        variances.append((found.difference / found.t) ** 2)
        freedom.append(found.df)
        pairs.append(found.n_positive * (found.n - found.n_positive))
    parts = (np.array(pairs) / sum(pairs)) ** 2 * variances
    t = line["difference"] / np.sqrt(parts.sum())
    df = parts.sum() ** 2 / np.sum(parts**2 / freedom)  # Satterthwaite's, over the folds
    assert line["p"] == pytest.approx(2 * stats.t.sf(abs(t), df))


def test_only_the_cells_that_both_sides_have_count(cells: list[Cell]) -> None:
    holes = {("no_attention", 0, 1), ("no_attention", 1, 0), ("no_attention", 1, 1), ("baseline", 2, 0)}
    partly = [replace(c, metrics=None, markers=None) if (c.arm, c.fold, c.seed) in holes else c for c in cells]
    found = ablation_deltas(partly, outcomes=["dice"], resamples=100)
    line = row(found, "no_attention", "dice")
    assert (line["cells"], line["planned"], line["n"]) == (2, 6, 28)
    kept = [c for c in cells if (c.fold, c.seed) in {(0, 0), (2, 1)}]
    delta = values(kept, "no_attention") - values(kept, "baseline")
    assert line["difference"] == pytest.approx(delta.mean())
    assert row(found, "wider", "dice")["cells"] == 5
    nothing = ablation_deltas(
        [replace(c, metrics=None, markers=None) if c.arm == "wider" else c for c in cells], outcomes=["dice"], resamples=50
    )
    assert nothing.arms.set_index("arm").loc["wider", ["cells", "planned"]].tolist() == [0, 6]
    assert set(nothing.table["arm"]) == {"no_attention"}


def test_cases_of_unknown_truth_need_no_prediction(cells: list[Cell]) -> None:
    """A run of our own predicts them, an imported one may not."""

    def edited(c: Cell) -> Cell:
        markers = c.markers.assign(truth=c.markers["truth"].where(~c.markers["case"].str.endswith("3-0")))
        return replace(c, metrics=None, markers=markers if c.arm == "baseline" else markers.dropna(subset=["truth"]))

    line = row(ablation_deltas([edited(c) for c in cells], resamples=50), "no_attention", "brier")
    assert line["n"] == FOLDS * (PER_FOLD - 2)


def test_the_order_of_rows_and_cells_does_not_matter(cells: list[Cell]) -> None:
    shuffled = [
        replace(c, metrics=c.metrics.sample(frac=1, random_state=i), markers=c.markers.sample(frac=1, random_state=i))
        for i, c in enumerate(cells)
    ]
    first, second = ablation_deltas(cells, resamples=100).table, ablation_deltas(shuffled, resamples=100).table
    pd.testing.assert_frame_equal(first, second)


def test_sessions_of_a_subject_stay_together() -> None:
    pair = [cell(arm, 0, 0, sessions=3) for arm in ("baseline", "no_attention")]
    line = row(ablation_deltas(pair, resamples=200), "no_attention", "dice")
    delta = values(pair, "no_attention") - values(pair, "baseline")
    means = delta.groupby(delta.index.str[:4]).mean()
    assert (line["n"], line["n_subjects"]) == (42, 14)
    assert line["p"] == sign_flip(means.to_numpy()[:, None])[0]
    assert line["p_wilcoxon"] == pytest.approx(stats.wilcoxon(means, method="exact").pvalue)


def test_external_cases_are_averaged_over_the_folds_that_judged_them() -> None:
    several = [cell(arm, fold, seed, split="external") for arm in ("baseline", "wider") for fold in (0, 1) for seed in (0, 1)]
    found = ablation_deltas(several, split="external", resamples=100)
    line = row(found, "wider", "dice")
    delta = values(several, "wider") - values(several, "baseline")
    assert (line["n"], line["cells"], line["difference"]) == (14, 4, pytest.approx(delta.mean()))


@pytest.mark.parametrize("kind", ["subjects", "masks", "truth", "cohort", "probability", "seeds"])
def test_what_cannot_be_paired_is_refused_and_the_other_switch_is_not(cells: list[Cell], kind: str) -> None:
    def spoil(c: Cell) -> Cell:
        if (c.arm, c.fold, c.seed) != ("wider", 1, 1) and (kind != "seeds" or c.seed != 1 or c.fold != 1):
            return c
        metrics, markers = c.metrics.copy(), c.markers.copy()
        if kind in ("subjects", "seeds"):
            metrics = metrics[metrics["case"] != metrics["case"].iloc[0]]
        elif kind == "masks":
            metrics.loc[metrics.index[3], "n_truth"] = 7
        elif kind == "truth":
            markers["truth"] = 1 - markers["truth"]
        elif kind == "probability":
            markers.loc[markers.index[0], "probability"] = np.nan
        return replace(c, metrics=metrics, markers=markers, fingerprint="other" if kind == "cohort" else c.fingerprint)

    outcomes = ["auc"] if kind in ("truth", "probability") else ["dice"]
    found = ablation_deltas([spoil(c) for c in cells], outcomes=outcomes, resamples=50)
    said = {
        "subjects": "judged in the first run only", "masks": "different truths", "truth": "different truths",
        "cohort": "different cohorts", "probability": "probability is nan", "seeds": "seeds of fold 1",
    }[kind]  # fmt: skip
    reasons = found.arms.set_index("arm")["refused"]
    assert said in reasons["wider"]
    assert "wider" not in set(found.table["arm"])
    assert (reasons["no_attention"] == "") == (kind != "seeds"), "there it is the baseline too"
    assert len(found.refused) == (1 if kind != "seeds" else 2)


def test_budgets_and_cautions_stand_beside_the_numbers(cells: list[Cell]) -> None:
    marked = [replace(c, samples=1600.0, caution="weights saw s001") if c.arm == "wider" else c for c in cells]
    found = ablation_deltas(marked, outcomes=["dice"], resamples=50)
    remark = row(found, "wider", "dice")["remark"]
    assert "unequal budget in 6 of 6 cells, e.g. 800 and 1,600 training samples" in remark
    assert "weights saw s001" in remark
    assert row(found, "no_attention", "dice")["remark"] == ""


def test_few_cases_of_a_class_are_not_estimable(cells: list[Cell]) -> None:
    rare = [replace(c, markers=c.markers.assign(truth=[1.0, 1.0] + [0.0] * 12)) for c in cells]
    found = ablation_deltas(rare, resamples=50)
    for metric in ("auc", "brier"):
        line = row(found, "wider", metric)
        assert not line["estimable"]
        assert "6 positive and 36 negative subjects" in line["remark"]
        assert (line["n"], line["n_subjects"], line["n_positive"]) == (42, 42, 6)
        assert np.isnan(line["difference"])
    assert found.family == 4


def test_what_so_few_subjects_can_show_is_said_of_the_whole_family(cells: list[Cell]) -> None:
    few = [replace(c, metrics=c.metrics[c.metrics["subject"] < "s008"], markers=None) for c in cells if c.fold == 0]
    found = ablation_deltas(few, outcomes=["dice", "hd95"], resamples=50)
    assert set(found.table["too_few"]) == {""}, "2 / 2^8 times 4 tests"
    parts = [ablation_deltas([c for c in few if c.arm in ("baseline", arm)], resamples=50) for arm in ("wider", "no_attention")]
    whole = join_deltas(parts * 4)
    assert whole.family == 16
    said = "8 subjects: after Holm's correction over 16 tests p could not have come out below 0.12"
    assert set(whole.table["too_few"]) == {said}


def test_a_missed_regions_distance_follows_the_policy(cells: list[Cell]) -> None:
    def missing(c: Cell) -> Cell:
        metrics = c.metrics.assign(n_prediction=100)
        lost = (metrics["metric"] == "hd95") & (metrics["case"] == "s003-0") & (c.arm == "wider")
        return replace(c, markers=None, metrics=metrics.assign(
            n_prediction=metrics["n_prediction"].mask(lost, 0), value=metrics["value"].mask(lost, 500.0)
        ))  # fmt: skip

    some = [missing(c) for c in cells if c.seed == 0 and c.arm != "no_attention"]
    lines = {name: row(ablation_deltas(some, outcomes=["hd95"], penalty=name, resamples=50), "wider", "hd95")
             for name in ("grid_diagonal", "brats", "exclude")}  # fmt: skip
    assert [int(line["n"]) for line in lines.values()] == [42, 42, 41]
    assert lines["grid_diagonal"]["value"] - lines["brats"]["value"] == pytest.approx((500 - 374) / 42)
    assert lines["exclude"]["n_undefined"] == 1
    with pytest.raises(ParameterError, match="penalty 'none' is unknown"):
        ablation_deltas(some, penalty="none")


def test_a_cell_planned_twice_and_a_split_that_folds_share_are_refused(cells: list[Cell]) -> None:
    with pytest.raises(ParameterError, match="planned twice"):
        ablation_deltas([*cells, cells[0]])
    with pytest.raises(ParameterError, match="validation"):
        ablation_deltas(cells, split="validation")


def test_nothing_planned_gives_empty_tables() -> None:
    found = ablation_deltas([])
    assert len(found.table) == len(found.arms) == found.family == 0
