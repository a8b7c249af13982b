"""The account of a file of pretrained weights."""

from __future__ import annotations

import json

from workbench.models.pretrained.coverage import Coverage

ACCOUNT = Coverage(
    file="w.pt", digest="blake2b:0", kind="k", title="A kind", total=9, matched=("a", "b"), adapted=("stem",),
    skipped={"x": "head", "y": "head", "z": "decoder"}, unexpected=("q",), missing=("1", "2", "3", "4"),
    channels={"t1": "the same sequence", "dwi": "random weights"}, backbones=2,
)  # fmt: skip


def test_the_report_names_every_group_and_shortens_long_lists() -> None:
    assert str(ACCOUNT).splitlines() == [
        "w.pt: A kind",
        "loaded 2 of 9 tensors, into each of 2 backbones",
        "adapted 1 input convolutions: stem",
        "skipped 2: head",
        "skipped 1: decoder",
        "unexpected 1: q",
        "left as they were 4: 1, 2, 3 and 1 more",
        "input channels: t1 from the same sequence, dwi from random weights",
    ]


def test_for_json_what_matched_is_counted_and_what_did_not_is_named() -> None:
    values = json.loads(json.dumps(ACCOUNT.as_dict()))
    assert (values["matched"], values["missing"], values["unexpected"]) == (2, ["1", "2", "3", "4"], ["q"])
