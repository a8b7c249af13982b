"""An encoder of BrainFM-MRI's public code: with BioBERT's vectors at the width they have, and not otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from brainfm_cases import build
from safetensors.torch import save_file

from workbench.errors import InputError
from workbench.models.brainfm.modality_embedding import HEADER
from workbench.models.brainfm.modality_text import PHRASES
from workbench.models.brainfm.released import published_names

WIDE = {"width": 768, "heads": 1, "mlp": 4, "positions": 1, "head": "linear"}


def test_the_encoder_is_filled_where_sequences_are_known_by_biobert(tmp_path: Path) -> None:
    header = {HEADER: json.dumps({"format": 1, "phrases": PHRASES})}
    save_file({"vectors": torch.randn(len(PHRASES), 768)}, tmp_path / "biobert.safetensors", header)
    model = build(**WIDE, embeddings=str(tmp_path / "biobert.safetensors"))
    own = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    state: dict[str, list[torch.Tensor]] = {}
    for name, source in published_names(own).items():
        state.setdefault(source.names[0], []).append(torch.zeros_like(own[name]) + len(state))
    saved = {name: torch.cat(parts) for name, parts in state.items()}  # query before key and value
    saved["pos_embed.pos_embed"] = saved["pos_embed.pos_embed"][None]
    torch.save({"model_state_dict": saved | {"mask_token": torch.zeros(1, 1, 768)}}, tmp_path / "mae.pt")
    coverage = model.load_pretrained(tmp_path / "mae.pt")
    assert len(coverage.matched) == coverage.total - 1 == len(saved)
    assert coverage.missing == ("modality.table",)
    assert coverage.skipped == {"mask_token": "decoder of the pretraining"}
    assert not coverage.seen.known
    assert torch.equal(model.encoder.positions, saved["pos_embed.pos_embed"][0])
    memory = model.encoder.blocks[3].attention.memory.bias
    assert torch.equal(memory, saved["encoder.layers.3.self_attn.in_proj_bias"][768:])

    with pytest.raises(InputError, match="workbench modality-embeddings"):
        build(**WIDE).load_pretrained(tmp_path / "mae.pt")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"modality_embedding": "one_hot", "norm": "layer"}, "set norm to conditional, modality_embedding to text, width to 768"),
        ({"modality_embedding": "one_hot", "padding_mask": False}, "set padding_mask to True"),
    ],
)
def test_what_would_compute_something_else_is_refused(tmp_path: Path, options: dict[str, object], remedy: str) -> None:
    torch.save({"pos_embed.pos_embed": torch.zeros(1)}, tmp_path / "mae.pth")
    with pytest.raises(InputError, match=remedy):
        build(**options).load_pretrained(tmp_path / "mae.pth")
