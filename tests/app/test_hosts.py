"""Which names mean this machine, and which host and origin a request may come by."""

from __future__ import annotations

import pytest

from app.hosts import host_allowed, is_this_machine, origin_allowed


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LOCALHOST"])
def test_this_machine(address: str) -> None:
    assert is_this_machine(address)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "", "192.168.1.7", "10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "lab.example", "2130706433", "127.1"],
)
def test_not_only_this_machine(address: str) -> None:
    assert not is_this_machine(address)


ORIGINS = ["lab.example:5006", "Scan.example:443"]


@pytest.mark.parametrize("host", ["localhost:5006", "127.0.0.1:1", "[::1]:5006", "[::1]", "LAB.example:5006", "scan.example"])
def test_host(host: str) -> None:
    assert host_allowed(host, ORIGINS)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "lab.example", "lab.example:80", "lab.example:5006.evil", "127.0.0.1.evil.example",
     "localhost@evil", "[::1", "::1", "localhost:x", "localhost:999999", "localhost ", "localhost,evil.example", "0.0.0.0:5006"],
)  # fmt: skip
def test_strange_host(host: str | None) -> None:
    assert not host_allowed(host, ORIGINS)


@pytest.mark.parametrize(
    "origin", ["http://localhost:5006", "https://localhost:5006", "http://lab.example:5006", "https://scan.example"]
)
def test_origin(origin: str) -> None:
    assert origin_allowed(origin, "localhost:5006", ORIGINS)


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "http://localhost:5007", "http://127.0.0.1:5006", "ftp://localhost:5006",
     "localhost:5006", "http://localhost:5006/x", "http://localhost:5006@evil.example", "http://[::1", "http://localhost:5006, http://evil.example"],
)  # fmt: skip
def test_strange_origin(origin: str | None) -> None:
    assert not origin_allowed(origin, "localhost:5006", ORIGINS)
