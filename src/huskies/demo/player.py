"""Plays the script of a day with a real gateway and real sleds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from huskies.config import GatewaySettings, SledSettings
from huskies.demo.day import MINUTES, Back, CutOff, Step, clock
from huskies.demo.pipeline import Pipeline
from huskies.gateway.server import Gateway
from huskies.sled.service import Sled

_SECONDS: Final = 60.0
# How often it is looked whether all are connected (seconds).
_LOOK: Final = 0.01
# Sleds that stop one after the other would take long.
_TOGETHER: Final = 20


class Player:
    """A service (`cli.runtime`): starts everything as it stands in the morning, and then plays the day.

    `speed`: how many minutes of the day pass in a minute. `tell` gets a line for people now and then. After
    the day everything stays as it is, until it is stopped.
    """

    def __init__(
        self, steps: Sequence[Step], directory: Path, *, port: int, speed: float, tell: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._gateway = Gateway(GatewaySettings(port=port, data_dir=directory / "gateway"))
        self._morning = [step for step in steps if step.minute == 0]
        self._day = [step for step in steps if step.minute > 0]
        self._projects = sorted({step.project for step in steps})
        self._pipelines: dict[str, Pipeline] = {}
        self._sleds: dict[str, Sled] = {}
        self._seconds_a_minute = _SECONDS / speed
        self._tell = tell

    @property
    def url(self) -> str:
        """The gateway's, once it is started."""
        return self._gateway.url

    async def start(self) -> None:
        """Lay everything out and start the gateway and the sleds; raises `ConfigError`."""
        for project in self._projects:
            self._pipelines[project] = Pipeline(self._directory / project)
        for step in self._morning:
            self._pipelines[step.project].carry_out(step.action)
        await self._gateway.start()
        for project in self._projects:
            await self._start_sled(project, relays=True)

    async def wait(self) -> None:
        """Play the day; then wait for what makes going on impossible, and raise it."""
        serving = asyncio.create_task(self._gateway.wait())
        playing = asyncio.create_task(self._play())
        try:
            done, _ = await asyncio.wait({serving, playing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await serving
        finally:
            serving.cancel()
            playing.cancel()

    async def stop(self) -> None:
        """End the sleds, and then the gateway."""
        sleds = list(self._sleds.values())
        for first in range(0, len(sleds), _TOGETHER):
            await asyncio.gather(*(sled.stop() for sled in sleds[first : first + _TOGETHER]))
        await self._gateway.stop()

    async def _play(self) -> None:
        # Else the first of the day would be told as history.
        while not all(  # noqa: ASYNC110 - sessions tell nobody when they begin
            self._gateway.sessions.state(project).connected for project in self._projects
        ):
            await asyncio.sleep(_LOOK)
        loop = asyncio.get_running_loop()
        began = loop.time()
        hour = 0
        for number, step in enumerate(self._day):
            await asyncio.sleep(began + step.minute * self._seconds_a_minute - loop.time())
            if step.minute // 60 > hour:
                hour = int(step.minute // 60)
                self._tell(f"{clock(hour * 60)}  {number} things have happened")
            await self._carry_out(step)
        await asyncio.sleep(began + MINUTES * self._seconds_a_minute - loop.time())
        self._tell(f"{clock(MINUTES)}  the day is over; all stays as it is, and Ctrl-C ends it")

    async def _carry_out(self, step: Step) -> None:
        match step.action:
            case CutOff():
                await self._sleds[step.project].stop()
                # It goes on recording what happens, and has no gateway to tell it.
                await self._start_sled(step.project, relays=False)
                self._tell(f"{clock(step.minute)}  {step.project} is cut off; its sled records what happens")
            case Back():
                await self._sleds[step.project].stop()
                await self._start_sled(step.project, relays=True)
                self._tell(f"{clock(step.minute)}  {step.project} is back, and delivers it as replayed")
            case action:
                self._pipelines[step.project].carry_out(action)

    async def _start_sled(self, project: str, *, relays: bool) -> None:
        settings = SledSettings(
            project_dir=self._directory / project,
            name=project,
            port=0,
            gateway_url=self._gateway.url if relays else None,
            sled_token=self._gateway.own_token(project),
        )
        sled = Sled(settings)
        await sled.start()
        self._sleds[project] = sled
        self._gateway.add_project(sled.name, sled.url)
