"""Brain MRI Workbench: models, training, evaluation and honest comparison for multi-modal brain MRI.

``from workbench import Cohort, Experiment, compare`` is all that a notebook imports. Names are loaded on first use, so
that ``import workbench`` stays light (no torch, MONAI or Panel).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from workbench.moved import MovedModules

__version__ = "0.1.0"

# Before anything is imported, because MONAI imports MLflow where it finds it: nothing of a run is reported to anybody.
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ[_name] = "true"
# Where it is installed, jsonschema (imported by MONAI and nbformat) compiles its grammar of URIs, over a second in every
# process. jsonschema goes without it, and no schema here has a URI to check.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

sys.meta_path.append(MovedModules())

# Strings on purpose: import-linter counts imports inside functions too, and the package must not reach its own rooms.
_EXPORTS = {
    "Cohort": "workbench.cohort.table",
    "Experiment": "workbench.experiments.experiment",
    "ExperimentParameters": "workbench.setup.parameters",
    "RadiomicsExperiment": "workbench.experiments.radiomics",
    "compare": "workbench.reports.comparison",
    "create_model": "workbench.models.registry",
    "list_models": "workbench.models.catalogue",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
