"""A made-up project's story files, moved and written as agents would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from huskies.demo.day import Action, Appear, GoOn, HoldUp, Move
from huskies.sled.layout import Layout, lay_out

_BODY: Final = "\nMade up by `huskies demo`. Nothing of it is real.\n"


class Pipeline:
    """The stories of one project, in `.huskies/work/` of a directory that this makes."""

    def __init__(self, project_dir: Path) -> None:
        project_dir.mkdir(parents=True)
        self._layout = Layout(project_dir)
        self._names: dict[str, str] = {}
        lay_out(self._layout)

    def carry_out(self, action: Action) -> None:
        """Do what the script says, as far as it is about files."""
        match action:
            case Appear(story_id, name, stage):
                self._names[story_id] = name
                self._write(story_id, stage, {})
            case Move(story_id, from_stage, to_stage):
                self._path(story_id, from_stage).rename(self._path(story_id, to_stage))
            case HoldUp(story_id, stage, key, reason):
                self._write(story_id, stage, {key: reason})
            case GoOn(story_id, stage):
                self._write(story_id, stage, {})
            case _:
                pass

    def _write(self, story_id: str, stage: str, matter: dict[str, str]) -> None:
        front = {"name": self._names[story_id], **matter}
        # A JSON text is one in YAML, too.
        lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]
        # In one step: the sled must never see half of it.
        draft = self._layout.huskies / "draft"
        draft.write_text("\n".join(["---", *lines, "---", _BODY]), "utf-8")
        draft.replace(self._path(story_id, stage))

    def _path(self, story_id: str, stage: str) -> Path:
        return self._layout.stage(stage) / f"{story_id}.md"
