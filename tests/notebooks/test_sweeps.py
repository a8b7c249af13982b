"""The sweeps that come with the workbench: valid, no run twice, and what their comments say can be done."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort, CohortInfo
from workbench.models.catalogue import list_models
from workbench.models.registry import create_model
from workbench.records.sweep_plan import BASELINE, SweepPlan
from workbench.sampling.corruption import check_mask_noise
from workbench.setup.parameters import ExperimentParameters, applicable
from workbench.setup.sizes import size_defaults
from workbench.steps.corrupted_cases import TESTS
from workbench.sweeps.strict_yaml import read_yaml
from workbench.sweeps.sweep_file import plan_sweep

SWEEPS = Path(__file__).parents[2] / "notebooks" / "sweeps"
FILES = sorted(path.name for path in SWEEPS.glob("*.yaml"))
ABLATIONS = {
    "mts_unet.yaml": {"tafe_only", "cmd_only", "tafe_4_stages", "logit_fusion", "own_gate", "identity_blocks"},
    "mgmt_net.yaml": {"concatenation", "cnn_branch", "average_pooling", "gate_without_oedema", "identity_blocks"},
    "mome.yaml": {"no_curriculum", "single_gate", "average_of_experts"},
    "mome_plus.yaml": {"zero_dispatch", "table_dispatch"},
    "masm.yaml": {
        "aware_only", "shift_only", "no_mixers", "random_pairing", "no_mask", "no_shift", "learned_shift", "early_fusion",
        "identity_blocks",
    },
    "masm_backbones.yaml": {"aware_only", "shift_only", "no_mixers"},
    "brainfm_pretrain.yaml": {"no_regulariser", "no_imputation", "light_decoder", "layer_norm", "one_hot", "naive_masking"},
    "brainfm.yaml": {"shallow_head", "linear_head", "layer_norm", "one_hot", "naive_masking"},
    "mmformer.yaml": {"no_intra", "no_inter", "no_auxiliary", "identity_blocks"},
    "amaes_pretrain.yaml": {"plain_autoencoder", "masked_voxels_only"},
    "amaes.yaml": {"xl"},
    "m4oe.yaml": {"released_gate", "identity_blocks"},
    "brainsegfounder.yaml": {"small", "big"},
}  # fmt: skip
"""The tables of the papers, and rows that must be among their switches."""
GRID = (0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects without images, in three folds: what an expansion asks of a cohort."""
    cases = [f"{number:04d}-000" for number in range(6)]
    table = pd.DataFrame({"case": cases, "subject": [case[:4] for case in cases], "site": "here"})
    table = table.assign(t1=None, t1c=None, t2=None, flair=None, dwi=None, adc=None)
    info = CohortInfo(name="six", modalities=("t1", "t1c", "t2", "flair", "dwi", "adc"), phantom=True)
    folder = tmp_path_factory.mktemp("shipped") / "cohort"
    make_folds(Cohort.create(folder, info, table), 3)
    return folder


@pytest.fixture(scope="module")
def plans(cohort: Path) -> dict[str, SweepPlan]:
    """Every shipped file, expanded."""
    return {name: plan_sweep(SWEEPS / name, cohort=cohort, runs=cohort.parent / "runs")[0] for name in FILES}


def content_text(name: str) -> str:
    return (SWEEPS / name).read_text()


def content(name: str) -> dict[str, Any]:
    return read_yaml(content_text(name))


def switches(name: str) -> dict[str, dict[str, Any]]:
    return content(name).get("ablation", {}).get("switches", {})


def test_there_is_one_for_every_table_and_for_the_studies() -> None:
    assert set(FILES) >= {*ABLATIONS, "comparison.yaml", "modality_dropout.yaml", "nightly.yaml"}
    for name, rows in ABLATIONS.items():
        assert rows <= set(switches(name)), name


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_sweep_says_what_it_is_and_leaves_the_place_open(name: str) -> None:
    found = content(name)
    assert found["description"]
    assert found["parameters"]["size"] == ("demo" if name == "nightly.yaml" else "paper")
    assert not {"cohort", "runs"} & set(found)
    text = content_text(name)
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 130
    if name != "nightly.yaml":
        assert f"workbench sweep notebooks/sweeps/{name} --dry-run" in text


def test_every_run_is_there_once_and_every_condition_on_every_fold(plans: dict[str, SweepPlan]) -> None:
    for name, plan in plans.items():
        runs = [cell.run for cell in plan.cells]
        assert len(set(runs)) == len(runs) > 1, name
        if plan.all_folds and not any("fold" in extra for extra in content(name).get("include", [])):
            places = Counter((cell.method, cell.condition, json.dumps(cell.factors, sort_keys=True)) for cell in plan.cells)
            assert set(places.values()) == {3}, name
        for cell in plan.cells:  # nothing of the place goes into what a run is given
            assert not {"cohort", "runs"} & set(cell.parameters), name


def test_two_files_share_runs_only_where_they_say_so(plans: dict[str, SweepPlan]) -> None:
    found = Counter(run for plan in plans.values() for run in {cell.run for cell in plan.cells})
    shared = {run for run, times in found.items() if times > 1}

    def in_both(one: str, other: str) -> set[str]:
        return {cell.run for cell in plans[one].cells} & {cell.run for cell in plans[other].cells}

    backbones, losses = in_both("masm.yaml", "masm_backbones.yaml"), in_both("mts_unet.yaml", "mts_unet_losses.yaml")
    assert shared == backbones | losses
    assert len(backbones) == 4 * 3  # baseline and three switches of the U-Net, three folds
    assert len(losses) == 3 * 3  # alpha 1 with three betas, three folds


@pytest.mark.parametrize("name", [name for name in FILES if name in ABLATIONS])
def test_switches_are_options_of_the_method_and_change_what_they_name(name: str) -> None:
    found = content(name)
    (method,) = found["methods"]
    fixed = {key: value for key, value in found["parameters"].items() if not isinstance(value, list)}
    base = {**fixed, **found["ablation"].get("baseline", {})}
    before = ExperimentParameters.build(method, base).resolve()
    for switch, changes in switches(name).items():
        after = ExperimentParameters.build(method, base | changes).resolve()
        for option in changes:
            assert option in applicable(method), (switch, option)
            assert getattr(after, option) != getattr(before, option), (switch, option)


@pytest.mark.parametrize("name", FILES)
def test_rows_given_in_comments_name_options_that_exist(name: str) -> None:
    text = content_text(name)
    methods = content(name).get("methods") or [row["method"] for row in content(name)["include"]]
    rows = re.findall(r"^ *# +(?:- |[\w ]+: )(\{.*\})", text, flags=re.MULTILINE)
    for row in rows:
        options = set(read_yaml(row)) - {"fold", "condition", "method", "seed"}
        assert all(options <= set(applicable(method)) for method in methods), row


def test_comments_do_give_such_rows() -> None:
    """So that the test above looks at something."""
    texts = {name: content_text(name) for name in FILES}
    assert sum("{fold: 0, condition: pretrained, pretrained: " in text for text in texts.values()) == 2
    assert "#   ukb_weights: {encoder: small" in texts["brainsegfounder.yaml"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "nightly.yaml"])
def test_a_shipped_sweep_can_be_tried_by_the_command_in_its_comment(name: str, cohort: Path, tmp_path: Path) -> None:
    text = content_text(name).replace("\\\n#", "")
    words = shlex.split(re.search(rf"workbench (sweep notebooks/sweeps/{name} .*size=demo.*)", text)[1])
    words[1] = str(SWEEPS / name)
    words += ["--cohort", str(cohort), "--runs", str(tmp_path / "runs"), "--dry-run", "--json"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["sweep"] != Path(name).stem
    runs = document["runs"]
    assert {run["parameters"]["size"] for run in runs} == {"demo"}
    assert {run["fold"] for run in runs} == {0}
    assert not {run["parameters"]["experiment"] for run in runs} & {content(other)["experiment"] for other in FILES}
    assert not (tmp_path / "runs").exists()
    for run in runs:  # a small one
        resolved = ExperimentParameters.build(run["method"], run["parameters"]).resolve()
        assert run["method"] == "radiomics" or resolved.epochs * resolved.steps_per_epoch < 250


RECIPE = ("modality_dropout", "dropout_mode", "augmentation", "mirror", "optimiser", "learning_rate", "warmup", "clip")


def test_the_comparison_has_every_method_with_the_same_effort(plans: dict[str, SweepPlan]) -> None:
    cells = plans["comparison.yaml"].cells
    there = {card.name for card in list_models() if card.status == "available" and "pretraining" not in card.tasks}
    assert {cell.method for cell in cells} | {cell.method for cell in plans["comparison_radiomics.yaml"].cells} == there
    assert plans["comparison.yaml"].experiment == plans["comparison_radiomics.yaml"].experiment
    arms: dict[str, dict[str, ExperimentParameters]] = {}
    for cell in cells:
        arms.setdefault(cell.condition, {})[cell.method] = ExperimentParameters.build(cell.method, cell.parameters).resolve()
    own, same = arms.pop("own recipe"), arms.pop(BASELINE)
    assert not arms
    assert own.keys() == same.keys()
    effort, markers = set(), set()
    for found in (*own.values(), *same.values()):
        effort.add((found.epochs * found.steps_per_epoch * found.accumulate, found.batch_size, found.spacing, found.patience))
        markers |= {found.markers} - {"none"}
    assert effort == {(75_000, 2, 1.0, 0)}
    shown = {(p.modality_dropout, p.dropout_mode, p.augmentation, p.mirror) for p in same.values()}
    assert shown == {(1.0, "subset", "nnunet", "none")}
    for method, found in own.items():
        paper = size_defaults(method, "paper")
        assert {name: getattr(found, name) for name in RECIPE} == {name: paper[name] for name in RECIPE}, method
    assert markers == {"idh,codel,tert,grade"}


def test_equal_operations_are_the_comparisons_baseline_but_for_its_length(plans: dict[str, SweepPlan]) -> None:
    wanted = {cell.method: cell.parameters for cell in plans["comparison.yaml"].cells if cell.condition == BASELINE}
    found = {cell.method: cell.parameters for cell in plans["comparison_operations.yaml"].cells}
    assert set(found) == set(wanted) - {"unet"}
    for method, values in found.items():
        assert {k: v for k, v in values.items() if k != "epochs"} == {k: v for k, v in wanted[method].items() if k != "epochs"}


@pytest.mark.slow
def test_equal_operations_are_equal(plans: dict[str, SweepPlan]) -> None:
    """Counted anew: steps times the operations of one step, over a method's stages by their shares."""
    cells = {cell.method: cell.parameters for cell in plans["comparison_operations.yaml"].cells}
    unet = next(c.parameters for c in plans["comparison.yaml"].cells if c.method == "unet" and c.condition == BASELINE)
    whole = operations("unet", unet)
    alone = operations("pooled_unet", cells["pooled_unet"]) / int(cells["pooled_unet"]["epochs"])  # what one expert takes
    for method, parameters in cells.items():
        experts = {"mome": 1, "mome_plus": 4}.get(method, 0)  # at once in the stage that trains them by themselves
        assert operations(method, parameters, experts * alone) == pytest.approx(whole, rel=0.02), method


def operations(method: str, parameters: dict[str, Any], of_experts: float = 0.0) -> float:
    """Epochs times the operations of a step in which every sequence is shown."""
    p = ExperimentParameters.build(method, parameters).resolve()
    names = p.modality_names()
    model = create_model(method, modalities=names, classes=4, markers=p.marker_names(), **p.options()).to("meta").train()
    if method == "masm":
        model.temperature = torch.tensor(1.0)  # is read while the network runs
    stages = {stage.name: stage for stage in model.stages()}
    *_, last = stages.values()
    images = torch.empty(p.batch_size, len(names), p.patch, p.patch, p.patch, device="meta")
    present = torch.ones(p.batch_size, len(names), dtype=torch.bool, device="meta")
    with FlopCounterMode(display=False) as counter:
        found = model(images, present, names, tasks=last.tasks)
        sums = [part.float().sum() for part in tree_leaves(vars(found)) if isinstance(part, torch.Tensor) and part.requires_grad]
        torch.stack(sums).sum().backward()
    return p.epochs * (last.share * counter.get_total_flops() + (1 - last.share) * of_experts)


def test_alpha_and_beta_are_crossed(plans: dict[str, SweepPlan]) -> None:
    cells = plans["mts_unet_losses.yaml"].cells
    assert {(cell.factors["alpha"], cell.factors["beta"]) for cell in cells} == {(a, b) for a in GRID for b in GRID}
    assert len(cells) == 9 * 3


def test_noisy_training_is_tested_on_the_same_kinds_of_noise(plans: dict[str, SweepPlan]) -> None:
    cells = [cell for cell in plans["noisy_training.yaml"].cells if cell.method == "unet"]
    found = [ExperimentParameters.build(cell.method, cell.parameters).resolve() for cell in cells]
    assert {p.mask_noise for p in found} == {"none", *(test.mask_noise for test in TESTS)}
    assert {p.misregistration for p in found} == {test.misregistration for test in TESTS}
    for p in found:
        check_mask_noise(p.mask_noise, p.mask_noise_mm, p.mask_noise_share, p.spacing)
        assert not (p.misregistration and p.mask_noise != "none"), "one thing at a time"


def test_modality_dropout_differs_in_dropout_only(plans: dict[str, SweepPlan]) -> None:
    cells = plans["modality_dropout.yaml"].cells
    pairs = {(cell.factors["modality_dropout"], cell.factors["dropout_mode"]) for cell in cells}
    assert pairs == {(0.0, "each"), (0.25, "each"), (0.5, "each"), (0.25, "subset"), (0.5, "subset"), (1.0, "subset")}
    assert len({cell.method for cell in cells}) == 6
    assert len(cells) == 6 * 6 * 3


@pytest.mark.slow
def test_another_process_elsewhere_finds_the_same_ids(plans: dict[str, SweepPlan], cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(SWEEPS, tmp_path / "copied")
    code = (
        "import json, sys; from workbench.sweeps.sweep_file import plan_sweep\n"
        "print(json.dumps({name: [cell.run for cell in plan_sweep(f'copied/{name}', cohort=sys.argv[1], runs='r')[0].cells]"
        " for name in sys.argv[2:]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cohort), *FILES], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert json.loads(done.stdout) == {name: [cell.run for cell in plan.cells] for name, plan in plans.items()}


def test_pyyaml_reads_the_same_values_in_them() -> None:
    """Other tools read these files too: none leans on what YAML 1.1 and 1.2 take differently."""
    for name in FILES:
        assert yaml.safe_load(content_text(name)) == content(name), name
