"""`RadiomicsExperiment`: features measured in the tumour, a scikit-learn classifier per marker, and two baselines beside it.

It leaves the same run folder as the networks (markers.parquet, headline, status, notebook), so that `workbench runs` and
`workbench compare` treat it alike. There are no training steps and no weights: `features.parquet` and the chosen hyper-parameters
in `training.json` fit the same classifiers again, which is how a finished run predicts.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from IPython.display import Markdown

from workbench.cohort.table import cohort_title
from workbench.contracts import HELD_OUT
from workbench.errors import ParameterError, RunError
from workbench.evaluation.markers import auc_interval
from workbench.evaluation.run_comparison import compare_markers
from workbench.evaluation.summaries import with_available
from workbench.experiments.experiment import Experiment
from workbench.experiments.radiomics_features import MaskSource, mask_source, measure
from workbench.experiments.radiomics_refit import FEATURES_FILE, TRAINED_ON_FILE, refit
from workbench.files import write_json, write_parquet
from workbench.models.pretrained.seen import Seen
from workbench.models.radiomics.classifiers import (
    AGE,
    AGE_ONLY,
    BASELINES,
    FEMALE,
    VOLUMES_AND_PLACE,
    Fitted,
    columns_of,
    fit,
    importance,
)
from workbench.records.pretrained import PretrainedRecord, read_pretrained_record
from workbench.records.provenance import register
from workbench.records.run_folder import TRAINING_FILE, read_table
from workbench.reports.run_report import picture
from workbench.reports.sentences import sentences
from workbench.setup.setup_notes import case_notes, marker_notes
from workbench.setup.starting_weights import seen_by
from workbench.steps import long_tables
from workbench.steps.prediction import held_out, marker_file
from workbench.views.estimates import estimate_text
from workbench.views.figures.importance import importance_figure

IMPORTANCE_FILE = "importance.parquet"


class RadiomicsExperiment(Experiment):
    """A classical baseline on one cohort and fold; see `Experiment` for the arguments and what the steps have in common."""

    # -- features --------------------------------------------------------------------------------------------------

    @cached_property
    def source(self) -> MaskSource:
        """Where held-out cases' tumours are taken from."""
        p = self.parameters
        options = p.options()
        return mask_source(options["mask_source"], options["mask_run"], p.runs, self.cohort, p.fold)

    @cached_property
    def features(self) -> pd.DataFrame:
        """Index = case (training cases first), a column per feature; also kept as `features.parquet`.

        Training cases are measured in their reference mask (or in the brain); those without one cannot be, and do not train.
        """
        kept = read_table(self.run.path(FEATURES_FILE))
        if kept is not None:
            return kept.set_index("case")
        texture = bool(self.parameters.options()["texture"])
        training = self.source if self.source.kind != "predicted" else MaskSource("truth")
        others = pd.concat([self.cases_by_split[name] for name in HELD_OUT])
        with self.run.beating():
            tables = [
                measure(self.cohort, self.prepared, cases, self.modalities, source, texture, self.progress)
                for cases, source in ((self.training_cases, training), (others, self.source))
            ]
        table = pd.concat(tables)
        write_parquet(self.run.path(FEATURES_FILE), table.rename_axis("case").reset_index())
        return table

    @cached_property
    def training_cases(self) -> pd.DataFrame:
        """Rows of the training cases that can be measured."""
        cases = self.cases_by_split["train"]
        if self.source.kind == "brain":
            return cases
        drawn = cases["segmentation"].notna()
        if not drawn.any():
            raise ParameterError(
                f"no training case of cohort {self.cohort.info.name} (fold {self.parameters.fold}) has a mask to measure: "
                "mask_source=brain measures the whole brain"
            )
        return cases[drawn]

    def columns(self, classifier: str) -> list[str]:
        """The features that a classifier is given."""
        known = self.features.loc[self.training_cases["case"]]
        clinical = [name for name in (AGE, FEMALE) if known[name].notna().any()]
        measured = [name for name in map(str, self.features) if not name.startswith("clinical/")]
        if classifier not in BASELINES:
            return measured + (clinical if self.parameters.options()["with_age"] else [])
        return columns_of(classifier, [*measured, *clinical])

    def feature_table(self) -> pd.DataFrame:
        """How many features of each kind were measured, in how many regions and sequences, and how much of it is missing."""
        names = self.features.columns.to_series()
        kinds = names.str.split("/").str[0]
        rows = []
        for kind in dict.fromkeys(kinds):
            of_kind = names[kinds == kind]
            missing = self.features[of_kind].isna().to_numpy().mean()
            rows.append(
                {"kind": kind, "features": len(of_kind), "not measured": f"{missing:.1%}", "for example": of_kind.iloc[-1]}
            )
        table = pd.DataFrame(rows).set_index("kind")
        table.columns.name = f"mask: {self.source.kind}{' (an upper bound)' if self.source.kind == 'truth' else ''}"
        return table

    # -- the steps -------------------------------------------------------------------------------------------------

    def train(self) -> RadiomicsExperiment:
        """Choose hyper-parameters on the training cases and fit; a finished fit is left alone."""
        if self.trained:
            return self
        self._begin()
        begin = time.monotonic()
        options = self.parameters.options()
        self.notes += [note for note in self._setup_notes() if note not in self.notes]
        if not self.markers:
            reasons = "; ".join(self.notes) or "name some ('markers'), radiomics predicts nothing else"
            raise ParameterError(f"no marker is left to predict: {reasons}")
        chosen: dict[str, dict[str, Any]] = {}
        with self.run.beating():
            for marker in self.progress.over(self.markers, "fitting", len(self.markers)):
                for classifier in dict.fromkeys((options["classifier"], *BASELINES)):
                    if not self.columns(classifier):
                        continue
                    fitted = self._fit(marker, classifier)
                    chosen.setdefault(marker, {})[classifier] = {
                        "columns": list(fitted.columns),
                        "hyper-parameters": dict(fitted.chosen),
                        "inner_auc": None if np.isnan(fitted.inner_auc) else fitted.inner_auc,
                    }
                    self.notes += [fitted.note] if fitted.note else []
        if not self.columns(options["classifier"]):
            lacking = {AGE_ONLY: "knows no age of a training case", VOLUMES_AND_PLACE: "was measured without masks"}
            raise ParameterError(
                f"cohort {self.cohort.info.name} {lacking[options['classifier']]}: "
                f"classifier={options['classifier']} has nothing to learn from"
            )
        write_parquet(self.run.path(TRAINED_ON_FILE), self.training_cases[["case", "subject", *self.markers]])
        budget = {
            "steps": 0, "cases": len(self.training_cases), "seconds": time.monotonic() - begin, "device": "cpu",
            "threads": int(self.run.spec["threads"]),
        }  # fmt: skip
        document = {"score": "mean AUC of the inner folds", "fitted": chosen, "markers": self.markers, "notes": self.notes}
        document |= {
            "modalities": self.modalities,
            "seen": (seen_by(self) | self._masks_have_seen()).model_dump(mode="json"),
            "mask_source": self.source.kind,
            "scikit_learn": sklearn.__version__,
            "budget": budget,
        }
        write_json(self.run.path(TRAINING_FILE), document)
        self.run.set_status("running", budget=budget)
        return self

    def fitted(self, marker: str, classifier: str = "") -> Fitted:
        """The classifier of a marker, fitted again with the hyper-parameters of `training.json`.

        Raises:
            RunError: the run is not trained, or knows no such marker or classifier.
        """
        if not self.trained:
            raise RunError(f"run {self.run.folder} is not trained yet: call .train()")
        return refit(self.run, marker, classifier or self.parameters.options()["classifier"])

    def _fit(self, marker: str, classifier: str) -> Fitted:
        cases = self.training_cases.set_index("case")
        table = self.features.loc[cases.index, self.columns(classifier)]
        return fit(
            table, cases[marker], cases["subject"], marker, classifier=classifier, seed=self.parameters.seed,
            inner_folds=self.parameters.options()["inner_folds"],
        )  # fmt: skip

    def _setup_notes(self) -> list[str]:
        """As `setup_notes.note_setup`, and where features come from."""
        found = [*case_notes(self), *marker_notes(self)]
        if bare := len(self.cases_by_split["train"]) - len(self.training_cases):
            found.append(f"{bare} training cases have no mask and do not train")
        if self.source.kind == "truth":
            found.append("features come from the reference masks, which nobody has at prediction time: an upper bound")
            if bare := sum(pd.isna(row["segmentation"]) for row in held_out(self)):
                found.append(f"{bare} held-out cases have no mask: their features are the training cases' medians")
        elif self.source.kind == "predicted":
            found.append(f"held-out cases are measured in the masks that run {self.parameters.options()['mask_run']} predicted")
            caution = read_pretrained_record(self._mask_run).caution
            found += [f"of the weights that drew these masks: {caution}"] if caution else []
        return found

    @property
    def _mask_run(self) -> Path:
        return Path(self.parameters.runs) / self.parameters.options()["mask_run"]

    def _masks_have_seen(self) -> Seen:
        """What the network that drew the masks had seen before its own training, which was on this run's training cases."""
        record = read_pretrained_record(self._mask_run) if self.source.kind == "predicted" else PretrainedRecord()
        if not record.verdict:
            return Seen()
        return Seen(known=False) if record.document is None else Seen.model_validate(record.document["seen"])

    def predict(self) -> RadiomicsExperiment:
        """Write every held-out case's logits, and those of the baselines."""
        rows = held_out(self)
        if self.run.status["state"] == "completed" or all(marker_file(self.run, row["case"]).is_file() for row in rows):
            return self
        names = [row["case"] for row in rows]
        found: dict[str, dict[str, np.ndarray]] = {}
        for marker, classifiers in self.training["fitted"].items():
            for classifier in classifiers:
                found.setdefault(classifier, {})[marker] = self.fitted(marker, classifier).logit(self.features.loc[names])
        main = self.parameters.options()["classifier"]
        for index, name in enumerate(names):
            logits = {
                kind: {marker: [float(values[index])] for marker, values in of.items()} for kind, of in found.items()
            }  # fmt: skip
            kept = {"markers": logits.get(main, {})} | {baseline: logits.get(baseline, {}) for baseline in BASELINES}
            write_json(marker_file(self.run, name), kept)
        return self

    def evaluate(self) -> RadiomicsExperiment:
        """Write the long tables, and the same table of each baseline: `age_only.parquet`, `volumes_and_place.parquet`."""
        if self.run.metrics() is None:
            self.predict()
            for name in BASELINES:
                write_parquet(self.run.path(f"{name}.parquet"), long_tables.markers_table(self, name))
        super().evaluate()
        return self

    def explain(self) -> RadiomicsExperiment:
        """Nothing: features have no maps. `importances` says which of them decide."""
        return self

    # -- what came out ---------------------------------------------------------------------------------------------

    def beside_baselines(self, split: str = "test") -> Any:
        """AUC of the chosen classifier and of each baseline on the same cases, with their paired difference (DeLong)."""
        tables = {name: read_table(self.run.path(f"{name}.parquet")) for name in BASELINES}
        rows = [
            row
            for name, table in tables.items()  # an older run has age only
            if table is not None and not table.empty
            for row in self._beside(table, BASELINES[name], split)
        ]
        if not rows:
            return sentences("*No age is known in this cohort, and no tumour was measured: there is no baseline.*")
        order = list(dict.fromkeys((row["marker"], row["class"]) for row in rows))
        rows.sort(key=lambda row: order.index((row["marker"], row["class"])))
        result = pd.DataFrame(rows).set_index(["marker", "class", "baseline"])
        result.columns.name = f"{cohort_title(self.cohort.info.name, self.cohort.info.phantom)}, {split}"
        return result

    def _beside(self, baseline: pd.DataFrame, title: str, split: str) -> list[dict[str, Any]]:
        ours, n = self.run.markers(), self.parameters.resamples
        if ours is None or ours.empty:
            return []
        paired = compare_markers(ours, baseline, split=split, resamples=n)
        rows = []
        for _, row in paired[paired["metric"] == "auc"].iterrows():
            texts = []
            for table in (ours, baseline):
                part = with_available(table[(table["split"] == split) & (table["marker"] == row["marker"])])
                found = auc_interval(part)
                texts.append(estimate_text(found.value, found.low, found.high, subjects=found.n_subjects))
            unknown = pd.isna(row["difference"])
            rows.append({
                "marker": row["marker"], "class": row["class"], "baseline": title, "n": row["n"], "positive": row["n_positive"],
                f"AUC, {self.parameters.options()['classifier']}": texts[0], "AUC, baseline": texts[1],
                "difference": "-" if unknown else estimate_text(*row[["difference", "low", "high"]], subjects=row["n_subjects"]),
                "p (DeLong)": "-" if pd.isna(row["p"]) else f"{row['p']:.3f}",
            })  # fmt: skip
        return rows

    def choices(self) -> pd.DataFrame:
        """Hyper-parameters chosen by inner cross-validation on the training cases, and the score they were chosen by."""
        rows = [
            {
                "marker": marker, "classifier": classifier,
                **{key.partition("__")[2]: str(value) for key, value in entry["hyper-parameters"].items()},
                "AUC of the inner folds": "-" if entry["inner_auc"] is None else f"{entry['inner_auc']:.3f}",
            }
            for marker, classifiers in self.training["fitted"].items()
            for classifier, entry in classifiers.items()
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index(["marker", "classifier"]).fillna("-")

    def importances(self, repeats: int = 20) -> pd.DataFrame:
        """Drop of the validation cases' AUC when a feature is permuted; kept as `importance.parquet`. See `importance`."""
        kept = read_table(self.run.path(IMPORTANCE_FILE))
        if kept is not None:
            return kept
        cases = self.cases_by_split["validation"].set_index("case")
        tables = [
            importance(
                self.fitted(marker), self.features.loc[cases.index], cases[marker], seed=self.parameters.seed, repeats=repeats
            )
            for marker in self.training["markers"]
        ]
        table = pd.concat(tables, ignore_index=True)
        write_parquet(self.run.path(IMPORTANCE_FILE), table)
        register(self.run.folder, IMPORTANCE_FILE)
        return table

    def result_table(self, kind: str) -> Any:
        """As `Experiment.result_table`; of sensitivity a sentence, since the disturbances are those of a network's input."""
        if kind == "sensitivity":
            return sentences("*Misregistration and a wrong tumour gate are tried on networks: there is no table of sensitivity.*")
        return super().result_table(kind)

    def show(self, name: str) -> Any:
        """As `Experiment.show`, and 'importance'."""
        if name != "importance":
            return super().show(name)
        info = self.cohort.info
        title = (
            f"radiomics ({self.parameters.options()['classifier']}) on {cohort_title(info.name, info.phantom)}, validation cases"
        )
        figure = importance_figure(self.importances(), title=title)
        if figure is None:
            return sentences("*The validation cases show one class only: importance cannot be measured.*")
        return picture(self.run, name, figure)

    def remarks(self) -> Markdown:
        """Notes, effort, and that a phantom is a phantom."""
        training = self.training
        lines = [
            f"Fitted on {training['budget']['cases']} training cases in {training['budget']['seconds']:.0f} s, scikit-learn "
            f"{training['scikit_learn']}; no training steps.",
            *dict.fromkeys([*training["notes"], *self.notes]),
        ]
        if self.cohort.info.phantom:
            lines.append("Phantom results: synthetic images, never clinical evidence.")
        return sentences("\n".join(f"- {line}" for line in lines))
