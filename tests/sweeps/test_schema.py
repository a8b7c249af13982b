"""What may stand in a sweep file: counted without listing it, and named where it is something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import ParameterError
from workbench.sweeps.schema import Ablation, as_text, read_sweep, same_value
from workbench.sweeps.sweep_file import plan_sweep

HEAD = "experiment: e\nmethods: [unet]\n"


def test_a_name_that_is_no_name(plan) -> None:
    with pytest.raises(ParameterError, match=r"the name 'my sweep' can only have letters.*give the sweep a `name`"):
        plan(HEAD, "my sweep.yaml")
    assert plan(HEAD + "name: mine\n", "my sweep.yaml").name == "mine"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"none\.yaml is not there; those that come .* notebooks/sweeps"):
        plan_sweep(tmp_path / "none.yaml")
    with pytest.raises(ParameterError, match="cannot be read: Is a directory"):
        plan_sweep(tmp_path)
    (tmp_path / "image.yaml").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(ParameterError, match=r"image\.yaml is no text"):
        plan_sweep(tmp_path / "image.yaml")


def test_a_byte_order_mark_is_no_part_of_a_key(plan) -> None:
    assert len(plan("\ufeff" + HEAD).cells) == 1


def test_runs_are_counted_as_they_are_expanded(plan, tmp_path: Path) -> None:
    text = (
        "experiment: e\nmethods: [unet, segresnet]\nfolds: all\nseeds: [0, 1]\nparameters: {size: demo, width: [8, 16, 24]}\n"
        "zip: {epochs: [1, 2], batch_size: [1, 2]}\n"
    )
    made = plan(text)
    sweep = read_sweep(tmp_path / "made.yaml")
    assert sweep.fold_list(3) == [0, 1, 2]
    assert sweep.count(3) == len(made.cells) == 2 * 3 * 2 * 3 * 2
    more = sweep.model_copy(
        update={"ablation": Ablation(switches={"a": {"ema": 0.5}}), "include": [{"method": "mts_unet"}], "folds": 2, "seeds": 7}
    )
    assert (more.fold_list(3), more.seed_list()) == ([2], [7])
    assert more.count(3) == 2 * 3 * 2 * 2 + 2, "an included combination is counted for every method: never too few"
    assert more.every_method() == ["unet", "segresnet", "mts_unet"]


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("experiment: e\nmethod: [unet]\nseed: 1\nzip: 3\n")
    with pytest.raises(ParameterError) as caught:
        read_sweep(tmp_path / "a.yaml")
    said = [line.removeprefix(f"sweep file {tmp_path / 'a.yaml'}: ") for line in str(caught.value).splitlines()]
    assert said == [
        "`zip` must be `name: [value, value]` of lists that are as long as each other; found 3",
        "`method` is no key of a sweep: did you mean `methods`?",
        "`seed` is no key of a sweep: did you mean `seeds`?",
    ]


def test_true_is_not_one() -> None:
    assert same_value(1, 1.0)
    assert not same_value(True, 1)
    assert not same_value("1", 1)
    assert as_text({"width": 4, "augment": False}) == "width=4, augment=False"
