"""`RunSetup`: what one run works with, from its parameters to model and prepared arrays.

What a run does with it lies in functions that take a `RunSetup`; `Experiment` joins them. Looking at an attribute loads no
weights and notes nothing: `trained_model` does the one, `starting_weights.start` loads what training starts from, and
`setup_notes.note_setup` makes the remarks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.contracts import HELD_OUT, PRETRAINING, SEGMENTATION
from workbench.errors import ParameterError, RunError
from workbench.files import read_json
from workbench.labels import LABEL_SET_CLASSES
from workbench.models.catalogue import card
from workbench.models.losses import class_balance, log_prior
from workbench.models.method import MethodModule
from workbench.models.registry import create_model
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort
from workbench.records.run_folder import TRAINING_FILE
from workbench.sampling.augmentation_settings import augmentation_settings
from workbench.sampling.batches import SamplingSettings, marker_values, repeats
from workbench.setup.opening import RUN_VARIABLE, open_run, open_split
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.progress import Progress
from workbench.setup.unchanged import require_unchanged
from workbench.training.checkpoints import load_weights
from workbench.training.settings import TrainingSettings


class RunSetup:
    """What one method on one cohort and fold works with.

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
        self._digests = self.cohort.digests()
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

    # -- the cases -------------------------------------------------------------------------------------------------

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
        """Rows of the cohort table per split; cases without any of the modalities are left out."""
        kept = self.cohort.cases[self.usable]
        return {name: kept[kept["case"].map(self.split) == name] for name in ("train", *HELD_OUT)}

    @cached_property
    def usable(self) -> pd.Series:
        """Per row of the cohort table, whether the case has a sequence to show in its split."""
        table = self.cohort.cases
        there = table[list(self.modalities)].notna()
        learning = table["case"].map(self.split).isin(["train", "validation"])
        there.loc[learning, list(self.parameters.withheld())] = False
        return there.any(axis=1)

    @property
    def training_cases(self) -> pd.DataFrame:
        """Rows of the cases that are learned from."""
        return self.cases_by_split["train"]

    @cached_property
    def label_sets(self) -> tuple[str, ...]:
        """What the annotators of the training cases could draw."""
        return tuple(sorted(self.cases_by_split["train"]["labels"].dropna().unique()))

    @property
    def classes(self) -> int:
        """Segmentation classes, background included, that the training cases' label sets make."""
        return max((LABEL_SET_CLASSES[name] for name in self.label_sets), default=2)

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The markers to predict: those asked for that the training cases show in at least two classes."""
        names = self.parameters.marker_names()
        return tuple(name for name in names if self.told_apart(name, self.training_cases).nunique() >= 2)

    def told_apart(self, name: str, cases: pd.DataFrame) -> pd.Series:
        """The known values of a marker, as the model is to tell them apart: of grade all three, or 4 against the others."""
        known = cases[name].dropna()
        if name == "grade" and self.parameters.options().get("grade_classes", 2) == 2:
            known = known.map(lambda grade: "4" if grade == 4 else "2 or 3")
        return known

    def require_unchanged(self) -> None:
        """Refuse to go on where the cohort is not what it was when this run opened it; see `unchanged.require_unchanged`."""
        require_unchanged(self.cohort, self._digests)

    @cached_property
    def prepared(self) -> PreparedCohort:
        """The prepared arrays; made on first use where they are not there yet."""
        self.progress.say("preparing images", 0, len(self.cohort))
        settings = PrepareSettings(spacing=self.parameters.spacing)
        with self.run.beating():
            prepared = prepare_cohort(self.cohort, settings, progress=self.progress.bars)
            self.require_unchanged()
        self.progress.say("preparing images", len(self.cohort), len(self.cohort))
        return prepared

    # -- the model -------------------------------------------------------------------------------------------------

    @property
    def pretraining(self) -> bool:
        """Whether the method learns from images alone and leaves an encoder."""
        return PRETRAINING in card(self.parameters.method).tasks

    @property
    def segments(self) -> bool:
        """Whether the method predicts a segmentation."""
        return SEGMENTATION in card(self.parameters.method).tasks

    @cached_property
    def network(self) -> MethodModule:
        """The one network of this process: its weights are drawn from the seed until training or `trained_model` changes them."""
        if not self.label_sets and self.segments:
            raise ParameterError(
                f"no training case of cohort {self.cohort.info.name} (fold {self.parameters.fold}) has a mask: "
                f"{self.parameters.method} cannot learn to segment"
            )
        model = create_model(
            self.parameters.method,
            modalities=self.modalities,
            classes=self.classes,
            markers=self.markers,
            seed=self.parameters.seed,
            **self.parameters.options(),
        )
        self._balance(model)
        return model

    def trained_model(self) -> MethodModule:
        """The network with the weights of the best checkpoint, on `device`, ready to predict; they are loaded once.

        Raises:
            RunError: training has not ended.
        """
        checkpoint = self.training["checkpoint"]
        if self._loaded != checkpoint:
            load_weights(self.run.checkpoint(checkpoint), self.network)
            self._loaded = checkpoint
        return self.network.to(self.device).eval()

    _loaded = ""

    def forget_network(self) -> None:
        """Let go of the network that training has changed; the next one is built anew."""
        self.__dict__.pop("network", None)
        self._loaded = ""

    def _balance(self, model: MethodModule) -> None:
        """What the parameters say about rare classes, which are counted on the training cases only, as often as they are drawn.

        Oversampling and class weights, or logit adjustment, together thus balance a marker once, not twice.
        """
        p = self.parameters
        model.focal_gamma = p.focal_gamma if p.marker_loss == "focal" else 0.0
        model.label_smoothing = p.label_smoothing
        found = {str(row["case"]): marker_values(row) for _, row in self.cases_by_split["train"].iterrows()}
        drawn = list(found)
        if self.oversampled:
            drawn += repeats(drawn, found, self.oversampled, p.seed)
        for name in self.markers:
            values = torch.tensor([found[case][name] for case in drawn], dtype=torch.float64)
            classes = p.options().get("grade_classes", 2) if name == "grade" else 2
            outputs = 1 if classes == 2 else classes
            if p.class_weights != "none":
                model.marker_weights[name] = class_balance(values, name, outputs, p.class_weights)
            if p.marker_loss == "logit_adjusted":
                model.marker_offsets[name] = p.logit_adjustment * log_prior(values, name, outputs)

    @property
    def oversampled(self) -> str:
        """The marker whose classes come up equally often; empty: none."""
        return self.parameters.oversample if self.parameters.oversample in self.markers else ""

    @cached_property
    def patch(self) -> tuple[int, int, int]:
        """Training patch (X, Y, Z) in voxels of the prepared grid; of whole brains, at most `patch` along each axis."""
        edge = self.parameters.patch
        if self.parameters.sampling != "whole":
            return (edge, edge, edge)
        # whole brains: no larger than the largest brain needs, since every voxel costs time
        largest = np.max([case.shape for case in self.prepared], axis=0)
        model = self.network
        x, y, z = (min(edge, max(model.minimum, -(-int(n) // model.divisor) * model.divisor)) for n in largest)
        return (x, y, z)

    @property
    def device(self) -> str:
        """Where inference computes."""
        if self.parameters.device != "auto":
            return self.parameters.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    # -- the training ----------------------------------------------------------------------------------------------

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
            mask_noise=p.mask_noise,
            mask_noise_mm=p.mask_noise_mm,
            mask_noise_share=p.mask_noise_share,
            misregistration=p.misregistration,
            augment=p.augment,
            augmentation=augmentation_settings(p.augmentation or "light"),
            oversample=self.oversampled,
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
