"""Posts alerts to one Alertmanager: at once what changed, and everything every interval.

Source: Alertmanager, API v2, `POST /api/v2/alerts`; alerting overview, "Sending alerts": a client sends an alert again
and again for as long as it fires, and for a while after it is resolved.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import orjson

from stream.core.rendering import rfc3339
from stream.core.slo.burn_rate import Severity
from stream.core.units import SECOND_NS
from stream.notify.board import Alert, Board
from stream.notify.endpoint import Endpoint
from stream.notify.stats import NotifyStats

LOG = logging.getLogger(__name__)

_ALERTS_PER_REQUEST = 64
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_BACKOFF_FIRST_NS = SECOND_NS
_ANSWER_BYTES_MAX = 500
_EXPIRES_INTERVALS = 3
"""A firing alert ends by itself after so many intervals, when no notifier is left that sends it again."""

_RETRIED = (408, 429)
"""Refusals that another try may change, beside those from 500 on."""


class Alertmanager:
    """One Alertmanager, and what it was told.

    Args:
        endpoint: Where it is.
        session: What requests are made with.
        stats: Kept up to date.
        interval_ns: Everything is sent once in this time, even if it is nothing: then it is seen that it would arrive.
        clock: Returns the time of day in ns.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        session: aiohttp.ClientSession,
        stats: NotifyStats,
        *,
        interval_ns: int,
        clock: Callable[[], int],
    ) -> None:
        self._endpoint, self._session, self._stats = endpoint, session, stats
        self._interval_ns, self._clock = interval_ns, clock
        self._board: Board | None = None
        self._told: dict[str, Alert] = {}
        self._all_due_ns = 0
        self._failures = 0
        self._changed = asyncio.Event()

    def show(self, board: Board) -> None:
        """Takes note of a board that is new or has changed."""
        self._board = board
        self._changed.set()

    async def run(self) -> None:
        """Keeps it told until cancelled. Nothing is sent before the first board."""
        await self._changed.wait()
        while True:
            self._changed.clear()
            wait_ns = await self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_ns / SECOND_NS)

    async def step(self) -> int:
        """Sends what is due now. Returns in how many ns everything is due again.

        After a failure nothing is sent before the time of the next try, which is later with each failure.
        """
        assert self._board is not None
        now_ns = self._clock()
        alerts = self._board.alerts(now_ns)
        # A clock that was set back must not leave Alertmanager without a word for as long.
        is_all_due = not now_ns < self._all_due_ns <= now_ns + self._interval_ns
        if is_all_due:
            await self._send(alerts, now_ns)
        elif not self._failures:
            changed = [alert for alert in alerts if self._told.get(alert.identity) != alert]
            if changed:
                await self._send(changed, now_ns, all_due_ns=self._all_due_ns)
        known = {alert.identity for alert in alerts}
        self._told = {name: alert for name, alert in self._told.items() if name in known}
        return min(max(0, self._all_due_ns - self._clock()), self._interval_ns)

    async def _send(self, alerts: Sequence[Alert], now_ns: int, all_due_ns: int | None = None) -> None:
        """Sends alerts and says when everything is due again: in an interval, if not `all_due_ns`, or for a retry."""
        for some in _requests(alerts):
            if not await self._post(some, now_ns):
                self._failures += 1
                backoff_ns = _BACKOFF_FIRST_NS << min(self._failures - 1, 32)
                self._all_due_ns = now_ns + min(backoff_ns, self._interval_ns)
                return
            self._told.update((alert.identity, alert) for alert in some)
        self._failures = 0
        self._all_due_ns = all_due_ns if all_due_ns is not None else now_ns + self._interval_ns

    async def _post(self, alerts: Sequence[Alert], now_ns: int) -> bool:
        """Returns False where another try is worth it."""
        name = self._endpoint.name
        expires_at = rfc3339(now_ns + _EXPIRES_INTERVALS * self._interval_ns)
        try:
            async with self._session.post(
                self._endpoint.alerts_url,
                data=orjson.dumps([_payload(alert, expires_at) for alert in alerts]),
                headers={"Content-Type": "application/json", **await self._endpoint.authorization()},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as answer:
                status, location = answer.status, answer.headers.get("Location", "")
                said = (await answer.content.read(_ANSWER_BYTES_MAX)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._stats.failed[name] += len(alerts)
            # Not the error's repr: it may quote the file that holds the secret.
            why = str(error) or type(error).__name__
            LOG.warning("%s was not told of %d alerts, they are sent again soon: %s", name, len(alerts), why)
            return False
        if 200 <= status < 300:
            self._stats.sent[name] += len(alerts)
            self._stats.success_ns[name] = now_ns
            return True
        self._stats.failed[name] += len(alerts)
        is_retried = status >= 500 or status in _RETRIED
        LOG.warning(
            "%s answered %d to %d alerts, they are sent again %s: %r",
            *(name, status, len(alerts), "soon" if is_retried else "with the next round", location or said),
        )
        return not is_retried


def _requests(alerts: Sequence[Alert]) -> list[Sequence[Alert]]:
    """Returns what to send together, at least one request: without alerts an empty one shows that they would arrive.

    Pages go first: Alertmanager does not wait for others of a group where an alert started a while ago, as ours did,
    so the page that inhibits a ticket must be there before the ticket is.
    """
    pages = [alert for alert in alerts if alert.labels["severity"] == Severity.PAGE]
    others = [alert for alert in alerts if alert.labels["severity"] != Severity.PAGE]
    size = _ALERTS_PER_REQUEST
    return [some[i : i + size] for some in (pages, others) for i in range(0, len(some), size)] or [[]]


def _payload(alert: Alert, expires_at: str) -> dict[str, Any]:
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.starts_at,
        "endsAt": alert.ends_at or expires_at,
    }
