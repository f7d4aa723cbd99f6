"""A small store of answers: each is made once, however many ask for it at the same time; what is old goes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio
from anyio import to_thread

from cubekit.service._api_answer import Answer

CAPACITY = 64 * 2**20
"""Bytes of answers that are kept."""

THREADS = 4
"""Answers that are made at the same time: what bounds the memory."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, as many as fit.

    Parameters
    ----------
    capacity
        Sum of their sizes.
    size
        Of a value; 1 by default.

    Examples
    --------
    >>> kept = Recent[str, int](2)
    >>> for name in "abc":
    ...     kept.put(name, 1)
    >>> kept.get("a"), kept.get("c"), len(kept)
    (None, 1, 2)
    """

    def __init__(self, capacity: int, size: Callable[[Value], int] = lambda _: 1) -> None:
        self._capacity, self._size, self._total = capacity, size, 0
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; those that were not used for longest go."""
        old = self._values.pop(key, None)
        self._total += self._size(value) - (0 if old is None else self._size(old))
        self._values[key] = value
        while self._total > self._capacity and len(self._values) > 1:
            self._total -= self._size(self._values.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._values)


class Answers:
    """Answers by their tags. For one event loop."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._kept: Recent[str, Answer] = Recent(capacity, lambda answer: answer.size)
        self._coming: dict[str, asyncio.Future[Answer]] = {}
        self._threads: anyio.CapacityLimiter | None = None

    def get(self, tag: str) -> Answer | None:
        """What is kept under a tag."""
        return self._kept.get(tag)

    def __len__(self) -> int:
        return len(self._kept)

    async def of(self, tag: str, make: Callable[[], Answer]) -> Answer:
        """Get an answer, or make it on a thread.

        Parameters
        ----------
        tag
            Says all that it depends on.
        make
            Called when it isn't kept, once.
        """
        kept = self._kept.get(tag)
        if kept is not None:
            return kept
        if tag in self._coming:
            return await asyncio.shield(self._coming[tag])
        self._threads = self._threads or anyio.CapacityLimiter(THREADS)
        coming: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._coming[tag] = coming
        try:
            made = await to_thread.run_sync(make, limiter=self._threads)
        except BaseException as error:
            coming.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError("it was ended"))
            coming.exception()  # it is raised here; nobody else need be waiting
            raise
        else:
            self._kept.put(tag, made)
            coming.set_result(made)
            return made
        finally:
            del self._coming[tag]
