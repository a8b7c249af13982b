"""A run over the tiny cohort with predictions, a map and both long tables; loaded by path (tests are no package)."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from workbench.cohort.table import Cohort
from workbench.labels import region_mask, regions_of
from workbench.prepare.images import native_labels
from workbench.records.run_folder import RunFolder

RUN = "tiny/0123456789ab"


def make_case_run(cohort: Cohort, runs: Path) -> RunFolder:
    """Predictions are the truth shifted by one voxel; case 0 has a map. Splits: test, test, validation, test, ..."""
    where = runs / "tiny" / "0123456789ab"
    spec = {
        "run": "0123456789ab", "method": "unet", "experiment": "tiny", "parameters": {},
        "cohort": {"name": "tiny", "path": os.path.relpath(cohort.folder, where), "phantom": True, "fingerprint": "x"},
    }  # fmt: skip
    run = RunFolder.create(runs / "tiny", spec)
    run.set_status("running")
    metrics, markers = [], []
    for index, row in cohort.cases.iterrows():
        case = row["case"]
        image = nib.load(cohort.path(case, cohort.present(case)[0]))
        truth = native_labels(cohort, case)
        labels = np.zeros(image.shape, np.uint8) if truth is None else truth
        found = np.roll(labels, 1, axis=0)
        nib.save(nib.Nifti1Image(found, image.affine), run.path("predictions", f"{case}.nii.gz"))
        if index == 0:
            soft = (labels > 0).astype(np.float32) * 0.75
            nib.save(nib.Nifti1Image(soft, image.affine), run.path("maps", f"{case}_idh-gradcam.nii.gz"))
        common = {"case": case, "subject": row["subject"], "site": row["site"], "fold": 0,
                  "split": "validation" if index % 3 == 2 else "test"}  # fmt: skip
        full = "+".join(cohort.present(case))
        for present, penalty in ((full, 0.0), (cohort.present(case)[0], 0.5)):
            for region in regions_of(row["labels"] if isinstance(row["labels"], str) else "glioma"):
                a, b = region_mask(labels, region), region_mask(found, region)
                dice = 2 * (a & b).sum() / max(1, a.sum() + b.sum()) * (1 - penalty) - 0.01 * index
                for metric, value in (("dice", dice), ("hd95", 4.0 + index)):
                    metrics.append(common | {"present": present, "region": region, "metric": metric, "value": float(value),
                                             "n_truth": int(a.sum()), "n_prediction": int(b.sum())})  # fmt: skip
            markers.append(common | {"present": present, "marker": "idh", "class": "mutant", "truth": float(row["idh"]),
                                     "logit": 0.0, "probability": 0.25 if penalty == 0 else 0.9})  # fmt: skip
    pd.DataFrame(metrics).to_parquet(run.path("metrics.parquet"))
    pd.DataFrame(markers).to_parquet(run.path("markers.parquet"))
    run.set_status("completed")
    return run
