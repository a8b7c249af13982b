"""`workbench sweep` and its options: what the command line changes in a file, and what would do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import ParameterError
from workbench.records.sweep_plan import SweepPlan, read_plan, write_plan
from workbench.sweeps.overrides import Overrides

HEAD = "experiment: e\nmethods: [unet]\n"


FILE = (
    "experiment: e\nmethods: [unet]\nparameters: {epochs: 30, spacing: 1.0}\nfolds: all\nseeds: [0, 1]\n"
    "ablation: {baseline: {patience: 5}, switches: {a: {width: 4}, b: {augment: false}}}\n"
    "include: [{condition: longer, epochs: 60}, {condition: narrow, width: 12}]\n"
)


def table(plan: SweepPlan) -> list[tuple[str, str, int, int]]:
    return [(cell.method, cell.condition, cell.fold, cell.seed) for cell in plan.cells]


def given(**values: str) -> Overrides:
    return Overrides(values)


def test_an_overridden_value_reaches_every_run_and_makes_a_plan_and_an_experiment_of_its_own(plan) -> None:
    whole, tried = plan(FILE), plan(FILE, overrides=given(size="demo", patience="0", spacing="-1"))
    values = {"size": "demo", "patience": 0, "spacing": -1.0, "experiment": tried.experiment}
    assert [cell.parameters for cell in tried.cells] == [{**cell.parameters, **values} for cell in whole.cells]
    assert table(tried) == table(whole)
    assert tried.name != whole.name
    assert not {cell.run for cell in tried.cells} & {cell.run for cell in whole.cells}
    demo = plan(FILE, overrides=given(size="demo"))
    assert (demo.name, demo.experiment) == ("made-size-demo", "e-size-demo")
    elsewhere = plan(FILE, overrides=given(size="demo"), experiment="x")
    assert (elsewhere.name, elsewhere.experiment) == ("made-size-demo-x", "x")


def test_the_same_overrides_join_the_same_plan_however_they_are_written(plan, tmp_path: Path) -> None:
    one = plan(FILE, overrides=given(spacing="3", clip="2"))
    assert one == plan(FILE, overrides=given(clip="2.0", spacing="3.0"))
    assert one.name == "made-clip-2.0-spacing-3.0"
    assert one.given == "-p clip=2.0 -p spacing=3.0"
    assert len({plan(FILE, overrides=given(modalities=text)).name for text in ("t1,t1c", "t1,t1c", "t1,t2", "t1")}) == 3
    assert plan(FILE, overrides=Overrides({"spacing": "1"}, "all", "1,0")) == plan(FILE)  # what the file says anyway
    (tmp_path / "w.safetensors").write_bytes(b"w")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # a path of the command line is relative to where one stands
        cell = plan("experiment: e\nmethods: [amaes]\n", "d/s.yaml", overrides=given(pretrained="w.safetensors")).cells[0]
    assert cell.parameters["pretrained"] == str(tmp_path / "w.safetensors")


def test_fewer_folds_seeds_and_conditions_are_the_files_own_runs_in_a_plan_of_their_own(plan) -> None:
    whole = plan(FILE)
    assert plan(FILE, overrides=Overrides(folds="2,0", seeds="1")).name == "made-folds-0.2-seeds-1"
    fewer = plan(FILE, overrides=Overrides(folds="2,0", seeds="1", without=("longer", "a")))
    assert table(fewer) == [one for one in table(whole) if one[1] in ("baseline", "b", "narrow") and one[2:] in ((0, 1), (2, 1))]
    assert {cell.run for cell in fewer.cells} < {cell.run for cell in whole.cells}
    assert not fewer.all_folds
    assert fewer.given == "--folds 0,2 --seeds 1 --without a --without longer"
    number = plan(FILE.replace("longer", "5"), overrides=Overrides(folds="0", without=("5", "a", "5")))
    assert {cell.condition for cell in number.cells} == {"baseline", "b", "narrow"}
    assert number.given == "--folds 0 --without 5 --without a"
    assert plan(FILE, overrides=Overrides({"size": "demo"}, "0")).name == "made-size-demo-folds-0"
    assert plan(HEAD, overrides=Overrides(folds="all")).all_folds


def test_what_was_pooled_of_other_runs_is_forgotten(plan, tmp_path: Path) -> None:
    made = plan(FILE)
    write_plan(tmp_path, made.model_copy(update={"pooled": ("e/pooled",)}))
    write_plan(tmp_path, made)
    assert read_plan(tmp_path, "made").pooled == ("e/pooled",)
    write_plan(tmp_path, plan(FILE.replace("epochs: 30", "epochs: 31")))
    assert read_plan(tmp_path, "made").pooled == ()


CROSSED = HEAD + "parameters: {width: [4, 8]}\nzip: {epochs: [1, 2]}\nexclude: [{width: 4, epochs: 1}]\n"


OVERRIDDEN = {
    "crossed": (CROSSED, given(width="4"), r"-p width: the file itself varies 'width', in `parameters.width`, `exclude`"),
    "zipped": (CROSSED, given(epochs="4"), "-p epochs: the file itself varies 'epochs', in `zip.epochs`, `exclude`"),
    "switched": (FILE, given(augment="true"), "-p augment: .* in `ablation.switches.b`; one value for all"),
    "switch that changes nothing any more": (
        "experiment: e\nmethods: [brainfm_pretrain]\nablation: {switches: {light: {decoder: light}}}\n", given(size="demo"),
        r"with -p size=demo:\n.*'baseline' .* and .*'light' .*: decoder comes out the same .*\n.*`--without` leaves a switch out",
    ),
    "included row that is another": (
        FILE.replace("narrow, width: 12", "longest, epochs: 90"), given(epochs="9"),
        "with -p epochs=9:\n.*'longer' .*'longest' .*same run",
    ),
    "fold": (FILE, given(fold="1"), "-p fold: a sweep has --folds for that"),
    "cohort": (FILE, given(cohort="there"), "-p cohort: a sweep has --cohort"),
    "unknown": (FILE, given(wdith="1"), "with -p wdith=1:\n.*\n.*'wdith' is unknown to unet: did you mean 'width'"),
    "ill-typed": (FILE, given(batch_size="many"), "with -p batch_size=many:\n.*\n.*'batch_size' = 'many': .*integer"),
    "not finite": (FILE, given(learning_rate="nan", modalities="t1,t2"), "'learning_rate' = nan"),
    "fold that the cohort has not": (FILE, Overrides(folds="3"), "with --folds 3:\n.*cohort nine has folds 0 to 2"),
    "folds in words": (FILE, Overrides(folds="first"), "--folds first: expected numbers with commas, such as 0,1, or all"),
    "seed twice": (FILE, Overrides(seeds="1,1"), "'seeds' lists 1 twice"),
    "seed beyond all": (FILE, Overrides(seeds="4294967296"), "'seed' = 4294967296: .*less than or equal to 4294967295"),
    "no such switch": (FILE, Overrides(without=("c",)), "--without c: .* there are: a, b, longer, narrow"),
    "no switch left": (FILE, Overrides(without=("a", "b")), "`ablation.switches` is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", OVERRIDDEN)
def test_what_cannot_be_overridden_is_said(plan, case: str) -> None:
    text, overrides, said = OVERRIDDEN[case]
    with pytest.raises(ParameterError, match=said):
        plan(text, overrides=overrides)
