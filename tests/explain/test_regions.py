"""Shares and weights by region, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.explain.regions import attribution_rows, explained_regions, modality_weight_rows
from workbench.labels import ED, ET, LABEL_SETS, NCR, RC, REGIONS

SHAPE = (4, 4, 5)


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[0], found[1, :2], found[1, 2:] = ET, ED, RC
    return found


@pytest.fixture
def looked_at() -> np.ndarray:
    found = np.ones(SHAPE, bool)
    found[:, :, 4] = False  # a fifth of the volume lies outside the window
    return found


def test_shares_are_those_of_the_sum_and_chance_is_volume(looked_at: np.ndarray) -> None:
    values = np.zeros(SHAPE, np.float32)
    values[0], values[3] = 3, 1
    rows = attribution_rows(values, labels(), looked_at, "glioma").set_index("region")
    assert rows["share"].to_dict() == pytest.approx({"ET": 0.75, "NCR": 0, "ED": 0, "outside": 0.25})
    assert rows["chance"].to_dict() == pytest.approx({"ET": 0.25, "NCR": 0, "ED": 0.125, "outside": 0.625})
    even = attribution_rows(np.ones(SHAPE, np.float32), labels(), looked_at, "glioma_post")
    assert list(even["region"]) == ["ET", "NCR", "ED", "RC", "outside"]
    np.testing.assert_allclose(even["share"], even["chance"])


@pytest.mark.parametrize("label_set", [*LABEL_SETS, ""])
def test_shares_and_chances_add_up_for_every_label_set(label_set: str, looked_at: np.ndarray) -> None:
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    rows = attribution_rows(values, labels(), looked_at, label_set)
    assert rows["share"].sum() == pytest.approx(1)
    assert rows["chance"].sum() == pytest.approx(1)
    found = [REGIONS[region] for region in explained_regions(label_set)]
    assert len(set().union(*found)) == sum(map(len, found)), "a voxel would count twice"


def test_an_empty_map_has_no_shares_and_a_signed_one_is_refused(looked_at: np.ndarray) -> None:
    assert attribution_rows(np.zeros(SHAPE), labels(), looked_at, "glioma")["share"].isna().all()
    with pytest.raises(ValueError, match="negative"):
        attribution_rows(-np.ones(SHAPE), labels(), looked_at, "glioma")


def test_weights_are_means_over_the_region_and_add_up_there(looked_at: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    raw = np.exp(rng.standard_normal((3, *SHAPE)))
    weights = raw / raw.sum(0)
    weights[:, :, :, 4] = 0  # zeros beyond the window must not count
    maps = {f"weight_{name}": part for name, part in zip(("t1", "t2", "flair"), weights, strict=True)}
    rows = modality_weight_rows(maps | {"gate": weights[0] * 7}, labels(), looked_at, "glioma_post")
    assert set(rows["region"]) == {"ET", "ED", "RC", "outside"}, "NCR has no voxel and is left out"
    np.testing.assert_allclose(rows.groupby("region")["weight"].sum(), 1)
    row = rows[(rows["region"] == "ED") & (rows["modality"] == "t2")].iloc[0]
    assert row["weight"] == pytest.approx(weights[1][1, :2, :4].mean())
    assert row["voxels"] == 8
    assert NCR not in labels()


def test_without_mask_or_weights(looked_at: np.ndarray) -> None:
    maps = {"weight_t1": np.full(SHAPE, 0.25), "weight_t2": np.full(SHAPE, 0.75)}
    rows = modality_weight_rows(maps, None, looked_at, "")
    assert rows[["region", "modality", "weight"]].to_numpy().tolist() == [["outside", "t1", 0.25], ["outside", "t2", 0.75]]
    assert modality_weight_rows({"gate": maps["weight_t1"]}, labels(), looked_at, "glioma").empty
