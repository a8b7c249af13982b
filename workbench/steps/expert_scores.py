"""Each expert of a mixture alone beside the fused output, both on one image.

An expert that has drifted during the joint training (the paper calls it degeneration) scores low alone on its own sequence: the
curriculum is against that.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbench.evaluation.segmentation import region_dice
from workbench.files import read_json, write_json, write_parquet
from workbench.inference.predict import predict_case
from workbench.labels import region_mask
from workbench.models.mome.mome import MixtureMethod, expert_alone
from workbench.records.provenance import register
from workbench.setup.run_setup import RunSetup
from workbench.steps.long_tables import judged_regions
from workbench.steps.subsets import judged_cases

EXPERTS_FILE = "experts.parquet"
COLUMNS = ["case", "subject", "site", "split", "sequence", "region", "alone", "fused"]


def expert_scores(setup: RunSetup) -> pd.DataFrame:
    """Dice of each expert alone and of the fused output, both from one image of the expert's own sequence.

    On the test and external cases (six with `subsets=few`), for regions that the truth has, on the working grid. Written to
    `experts.parquet`, case by case, so that it can be interrupted; empty for a method without experts.

    Returns:
        Columns case, subject, site, split, sequence, region, alone, fused.
    """
    path = setup.run.folder / EXPERTS_FILE
    if path.is_file():
        return pd.read_parquet(path)
    if not isinstance(setup.network, MixtureMethod):
        return pd.DataFrame(columns=COLUMNS)
    model = setup.trained_model()
    assert isinstance(model, MixtureMethod)
    cases = judged_cases(setup, "few" if setup.parameters.subsets == "few" else "all")
    found: list[dict[str, Any]] = []
    for row in setup.progress.over(cases, "scoring experts", len(cases)):
        kept = setup.run.path("experts", f"{row['case']}.json")
        if not kept.is_file():
            write_json(kept, _scores(setup, model, row))
        found += read_json(kept)
    table = pd.DataFrame(found, columns=COLUMNS)
    write_parquet(path, table)
    for row in cases:
        setup.run.path("experts", f"{row['case']}.json").unlink()
    (setup.run.folder / "experts").rmdir()
    register(setup.run.folder, EXPERTS_FILE)
    return table


def _scores(setup: RunSetup, model: MixtureMethod, row: pd.Series) -> list[dict[str, Any]]:
    case = setup.prepared.case(row["case"])
    truth = case.labels()
    if truth is None:
        return []
    there = [name for name, has in zip(case.modalities, case.present, strict=True) if has and name in model.modalities]
    regions = [name for name in judged_regions(setup, row) if region_mask(truth, name).any()]
    rows: list[dict[str, Any]] = []
    for sequence in there:
        dice = {}
        for way, network in (("alone", expert_alone(model, sequence)), ("fused", model)):
            predicted = predict_case(
                network, case, modalities=network.modalities, present=(sequence,), patch=setup.patch, device=setup.device,
                **setup.parameters.inference(),
            )  # fmt: skip
            labels = predicted.labels()
            assert labels is not None
            dice[way] = {region: region_dice(labels, truth, region) for region in regions}
        of_case = {name: row[name] for name in ("case", "subject", "site")} | {"split": setup.split[row["case"]]}
        rows += [
            of_case | {"sequence": sequence, "region": region, "alone": dice["alone"][region], "fused": dice["fused"][region]}
            for region in regions
        ]
    return rows
