"""Clients that go on asking while something breaks, and what became of every request."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from spinezoo_contract.errors import NotServingError, QueueFullError
from spinezoo_contract.status import error_name
from spinezoo_contract.tls import ClientSecurity

ASK_AGAIN_S = 90.0
"""How long a client goes on asking about one film that is refused, in s."""

PAUSE_S = 0.5
"""Between two of its tries, in s."""

RECOVERY_LIMIT_S = 120.0
"""Most time that a zoo has to answer in full again, in s."""

FULL_IN_A_ROW = 5
"""So many full answers in a row count as recovered."""

MOST_REQUESTS = 5000
"""Most requests of one load, however quick the answers."""

Missing = Mapping[str, tuple[str, str]]
"""What an answer lacks: by member, the code and message that the answer names."""


class OwnLine(ClientSecurity):
    """Gives a client a connection of its own; gRPC shares one within a process otherwise."""

    def channel(self, target: str, options: Any = (), server_name: str | None = None) -> Any:
        """As for every client, but shared with no other."""
        own = [*options, ("grpc.use_local_subchannel_pool", 1)]
        return super().channel(target, own, server_name)


@dataclass
class Request:
    """One request, with the tries after it was refused.

    Attributes:
        began: When it was first asked, in s of the monotonic clock.
        ended: When the client had its answer or gave up.
        refused: Name and message of every try that was refused.
        missing: By member, the code that the answer names for it.
        lost: Why there is neither an answer nor a named error in time; empty where there is one.
    """

    began: float
    ended: float = 0.0
    refused: list[tuple[str, str]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    lost: str = ""

    @property
    def full(self) -> bool:
        """Whether every member answered, at the first try."""
        return not (self.refused or self.missing or self.lost)

    @property
    def ms(self) -> float:
        """What the client waited, in ms, with its own pauses."""
        return (self.ended - self.began) * 1000.0


def ask(call: Callable[[], Missing]) -> Request:
    """Asks until there is an answer, as a patient client does.

    Only UNAVAILABLE and RESOURCE_EXHAUSTED are asked again. Every other failure is a loss here, a
    deadline of the client among them: nobody answered it.
    """
    request = Request(time.monotonic())
    while True:
        try:
            missing = call()
        except (NotServingError, QueueFullError) as error:
            request.refused.append((error_name(error), str(error)[:200]))
            if time.monotonic() - request.began > ASK_AGAIN_S:
                request.lost = f"no answer within {ASK_AGAIN_S:g} s"
                break
            time.sleep(PAUSE_S)
        except Exception as error:
            request.lost = f"{type(error).__name__}: {str(error)[:200]}"
            break
        else:
            request.missing = {name: code for name, (code, _) in missing.items()}
            silent = [name for name, (_, message) in missing.items() if not message]
            if silent:
                request.lost = f"{', '.join(silent)} failed without a message"
            break
    request.ended = time.monotonic()
    return request


class Load:
    """Clients in threads of their own, each asking anew as soon as it has its answer."""

    def __init__(self, calls: Sequence[Callable[[], Missing]]) -> None:
        self.requests: list[Request] = []
        self.began = time.monotonic()
        self._numbers = itertools.count()
        self._started = 0
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(len(calls), thread_name_prefix="client")
        self._clients = [self._pool.submit(self._work, call) for call in calls]

    def _work(self, call: Callable[[], Missing]) -> None:
        while not self._stop.is_set() and next(self._numbers) < MOST_REQUESTS:
            self._started += 1
            self.requests.append(ask(call))

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        # Bounded: every call has a time limit and every request is given up at some time.
        self._pool.shutdown(wait=True)
        for client in self._clients:
            client.result()
        self.requests.sort(key=lambda request: request.began)

    def wait(self, count: int, limit_s: float = RECOVERY_LIMIT_S) -> None:
        """Waits until so many requests have ended."""
        end = time.monotonic() + limit_s
        while len(self.requests) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.requests)} of {count} requests in {limit_s:g} s")
            time.sleep(0.02)

    def wait_full(self, since: float, least: int) -> None:
        """Goes on until ``least`` requests have ended and the last ones since then are full.

        After the limit it returns too: the result then says that the zoo did not recover.
        """
        self.wait(least, RECOVERY_LIMIT_S * 2)
        end = max(time.monotonic(), since + RECOVERY_LIMIT_S)
        while time.monotonic() < end:
            last = self.requests[-FULL_IN_A_ROW:]
            if all(each.full and each.began > since for each in last):
                return
            time.sleep(0.05)


@dataclass
class Result:
    """What came of one fault: a row of the table.

    Attributes:
        sees: What the client sees, in words.
        requests: Number of requests.
        median_ms, max_ms: What requests during the fault waited for their answer, in ms.
        lost: Requests without an answer or a named error.
        recovery_s: From the kill, or from the end of the fault, to the first full answer that no
            other follows, in s; 0 where no answer ever lacked something, None where it never came.
        problems: Why the row does not hold.
        raw: Figures for the JSON file.
    """

    sees: str
    requests: int
    median_ms: float
    max_ms: float
    lost: int
    recovery_s: float | None
    problems: list[str]
    raw: dict[str, Any] = field(default_factory=dict)

    def must(self, held: bool, otherwise: str) -> None:
        """Notes a problem."""
        if not held:
            self.problems.append(otherwise)


def sum_up(
    requests: Sequence[Request],
    fault: float,
    lifted: float,
    *,
    may_miss: Mapping[str, Sequence[str]] | None = None,
    may_refuse: Sequence[str] = (),
    must_miss: bool = False,
) -> Result:
    """The figures of a load, and whether it held.

    Args:
        requests: All of them, by the time they began.
        fault: When the fault was made, in s of the monotonic clock.
        lifted: From when on recovery counts: the kill itself, or the end of the fault.
        may_miss: Codes that an answer may name for a member.
        may_refuse: Names of errors that may be met before the answer.
        must_miss: Whether at least one answer has to name each of ``may_miss``.
    """
    may_miss = may_miss or {}
    problems = []
    lost = [each for each in requests if each.lost]
    if lost:
        problems.append(f"{len(lost)} lost: {lost[0].lost}")
    short = [each for each in requests if not each.full]
    recovery: float | None = 0.0
    if short:
        last = max(each.ended for each in short)
        after = [each.ended for each in requests if each.full and each.ended >= last]
        recovery = max(0.0, min(after) - lifted) if after else None
    if recovery is None or recovery > RECOVERY_LIMIT_S:
        problems.append(f"not recovered within {RECOVERY_LIMIT_S:g} s")
    missing = Counter((name, code) for each in requests for name, code in each.missing.items())
    refused = Counter(name for each in requests for name, _ in each.refused[:1])
    for name, code in missing:
        if code not in may_miss.get(name, ()):
            problems.append(f"{name} {code} in {missing[name, code]} answers")
    for name in refused:
        if name not in may_refuse:
            problems.append(f"{refused[name]} refused by {name}")
    for name in may_miss if must_miss else ():
        if not any(each == name for each, _ in missing):
            problems.append(f"no answer lacks {name}: the fault was not met")
    until = lifted + recovery if recovery is not None else float("inf")
    during = [each.ms for each in requests if each.ended >= fault and each.began <= until]
    during = during or [each.ms for each in requests]
    words = [f"{sum(each.full for each in requests)} of {len(requests)} in full"]
    words += [f"{n} without {name} ({code})" for (name, code), n in sorted(missing.items())]
    words += [f"{n} refused ({name}), then answered" for name, n in sorted(refused.items())]
    messages = Counter(text for each in requests for _, text in each.refused)
    return Result(
        "; ".join(words),
        len(requests),
        statistics.median(during),
        max(during),
        len(lost),
        recovery,
        problems,
        {
            "full": sum(each.full for each in requests),
            "missing": {f"{name} {code}": n for (name, code), n in sorted(missing.items())},
            "refused_at_first": dict(refused),
            "refusals": dict(messages.most_common(10)),
            "longest_gap_s": _longest_gap_s(requests),
            "lost": [each.lost for each in lost][:10],
        },
    )


def _longest_gap_s(requests: Sequence[Request]) -> float:
    """Longest time in which no client got an answer, in s."""
    ends = sorted(each.ended for each in requests)
    return max((b - a for a, b in itertools.pairwise(ends)), default=0.0)
