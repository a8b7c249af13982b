"""`Experiment`: one method on one cohort and fold, from prepared arrays to tables and pictures.

The same object serves notebook, command line and JupyterLab. Each step skips what is done, so that executing a notebook again
resumes it. This is the only room that joins the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.errors import RunError
from workbench.evaluation.decisions import fitted_artefact
from workbench.files import write_json, write_parquet
from workbench.models.method import MethodModule
from workbench.moved import moved_from
from workbench.records.environment import note_environment
from workbench.records.headline_file import HEADLINE_FILE
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import FEATURES_FILE, FITTED_FILE
from workbench.reports import case_pictures, expert_tables, pretraining, run_report
from workbench.reports.neighbours import comparison_table
from workbench.reports.run_figures import run_figures
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.run_setup import RunSetup
from workbench.steps import explanation, long_tables, prediction, training_processes
from workbench.steps.features import write_features
from workbench.steps.headline import write_headline
from workbench.steps.inheritance import take_up_parent
from workbench.steps.pretraining import encoder_file, evaluate_pretraining
from workbench.steps.results import results_of
from workbench.steps.subsets import evaluate_subsets
from workbench.steps.training import learn, steps_done
from workbench.training.devices import computing
from workbench.views.cases.browser import browse


class Experiment(RunSetup):
    """One method on one cohort and fold: the steps of a run and what came out; see `RunSetup` for the arguments."""

    def __init__(
        self, parameters: ExperimentParameters, *, progress: bool | None = None, derived: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(parameters, progress=progress, derived=derived)
        take_up_parent(self)

    # -- the steps -------------------------------------------------------------------------------------------------

    def prepare(self) -> Experiment:
        """Bring all images onto the working grid (cached; a no-op when nothing changed)."""
        _ = self.prepared
        return self

    def train(self) -> Experiment:
        """Train, or resume training where it was interrupted; a finished training is left alone."""
        if self.trained:
            return self
        self._begin()
        try:
            if self.parameters.processes > 1:
                training_processes.learn_together(self)
            else:
                learn(self)
        finally:
            self.forget_network()  # half trained, or with the last weights instead of the best
        if not self.trained:
            raise RunError(f"run {self.run.folder} was cancelled at step {steps_done(self.run)}; run it again to resume")
        self.run.set_status("running", budget=self.training["budget"])
        return self

    def predict(self) -> Experiment:
        """Predict every validation, test and external case; masks go to NIfTI on the native grid. Pretraining predicts none."""
        if self.pretraining:
            return self
        if self.run.status["state"] != "completed":
            prediction.predict_all(self)
        return self

    def evaluate(self) -> Experiment:
        """Write the long tables `metrics.parquet` and `markers.parquet`; of pretraining also the encoder."""
        if self.run.metrics() is None and self.pretraining:
            evaluate_pretraining(self)
        if self.run.metrics() is None:
            self.predict()
            markers, metrics = long_tables.markers_table(self), long_tables.metrics_table(self)
            self.require_unchanged()  # the truth is read anew here
            write_parquet(self.run.path("markers.parquet"), markers)
            write_json(self.run.path(FITTED_FILE), fitted_artefact(markers, self.run.spec["run"]))
            write_parquet(self.run.path("metrics.parquet"), metrics)
        if not (self.run.folder / HEADLINE_FILE).is_file():
            write_headline(self.run, self.parameters.resamples)
        if not self.driven and self.run.status["state"] == "running":
            self.run.set_status("completed")
            write_artefacts(self.run)
        return self

    def robustness(self) -> Experiment:
        """Judge test cases under every subset of their sequences, as `subsets` says; `result_table("subsets")` shows it."""
        if not self.pretraining:
            self.evaluate()
            self.require_unchanged()
            evaluate_subsets(self)
        return self

    def read_features(self) -> Experiment:
        """Write what the method makes of each sequence of the held-out cases; `show("features")` places it in two dimensions."""
        if self.trained and not (self.run.folder / FEATURES_FILE).is_file():
            self.predict()  # tells where to look
        write_features(self)
        return self

    def explain(self) -> Experiment:
        """Write explanation maps of the first `maps` test cases."""
        if not self.pretraining:
            explanation.explain_all(self)
        return self

    def _begin(self) -> None:
        if self.run.status["state"] == "completed":
            raise RunError(f"run {self.run.folder} is completed: a finished run is immutable")
        if not self.driven and self.run.status["state"] != "running":
            self.run.claim()
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            note_environment(self.run.folder, **computing(self.device))

    @property
    def model(self) -> MethodModule:
        """The network with the weights of the best checkpoint once it is trained, before that as it is built."""
        return self.trained_model() if self.trained else self.network

    # -- what came out ---------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Path:
        """The encoder that a pretraining leaves: what other methods take as `pretrained`.

        Raises:
            RunError: there is none (yet).
        """
        if not (path := encoder_file(self.run)).is_file():
            raise RunError(f"run {self.run.folder} has no encoder: only pretraining leaves one, after .train() and .evaluate()")
        return path

    @property
    def results(self) -> dict[str, pd.DataFrame]:
        """Tables with 95 % subject-bootstrap intervals: 'segmentation' and 'markers' (empty where there is no such task)."""
        return results_of(self.run, self.parameters.resamples)

    @property
    def figures(self) -> dict[str, Any]:
        """HoloViews objects for JupyterLab (after `holoviews.extension('bokeh')`): the training curves and, once evaluated,
        the distribution of Dice. `show` gives stills."""
        return run_figures(self)

    def show(self, name: str) -> Any:
        """A still picture for the notebook: 'training', 'segmentation' or 'markers'; also kept under `figures`."""
        return run_report.show(self, name)

    def result_table(self, kind: str) -> Any:
        """The results as text for a reader: one of `run_report.TABLES`, 'experts' or 'pretraining'; `results` holds numbers."""
        if kind == "pretraining":
            return pretraining.pretraining_table(self)
        if kind == "experts":
            return expert_tables.expert_table(self)
        return run_report.result_table(self, kind)

    def comparison(self, split: str = "test") -> Any:
        """This run beside the other evaluated runs of its experiment, cohort and fold: paired differences on the same cases."""
        return comparison_table(self, split)

    def cohort_table(self) -> pd.DataFrame:
        """Who trains, validates and tests."""
        return run_report.cohort_table(self)

    def diagram(self) -> Any:
        """The model as a drawing."""
        return run_report.diagram(self)

    def model_table(self) -> pd.DataFrame:
        """Parameters of the model by component."""
        return run_report.model_table(self)

    def remarks(self) -> Any:
        """What belongs beside the results: budget, notes, and that a phantom is a phantom."""
        return run_report.remarks(self)

    def case_pictures(self, worst: int = 2, best: int = 2, split: str = "test") -> Any:
        """Worst and best cases by mean Dice: sequences with truth and prediction outlined."""
        return case_pictures.case_pictures(self, worst=worst, best=best, split=split)

    def reconstruction_pictures(self) -> Any:
        """What a pretraining method was shown of the first test cases, what came back, and what was wanted."""
        return pretraining.reconstruction_pictures(self)

    def map_pictures(self) -> Any:
        """The explanation maps of the explained cases."""
        return case_pictures.map_pictures(self)

    def cases(self) -> Any:
        """A browser of the cases with truth and prediction (ipywidgets), for JupyterLab."""
        return browse(self.cohort, self.run.folder)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(rows)} {name}" for name, rows in self.cases_by_split.items())
        return (
            f"Experiment({self.parameters.method} on {self.cohort.info.name}, fold {self.parameters.fold}: {sizes}; "
            f"{self.run.state}, {self.run.folder})"
        )


if not TYPE_CHECKING:  # for one release
    __getattr__ = moved_from(__name__)
