"""`Experiment`: one method on one cohort and fold, from prepared arrays to tables and pictures.

The same object serves notebook, command line and JupyterLab. Each step skips what is done, so that executing a notebook again
resumes it. This is the only room that joins the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from workbench.contracts import PRETRAINING, SEGMENTATION
from workbench.errors import ParameterError, RunError
from workbench.evaluation.decisions import fitted_artefact
from workbench.evaluation.summaries import summarise_markers, summarise_segmentation
from workbench.experiments import (
    distributed,
    evaluating,
    explaining,
    mixture,
    picturing,
    predicting,
    pretraining,
    showing,
    starting,
)
from workbench.experiments.featuring import write_features
from workbench.experiments.headlines import HEADLINE_FILE, write_headline
from workbench.experiments.inheriting import take_up_parent
from workbench.experiments.learning import TRAINING_FILE, learn, steps_done
from workbench.experiments.neighbours import comparison_table
from workbench.experiments.opening import RUN_VARIABLE, open_run, open_split
from workbench.experiments.parameters import ExperimentParameters
from workbench.experiments.progress import Progress
from workbench.experiments.robustness import evaluate_subsets
from workbench.files import read_json, write_json, write_parquet
from workbench.labels import LABEL_SET_CLASSES
from workbench.models.catalogue import card
from workbench.models.losses import class_balance
from workbench.models.registry import create_model
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort
from workbench.records.environment import note_environment
from workbench.records.provenance import write_artefacts
from workbench.sampling.batches import SamplingSettings, marker_values, repeats
from workbench.training.checkpoints import load_weights
from workbench.training.devices import computing
from workbench.training.settings import TrainingSettings

if TYPE_CHECKING:
    from workbench.models.method import MethodModule

FITTED_FILE = "fitted.json"
"""Thresholds and calibration maps, fitted on the run's validation cases."""
HELD_OUT = ("validation", "test", "external")


class Experiment:
    """One method on one cohort and fold.

    Args:
        parameters: see `ExperimentParameters`.
        derived: as for `open_run`.
        progress: show bars here; default: unless a driver process (`workbench run`) already shows them.

    Raises:
        WorkbenchError: parameters, cohort and method do not go together; the message says why.

    Attributes:
        parameters: the resolved parameters.
        cohort: the cohort.
        run: the run folder.
        split: index = case, values train, validation, test, external.
        notes: remarks that belong beside the results, e.g. a marker left out because the training fold has one class only.
        main: whether this process writes to the run folder; of the processes that train together one does.
    """

    main = True

    def __init__(
        self, parameters: ExperimentParameters, *, progress: bool | None = None, derived: Mapping[str, Any] | None = None
    ) -> None:
        self.parameters = parameters.resolve()
        self.cohort, self.run = open_run(parameters, derived=derived)
        self.driven = RUN_VARIABLE in os.environ
        if self.driven and Path(os.environ[RUN_VARIABLE]).resolve() != self.run.folder.resolve():
            raise RunError(
                f"this kernel was started for {os.environ[RUN_VARIABLE]}, but cohort and parameters now lead to "
                f"{self.run.folder}: the cohort changed since the run was started"
            )
        self.progress = Progress(self.run, bars=not self.driven if progress is None else progress)
        self.split = open_split(self.cohort, self.parameters.fold)
        self.notes: list[str] = []
        torch.set_num_threads(int(self.run.spec["threads"]))
        take_up_parent(self)

    # -- what is used ----------------------------------------------------------------------------------------------

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """The sequences the model is built for: those asked for, else all of the cohort."""
        return self.parameters.modality_names() or self.cohort.modalities

    @property
    def learned_modalities(self) -> tuple[str, ...]:
        """The sequences that training and validation may show: all but those withheld."""
        return tuple(name for name in self.modalities if name not in self.parameters.withheld())

    def shown_in(self, split: str) -> tuple[str, ...]:
        """The sequences that cases of a split show: a threshold is chosen on validation cases that show what training may."""
        return self.learned_modalities if split in ("train", "validation") else self.modalities

    @cached_property
    def cases_by_split(self) -> dict[str, pd.DataFrame]:
        """Rows of the cohort table per split; cases without any of the modalities are left out, and noted."""
        table, withheld = self.cohort.cases, self.parameters.withheld()
        there = table[list(self.modalities)].notna()
        learning = table["case"].map(self.split).isin(["train", "validation"])
        there.loc[learning, list(withheld)] = False
        usable = there.any(axis=1)
        if not usable.all():
            left = ", ".join(table.loc[~usable, "case"].head(5))
            hidden = f" (withheld from training and validation: {', '.join(withheld)})" if withheld else ""
            self.notes.append(
                f"{int((~usable).sum())} cases have none of {'/'.join(self.modalities)} to show and are left out{hidden}: {left}"
            )
        kept = table[usable]
        return {name: kept[kept["case"].map(self.split) == name] for name in ("train", *HELD_OUT)}

    @property
    def pretraining(self) -> bool:
        """Whether the method learns from images alone and leaves an encoder."""
        return PRETRAINING in card(self.parameters.method).tasks

    @property
    def encoder(self) -> Path:
        """The encoder that a pretraining leaves: what other methods take as `pretrained`.

        Raises:
            RunError: there is none (yet).
        """
        if not (path := pretraining.encoder_file(self)).is_file():
            raise RunError(f"run {self.run.folder} has no encoder: only pretraining leaves one, after .train() and .evaluate()")
        return path

    @cached_property
    def label_sets(self) -> tuple[str, ...]:
        """What the annotators of the training cases could draw."""
        return tuple(sorted(self.cases_by_split["train"]["labels"].dropna().unique()))

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The markers to predict: those asked for that the training cases show in at least two classes."""
        train_cases = self.cases_by_split["train"]
        usable = []
        for name in self.parameters.marker_names():
            known = train_cases[name].dropna()
            if name == "grade" and self.parameters.options().get("grade_classes", 2) == 2:  # 4 against the others
                known = known.map(lambda grade: "4" if grade == 4 else "2 or 3")
            if known.nunique() >= 2:
                usable.append(name)
            else:
                shown = "is known for no training case" if known.empty else f"is {known.iloc[0]} in every training case"
                self.notes.append(f"marker '{name}' {shown}: it cannot be learned and is left out")
        return tuple(usable)

    @cached_property
    def patch(self) -> tuple[int, int, int]:
        """Training patch (X, Y, Z) in voxels of the prepared grid; of whole brains, at most `patch` along each axis."""
        edge = self.parameters.patch
        if self.parameters.sampling != "whole":
            return (edge, edge, edge)
        # whole brains: no larger than the largest brain needs, since every voxel costs time
        largest = np.max([case.shape for case in self.prepared], axis=0)
        model = self.model
        x, y, z = (min(edge, max(model.minimum, -(-int(n) // model.divisor) * model.divisor)) for n in largest)
        return (x, y, z)

    @cached_property
    def model(self) -> MethodModule:
        """The model, with the weights of the best checkpoint once it is trained."""
        if not self.label_sets and SEGMENTATION in card(self.parameters.method).tasks:
            raise ParameterError(
                f"no training case of cohort {self.cohort.info.name} (fold {self.parameters.fold}) has a mask: "
                f"{self.parameters.method} cannot learn to segment"
            )
        model = create_model(
            self.parameters.method,
            modalities=self.modalities,
            classes=max((LABEL_SET_CLASSES[name] for name in self.label_sets), default=2),
            markers=self.markers,
            seed=self.parameters.seed,
            **self.parameters.options(),
        )
        self._balance(model)
        self.notes += starting.fallbacks(self, model)
        if SEGMENTATION not in card(self.parameters.method).tasks and self.parameters.sampling != "whole":
            self.notes.append(
                f"sampling={self.parameters.sampling}: without a segmentation, held-out cases are read in a crop around the "
                "brain's centre, which is not what the network was trained on; sampling=whole is the fair choice"
            )
        if self.trained:
            load_weights(self.run.checkpoint(self.training["checkpoint"]), model)
        else:
            starting.start(self, model)
        return model

    def _balance(self, model: MethodModule) -> None:
        """What the parameters say about rare classes; weights are counted on the training cases only, as often as they are drawn.

        Oversampling and class weights together thus balance a marker once, not twice.
        """
        p = self.parameters
        model.focal_gamma = p.focal_gamma if p.marker_loss == "focal" else 0.0
        model.label_smoothing = p.label_smoothing
        if p.oversample and not self._oversampled:
            self.notes.append(f"oversample={p.oversample} changes nothing: this run learns no marker of that name")
        found = {str(row["case"]): marker_values(row) for _, row in self.cases_by_split["train"].iterrows()}
        drawn = list(found)
        if self._oversampled:
            drawn += repeats(drawn, found, self._oversampled, p.seed)
        for name in self.markers if p.class_weights != "none" else ():
            values = torch.tensor([found[case][name] for case in drawn], dtype=torch.float64)
            outputs = p.options().get("grade_classes", 2) if name == "grade" else 2
            model.marker_weights[name] = class_balance(values, name, 1 if outputs == 2 else outputs, p.class_weights)

    @property
    def _oversampled(self) -> str:
        """The marker whose classes come up equally often; empty: none."""
        return self.parameters.oversample if self.parameters.oversample in self.markers else ""

    @property
    def device(self) -> str:
        """Where inference computes."""
        if self.parameters.device != "auto":
            return self.parameters.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    # -- the steps -------------------------------------------------------------------------------------------------

    def prepare(self) -> Experiment:
        """Bring all images onto the working grid (cached; a no-op when nothing changed)."""
        _ = self.prepared
        return self

    @cached_property
    def prepared(self) -> PreparedCohort:
        """The prepared arrays."""
        self.progress.say("preparing images", 0, len(self.cohort))
        settings = PrepareSettings(spacing=self.parameters.spacing)
        with self.run.beating():
            prepared = prepare_cohort(self.cohort, settings, progress=self.progress.bars)
        self.progress.say("preparing images", len(self.cohort), len(self.cohort))
        return prepared

    @property
    def trained(self) -> bool:
        """Whether training has ended (not merely been stopped)."""
        return (self.run.folder / TRAINING_FILE).is_file()

    @property
    def training(self) -> dict[str, Any]:
        """How training went: steps, best score, why it stopped, budget.

        Raises:
            RunError: it has not ended yet.
        """
        if not self.trained:
            raise RunError(f"run {self.run.folder} is not trained yet: call .train()")
        return read_json(self.run.folder / TRAINING_FILE)

    def train(self) -> Experiment:
        """Train, or resume training where it was interrupted; a finished training is left alone."""
        if self.trained:
            return self
        self._begin()
        if self.parameters.processes > 1:
            distributed.learn_together(self)
        else:
            learn(self)
        if not self.trained:
            raise RunError(f"run {self.run.folder} was cancelled at step {steps_done(self.run)}; run it again to resume")
        self.run.set_status("running", budget=self.training["budget"])
        self.__dict__.pop("model", None)  # the next use loads the best checkpoint
        return self

    def predict(self) -> Experiment:
        """Predict every validation, test and external case; masks go to NIfTI on the native grid. Pretraining predicts none."""
        if self.pretraining:
            return self
        if self.run.status["state"] != "completed":
            predicting.predict_all(self)
        return self

    def evaluate(self) -> Experiment:
        """Write the long tables `metrics.parquet` and `markers.parquet`; of pretraining also the encoder."""
        if self.run.metrics() is None and self.pretraining:
            pretraining.evaluate(self)
        if self.run.metrics() is None:
            self.predict()
            markers = evaluating.markers_table(self)
            write_parquet(self.run.path("markers.parquet"), markers)
            write_json(self.run.path(FITTED_FILE), fitted_artefact(markers, self.run.spec["run"]))
            write_parquet(self.run.path("metrics.parquet"), evaluating.metrics_table(self))
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
            evaluate_subsets(self)
        return self

    def read_features(self) -> Experiment:
        """Write what the method makes of each sequence of the held-out cases; `show("features")` places it in two dimensions."""
        write_features(self)
        return self

    def explain(self) -> Experiment:
        """Write explanation maps of the first `maps` test cases."""
        if not self.pretraining:
            explaining.explain_all(self)
        return self

    def _begin(self) -> None:
        if self.run.status["state"] == "completed":
            raise RunError(f"run {self.run.folder} is completed: a finished run is immutable")
        if not self.driven and self.run.status["state"] != "running":
            self.run.claim()
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            note_environment(self.run.folder, **computing(self.device))

    def sampling_settings(self) -> SamplingSettings:
        """What the parameters say about the batches."""
        p = self.parameters
        return SamplingSettings(
            patch=self.patch,
            mode=p.sampling or "patch",
            batch_size=p.batch_size,
            modality_dropout=p.modality_dropout,
            dropout_mode=p.dropout_mode or "each",
            withhold=p.withheld(),
            augment=p.augment,
            oversample=self._oversampled,
            balance=p.options().get("balance", "cases"),
        )

    def training_settings(self) -> TrainingSettings:
        """What the parameters say about training, for this cohort and fold."""
        p = self.parameters
        cases = len(self.cases_by_split["train"])
        if not cases:
            raise ParameterError(f"fold {p.fold} of cohort {self.cohort.info.name} leaves no training case")
        steps = p.steps_per_epoch if p.steps_per_epoch > 0 else max(1, cases // (p.batch_size * p.accumulate * p.processes))
        return TrainingSettings(
            epochs=p.epochs, steps_per_epoch=steps, accumulate=p.accumulate, learning_rate=p.learning_rate,
            optimiser=p.optimiser or "adamw",
            weight_decay=p.weight_decay, warmup_share=p.warmup, clip=p.clip, ema=p.ema, patience=p.patience,
            validate_every=p.validate_every, precision=p.precision, workers=p.workers, seed=p.seed, score="score",
            after=(self.run.spec.get("derived") or {}).get("after", 0),
        )  # fmt: skip

    # -- what came out ---------------------------------------------------------------------------------------------

    @property
    def results(self) -> dict[str, pd.DataFrame]:
        """Tables with 95 % subject-bootstrap intervals: 'segmentation' and 'markers' (empty where there is no such task)."""
        metrics, markers = self.run.metrics(), self.run.markers()
        if metrics is None:
            raise RunError(f"run {self.run.folder} is not evaluated yet: call .evaluate()")
        n = self.parameters.resamples
        return {
            "segmentation": summarise_segmentation(metrics, by_present=False, resamples=n),
            "markers": summarise_markers(markers, by_present=False, resamples=n) if markers is not None else pd.DataFrame(),
        }

    @property
    def figures(self) -> dict[str, Any]:
        """HoloViews objects for JupyterLab (after `holoviews.extension('bokeh')`): the training curves and, once evaluated,
        the distribution of Dice. `show` gives stills."""
        from workbench.experiments.interactive import run_figures

        return run_figures(self)

    def show(self, name: str) -> Any:
        """A still picture for the notebook: 'training', 'segmentation' or 'markers'; also kept under `figures`."""
        return showing.show(self, name)

    def result_table(self, kind: str) -> Any:
        """The results as text for a reader: one of `showing.TABLES`, 'experts' or 'pretraining'; `results` holds numbers."""
        if kind == "pretraining":
            return pretraining.result_table(self)
        if kind == "experts":
            return mixture.expert_table(self)
        return showing.result_table(self, kind)

    def comparison(self, split: str = "test") -> Any:
        """This run beside the other evaluated runs of its experiment, cohort and fold: paired differences on the same cases."""
        return comparison_table(self, split)

    def cohort_table(self) -> pd.DataFrame:
        """Who trains, validates and tests."""
        return showing.cohort_table(self)

    def diagram(self) -> Any:
        """The model as a drawing."""
        return showing.diagram(self)

    def model_table(self) -> pd.DataFrame:
        """Parameters of the model by component."""
        return showing.model_table(self)

    def remarks(self) -> Any:
        """What belongs beside the results: budget, notes, and that a phantom is a phantom."""
        return showing.remarks(self)

    def case_pictures(self, worst: int = 2, best: int = 2, split: str = "test") -> Any:
        """Worst and best cases by mean Dice: sequences with truth and prediction outlined."""
        return picturing.case_pictures(self, worst=worst, best=best, split=split)

    def reconstruction_pictures(self) -> Any:
        """What a pretraining method was shown of the first test cases, what came back, and what was wanted."""
        return pretraining.reconstruction_pictures(self)

    def map_pictures(self) -> Any:
        """The explanation maps of the explained cases."""
        return picturing.map_pictures(self)

    def cases(self) -> Any:
        """A browser of the cases with truth and prediction (ipywidgets), for JupyterLab."""
        from workbench.views.cases.browser import browse

        return browse(self.cohort, self.run.folder)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(rows)} {name}" for name, rows in self.cases_by_split.items())
        return (
            f"Experiment({self.parameters.method} on {self.cohort.info.name}, fold {self.parameters.fold}: {sizes}; "
            f"{self.run.state}, {self.run.folder})"
        )
