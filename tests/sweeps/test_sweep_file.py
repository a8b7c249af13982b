"""The sweep file: what it expands to, and what is said where it is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError
from workbench.records.sweep_plan import SweepPlan
from workbench.setup.opening import describe_run
from workbench.setup.parameters import ExperimentParameters
from workbench.sweeps import sweep_file
from workbench.sweeps.sweep_file import TooManyRuns, plan_sweep

HEAD = "experiment: e\nmethods: [unet]\n"


def table(plan: SweepPlan) -> list[tuple[str, str, int, int]]:
    return [(cell.method, cell.condition, cell.fold, cell.seed) for cell in plan.cells]


# -- what a file expands to ------------------------------------------------------------------------------------------------


def test_one_method_is_one_run(plan) -> None:
    made = plan(HEAD)
    assert table(made) == [("unet", "baseline", 0, 0)]
    assert (made.name, made.experiment, made.ablation, made.all_folds) == ("made", "e", False, False)
    assert (made.cohort.name, made.cohort.phantom) == ("nine", True)


def test_lists_are_crossed_in_the_order_of_the_file(plan) -> None:
    made = plan(HEAD + "parameters: {size: demo, width: [4, 8], learning_rate: [1e-3, 0.01]}\n")
    assert [cell.factors for cell in made.cells] == [
        {"width": 4, "learning_rate": 0.001}, {"width": 4, "learning_rate": 0.01},
        {"width": 8, "learning_rate": 0.001}, {"width": 8, "learning_rate": 0.01},
    ]  # fmt: skip
    assert made.cells[0].condition == "width=4, learning_rate=0.001"
    assert made.cells[0].parameters == {
        "size": "demo", "width": 4, "learning_rate": 0.001, "experiment": "e", "fold": 0, "seed": 0,
    }  # fmt: skip


def test_zipped_lists_move_together_and_are_crossed_with_the_others(plan) -> None:
    made = plan(HEAD + "parameters: {width: [4, 8]}\nzip: {batch_size: [1, 2], learning_rate: [1e-3, 2e-3]}\n")
    assert [tuple(cell.factors.values()) for cell in made.cells] == [(4, 1, 0.001), (4, 2, 0.002), (8, 1, 0.001), (8, 2, 0.002)]


def test_excluded_combinations_go(plan) -> None:
    made = plan(
        "experiment: e\nmethods: [unet, segresnet]\nparameters: {width: [8, 16], epochs: [1, 2]}\nfolds: [0, 1]\n"
        "exclude: [{width: 16, epochs: 2}, {method: segresnet, width: 8}, {fold: 1, epochs: 1}]\n"
    )
    kept = [(cell.method, cell.factors["width"], cell.factors["epochs"], cell.fold) for cell in made.cells]
    assert kept == [
        ("unet", 8, 1, 0), ("unet", 8, 2, 0), ("unet", 8, 2, 1), ("unet", 16, 1, 0), ("segresnet", 16, 1, 0),
    ]  # fmt: skip


def test_included_combinations_come_on_top_of_the_common_values(plan) -> None:
    made = plan(
        HEAD + "parameters: {size: demo, width: [4, 8]}\nfolds: [0, 1]\nseeds: [0, 3]\n"
        "include:\n  - {method: segresnet, fold: 1, seed: 3, width: 16}\n  - {width: 12, condition: odd, seed: 0}\n"
    )
    assert table(made)[8:] == [("segresnet", "width=16", 1, 3), ("unet", "odd", 0, 0), ("unet", "odd", 1, 0)]
    assert made.cells[8].parameters["size"] == "demo"


@pytest.mark.parametrize(
    ("folds", "found"), [("all", [0, 1, 2]), ("2", [2]), ("[0, 2]", [0, 2]), ("[1]", [1])], ids=["all", "one", "list", "single"]
)
def test_folds(plan, folds: str, found: list[int]) -> None:
    made = plan(HEAD + f"folds: {folds}\n")
    assert [cell.fold for cell in made.cells] == found
    assert made.all_folds is (folds == "all")


def test_seeds(plan) -> None:
    assert [cell.seed for cell in plan(HEAD + "seeds: [4, 2]\nfolds: [0, 1]\n").cells] == [4, 2, 4, 2]
    assert [cell.seed for cell in plan(HEAD + "seeds: 7\n").cells] == [7]


def test_an_ablation_within_crossed_parameters(plan) -> None:
    made = plan(
        HEAD + "parameters: {size: demo, width: [4, 8]}\nfolds: [0, 1]\n"
        "ablation:\n  baseline: {epochs: 2}\n  switches:\n    longer: {epochs: 4}\n    plain: {deep_supervision: false}\n"
    )
    assert made.ablation
    assert Counter((cell.condition, cell.factors["width"]) for cell in made.cells) == {
        (condition, width): 2 for condition in ("baseline", "longer", "plain") for width in (4, 8)
    }
    values = {cell.condition: cell.parameters for cell in made.cells}
    assert values["plain"]["epochs"] == 2
    assert values["plain"]["deep_supervision"] is False
    assert values["longer"]["epochs"] == 4


def test_numbers_and_texts_that_yaml_is_known_to_mistake(plan) -> None:
    made = plan(HEAD + "parameters: {precision: [no, bf16], learning_rate: 1e-3, markers: none, augment: false}\n")
    assert [cell.factors["precision"] for cell in made.cells] == ["no", "bf16"]
    values = made.cells[0].parameters
    assert (values["learning_rate"], values["markers"], values["augment"]) == (0.001, "none", False)


def test_ids_are_those_of_workbench_run(plan, cohort: Path, tmp_path: Path) -> None:
    cell = plan(HEAD + "parameters: {size: demo, width: 4}\nfolds: 2\nseeds: 5\n").cells[0]
    opened = Cohort.open(cohort)
    values = {"size": "demo", "width": "4", "fold": "2", "seed": "5", "experiment": "e", "runs": str(tmp_path)}
    parameters = ExperimentParameters.build("unet", {**values, "cohort": str(cohort)})
    assert cell.run == f"e/{describe_run(parameters, opened, opened.fingerprint())[0].name}"


def test_ids_do_not_depend_on_order_place_or_working_directory(plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = plan(
        "experiment: e\nmethods: [unet, segresnet]\nparameters: {size: demo, width: [8, 16], epochs: 3}\nfolds: all\n"
        "ablation: {baseline: {ema: 0.9, patience: 3}, switches: {a: {ema: 0.0}, b: {augment: false, clip: 0.0}}}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    other = plan(
        "ablation: {switches: {b: {clip: 0, augment: false}, a: {ema: 0}}, baseline: {patience: 3, ema: 9e-1}}\n"
        "folds: [2, 0, 1]\n"
        "parameters: {epochs: 3, width: [16, 8], size: demo}\nmethods: [segresnet, unet]\nexperiment: e\n",
        "deeper/down/other.yaml",
    )
    ids = [{(c.method, c.condition, c.factors["width"], c.fold): c.run for c in made.cells} for made in (one, other)]
    assert ids[0] == ids[1]
    assert len(set(ids[0].values())) == len(one.cells) == 36


def test_paths_are_relative_to_the_file(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab" / "sweeps" / "a.yaml"
    path.parent.mkdir(parents=True)
    (tmp_path / "lab" / "cohort").symlink_to(cohort)
    (tmp_path / "lab" / "weights.safetensors").write_bytes(b"weights")
    path.write_text(
        "experiment: e\nmethods: [amaes]\ncohort: ../cohort\nruns: ../results\nparameters: {size: demo}\n"
        "ablation: {switches: {pretrained: {pretrained: ../weights.safetensors}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    made, runs = plan_sweep("lab/sweeps/a.yaml")
    assert runs == tmp_path / "lab" / "results"
    assert (runs / made.file).resolve() == path
    assert (runs / made.cohort.path).resolve() == cohort.resolve()
    assert made.cells[1].parameters["pretrained"] == str(tmp_path / "lab" / "weights.safetensors")
    assert plan_sweep(path, runs=tmp_path / "others")[1] == tmp_path / "others"
    path.write_text(path.read_text().replace("runs: ../results\n", ""))
    assert plan_sweep(path)[1] == tmp_path / "runs"  # as for all commands: in the working directory


def test_another_experiment_makes_a_plan_of_its_own(plan) -> None:
    made = plan(HEAD, experiment="night-1")
    assert (made.name, made.experiment, made.cells[0].run.split("/")[0]) == ("made-night-1", "night-1", "night-1")
    assert plan(HEAD, experiment="e").name == "made"
    with pytest.raises(ParameterError, match="experiment 'a/b' can only have"):
        plan(HEAD, experiment="a/b")


# -- what is said where it is wrong ----------------------------------------------------------------------------------------


SWITCHED = HEAD + "parameters: {size: demo}\nablation:\n  switches:\n    "


WRONG = {
    "unknown parameter": (HEAD + "parameters: {wdith: 8}\n", r"unet \(baseline\): .*'wdith' is unknown .*: did you mean 'width'"),
    "unknown to one of two": (
        "experiment: e\nmethods: [unet, mgmt_net]\nparameters: {levels: 4}\n",
        r"mgmt_net \(baseline\): parameter 'levels' is unknown to mgmt_net",
    ),
    "ill-typed": (HEAD + "parameters: {epochs: many}\n", r"parameter 'epochs' = 'many': .*integer"),
    "ill-typed in a grid": (HEAD + "parameters: {epochs: [1, 2.5]}\n", r"unet \(epochs=2.5\): parameter 'epochs' = 2.5"),
    "out of range": (HEAD + "parameters: {learning_rate: -0.5}\n", "'learning_rate' must be positive"),
    "not finite": (HEAD + "parameters: {learning_rate: .nan}\n", "parameter 'learning_rate' = nan"),
    "no such choice": (HEAD + "parameters: {optimiser: adam}\n", "parameter 'optimiser' = 'adam': .*'adamw'"),
    "a date for a number": (HEAD + "parameters: {epochs: 2026-01-01}\n", "parameter 'epochs' = '2026-01-01'"),
    "no where a number is meant": (HEAD + "parameters: {epochs: no}\n", "parameter 'epochs' = 'no'"),
    "truth where a text is meant": (HEAD + "parameters: {precision: false}\n", "parameter 'precision' = False: .*'no'"),
    "number where a text is meant": (HEAD + "parameters: {modalities: 1}\n", "parameter 'modalities' = 1: .*string"),
    "options that do not go together": (
        "experiment: e\nmethods: [masm]\nparameters: {backbone: swin_unetr, width: 16}\n",
        "options of masm: SwinUNETR needs a 'width'",
    ),
    "unknown method": ("experiment: e\nmethods: [unte]\n", "unte"),
    "no methods": ("experiment: e\n", "`methods` is empty"),
    "methods not a list": ("experiment: e\nmethods: unet\n", r"`methods` must be a list of methods.*found \"unet\""),
    "method twice": ("experiment: e\nmethods: [unet, unet]\n", "'methods' lists 'unet' twice"),
    "no experiment": ("methods: [unet]\n", "`experiment` is missing"),
    "experiment is a number": ("experiment: 2024\nmethods: [unet]\n", "`experiment` must be a text.*in quotes.*found 2024"),
    "experiment is a path": ("experiment: a/b\nmethods: [unet]\n", "`experiment` must be"),
    "unknown key": (HEAD + "seed: [1]\n", "`seed` is no key of a sweep: did you mean `seeds`"),
    "parameter at the top": (HEAD + "epochs: 3\n", "`epochs` is no key of a sweep: it belongs under `parameters`"),
    "nonsense key": (HEAD + "qqqqqq: 3\n", "`qqqqqq` is no key of a sweep: there are name, description"),
    "unknown key of an ablation": (HEAD + "ablation: {switch: {a: {width: 8}}}\n", "`ablation.switch` is no key.*`switches`"),
    "alias of itself": (HEAD + "description: &a [*a]\n", r"is not YAML: an alias .* stands inside what it is an alias of"),
    "aliases of aliases": (
        "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else '1'] * 9)}]\n" for n in range(12)) + HEAD + "seeds: *x11\n",
        r"`seeds.0` must be a seed .*found .{1,200}(\n|$)",
    ),
    "key twice": (HEAD + "parameters: {epochs: 3, epochs: 4}\n", "is not YAML: line 3: key 'epochs' stands here"),
    "section twice": (HEAD + "parameters: {epochs: 3}\nparameters: {width: 4}\n", "line 4: key 'parameters' .* is in line 3"),
    "tab": (HEAD + "parameters:\n\tepochs: 3\n", "line 4.*spaces, not with tabs"),
    "broken": (HEAD + "parameters: {epochs: [1, 2}\n", "is not YAML: line 3"),
    "empty": ("", "is empty: it needs at least"),
    "comment only": ("# nothing\n", "is empty"),
    "list": ("- unet\n", "holds a list: it must hold keys"),
    "one value": ("unet\n", "holds one value"),
    "empty list": (HEAD + "parameters: {epochs: []}\n", "'epochs' is an empty list: the grid has no run"),
    "no folds": (HEAD + "folds: []\n", "'folds' is an empty list"),
    "no seeds": (HEAD + "seeds: []\n", "'seeds' is an empty list"),
    "no value": (HEAD + "parameters:\n  epochs:\n", "`parameters.epochs` has no value: give it one, or leave the line out"),
    "no value in a list": (HEAD + "parameters: {epochs: [1, null]}\n", "`parameters.epochs.1` has no value"),
    "list in a list": (HEAD + "parameters: {epochs: [[1, 2]]}\n", r"`parameters.epochs.0` must be .*found \[1, 2\]"),
    "mapping as a value": (HEAD + "parameters: {epochs: {a: 1}}\n", "`parameters.epochs` must be"),
    "value twice": (HEAD + "parameters: {learning_rate: [0.001, 1e-3]}\n", "'learning_rate' lists 0.001 twice"),
    "fold is a text": (HEAD + "folds: every\n", "`folds` must be a fold, a list of folds .* or all; found \"every\""),
    "fold is true": (HEAD + "folds: true\n", "`folds` must be a fold"),
    "negative fold": (HEAD + "folds: [-1]\n", "`folds.0` must be a fold.*found -1"),
    "fold twice": (HEAD + "folds: [1, 1]\n", "'folds' lists 1 twice"),
    "fold that the cohort has not": (HEAD + "folds: [0, 3]\n", "`folds` asks for fold 3: cohort nine has folds 0 to 2"),
    "seed is a half": (HEAD + "seeds: 0.5\n", "`seeds` must be a seed"),
    "seed beyond all": (HEAD + f"seeds: [{10**23}]\n", r"`seeds.0` must be a seed .*\(0, 1, ... 4294967295\); found 1000"),
    "experiment of 300 letters": ("methods: [unet]\nexperiment: " + "e" * 300, "`experiment` must be a text .*at most 100"),
    "name of 300 letters": (HEAD + "name: " + "e" * 300 + "\n", "`name` must be a text .*at most 100"),
    "fold as a parameter": (HEAD + "parameters: {fold: 1}\n", "'fold' cannot stand .* a sweep has the key `folds`"),
    "cohort in a switch": (SWITCHED + "a: {cohort: there}\n", "'cohort' cannot stand under `ablation.switches.a`"),
    "lengths of zip": (HEAD + "zip: {epochs: [1, 2], width: [4, 8, 16]}\n", "as long as each other: epochs has 2, width has 3"),
    "zip of one value": (HEAD + "zip: {epochs: 3}\n", "`zip.epochs` must be .* found 3"),
    "zip and parameters": (HEAD + "parameters: {width: 4}\nzip: {width: [8]}\n", "'width' stands under `parameters` and"),
    "everything excluded": (HEAD + "parameters: {epochs: [1, 2]}\nexclude: [{method: unet}]\n", "takes everything away"),
    "exclude that meets nothing": (HEAD + "parameters: {epochs: [1, 2]}\nexclude: [{epochs: 3}]\n", "epochs=3 takes nothing"),
    "true is not 1": (HEAD + "parameters: {patience: [1, 2]}\nexclude: [{patience: true}]\n", "patience=True takes nothing"),
    "include of a fold that is not run": (HEAD + "include: [{width: 8, fold: 2}]\n", "width=8, fold=2 adds nothing"),
    "include without a method": ("experiment: e\ninclude: [{width: 8}]\n", "`methods` is empty"),
    "include of runs": (HEAD + "include: [{runs: there}]\n", "'runs' cannot stand under `include`"),
    "no switches": (HEAD + "ablation: {baseline: {width: 8}}\n", "`ablation.switches` is missing: must be `baseline"),
    "empty switches": (HEAD + "ablation: {switches: {}}\n", "`ablation.switches` is empty"),
    "switch without a change": (SWITCHED + "a: {}\n", "switch 'a' changes nothing"),
    "switch without a value": (SWITCHED + "a:\n", "`ablation.switches.a` has no value"),
    "switch called baseline": (SWITCHED + "baseline: {width: 4}\n", "cannot be called 'baseline'"),
    "switch that sets what is set": (SWITCHED + "a: {size: demo}\n", "switch 'a' sets 'size' to 'demo', which"),
    "switch that is the default": (
        SWITCHED + "a: {augment: true}\n", r"'baseline' .* unet 'a' .*same run: augment comes out .*\nTake one .*`--without`",
    ),
    "switch of 300 letters": (SWITCHED + "a" * 300 + ": {width: 4}\n", "condition 'a{30}…' has 300 letters"),
    "two switches alike": (SWITCHED + "a: {width: 4}\n    b: {width: 4.0}\n", "unet 'a' .* and unet 'b' .* are the same run"),
    "switch of a crossed parameter": (
        HEAD + "parameters: {width: [4, 8]}\nablation: {switches: {a: {width: 16}}}\n",
        "`ablation.switches.a` sets 'width', whose values are crossed",
    ),
    "switch with a list": (SWITCHED + "a: {width: [4, 8]}\n", "`ablation.switches.a.width` must be"),
    "switch unknown to one method": (
        "experiment: e\nmethods: [unet, mts_unet]\nablation: {switches: {alone: {streams: tafe}}}\n",
        r"unet \(alone\): parameter 'streams' is unknown to unet",
    ),
    "radiomics in a grid of networks": (
        "experiment: e\nmethods: [unet, radiomics]\nparameters: {epochs: [1, 2]}\n",
        r"radiomics \(epochs=1; epochs=2\): parameter 'epochs' is one of networks",
    ),
    "sequence that the cohort has not": (HEAD + "parameters: {modalities: 't1,pd'}\n", "cohort nine has no pd; it has t1, t1c"),
    "file that is not there": (
        "experiment: e\nmethods: [amaes]\nparameters: {pretrained: nowhere.safetensors}\n",
        r"'pretrained': the file /.*/nowhere.safetensors cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(plan, case: str) -> None:
    text, said = WRONG[case]
    with pytest.raises(ParameterError, match=said) as caught:
        plan(text)
    assert "made.yaml" in str(caught.value)
    assert "validation error" not in str(caught.value).lower()


def test_every_problem_is_named_once_with_its_conditions(plan) -> None:
    with pytest.raises(ParameterError) as caught:
        plan(
            "experiment: e\nmethods: [unet, mts_unet]\nparameters: {wdith: 3, epochs: [1, 2, 3, 4, 5]}\n"
            "ablation: {switches: {a: {gate: none}}}\n"
        )
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 3
    assert "epochs=1, baseline; epochs=1, a; epochs=2, baseline and 7 more" in lines[0]
    assert lines[1].startswith("unet (epochs=1, a; epochs=2, a; epochs=3, a and 2 more): parameter 'gate' is unknown to unet")


def test_a_runs_folder_that_is_a_file(plan, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(HEAD)
    (tmp_path / "notes").touch()
    for runs in (tmp_path / "notes", tmp_path / "notes" / "runs"):
        with pytest.raises(ParameterError, match=r"notes is a file; choose another --runs folder"):
            plan_sweep(tmp_path / "sweep.yaml", runs=runs, cohort=cohort)


def test_a_cohort_that_is_not_there(plan) -> None:
    with pytest.raises(ParameterError, match=r"made\.yaml: `cohort`: .*relative to the file; `--cohort` names another"):
        plan(HEAD + "cohort: ../nowhere\n", given=False)


def test_a_million_runs_are_asked_about_before_anything_is_looked_at(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    ten = list(range(1, 11))
    text = (
        HEAD + f"cohort: ../nowhere\nparameters: {{epochs: {ten}, width: {ten}, levels: {ten}, patience: {ten}}}\nseeds: {ten}\n"
    )
    monkeypatch.setattr(sweep_file, "_crossed", lambda *_: pytest.fail("it was expanded"))
    with pytest.raises(TooManyRuns, match=r"asks for 1,000,000 runs.*`--yes`") as caught:
        plan(text + "folds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n", given=False)
    assert caught.value.runs == 1_000_000


def test_folds_count_once_the_cohort_is_known(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_file, "MANY", 5)
    text = HEAD + "parameters: {epochs: [1, 2]}\nfolds: all\n"
    with pytest.raises(TooManyRuns, match="asks for 6 runs"):
        plan(text)
    assert len(plan(text, sure=True).cells) == 6


def test_a_mistake_is_found_before_a_phantom_is_made(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_file, "open_cohort", lambda _: pytest.fail("a phantom was made"))
    with pytest.raises(ParameterError, match="'wdith'"):
        plan(HEAD + "parameters: {wdith: 8}\n", given=False)


@pytest.mark.parametrize(
    "text",
    [
        "parameters: {size: [demo, paper]}\n",
        "zip: {size: [demo, paper]}\n",
        "parameters: {size: demo}\ninclude: [{size: paper}]\n",
        "ablation: {switches: {small: {size: demo}}}\n",
    ],
)
def test_runs_of_two_sizes_need_a_cohort(plan, text: str) -> None:
    with pytest.raises(ParameterError, match="runs of several sizes need a `cohort` of their own"):
        plan(HEAD + text, given=False)


def test_the_embedded_phantom_is_that_of_the_size(plan, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sweep_file, "open_cohort", lambda parameters: asked.append(parameters.size) or Cohort.open(cohort))
    plan(HEAD + "ablation: {baseline: {size: demo}, switches: {a: {width: 4}}}\n", given=False)
    plan(HEAD, given=False)
    assert asked == ["demo", "paper"]


def test_a_value_that_a_sweep_names_counts_under_size_demo_too(plan) -> None:
    """Two backbones are the paper's: named in the file or on the command line they stay two, and one is what demo makes of it."""
    head = "experiment: e\nmethods: [mts_unet]\n"
    unsaid = plan(head + "parameters: {size: demo}\n").cells[0].run
    crossed = plan(head + "parameters: {size: demo, backbones: [1, 2]}\n")
    assert crossed.cells[0].run == unsaid
    assert len({cell.run for cell in crossed.cells}) == 2
