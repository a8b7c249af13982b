"""Imports with pseudonyms: no name enters, the key stays outside and goes on, and nothing that has names is mixed with it."""

from __future__ import annotations

import gzip
import os
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort import pseudonyms
from workbench.cohort.check import check_cohort
from workbench.cohort.merge import merge_cohorts
from workbench.cohort.pseudonyms import extend_key, key_path, read_key, write_key
from workbench.cohort.readers import import_cohort
from workbench.cohort.selection import filter_cohort
from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import InputError, ParameterError, WorkbenchError
from workbench.files import read_json, write_json

NAMES = ("MUELLER_Änne-19420317", "O'Brien, Seán", "=cmd|calc", "<b>DOE^JOHN</b>", "MRN 00471199")
SUBJECTS = ("Familie Mueller", "Familie Mueller", "Calc|Person", "DOE^JOHN^^", "00471199")
GLOBS = {"t1": "*/t1*.nii.gz", "flair": "*/flair.nii"}
OPTIONS = {"images": GLOBS, "segmentation": "*/seg.nii.gz", "labels": "brats2021", "pseudonyms": True}


def save(path: Path, name: str, value: int) -> None:
    """An image whose every free field, and an extension, name the patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.full((3, 4, 5), value, np.int16), np.diag([-2.0, -2, 3, 1]))
    text = name.encode()
    for field, size in (("descrip", 80), ("aux_file", 24), ("db_name", 18), ("intent_name", 16)):
        image.header[field] = text[:size]
    image.header.set_slope_inter(0.5, 3)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text))
    nib.save(image, path)
    if path.suffix == ".gz":  # the name that gzip keeps
        data = gzip.decompress(path.read_bytes())
        with path.open("wb") as raw, gzip.GzipFile(filename=f"{name.split('>')[0]}.nii", mode="wb", fileobj=raw) as file:
            file.write(data)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "Clinic of DOE^JOHN"
    for index, name in enumerate(NAMES):
        where = folder / name.replace("/", "∕")
        save(where / "t1.nii.gz", name, index)
        save(where / "t1_again.nii.gz", name, index)
        save(where / "flair.nii", name, index + 10)
        save(where / "seg.nii.gz", name, 0)
    rows = [
        f'"{name.replace("/", "∕")}","{subject}",visit {index},north,{40 + index}'
        for index, (name, subject) in enumerate(zip(NAMES, SUBJECTS, strict=True))
    ]
    (tmp_path / "who.csv").write_text("\n".join(["case,subject,timepoint,site,age", *rows]) + "\n")
    return folder


def run(source: Path, out: Path, **more: object) -> Cohort:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the warnings name originals, on the terminal
        return import_cohort("generic", source, out, subjects=source.parent / "who.csv", **(OPTIONS | more))  # type: ignore[arg-type]


def found_names(folder: Path) -> list[str]:
    """Where a part of a name stands in a folder: paths, and bytes as they are and uncompressed."""
    marks = [*re.findall(r"\w{4,}", " ".join((*NAMES, *SUBJECTS))), "Clinic", "again", "calc", "=cmd"]
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if content[:2] == b"\x1f\x8b":
            content += gzip.decompress(content)
        if path.suffix == ".parquet":
            content += pd.read_parquet(path).to_csv().encode()
        text = (
            path.relative_to(folder).as_posix() + "\n" + content.decode("utf-8", "replace") + content.decode("utf-16", "ignore")
        )
        found += [f"{path}: {mark}" for mark in marks if mark.lower() in text.lower()]
    return found


def test_no_name_enters_the_cohort(source: Path, tmp_path: Path) -> None:
    cohort = run(source, tmp_path / "cohort")
    cohort.fingerprint()  # writes the digests
    check_cohort(cohort.folder)
    assert found_names(source), "the search finds them where they are"
    assert found_names(cohort.folder) == []
    assert cohort.info.pseudonyms
    assert sorted(cohort.cases["case"]) == [f"case-{n:04d}" for n in range(1, 6)]
    assert set(cohort.cases["subject"]) == {f"sub-{n:04d}" for n in range(1, 5)}
    assert set(cohort.cases["repeats"]) == {"t1=another file"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "cohort", "cohort.key.csv", "who.csv"]


def test_data_and_images_stay_with_their_case(source: Path, tmp_path: Path) -> None:
    cohort = run(source, tmp_path / "cohort")
    key = read_key(key_path(cohort.folder))
    for index, (name, subject) in enumerate(zip(NAMES, SUBJECTS, strict=True)):
        row = cohort.row(key["case"][name.replace("/", "∕")])
        assert (row["subject"], row["age"], row["site"]) == (key["subject"][subject], 40 + index, "north")
        for column, original in (("t1", "t1.nii.gz"), ("flair", "flair.nii")):
            old = nib.load(source / name.replace("/", "∕") / original)
            new = nib.load(cohort.path(row["case"], column))  # type: ignore[arg-type]
            assert np.array_equal(old.get_fdata(), new.get_fdata())
            assert np.array_equal(old.affine, new.affine)
            assert (new.get_data_dtype(), new.header["sform_code"]) == (old.get_data_dtype(), old.header["sform_code"])
    first, second = (int(key["case"][name.replace("/", "∕")].removeprefix("case-")) for name in NAMES[:2])
    assert second == first + 1, "the time points of one subject follow each other"


def test_the_order_says_nothing() -> None:
    names = [f"name {n:03d}" for n in range(60)]
    table = pd.DataFrame({"case": names, "subject": names, "timepoint": None})
    orders = [extend_key({"case": {}, "subject": {}}, table) for _ in range(2)]
    for order in orders:
        for kind in ("case", "subject"):
            assert [order[kind][name] for name in names] != sorted(order[kind].values())
    assert orders[0] != orders[1]


def test_a_second_import_keeps_the_pseudonyms_and_adds_new_ones(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    before = run(source, out)
    key = read_key(key_path(out))
    assert run(source, out, overwrite=True).cases.equals(before.cases)
    assert run(source, out, overwrite=True).fingerprint() == before.fingerprint()
    save(source / "Late Comer" / "t1.nii.gz", "Late Comer", 9)
    for path in (source / NAMES[1]).iterdir():
        path.unlink()  # withdrawn: the copies go, the key keeps the pseudonym
    after = run(source, out, overwrite=True)
    again = read_key(key_path(out))
    assert again["case"] == key["case"] | {"Late Comer": "case-0006"}
    assert key["case"][NAMES[1]] not in set(after.cases["case"])
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(after.cases["case"])


def test_a_pseudonym_is_nobodys_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"case": ["case-0001", "case-0002"], "subject": ["a", "b"], "timepoint": None})
    assert set(extend_key({"case": {}, "subject": {}}, table)["case"].values()) == {"case-0003", "case-0004"}


def test_the_key_is_for_its_owner(source: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        out = run(source, tmp_path / "cohort").folder
    finally:
        os.umask(before)
    key = key_path(out)
    assert key == tmp_path / "cohort.key.csv"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().startswith("kind,name,pseudonym\n")
    key.chmod(0o640)
    with pytest.raises(WorkbenchError, match=r"read or written by others: `chmod 600"):
        run(source, out, overwrite=True)


def test_a_key_in_a_cohort_a_link_and_a_missing_one_are_refused(source: Path, tmp_path: Path) -> None:
    out = run(source, tmp_path / "cohort").folder
    with pytest.raises(WorkbenchError, match="would lie in the cohort"):
        run(source, out / "inner")
    moved = key_path(out).rename(tmp_path / "elsewhere.csv")
    with pytest.raises(WorkbenchError, match=r"key of .* is not beside it"):
        run(source, out, overwrite=True)
    key_path(out).symlink_to(moved)
    with pytest.raises(WorkbenchError, match="no regular file"):
        run(source, out, overwrite=True)


HEAD = "kind,name,pseudonym\n"
DAMAGED = ("", "name,pseudonym\n", "case,a\n", "case,a,../../x\n", "case,a,case-0001\ncase,b,case-0001\n",
           "case,a,case-0001\ncase,a,case-0002\n")  # fmt: skip


@pytest.mark.parametrize("text", [DAMAGED[0], DAMAGED[1], *(HEAD + rows for rows in DAMAGED[2:])])
def test_a_damaged_key_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key.csv"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(WorkbenchError, match=r"key\.csv"):
        read_key(path)


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    key = {"case": {name + "\n\"'": f"case-{n:04d}" for n, name in enumerate(NAMES)}, "subject": {"007": "sub-0001"}}
    write_key(tmp_path / "key.csv", key)
    assert read_key(tmp_path / "key.csv") == key


def test_cohorts_with_and_without_pseudonyms_do_not_meet(source: Path, tmp_path: Path) -> None:
    named = run(source, tmp_path / "named", pseudonyms=False).folder
    with pytest.raises(WorkbenchError, match="made without pseudonyms"):
        run(source, named, overwrite=True)
    hidden = run(source, tmp_path / "hidden").folder
    with pytest.raises(WorkbenchError, match=r"made with pseudonyms .* `--pseudonyms`"):
        run(source, hidden, overwrite=True, pseudonyms=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(WorkbenchError, match=r"holds 'notes\.txt'"):
        run(source, tmp_path / "full")
    for out in (source, source / "cohort", tmp_path):
        with pytest.raises(WorkbenchError, match="lie in each other"):
            run(source, out)


def test_a_name_in_another_column_is_refused(source: Path, tmp_path: Path) -> None:
    csv = tmp_path / "who.csv"
    csv.write_text(csv.read_text().replace("north", "ward of doe^john^^", 1))
    with pytest.raises(InputError, match=r"site.*holds the name"):
        run(source, tmp_path / "cohort")
    csv.write_text(csv.read_text().replace("ward of doe^john^^", "north"))
    with pytest.raises(ParameterError, match="name of the cohort holds"):
        run(source, tmp_path / "cohort", name="study of 00471199")
    assert not (tmp_path / "cohort").exists()


def test_an_import_that_fails_or_is_killed_can_be_repeated(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, broken = tmp_path / "cohort", source / NAMES[1] / "t1.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"case O'Brien, Seán.*channel t1.*truncated"):
        run(source, out)
    assert not out.exists()
    key = read_key(key_path(out))
    broken.write_bytes(whole)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pseudonyms, "write_cohort", killed)  # images are there, the table is not
        with pytest.raises(KeyboardInterrupt):
            run(source, out)
    left = tmp_path / ".cohort.images.tmp" / "case-0001"  # as after a kill while copying
    left.mkdir(parents=True)
    assert len(run(source, out)) == len(NAMES)
    assert read_key(key_path(out)) == key
    assert not left.parent.exists()


def test_parts_and_merges_say_it_too(source: Path, tmp_path: Path) -> None:
    one, two = run(source, tmp_path / "one"), run(source, tmp_path / "two")
    named = run(source, tmp_path / "named", pseudonyms=False)
    assert filter_cohort(one, "age > 41", tmp_path / "part").info.pseudonyms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert merge_cohorts([one.folder, two.folder], tmp_path / "both").info.pseudonyms
        assert not merge_cohorts([one.folder, named.folder], tmp_path / "mixed").info.pseudonyms


def test_a_cohort_from_before_stays_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"image")
    cases = pd.DataFrame({"case": ["a"], "subject": ["a"], "t1": ["a.nii"], "age": [50.0]})
    cohort = Cohort.create(tmp_path, CohortInfo(name="old", modalities=("t1",)), cases)
    assert cohort.fingerprint() == "c2df6a9863515ad8", "as it was before there were pseudonyms"
    info = read_json(tmp_path / "cohort.json")
    del info["pseudonyms"]
    write_json(tmp_path / "cohort.json", info)
    assert not Cohort.open(tmp_path).info.pseudonyms
    marked = cohort.info.model_copy(update={"pseudonyms": True})
    assert Cohort(tmp_path, marked, cohort.cases).fingerprint() != cohort.fingerprint()
