"""Many addresses at the same time, few of one host."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dermino.data.download.host import Host
from dermino.data.download.target import Target

T = TypeVar("T")


def in_lanes(
    targets: Sequence[Target],
    act: Callable[[Target, Host], T],
    *,
    workers: int,
    per_host: int,
    delay: float,
    stop: threading.Event,
) -> Iterator[tuple[Target, T]]:
    """Yield what ``act`` makes of every target, as they are done.

    The addresses of a host are divided into at most ``per_host`` lanes, each worked through one
    by one, so no host is asked by more than that; the longest lanes start first.

    Parameters
    ----------
    targets:
        What to fetch.
    act:
        Called in a thread with a target and its host.
    workers:
        Threads.
    per_host:
        Lanes of one host.
    delay:
        Seconds between two requests to one host.
    stop:
        Set when the caller ends early or something fails, so that threads end too.

    Raises
    ------
    Exception
        What ``act`` raised first.
    """
    by_host: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        by_host[target.host].append(target)
    lanes = []
    for own in by_host.values():
        host = Host(delay, stop)
        lanes += [(own[first::per_host], host) for first in range(min(per_host, len(own)))]
    lanes.sort(key=lambda lane: -len(lane[0]))
    done: queue.SimpleQueue[tuple[Target, T] | BaseException] = queue.SimpleQueue()

    def work(lane: Sequence[Target], host: Host) -> None:
        for target in lane:
            try:
                done.put((target, act(target, host)))
            except BaseException as error:  # Whatever it is, the caller must not wait for ever.
                done.put(error)
                return

    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="download")
    try:
        for lane in lanes:
            pool.submit(work, *lane)
        for _ in targets:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
