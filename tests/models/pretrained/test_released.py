"""What all importers of released weights share: names, wrappers, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workbench.cohort.collections import COLLECTIONS
from workbench.errors import InputError
from workbench.models.amaes import released as amaes
from workbench.models.brainfm import released as brainfm
from workbench.models.mmformer import released as mmformer
from workbench.models.mome import released as mome
from workbench.models.options_base import MethodOptions
from workbench.models.pretrained.released import (
    ReleasedWeights,
    Source,
    load_released,
    named,
    read_released,
    swapped_halves,
)
from workbench.models.pretrained.seen import Seen


class Options(MethodOptions):
    gate: str = "raw"


KIND = ReleasedWeights(
    kind="made", title="made weights", anchor="body.w", seen=Seen(collections=("atlas",)), modalities=("t1", "t2"),
    required={"gate": "raw"}, unused=((r"^head\.", "a head of theirs"),),
)  # fmt: skip
STATE = {"body.w": torch.arange(6.0).view(2, 3), "body.b": torch.ones(2), "head.w": torch.zeros(1), "else": torch.zeros(1)}
SOURCES = {"weight": Source(("body.w",)), "bias": Source(("body.b",), lambda value: 2 * value)}


def test_names_go_through_the_rules_in_order() -> None:
    assert named(["a.0.w"], [(r"^a\.", "b."), (r"^b\.(\d)\.", r"c\1.")])["a.0.w"].names == ("c0.w",)


def test_halves_are_exchanged() -> None:
    assert swapped_halves(torch.arange(4.0)[None]).tolist() == [[2, 3, 0, 1]]


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "network_weights"])
def test_whatever_wraps_them(tmp_path: Path, prefix: str, wrapper: str) -> None:
    state = {prefix + name: value for name, value in STATE.items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    assert list(read_released(tmp_path / "w.pth", KIND)) == list(STATE)


def test_several_networks_in_one_file(tmp_path: Path) -> None:
    torch.save({"body": {"w": torch.ones(1)}, "head": {"w": torch.zeros(1)}}, tmp_path / "w.pth")
    assert list(read_released(tmp_path / "w.pth", KIND)) == ["body.w", "head.w"]


def test_the_account_says_what_became_of_every_tensor(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    layer = nn.Linear(3, 2)
    coverage = load_released(layer, tmp_path / "w.safetensors", KIND, SOURCES, options=Options(), modalities=("t1", "t2"))
    assert torch.equal(layer.weight, STATE["body.w"])
    assert layer.bias.tolist() == [2, 2]
    assert coverage.total == 4
    assert set(coverage.matched) == {"body.w", "body.b"}
    assert coverage.skipped == {"head.w": "a head of theirs"}
    assert coverage.unexpected == ("else",)
    assert coverage.missing == ()
    assert coverage.seen.collections == ("atlas",)
    kept = load_released(
        layer, tmp_path / "w.safetensors", KIND, {"bias": SOURCES["bias"]}, options=Options(), modalities=("t1", "t2")
    )
    assert kept.missing == ("weight",)


def test_refusals_name_the_file_and_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    layer = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"gate=softmax.*set gate to raw"):
        load_released(layer, path, KIND, SOURCES, options=Options(gate="softmax"), modalities=("t1", "t2"))
    with pytest.raises(InputError, match=r"this model t2, t1.*set modalities to t1,t2"):
        load_released(layer, path, KIND, SOURCES, options=Options(), modalities=("t2", "t1"))
    with pytest.raises(InputError, match=r"1 are not in it, such as body\.other"):
        load_released(
            layer, path, KIND, SOURCES | {"bias": Source(("body.other",))}, options=Options(), modalities=("t1", "t2")
        )  # fmt: skip
    with pytest.raises(InputError, match=r"body\.w has shape \(2, 3\), this model needs \(2, 4\)"):
        load_released(nn.Linear(4, 2), path, KIND, SOURCES, options=Options(), modalities=("t1", "t2"))
    with pytest.raises(InputError, match="does not exist"):
        load_released(layer, tmp_path / "none.pth", KIND, SOURCES, options=Options(), modalities=("t1", "t2"))
    with pytest.raises(InputError, match="a folder"):
        read_released(tmp_path, KIND)


def test_whom_released_weights_have_seen_has_a_name() -> None:
    kinds = [mmformer.WEIGHTS, amaes.WEIGHTS, brainfm.WEIGHTS, *mome.WEIGHTS.values()]
    seen = {name for kind in kinds for name in kind.seen.collections}
    assert {"brats2021", "isles2022", "msseg"} < seen <= set(COLLECTIONS)
    assert [kind.kind for kind in kinds if not kind.seen.known] == ["brainfm"]
