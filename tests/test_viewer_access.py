"""The viewer answers only to its own host names, and only to those who know its password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sora_dagster.storage import StorageRoot
from sora_dagster.web.viewer import create_app
from tests.serving import serving

PAGE = "gallery/default/index.html"
PASSWORD = "a password of the viewer"


@pytest.fixture
def shown(root: StorageRoot) -> StorageRoot:
    root.write(PAGE, b"<p>all clips")
    return root


@pytest.fixture
def viewer(shown: StorageRoot) -> Iterator[str]:
    with serving(create_app(shown, hosts=["viewer.example.com"])) as url:
        yield url


def status(url: str, host: str) -> int:
    return httpx.get(f"{url}/{PAGE}", headers={"Host": host}).status_code


@pytest.mark.parametrize(
    "host",
    [
        "viewer.example.com",
        "Viewer.Example.com.:8443",
        "localhost:8789",
        "127.0.0.1:8789",
        "[::1]:8789",
        "10.1.2.3",
    ],
)
def test_it_answers_to_its_own_host_names_and_to_ip_addresses(viewer: str, host: str) -> None:
    assert status(viewer, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "viewer.example.com.attacker.example",
        "127.0.0.1.attacker.example",
        "attacker.example@localhost.attacker.example",
        "[::1",
        "",
    ],
)
def test_a_name_that_another_site_controls_is_refused(viewer: str, host: str) -> None:
    # A browser sends the name that it looked up, whatever address that name has now.
    assert status(viewer, host) == 403


def test_a_refused_host_name_is_told_what_to_do(viewer: str) -> None:
    response = httpx.get(viewer, headers={"Host": "attacker.example"})
    assert "SORA_VIEWER_HOSTS" in response.text
    assert "clips" not in response.text


def test_a_viewer_with_a_password_has_a_login(shown: StorageRoot) -> None:
    with serving(create_app(shown, password=PASSWORD)) as url:
        page = f"{url}/{PAGE}"
        refused = httpx.get(page)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert httpx.get(page, auth=("anyone", PASSWORD)).text == "<p>all clips"
        assert httpx.get(page, headers={"Authorization": f"Bearer {PASSWORD}"}).status_code == 200
        for wrong in (PASSWORD[:-1], f"{PASSWORD} ", "", "é"):
            assert httpx.get(page, auth=("anyone", wrong)).status_code == 401
        for header in (f"Digest {PASSWORD}", "Basic !", "Basic", PASSWORD):
            assert httpx.get(page, headers={"Authorization": header}).status_code == 401


def test_a_password_that_can_be_guessed_is_refused(shown: StorageRoot) -> None:
    with pytest.raises(ValueError, match=r"SORA_VIEWER_PASSWORD has 6 characters.*openssl"):
        create_app(shown, password="secret")


def test_liveness_needs_neither_name_nor_password(tmp_path: Path) -> None:
    with serving(create_app(StorageRoot(tmp_path), password=PASSWORD)) as url:
        response = httpx.get(f"{url}/livez", headers={"Host": "10.0.0.1"})
        assert (response.status_code, response.text) == (200, "ok")
