from __future__ import annotations

import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn
from toy_method import ToyMethod

from workbench.errors import RunError
from workbench.training import checkpoints
from workbench.training.average import moving_average
from workbench.training.checkpoints import has_checkpoint, load_checkpoint, load_weights, save_checkpoint


def trained(optimiser: str = "adamw") -> tuple[ToyMethod, torch.optim.Optimizer]:
    """A toy after one optimiser step, so that the optimiser has state."""
    model = ToyMethod()
    if optimiser == "adamw":
        chosen: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), 1e-2, amsgrad=True)
    else:
        chosen = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, nesterov=True)
    sum(parameter.square().sum() for parameter in model.parameters()).backward()
    chosen.step()
    return model, chosen


def assert_equal_state(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_everything_comes_back_to_the_bit(tmp_path: Path, name: str) -> None:
    model, optimiser = trained(name)
    averaged = moving_average(model, 0.9)
    metadata = {"step": 7, "score": 0.1 + 0.2, "list": [1, None, "ä"]}
    save_checkpoint(tmp_path / "last", model.state_dict(), optimiser.state_dict(), averaged.state_dict(), metadata)

    checkpoint = load_checkpoint(tmp_path / "last")
    assert_equal_state(checkpoint.model, dict(model.state_dict()))
    assert_equal_state(checkpoint.average, dict(averaged.state_dict()))
    assert checkpoint.metadata == metadata

    fresh, other = trained(name)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.copy_(dict(model.named_parameters())[next(n for n, p in fresh.named_parameters() if p is parameter)])
    other.load_state_dict(checkpoint.optimiser)
    for one, state in ((model, optimiser), (fresh, other)):
        for number, parameter in enumerate(one.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
        state.step()
    assert_equal_state(dict(fresh.named_parameters()), dict(model.named_parameters()))
    assert {p.name for p in tmp_path.iterdir()} == {"last.safetensors", "last.json"}
    readable = json.loads((tmp_path / "last.json").read_text())
    assert readable["step"] == 7
    assert readable["tensors"] == "last.safetensors"


def test_tied_weights_and_strided_tensors_are_stored(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "last", {"a": weight, "b": weight, "c": weight.T, "flag": torch.tensor(True)})
    found = load_checkpoint(tmp_path / "last").model
    assert torch.equal(found["b"], weight)
    assert torch.equal(found["c"], weight.T)
    assert found["flag"].dtype == torch.bool


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    for name in ("trap.pt", "disguised.safetensors"):
        torch.save({"model": Trap()}, tmp_path / name)
        with pytest.raises(RunError, match="is a pickle"):
            load_checkpoint(tmp_path / name)
    torch.save(Trap(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(RunError, match=r"old\.pth is a pickle"):
        load_weights(tmp_path / "old.pth", ToyMethod())
    assert not (tmp_path / "trapped").exists()


def test_no_length_of_the_header_is_taken_for_a_pickle(tmp_path: Path) -> None:
    """A safetensors file begins with the length of its header, whose lowest byte is a pickle's first byte once in 256 times."""
    for extra in range(0, 256, 8):  # headers are padded to eight bytes
        save_checkpoint(tmp_path / "model", {"w": torch.zeros(1)}, metadata={"note": "x" * extra})
        start = (tmp_path / "model.safetensors").read_bytes()[:1]
        if start == b"\x80":
            break
    assert start == b"\x80"
    assert load_checkpoint(tmp_path / "model").metadata["note"] == "x" * extra


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    model, optimiser = trained()
    save_checkpoint(tmp_path / "last", model.state_dict(), optimiser.state_dict())
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"last\.safetensors is truncated or damaged"):
        load_checkpoint(tmp_path / "last")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path / "last")
    with pytest.raises(RunError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "last")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(RunError, match="not a checkpoint of this workbench"):
        load_checkpoint(tmp_path / "foreign")


def test_another_architecture_is_refused_and_nothing_loaded(tmp_path: Path) -> None:
    model = ToyMethod(width=4)
    save_checkpoint(tmp_path / "best", model.state_dict(), metadata={"model": {"method": "toy", "width": 4}})
    wider = ToyMethod(width=6)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(RunError, match=r'"width": 4.*of another shape: encoder\.weight \(4, 2, 3, 3, 3\) instead of \(6, 2'):
        load_weights(tmp_path / "best", wider)
    assert_equal_state(dict(wider.state_dict()), before)

    other = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RunError, match=r"missing: 0\.weight, 0\.bias; unexpected: encoder\.bias.* and 8 more"):
        load_weights(tmp_path / "best", other)


def test_load_weights_prefers_the_moving_average(tmp_path: Path) -> None:
    model = ToyMethod()
    averaged = moving_average(model, 0.5)
    with torch.no_grad():
        averaged.module.head.weight.fill_(3.0)
    save_checkpoint(tmp_path / "last", model.state_dict(), None, averaged.state_dict(), {"step": 3})
    fresh = ToyMethod(seed=1)
    assert load_weights(tmp_path / "last", fresh) == {"step": 3}
    assert torch.equal(fresh.head.weight, torch.full_like(fresh.head.weight, 3.0))


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "last", {"weight": torch.ones(2)}, metadata={"step": 1})

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: IoError: No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(RunError, match=r"last cannot be written: .*No space left.*the one before stays"):
        save_checkpoint(tmp_path / "last", {"weight": torch.zeros(2)}, metadata={"step": 2})
    assert {path.name for path in tmp_path.iterdir()} == {"last.safetensors", "last.json"}
    assert load_checkpoint(tmp_path / "last").metadata == {"step": 1}
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "last", {"weight": torch.zeros(2)})


def keep_writing(stem: Path, ready: Event) -> None:
    torch.set_num_threads(1)
    step = 0
    while True:
        step += 1
        save_checkpoint(stem, {"weight": torch.full((500_000,), float(step))}, metadata={"step": step})
        ready.set()


def test_a_process_killed_while_writing_leaves_one_whole_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stem = tmp_path / "last"
    fork = multiprocessing.get_context("fork")  # a fresh interpreter would spend seconds on importing torch
    torn = 0
    for _ in range(6):
        ready = fork.Event()
        process = fork.Process(target=keep_writing, args=(stem, ready))
        process.start()
        assert ready.wait(30)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        torn += len(list(tmp_path.glob(".*")))
        checkpoint = load_checkpoint(stem)
        assert bool((checkpoint.model["weight"] == checkpoint.metadata["step"]).all())  # tensors and description agree
        json.loads((tmp_path / "last.json").read_text())
    assert torn > 0, "no kill hit a write: the test shows nothing"
    save_checkpoint(stem, {"weight": torch.zeros(1)})
    assert {path.name for path in tmp_path.iterdir()} == {"last.safetensors", "last.json"}
