"""Names and hashed passwords, in a file that only its owner reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.records.users import add_user, cookie_secret, password_fits, read_users


def test_a_password_fits_its_user_only_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "house" / "users.json"
    add_user(path, "ada", "correct horse")
    add_user(path, "bo", "correct horse")
    users = read_users(path)
    assert password_fits(users, "ada", "correct horse")
    assert not password_fits(users, "ada", "correct horsf")
    assert not password_fits(users, "eve", "correct horse")
    assert not password_fits(users, "ada", "\ud800")
    assert users["ada"] != users["bo"], "no salt"
    assert "horse" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_new_password_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    add_user(tmp_path / "users", "ada", "correct horse")
    add_user(tmp_path / "users", "ada", "another horse")
    assert not password_fits(read_users(tmp_path / "users"), "ada", "correct horse")
    assert password_fits(read_users(tmp_path / "users"), "ada", "another horse")


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\nb", "-x", "a" * 65, "<b>"])
def test_a_name_that_will_not_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkbenchError, match="no user's name"):
        add_user(tmp_path / "users", name, "correct horse")


def test_a_short_password(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="10 characters"):
        add_user(tmp_path / "users", "ada", "horse")


@pytest.mark.parametrize("text", ["[1]", '{"ada": 1}', "{", '"x"'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(WorkbenchError, match="users"):
        read_users(path)


def test_a_file_that_others_read_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(WorkbenchError, match="chmod 600"):
        read_users(path)


@pytest.mark.parametrize(
    "hashed", ["", "scrypt", "md5$1$1$1$00$00", "scrypt$0$8$1$00$00", "scrypt$1048576$64$64$00$00", "scrypt$2$8$1$zz$00"]
)
def test_a_damaged_hash_fits_no_password(hashed: str) -> None:
    assert not password_fits({"ada": hashed}, "ada", "correct horse")


def test_the_secret_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    first = cookie_secret(tmp_path / "users")
    assert cookie_secret(tmp_path / "users") == first
    assert len(first) == 64
    assert json.loads((tmp_path / "cookie_secret").read_text()) == first
    assert (tmp_path / "cookie_secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "cookie_secret").chmod(0o640)
    with pytest.raises(WorkbenchError, match="chmod 600"):
        cookie_secret(tmp_path / "users")
