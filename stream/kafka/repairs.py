"""Two repairs of aiokafka, applied once, before any client is made.

Both faults show only while coordinators and leaders move, and both then lose or stop data silently. Faust's
consumer runs on the same classes, so it is repaired with ours.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol import commit
from aiokafka.protocol.commit import OffsetFetchRequest

from stream.core.errors import IncompatibleError

OFFSET_NOT_AVAILABLE = 78

_MARK = "_qma_repaired"


def apply() -> None:
    """Repairs aiokafka in this process; a second call does nothing.

    Raises:
        IncompatibleError: The installed aiokafka is not built as the repairs expect.
    """
    if getattr(GroupCoordinator._send_req, _MARK, False):
        return
    _expect_known_internals()
    _raise_top_level_offset_fetch_errors()
    _make_offset_not_available_retriable()


def _expect_known_internals() -> None:
    """Refuses an aiokafka the repairs were not written for: applied blindly they could hide a new fault."""
    lookup = getattr(GroupCoordinator, "_do_fetch_commit_offsets", None)
    facts = {
        "GroupCoordinator._send_req(self, request) is a coroutine": (
            inspect.iscoroutinefunction(GroupCoordinator._send_req)
            and list(inspect.signature(GroupCoordinator._send_req).parameters) == ["self", "request"]
        ),
        "the committed offsets are looked up through _send_req": (
            lookup is not None and {"_send_req", "topics"} <= set(lookup.__code__.co_names)
        ),
        "that lookup does not read the response's own error_code": (
            lookup is not None and "error_code" not in lookup.__code__.co_names
        ),
        "OffsetFetch responses 2 and 3 end with error_code": all(
            getattr(commit, name).SCHEMA.names[-1] == "error_code"
            for name in ("OffsetFetchResponse_v2", "OffsetFetchResponse_v3")
        ),
        "coordinator_dead() forgets the coordinator": callable(getattr(GroupCoordinator, "coordinator_dead", None)),
    }
    wrong = [fact for fact, holds in facts.items() if not holds]
    if wrong:
        raise IncompatibleError(
            f"aiokafka {aiokafka.__version__} differs from 0.14, for which stream.kafka.repairs was written; "
            "no longer true: "
            + "; ".join(wrong)
            + ". Install the aiokafka of requirements.lock, or review the repairs for the new version"
        )


def _raise_top_level_offset_fetch_errors() -> None:
    # aiokafka up to 0.14 (read in 0.14.0). From OffsetFetch version 2 on, NOT_COORDINATOR (16),
    # COORDINATOR_LOAD_IN_PROGRESS
    # (14) and COORDINATOR_NOT_AVAILABLE (15) come as the response's own error with an empty list of
    # partitions. aiokafka reads only the list: "nothing committed", so the reset policy applies. Seen as: a
    # consumer that starts anew while coordinators move (two of three lookups were wrong then); with
    # `earliest` everything is read again, with `latest` rows are lost. Raised here, the caller's own loop
    # waits and asks again; without coordinator_dead() it would ask the same wrong broker for ever.
    ask = GroupCoordinator._send_req

    @functools.wraps(ask)
    async def _send_req(self: Any, request: Any) -> Any:
        response = await ask(self, request)
        if isinstance(request, OffsetFetchRequest):
            _raise_for(self, getattr(response, "error_code", 0))
        return response

    setattr(_send_req, _MARK, True)
    GroupCoordinator._send_req = _send_req


def _raise_for(coordinator: Any, error_code: int) -> None:
    kind = errors.for_code(error_code)
    if kind is errors.NoError:
        return
    if kind in (
        errors.NotCoordinatorForGroupError,
        errors.GroupCoordinatorNotAvailableError,
    ):
        coordinator.coordinator_dead()
    if kind is errors.GroupAuthorizationFailedError:
        raise kind(coordinator.group_id)
    if kind is errors.UnknownError:
        # A code that aiokafka has no name for is no answer either: ask again.
        raise errors.GroupLoadInProgressError(f"OffsetFetch answered with error code {error_code}")
    raise kind()


def _make_offset_not_available_retriable() -> None:
    # aiokafka up to 0.14. A new leader that does not know its high watermark yet answers ListOffsets with
    # OFFSET_NOT_AVAILABLE (78, KIP-207), a replica that lags answers Fetch with it (KIP-392). aiokafka has no
    # such code: it becomes UnknownError, which is not retriable. Seen as: `end_offsets`, `beginning_offsets`
    # or a reset of the position fails just after a leader moved. As LeaderNotAvailable it refreshes the
    # metadata and asks again.
    errors.kafka_errors.setdefault(OFFSET_NOT_AVAILABLE, errors.LeaderNotAvailableError)
