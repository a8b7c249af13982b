"""CONTRIBUTING.md tried to the letter on a copy: a method and a metric are added as its recipes say, and nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library, the dashboard and the notebooks, as a contributor's checkout."""
    for room in ("workbench", "app", "notebooks"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("node_modules", "static", "__pycache__"))
    return tmp_path


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in that checkout."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new), encoding="utf-8")


FACTS = '''"""Facts of a method that somebody adds. No torch."""

from pydantic import Field

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.unet.facts import UNetOptions


class NewcomerOptions(UNetOptions):
    """`newcomer`."""

    boost: float = Field(1.0, ge=0, description="a setting of its own")


FACTS = (
    MethodFacts(
        card=ModelCard(name="newcomer", title="Newcomer", paper="yours", tasks=(SEGMENTATION,)),
        options=NewcomerOptions,
        builder="workbench.models.newcomer.newcomer:Newcomer",
        demo={"width": 4, "levels": 3, "epochs": 1, "steps_per_epoch": 1},
        paper={"epochs": 123},
    ),
)
'''
METHOD = '''"""A method that somebody adds."""

from workbench.models.newcomer.facts import NewcomerOptions
from workbench.models.unet.unet import UNet


class Newcomer(UNet):
    """A U-Net of another name."""

    name = "newcomer"
    options: NewcomerOptions
'''
ASK = """
from workbench.models.registry import create_model
from workbench.setup.parameters import ExperimentParameters
model = create_model("newcomer", classes=2, **{"width": 4, "levels": 3})
sizes = [ExperimentParameters.build("newcomer", {"size": size}).resolve() for size in ("demo", "paper")]
print(type(model).__name__, *[(p.width, p.epochs, p.boost, p.learning_rate) for p in sizes])
"""


def add_method(copy: Path) -> None:
    """Steps 1, 2 and 4 of "Add a method": a folder, a line, a notebook."""
    family = copy / "workbench" / "models" / "newcomer"
    family.mkdir()
    (family / "__init__.py").touch()
    (family / "facts.py").write_text(FACTS, encoding="utf-8")
    (family / "newcomer.py").write_text(METHOD, encoding="utf-8")
    edit(copy / "workbench" / "models" / "catalogue.py", '    "radiomics",\n)', '    "radiomics",\n    "newcomer",\n)')
    listed = python(copy, "-m", "workbench.cli", "run", "newcomer", "--list-parameters")
    assert listed.returncode == 0, listed.stderr
    assert "boost" in listed.stdout
    notebook = json.loads((copy / "notebooks" / "unet.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).replace('"unet"', '"newcomer"')
        cell["source"] = listed.stdout if "parameters" in cell["metadata"].get("tags", []) else source
    (copy / "notebooks" / "newcomer.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def test_a_method_is_a_folder_and_a_line(copy: Path) -> None:
    add_method(copy)
    listed = python(copy, "-m", "workbench.cli", "models", "--json")
    assert "newcomer" in [entry["name"] for entry in json.loads(listed.stdout)], listed.stderr
    asked = python(copy, "-c", ASK)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split("\n")[0] == "Newcomer (4, 1, 1.0, 0.001) (32, 123, 1.0, 0.0001)"


@pytest.mark.slow
@pytest.mark.notebook
def test_and_it_runs(copy: Path, tiny_cohort: Cohort) -> None:
    add_method(copy)
    given = ["-p", "size=demo", "-p", "spacing=6", "-p", "patch=32", "-p", "resamples=100", "-p", "maps=0", "-p", "subsets=none"]
    command = ["-m", "workbench.cli", "run", "newcomer", "--cohort", str(tiny_cohort.folder), "--runs", "runs", *given]
    ran = python(copy, *command)
    assert ran.returncode == 0, ran.stderr[-3000:]
    listed = json.loads(python(copy, "-m", "workbench.cli", "runs", "--runs", "runs", "--json").stdout)
    assert [(row["method"], row["status"]) for row in listed] == [("newcomer", "completed")]
    assert "dice WT" in listed[0]["metrics"]


JUDGE = """
import numpy as np
from workbench.evaluation.segmentation import case_metrics
from workbench.evaluation.summaries import summarise_segmentation
from workbench.evaluation.metrics import Place, metric_title, shown_in
from workbench.contracts import SEGMENTATION
from workbench.geometry import Grid
truth = np.zeros((4, 4, 4), np.uint8); truth[:2] = 1
found = np.zeros((4, 4, 4), np.uint8); found[:1] = 1
table = case_metrics(found, truth, np.ones((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4)), ["lesion"])
who = dict(case="a", subject="a", site="s", fold=0, split="test", present="t1", dataset=None, lesion=None)
summary = summarise_segmentation(table.assign(**who), by_present=False, resamples=100)
row = summary[summary["metric"] == "volume_ratio"].iloc[0]
print(row["mean"], metric_title("volume_ratio"), "volume_ratio" in shown_in(Place.NOTEBOOK, SEGMENTATION))
"""


def test_a_metric_is_a_value_and_an_entry(copy: Path) -> None:
    evaluation = copy / "workbench" / "evaluation"
    computed = '        values["volume_error"] ='
    value = '        values["volume_ratio"] = n_predicted / n_true if n_true else float("nan")\n'
    edit(evaluation / "segmentation.py", computed, value + computed)
    forgotten = python(copy, "-c", JUDGE)
    assert forgotten.returncode != 0, "a value without an entry must not be lost silently"
    assert "volume_ratio" in forgotten.stderr.splitlines()[-1]

    before = '    Metric("volume_error",'
    entry = """    Metric("volume_ratio", "Volume ratio", Kind.VOLUME, _NEITHER, "truth NaN, prediction 0", limits=(0, inf),
           shown=(Place.NOTEBOOK, Place.DASHBOARD)),\n"""
    edit(evaluation / "metrics.py", before, entry + before)
    asked = python(copy, "-c", JUDGE)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split("\n")[0] == "0.5 Volume ratio True"
