"""Notebooks executed for real: through the driver into a run folder, and cell by cell under nbval."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import psutil
import pytest
from papermill.parameterize import parameterize_notebook

from workbench.cohort.table import Cohort
from workbench.models.catalogue import card
from workbench.records.run_folder import RunFolder
from workbench.setup.parameters import applicable

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
TINY = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 1,
    "threads": 1, "seed": 0, "subsets": "none",
}  # fmt: skip
SMALL: dict[str, dict[str, object]] = {
    "unet": {"width": 4, "levels": 3, "patch": 32, "subsets": "few"},
    "mts_unet": {"cmd_channels": 4},
    "mgmt_net": {"width": 4, "embed": 6, "patch": 32},
    "pretrain_swin": {"projection": 16},
    "amaes": {"width": 4},
    "amaes_pretrain": {"width": 4},
    "m4oe": {"width": 12},
    "mome": {"width": 4, "levels": 3, "patch": 32},
    "mome_plus": {"width": 4, "levels": 3, "patch": 32},
    "pooled_unet": {"width": 4, "levels": 3, "patch": 32},
    "brainfm": {"width": 24, "heads": 2, "mlp": 48, "head_width": 4},
    "brainfm_pretrain": {"width": 24, "heads": 2, "mlp": 48, "decoder_width": 16, "decoder_mlp": 32},
    "mmformer": {"width": 4, "embedding": 16, "heads": 2, "mlp": 32, "patch": 32},
    "segresnet": {"patch": 32},
    "swin_unetr": {},
    "unetr": {"patch": 32, "hidden": 24, "heads": 2, "mlp": 48, "positions": 32},
    "attention_unet": {"width": 4, "depth": 3, "patch": 32},
    "mednext": {"width": 4, "patch": 32},
    "densenet121": {"width": 4, "growth": 2},
    "radiomics": {},
    "masm": {"width": 4, "levels": 3, "patch": 32},
}


def command(method: str, cohort: Cohort, runs: Path, **extra: object) -> list[str]:
    values = {name: value for name, value in {**TINY, **SMALL[method], **extra}.items() if name in applicable(method)}
    parts = [sys.executable, "-m", "workbench.cli", "run", method, "--cohort", str(cohort.folder), "--runs", str(runs)]
    return parts + [text for name, value in values.items() for text in ("-p", f"{name}={value}")]


def only_run(runs: Path) -> RunFolder:
    folders = [path.parent for path in runs.rglob("spec.json")]
    assert len(folders) == 1
    return RunFolder.open(folders[0])


@pytest.fixture(scope="module")
def finished(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A `unet` run through Papermill."""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(command("unet", tiny_cohort, runs), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    run = only_run(runs)
    assert Path(done.stdout.strip().splitlines()[-1]) == run.folder, "the run folder is printed last"
    return run


@pytest.mark.notebook
def test_a_run_leaves_the_folder_of_the_contract(finished: RunFolder, tiny_cohort: Cohort) -> None:
    assert finished.state == "completed"
    assert finished.status["budget"]["steps"] == 2
    for name in ("events.jsonl", "metrics.parquet", "markers.parquet", "notebook.ipynb", "report.html", "figures/training.png",
                 "checkpoints/last.json", "checkpoints/best.json", "maps/attribution.csv", "subset_metrics.parquet",
                 "subset_markers.parquet", "figures/subsets.png"):  # fmt: skip
        assert (finished.folder / name).is_file(), name
    metrics = finished.metrics()
    assert metrics is not None
    expected = ["case", "subject", "site", "fold", "split", "present", "region", "metric", "value", "n_truth", "n_prediction"]
    assert list(metrics.columns) == [*expected, "dataset", "lesion"]
    assert set(metrics["split"]) <= {"validation", "test", "external"}
    assert set(metrics["region"]) == {"WT", "TC", "ET", "ED", "NCR"}
    predicted = {path.name.removesuffix(".nii.gz") for path in (finished.folder / "predictions").glob("*.nii.gz")}
    assert len(predicted) == len(list((finished.folder / "predictions").glob("*.json"))) > 0
    assert predicted < set(tiny_cohort.cases["case"]), "training cases are not predicted"


@pytest.mark.notebook
def test_nothing_in_a_run_folder_names_a_place_outside(finished: RunFolder, tiny_cohort: Cohort) -> None:
    for name in ("spec.json", "training.json", "events.jsonl"):
        assert str(tiny_cohort.folder) not in (finished.folder / name).read_text()
    assert finished.cohort_path.resolve() == tiny_cohort.folder.resolve()


@pytest.mark.notebook
def test_the_report_loads_nothing_from_another_host(finished: RunFolder) -> None:
    html = (finished.folder / "report.html").read_text()
    for tag in ('src="http', "src='http", 'href="http://cdn', 'href="https://cdn', "@import url(http"):
        assert tag not in html


@pytest.mark.notebook
def test_repeating_a_finished_run_is_a_no_op(finished: RunFolder, tiny_cohort: Cohort) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    runs = finished.folder.parents[1]
    done = subprocess.run(command("unet", tiny_cohort, runs), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    after = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.notebook
def test_a_trained_run_predicts_another_cohort(finished: RunFolder, tiny_cohort: Cohort, tmp_path: Path) -> None:
    parts = [sys.executable, "-m", "workbench.cli", "predict", str(finished.folder), "--cohort", str(tiny_cohort.folder)]
    done = subprocess.run([*parts, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == len(tiny_cohort)
    assert list(pd.read_csv(tmp_path / "out" / "markers.csv").columns)[:3] == ["case", "subject", "marker"]
    # a held-out case is predicted exactly as in the run
    name = next((finished.folder / "predictions").glob("*.nii.gz")).name
    assert (tmp_path / "out" / name).read_bytes() == (finished.folder / "predictions" / name).read_bytes()


@pytest.mark.notebook
def test_cancelling_saves_a_checkpoint_leaves_no_process_and_can_be_resumed(tiny_cohort: Cohort, tmp_path: Path) -> None:
    parts = command("unet", tiny_cohort, tmp_path, steps_per_epoch=400)
    driver = subprocess.Popen(parts, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("events.jsonl")) and time.monotonic() < deadline:
            assert driver.poll() is None, driver.communicate()[1][-2000:]
            time.sleep(0.2)
        run = only_run(tmp_path)
        kernel = run.status["kernel_pid"]
        done = subprocess.run(
            [sys.executable, "-m", "workbench.cli", "cancel", str(run.folder)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert driver.wait(timeout=60) == 1
    finally:
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
    assert run.state == "cancelled"
    assert not psutil.pid_exists(kernel)
    assert (run.folder / "checkpoints" / "last.json").is_file()
    assert (run.folder / "notebook.ipynb").is_file()


@pytest.mark.notebook
def test_a_failing_cell_is_reported_with_the_error(tiny_cohort: Cohort, tmp_path: Path) -> None:
    done = subprocess.run(
        command("unet", tiny_cohort, tmp_path, patch=33), capture_output=True, text=True, timeout=200
    )  # 33 is no multiple of the network's divisor
    assert done.returncode == 1
    assert "33" in done.stderr
    assert only_run(tmp_path).state == "failed"
    assert "33" in only_run(tmp_path).status["error"]


def _under_nbval(name: str, values: dict[str, object], folder: Path) -> None:
    notebook = parameterize_notebook(papermill.iorw.load_notebook_node(str(FOLDER / f"{name}.ipynb")), values)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    parts = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300", "-q"]
    environment = os.environ | {"MPLBACKEND": "agg", "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [*parts, "-p", "no:cacheprovider", "-c", os.devnull, str(path)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=550,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.notebook
@pytest.mark.parametrize(
    "method",
    [
        "unet",
        "mts_unet",
        *(
            pytest.param(name, marks=[pytest.mark.slow, pytest.mark.nightly])  # they share a notebook with one below
            for name in ("mome_plus", "pooled_unet", "densenet121")
        ),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "masm",
                "mgmt_net",
                "amaes",
                "amaes_pretrain",
                "brainfm",
                "brainfm_pretrain",
                "m4oe",
                "mmformer",
                "mome",
                "pretrain_swin",
                "segresnet",
                "radiomics",
            )
        ),
    ],
)
def test_method_notebook_under_nbval(method: str, tiny_cohort: Cohort, tmp_path: Path) -> None:
    values = {**TINY, **SMALL[method], "steps_per_epoch": 1, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path / "runs")}
    values = {name: value for name, value in values.items() if name in applicable(method)}
    shared = {"method": method} if card(method).notebook else {}
    _under_nbval(card(method).notebook_name, values | shared, tmp_path)


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "segresnet", "densenet121", "radiomics",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("swin_unetr", "unetr", "attention_unet", "mednext")),
    ],
)  # fmt: skip
def test_a_baseline_runs_through_its_notebook_and_predicts(method: str, tiny_cohort: Cohort, tmp_path: Path) -> None:
    """The shared notebook is told its method; a second run, of one network of a kind, is compared with the first."""
    seeds = (0, 1) if method in ("segresnet", "densenet121", "radiomics") else (0,)
    for seed in seeds:
        done = subprocess.run(
            command(method, tiny_cohort, tmp_path / "runs", seed=seed, maps=0 if seed else 1), capture_output=True, text=True,
            timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder.open(done.stdout.strip().splitlines()[-1])
    assert (run.state, run.spec["method"]) == ("completed", method)
    segments, marks = ("segmentation" in card(method).tasks), ("markers" in card(method).tasks)
    metrics, markers = run.metrics(), run.markers()
    assert metrics is not None
    assert markers is not None
    assert (len(metrics) > 0, len(markers) > 0) == (segments, marks)
    text = "".join(
        str(cell.outputs) for cell in nbformat.read(run.folder / "notebook.ipynb", as_version=4).cells if "outputs" in cell
    )
    assert "unequal budget" not in text
    assert f"{method} " in text
    assert ("No other evaluated run" in text) == (len(seeds) == 1), "the first run is the second one's neighbour"
    if method != "radiomics":
        assert ("there is no table of segmentation" in text) == (not segments)
        assert ("there is no table of markers" in text) == (not marks)
    parts = [sys.executable, "-m", "workbench.cli", "predict", str(run.folder), "--cohort", str(tiny_cohort.folder)]
    done = subprocess.run([*parts, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=300)
    if method == "radiomics":  # one case has no mask, and the run measures reference masks
        assert done.returncode == 1
        assert "has no mask to measure" in done.stderr
        return
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == (len(tiny_cohort) if segments else 0)
    predicted = pd.read_csv(tmp_path / "out" / "markers.csv")
    assert (len(predicted) > 0) == marks


@pytest.mark.notebook
def test_robustness_notebook_under_nbval(finished: RunFolder, tmp_path: Path) -> None:
    _under_nbval("robustness", {"runs": str(finished.folder.parents[1])}, tmp_path)


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ablation", "compare"])
def test_notebooks_that_compare_runs_under_nbval(name: str, sweep_runs: Path, tmp_path: Path) -> None:
    _under_nbval(name, {"runs": str(sweep_runs), "resamples": 50}, tmp_path)


@pytest.mark.notebook
def test_explore_notebook_under_nbval(tiny_cohort: Cohort, tmp_path: Path) -> None:
    _under_nbval("explore", {"cohort": str(tiny_cohort.folder)}, tmp_path)


@pytest.mark.notebook
def test_the_checked_cell_can_fail(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """nbval passes a checked cell without stored output vacuously: here a wrong stored output must go red."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(1)", outputs=[nbformat.v4.new_output("stream", text="2\n")])
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    parts = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    done = subprocess.run([*parts, str(tmp_path / "wrong.ipynb")], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 1, json.dumps(done.stdout[-500:])
