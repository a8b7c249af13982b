"""The table of coverage is whole, its summary is what people read, and today's statistics still do what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.science.coverage import BLOCK, KEY, LEAST, README, TABLE, TARGETS, judged, merged, run_block, summary, with_summary
from tests.science.coverage_measures import TOGETHER
from tests.science.coverage_populations import DICE, Judgements, Setting, pseudo_median, segmented
from workbench.evaluation.markers import marker_metrics


def tallies(hits: int, shown: int = 400, kind: str = "interval", samples: int = 400) -> pd.DataFrame:
    row = {"study": "segmentation", "quantity": "q", "kind": kind, "n": 15, "prevalence": 0.3, "clustered": False}
    sums = {"samples": samples, "shown": shown, "hits": hits, "above": 0, "below": 0, "no_width": 0, "width": 1.0}
    return pd.DataFrame([{**row, "statistics": "x", **sums}])


@pytest.mark.parametrize(
    ("kind", "hits", "shown", "verdict"),
    [
        ("interval", 380, 400, "ok"),
        ("interval", 350, 400, "low"),
        ("interval", 400, 400, "high"),
        ("interval", 10, 20, "not estimable"),
        ("test", 20, 400, "ok"),
        ("test", 45, 400, "high"),
        ("test", 2, 400, "low"),
        ("exact test", 2, 400, "ok"),
        ("exact test", 45, 400, "high"),
    ],
)
def test_a_rate_is_judged_by_its_target_and_the_simulation_s_error(kind: str, hits: int, shown: int, verdict: str) -> None:
    assert judged(tallies(hits, shown, kind))["verdict"].tolist() == [verdict]


def test_what_has_few_samples_is_untried_and_no_finding() -> None:
    assert judged(tallies(10, 20, samples=20))["verdict"].tolist() == ["untried"]
    assert "| untried |" in summary(tallies(10, 20, samples=20))
    assert judged(tallies(0, 0, samples=20))["verdict"].tolist() == ["not estimable"]


def test_blocks_add_up_and_do_not_depend_on_each_other() -> None:
    setting = Setting(15, 0.3, True)
    one, two = (run_block("two models, exchangeable", setting, block, 5).assign(statistics="x") for block in (0, 1))
    both = merged(one, two)
    assert both["samples"].tolist() == [10] * len(both)
    assert both["hits"].tolist() == (one["hits"] + two["hits"]).tolist()
    pd.testing.assert_frame_equal(run_block("two models, exchangeable", setting, 1, 5).assign(statistics="x"), two)
    assert not np.allclose(one["width"], two["width"])


def test_a_row_that_other_statistics_had_a_part_in_says_so() -> None:
    both = merged(tallies(300), tallies(80).assign(statistics="y"))
    assert both[["statistics", "hits", "samples"]].values.tolist() == [["several", 380, 800]]
    assert merged(tallies(300), tallies(80))["statistics"].tolist() == ["x"]


def test_the_populations_have_the_truth_that_is_said_of_them() -> None:
    setting, rng = Setting(20_000, 0.3, True), np.random.default_rng(1)
    drawn = segmented(setting, rng, setting.sessions(rng), 1)
    assert drawn.dice[~drawn.empty].mean() == pytest.approx(0.7 * DICE.mean(), abs=0.01)
    found = marker_metrics(Judgements(1.19).sample(Setting(4000, 0.3, True), rng), resamples=2).set_index("metric")["value"]
    assert found["auc"] == pytest.approx(stats.norm.cdf(1.19 / np.sqrt(2)), abs=0.02)
    assert found["calibration_slope"] == pytest.approx(1, abs=0.1)
    assert pseudo_median(0.03, False, "none") == pytest.approx(0, abs=0.002)


def test_the_summary_in_the_readme_is_that_of_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_summary(text, pd.read_parquet(TABLE)) == text
    assert "1 of 1 rows" in summary(tallies(300))


def test_every_row_of_the_table_stands_once() -> None:
    assert not pd.read_parquet(TABLE).duplicated(KEY).any()


def test_no_interval_of_the_table_has_no_width() -> None:
    table = pd.read_parquet(TABLE)
    assert not table["no_width"].sum(), table[table["no_width"] > 0]


SHORT = [
    *((study, setting) for study in TOGETHER for setting in (Setting(15, 0.3, False), Setting(30, 0.03, True))),
    *(
        (study, Setting(100, 0.3, True))
        for study in ("marker, AUC .80", "marker, AUC .98", "two markers, AUC .80 and .80", "3 seeds")
    ),
]
BLOCKS = 10


@pytest.mark.slow
@pytest.mark.parametrize(("study", "setting"), SHORT, ids=str)
def test_today_s_statistics_have_the_coverage_of_the_table(study: str, setting: Setting) -> None:
    """Other samples than the table's: its rate up to the error of both, and no worse than its target where the table is not."""
    fresh = merged(*(run_block(study, setting, 10_000 + block).assign(statistics="now") for block in range(BLOCKS)))
    table = judged(pd.read_parquet(TABLE)).set_index(["study", "quantity", "n", "prevalence", "clustered"])
    for row in judged(fresh).to_dict("records"):
        was = table.loc[(study, row["quantity"], setting.n, setting.prevalence, setting.clustered)]
        assert row["samples"] == BLOCKS * BLOCK
        if was["verdict"] == "untried":
            continue
        if "not estimable" in (row["verdict"], was["verdict"]):
            assert row["shown"] < 2 * LEAST, (row, was)
            continue
        counts = [[row["hits"], row["shown"] - row["hits"]], [was["hits"], was["shown"] - was["hits"]]]
        assert stats.fisher_exact(counts).pvalue > 1e-4, (row, was)
        if was["verdict"] == "ok":
            least, most = TARGETS[row["kind"]]
            nearest = float(np.clip(row["rate"], least, most))
            assert stats.binomtest(row["hits"], row["shown"], nearest).pvalue > 1e-4, (row, was)
