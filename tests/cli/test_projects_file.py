from __future__ import annotations

from pathlib import Path

import pytest

from huskies.config import load_projects
from huskies.errors import ConfigError
from huskies.projects_file import list_project, unlist_project


@pytest.mark.parametrize(
    "text",
    [
        "",
        '# mine\n[projects.web]\nurl = "http://web:1" # here\n\n[access]\norigins = []\n',
        'projects = {web = {url = "http://web:1"}}\n',
        'projects.web.url = "http://web:1"\n',
        '[projects]\nweb = {url = "http://web:1"}\n',
        '[containers]\npublish = "127.0.0.1"\n',
    ],
)
def test_a_project_is_entered_and_taken_out_whatever_stands_there(tmp_path: Path, text: str) -> None:
    path = tmp_path / "projects.toml"
    path.write_text(text)
    before = load_projects(tmp_path)
    for name in ("web.shop", "-x", "shop"):
        list_project(
            tmp_path, name, url="http://127.0.0.1:2", container=f"huskies-{name}", directory="/srv/x"
        )
    found = load_projects(tmp_path)
    assert {name for name in found.projects if name not in before.projects} == {"web.shop", "-x", "shop"}
    assert found.projects["web.shop"].container == "huskies-web.shop"
    assert (found.access, found.containers) == (before.access, before.containers)
    assert path.stat().st_mode & 0o777 == 0o600
    for name in ("web.shop", "-x", "shop", "never"):
        unlist_project(tmp_path, name)
    assert load_projects(tmp_path) == before
    for line in text.splitlines():
        assert line.replace(" ", "") in path.read_text().replace(" ", "").splitlines()


def test_a_form_that_leaves_no_room_for_more_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "projects.toml"
    text = 'projects.a.url = "http://a:1"\nprojects.b.url = "http://b:1"\nprojects.a.open = true\n'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"projects\.toml: .* write each project as a table of its own"):
        list_project(tmp_path, "shop", url="http://127.0.0.1:2", container="huskies-shop", directory="/srv/x")
    assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == []


def test_a_file_that_is_bad_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "projects.toml"
    path.write_text("[project.web]\n")
    with pytest.raises(ConfigError, match=r"projects\.toml: project: unknown key"):
        list_project(tmp_path, "shop", url="http://127.0.0.1:2", container="huskies-shop", directory="/srv/x")
    assert path.read_text() == "[project.web]\n"
