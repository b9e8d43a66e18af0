"""What goes wrong in a simulation: each fault is drawn, happens, and is over some time later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from huskies.testing.disk import Failing
from huskies.testing.fleet import GatewayNode, Node, SledNode
from huskies.testing.judge import Contents, read_log
from huskies.testing.outboxes import carried, epoch_of, recorded, unacknowledged
from huskies.testing.world import World

_HOUR: Final = 3_600.0
_FUSES: Final = (30, 100, 400)


class Faults:
    """Draws faults for a world; `calm` lets everything heal."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random_of("faults")
        self._calm = False
        self._servers: list[Node] = [*world.gateways.values(), *world.sleds.values()]
        # Each with how often it is drawn.
        self._kinds: dict[Callable[[], None], int] = {
            self.kill: 4,
            self.kill_in_a_step: 6,
            self.lose_power: 3,
            self.terminate: 2,
            self.cut_off: 5,
            self.isolate: 3,
            self.reset: 5,
            self.break_disk: 3,
            self.jump_clock: 2,
            self.pause: 3,
            **self._random.choice(self._disasters()),
        }

    def _disasters(self) -> list[dict[Callable[[], None], int]]:
        """What loses something durable. Sleds and gateways make up for each other, so never both at once."""
        return [
            {},
            {self.restore_outbox: 3},
            {self.lose_gateway_disk: 2, self.restore_gateway: 2},
        ]

    def strike(self) -> None:
        """One fault, and as often as not events that are under way when it happens."""
        if self._random.random() < 0.5:  # noqa: PLR2004 - as often as not
            self._load(self._random.choice(list(self._world.sleds.values())))
        [kind] = self._random.choices(list(self._kinds), list(self._kinds.values()))
        kind()

    def calm(self) -> None:
        """No more faults; what is broken is mended."""
        self._calm = True
        world = self._world
        for pair in list(world.network.cut_off):
            world.network.heal(pair)
        for node in self._servers:
            node.place.disk.broken = None
            node.held_down = False
            self._power_up(node)
            if node.process is not None:
                node.process.fuse = 0
                self._go_on(node)

    # --- processes ---------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL, and now and then nobody starts it again for a while."""
        node = self._draw_running()
        if node is not None:
            self._say("kills", node)
            if self._random.random() < 0.2:  # noqa: PLR2004 - one in five
                self._hold_down(node, self._random.uniform(10.0, 600.0))
            node.kill()

    def kill_in_a_step(self) -> None:
        """SIGKILL in the middle of what a process does next, between any two of its callbacks."""
        node = self._draw_running()
        if node is not None and node.process is not None:
            self._say("kills in a step", node)
            node.process.fuse = self._random.randrange(1, self._random.choice(_FUSES))
            for sled in self._world.sleds.values():
                self._load(sled)

    def lose_power(self) -> None:
        """The machine is gone at once, and nobody is told."""
        node = self._draw_running()
        if node is not None:
            self._say("power losses", node)
            node.place.is_on = False
            node.kill()
            if isinstance(node, GatewayNode) and self._random.random() < 0.5:  # noqa: PLR2004 - as often as not
                node.lose_views()
            self._world.later(self._random.uniform(5.0, 180.0), lambda: self._power_up(node))

    def terminate(self) -> None:
        """SIGTERM."""
        node = self._draw_running()
        if node is not None:
            self._say("terminations", node)
            node.terminate()

    def pause(self) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        node = self._draw_running()
        if node is not None and node.process is not None:
            self._say("pauses", node)
            self._world.loop.pause(node.process)
            self._world.later(self._random.uniform(1.0, 90.0), lambda: self._go_on(node))

    # --- the network -------------------------------------------------------------------------------

    def cut_off(self) -> None:
        """Two places reach each other no more."""
        one, other = self._random.sample(self._world.nodes, 2)
        self._part([(one, other)])

    def isolate(self) -> None:
        """A place reaches nobody."""
        one = self._random.choice(self._world.nodes)
        self._part([(one, other) for other in self._world.nodes if other is not one])

    def reset(self) -> None:
        """A connection breaks, and one side or both notice at once."""
        connections = list(self._world.network.connections)
        if connections:
            connection = self._random.choice(connections)
            seen_by = self._random.choice([connection.ends, connection.ends[:1], connection.ends[1:]])
            self._count("resets", f"connection {connection.number}")
            connection.reset(seen_by=seen_by)

    # --- disks and clocks --------------------------------------------------------------------------

    def break_disk(self) -> None:
        """EIO or ENOSPC for a while."""
        node = self._random.choice(self._servers)
        if node.place.disk.broken is None:
            failing = self._random.choice(list(Failing))
            self._say(f"disk errors ({failing.name.lower()})", node)
            node.place.disk.broken = failing
            self._world.later(self._random.uniform(0.1, 60.0), lambda: self._mend(node))

    def jump_clock(self) -> None:
        """A clock is set, by an hour at most."""
        node = self._random.choice(self._servers)
        seconds = self._random.choice([-_HOUR, _HOUR, self._random.uniform(-_HOUR, _HOUR)])
        self._say("clock jumps", node)
        node.place.clock.jump(seconds)

    def restore_outbox(self) -> None:
        """An older outbox is put back: what was recorded since is gone, where no gateway has it."""
        sled = self._random.choice(list(self._world.sleds.values()))
        if not sled.outbox.exists():
            return
        self._world.note(f"image of {sled.name}")
        sled.take_image()
        seconds = self._random.choice([0.5, 5.0, 600.0]) * self._random.random()
        for _ in range(self._random.randrange(4)):
            self._world.later(seconds * self._random.random(), lambda: self._load(sled))
        self._world.later(seconds, lambda: self._put_back(sled))

    def _put_back(self, sled: SledNode) -> None:
        if self._calm or not sled.place.is_on:
            return
        self._say("outboxes restored", sled)
        sled.kill()
        self._excuse_since_image(sled)
        if epoch_of(sled.image) != epoch_of(sled.outbox):
            # What it holds unacknowledged may have come under the newer epoch, which it knows nothing of.
            self._world.may_double.update((sled.name, number) for number in unacknowledged(sled.image))
        sled.restore_image()
        if self._random.random() < 0.5:  # noqa: PLR2004 - as often as not
            # It goes on recording before any gateway can tell it what it does not know.
            self._part([(sled, gateway) for gateway in self._world.gateways.values()])
            for _ in range(5):
                self._world.later(30.0 * self._random.random(), lambda: self._load(sled))

    def _load(self, sled: SledNode) -> None:
        sled.publish(self._random.choice([1, 1, 2, 10]), 0)

    def lose_gateway_disk(self) -> None:
        """A gateway loses its disk, and is rebuilt from its peers and the sleds."""
        self._lose_gateway("gateway disks lost", restores=False)

    def restore_gateway(self) -> None:
        """An older log is put back."""
        self._lose_gateway("gateways restored", restores=True)

    def _lose_gateway(self, what: str, *, restores: bool) -> None:
        gateway = self._random.choice(list(self._world.gateways.values()))
        if not gateway.place.is_on or not (gateway.data / "log.db").exists():
            return
        if not restores:
            self._drop(what, gateway, restores=False)
            return
        gateway.kill()
        gateway.take_image()
        self._world.note(f"image of {gateway.name}")
        seconds = self._random.choice([1.0, 10.0, 900.0]) * self._random.random()
        self._world.later(seconds, lambda: self._drop(what, gateway, restores=True))

    def _drop(self, what: str, gateway: GatewayNode, *, restores: bool) -> None:
        if self._calm or not gateway.place.is_on:
            return
        self._say(what, gateway)
        gateway.kill()
        self._excuse_of(gateway)
        for sled in self._world.sleds.values():
            if sled.forgets and sled.outbox.exists() and not self._world.are_mutual:
                # A gateway that does not know whom to ask takes what a sled still has under a new epoch, and
                # another gateway that has it already shows it under the old one, too.
                self._world.may_double.update((sled.name, number) for number in recorded(sled.outbox))
        gateway.lose_disk(restores=restores)

    # --- what may be lost --------------------------------------------------------------------------

    def _excuse_since_image(self, sled: SledNode) -> None:
        """What an outbox's image lacks need not be anywhere, unless all gateways have it."""
        held = [
            {entry.number for entry in contents.shown if entry.sled == sled.name}
            for contents in self._logs().values()
        ]
        kept = set.intersection(*held) | recorded(sled.image)
        numbers = range(1, sled.attempted + 1)
        self._world.excused.update((sled.name, number) for number in numbers if number not in kept)

    def _excuse_of(self, gateway: GatewayNode) -> None:
        """What this gateway alone holds, and no sled would send again."""
        logs = self._logs()
        mine = logs.pop(gateway.name).shown
        others = {(entry.sled, entry.number) for contents in logs.values() for entry in contents.shown}
        again = {
            # With gateways that do not know each other a sled that forgets begins a new history without what
            # some gateway has acknowledged: another one may have it, under the old history.
            name: carried(sled.outbox, with_acknowledged=self._world.are_mutual or not sled.forgets)
            for name, sled in self._world.sleds.items()
        }
        for entry in mine:
            value = (entry.sled, entry.number)
            if value not in others and (entry.sled_id, entry.epoch, entry.seq) not in again[entry.sled]:
                self._world.excused.add(value)

    def _logs(self) -> dict[str, Contents]:
        return {
            name: read_log(node.data / "log.db") if (node.data / "log.db").exists() else Contents([], [])
            for name, node in self._world.gateways.items()
        }

    # --- and back ----------------------------------------------------------------------------------

    def _part(self, pairs: list[tuple[Node, Node]]) -> None:
        seconds = self._random.choice([self._random.uniform(1.0, 30.0), self._random.uniform(30.0, 600.0)])
        self._count("partitions", f"{pairs[0][0].name} from {', '.join(other.name for _, other in pairs)}")
        for one, other in pairs:
            pair = frozenset((one.place.host, other.place.host))
            self._world.network.cut_off.add(pair)
            self._world.later(seconds, partial(self._world.network.heal, pair))

    def _draw_running(self) -> Node | None:
        running = [node for node in self._servers if node.is_up]
        return self._random.choice(running) if running else None

    def _hold_down(self, node: Node, seconds: float) -> None:
        node.held_down = True
        self._world.later(seconds, lambda: self._let_up(node))

    def _let_up(self, node: Node) -> None:
        node.held_down = False
        node.boot()

    def _power_up(self, node: Node) -> None:
        if not node.place.is_on:
            node.place.is_on = True
            self._world.network.booted(node.place)
        node.boot()

    def _go_on(self, node: Node) -> None:
        if node.process is not None and node.process.paused:
            self._world.loop.resume(node.process)

    def _mend(self, node: Node) -> None:
        node.place.disk.broken = None

    def _say(self, what: str, node: Node) -> None:
        self._count(what, node.name)

    def _count(self, what: str, of: str) -> None:
        self._world.count(what)
        self._world.note(f"{what}: {of}")
