"""The seeded chaos: what happens when. Who is hit depends on who is alive at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from stream.kafka.local import LocalKafka
from tests.chaos.fleet import ChaosFailed, Fleet, Worker

KILL, KILL_AT_STEP, FREEZE, FREEZE_AT_STEP, BROKER, JOIN = (
    "kill",
    "kill-at-step",
    "freeze",
    "freeze-at-step",
    "broker",
    "join",
)
STEPS = ("begin", "chunks-sent", "sent", "acked", "committed")
"""Steps of a checkpoint at which a state worker can be hit exactly."""

FREEZE_S = (8.0, 14.0)
"""Longer than the session timeout of 6 s: the group gives the partitions to somebody else."""

_FIRST_S = 3.0
_STEP_WAIT_S = 10.0
_VICTIM_WAIT_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """How much is done to the pipeline, in how long."""

    seconds: float
    kills: int
    zombies: int
    broker_kills: int
    joins: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One thing that is done, so many seconds after the beginning."""

    at_s: float
    kind: str


def plan(seed: int, intensity: Intensity) -> list[Blow]:
    """Returns the blows of a seed in order, spread over the time with random distances."""
    chosen = random.Random(f"storm {seed}")
    kinds = [chosen.choice((KILL, KILL, KILL_AT_STEP)) for _ in range(intensity.kills)]
    kinds += [chosen.choice((FREEZE, FREEZE, FREEZE_AT_STEP)) for _ in range(intensity.zombies)]
    kinds += [BROKER] * intensity.broker_kills + [JOIN] * intensity.joins
    chosen.shuffle(kinds)
    gap_s = (intensity.seconds - _FIRST_S) / max(1, len(kinds))
    return [Blow(at_s=_FIRST_S + (i + chosen.random()) * gap_s, kind=kind) for i, kind in enumerate(kinds)]


@dataclass(slots=True, kw_only=True)
class Storm:
    """Carries out the plan and counts what was done.

    Args:
        done: Blows by kind and role.
        leaves: Exit code and duration of each worker that was asked to leave in the midst of it.
    """

    kafka: LocalKafka
    fleet: Fleet
    partitions: int
    seed: int
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    leaves: list[tuple[str, int, float]] = field(default_factory=list)
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, blows: list[Blow], seconds: float) -> None:
        """Returns when every blow was dealt, whoever was frozen is awake, and `seconds` are over."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, blow in enumerate(blows):
                await asyncio.sleep(max(0.0, began_s + blow.at_s - time.monotonic()))
                tasks.create_task(self._deal(blow.kind, random.Random(f"blow {self.seed} {number}"), number))
        await asyncio.sleep(max(0.0, began_s + seconds - time.monotonic()))

    @property
    def kills(self) -> int:
        """Workers killed."""
        return sum(n for what, n in self.done.items() if what.startswith("kill"))

    @property
    def zombies(self) -> int:
        """Workers frozen and woken."""
        return sum(n for what, n in self.done.items() if what.startswith("freeze"))

    @property
    def broker_kills(self) -> int:
        """Times the broker was killed."""
        return self.done["broker"]

    @property
    def rebalances(self) -> int:
        """Times a worker joined or left in order; those after kills and freezes come on top."""
        return self.done["join"] + self.done["leave"]

    async def _deal(self, kind: str, chosen: random.Random, number: int) -> None:
        if kind == BROKER:
            await self._kill_broker(chosen)
        elif kind == JOIN:
            await self._join(chosen, number)
        elif kind == KILL:
            await self._kill(await self._victim(chosen), chosen, "kill")
        elif kind == FREEZE:
            await self._freeze(await self._victim(chosen), chosen, "freeze")
        elif kind == KILL_AT_STEP:
            await self._kill_at_step(chosen)
        else:
            await self._freeze_at_step(chosen)

    async def _victim(self, chosen: random.Random) -> Worker:
        deadline_s = time.monotonic() + _VICTIM_WAIT_S
        while not (running := self.fleet.running()):
            if time.monotonic() > deadline_s:
                raise ChaosFailed(f"no worker came up within {_VICTIM_WAIT_S:g} s")
            await asyncio.sleep(_POLL_S)
        return chosen.choice(running)

    async def _kill(self, worker: Worker, chosen: random.Random, what: str) -> None:
        self._note(f"{what} {worker.role}", worker.name)
        await self.fleet.kill(worker, down_s=chosen.uniform(0.2, 3.0))

    async def _freeze(self, worker: Worker, chosen: random.Random, what: str) -> None:
        self._note(f"{what} {worker.role}", worker.name)
        await self.fleet.freeze(worker, for_s=chosen.uniform(*FREEZE_S))
        self.say(f"woke {worker.name}")

    async def _kill_at_step(self, chosen: random.Random) -> None:
        """Kills whichever state worker comes to a step of a checkpoint; anybody, when none does."""
        step = chosen.choice(STEPS)
        worker = self.fleet.killed_at_step() if await self._carried_out("kill", step, chosen) else None
        if worker is None:
            await self._kill(await self._victim(chosen), chosen, "kill")
        else:
            self._note("kill-at-step state", f"{worker.name} at {step}")

    async def _freeze_at_step(self, chosen: random.Random) -> None:
        step = chosen.choice(STEPS)
        worker = self.fleet.frozen_at_step() if await self._carried_out("stop", step, chosen) else None
        if worker is None:
            await self._freeze(await self._victim(chosen), chosen, "freeze")
        else:
            await self._freeze(worker, chosen, f"freeze at {step}")

    async def _carried_out(self, action: str, step: str, chosen: random.Random) -> bool:
        """Orders `action` at a step of one partition's checkpoint. Returns whether anybody came there in time."""
        order = self.fleet.hooks / f"{action}-{step}-{chosen.randrange(self.partitions)}"
        order.touch()
        deadline_s = time.monotonic() + _STEP_WAIT_S
        while order.exists():
            if time.monotonic() > deadline_s:
                order.unlink(missing_ok=True)
                return False
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(2 * _POLL_S)  # the order is removed a moment before the signal
        return True

    async def _kill_broker(self, chosen: random.Random) -> None:
        async with self._broker:
            self._note("broker", f"pid {self.kafka.pid}")
            await asyncio.to_thread(self.kafka.kill)
            await asyncio.sleep(chosen.uniform(0.5, 5.0))
            await asyncio.to_thread(self.kafka.start)
            self.say("the broker is back")

    async def _join(self, chosen: random.Random, number: int) -> None:
        """One more worker joins and leaves in order some seconds later."""
        worker = self.fleet.add(chosen.choice(("ingest", "state")), f"extra{number}")
        self._note("join", f"{worker.name} ({worker.role})")
        with contextlib.suppress(ChaosFailed):  # in the storm it may not come up in time
            await self.fleet.ready([worker], within_s=20.0)
        await asyncio.sleep(chosen.uniform(3.0, 9.0))
        code, took_s = await self.fleet.leave(worker)
        self.fleet.workers.remove(worker)
        self.leaves.append((worker.name, code, took_s))
        self._note("leave", f"{worker.name} exit {code} after {took_s:.1f} s")

    def _note(self, what: str, whom: str) -> None:
        self.done[what] += 1
        self.say(f"{what}: {whom}")
