"""Files that are either whole or not there, and digests of content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.files import atomic_path, file_digest, read_json, value_digest, write_json, write_parquet, write_text


def test_a_file_is_replaced_when_the_block_ends_well_and_else_left(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "image.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith("."), "hidden until it is whole"
        assert temporary.name.endswith(".tmp.image.nii.gz"), "writers choose the format by suffix"
        temporary.write_text("first")
        assert not target.exists()
    assert target.read_text() == "first"

    def killed() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass  # nothing was written
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["image.nii.gz"], "nothing is left beside it"


def test_json_keeps_order_and_letters_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": "ä", "a": None})
    assert path.read_text(encoding="utf-8") == '{\n "b": "ä",\n "a": null\n}\n'
    assert list(read_json(path)) == ["b", "a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["b"] == "ä"


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe\x00"])
def test_what_is_no_json_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"a\.json cannot be read as JSON"):
        read_json(path)


def test_a_table_is_written_without_its_index(tmp_path: Path) -> None:
    table = pd.DataFrame({"case": ["a", "b"], "value": [1.0, None]}, index=[7, 3])
    write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table.reset_index(drop=True), check_dtype=False)


def test_digests_are_of_bytes_and_of_values(tmp_path: Path) -> None:
    """The numbers are kept: run ids and fingerprints on people's disks follow from them."""
    write_text(tmp_path / "a", "abc")
    assert file_digest(tmp_path / "a") == hashlib.blake2b(b"abc", digest_size=16).hexdigest()
    big = b"x" * (3 << 20)
    (tmp_path / "b").write_bytes(big)
    assert file_digest(tmp_path / "b") == hashlib.blake2b(big, digest_size=16).hexdigest()
    assert value_digest({"a": 1, "b": [1.5, None, "ä"]}) == value_digest({"b": [1.5, None, "ä"], "a": 1}) == "3033a72c3e0d"
    assert value_digest([1, 2]) != value_digest([2, 1])
    assert value_digest([1, 2], 16).startswith(value_digest([1, 2]))
