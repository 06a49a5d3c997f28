"""Who is next, of those that wait for one of a few workers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

Ticket = tuple[str, object]  # what is to be worked on, and who asks


class Turns:
    """Hands out workers: first come, first served, but for those that go on with the same.

    What is measured on a model is measured by the worker that has the model loaded, one thing after
    the other, before another model takes its place.
    """

    def __init__(self, num_workers: int, first: int = 0) -> None:
        """All workers are free.

        Args:
            num_workers: How many there are.
            first: Number of the first one.
        """
        numbers = range(first, first + num_workers)
        self._free = list(reversed(numbers))  # the last one is taken first
        self._had: dict[int, str] = {}  # what a worker worked on last
        self._waiting: list[Ticket] = []
        self._changed = threading.Condition()

    @contextmanager
    def worker(self, subject: str = "") -> Iterator[int]:
        """A worker, for as long as the block lasts; waits for one.

        Args:
            subject: What it is to work on; nothing where nobody could go on with it.
        """
        ticket: Ticket = (subject, object())
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: ticket in self._served())
                number = self._served()[ticket]
                self._free.remove(number)
                self._had[number] = subject
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield number
        finally:
            with self._changed:
                self._free.append(number)  # and so taken first: it has its imports
                self._changed.notify_all()

    def _served(self) -> dict[Ticket, int]:
        """Whose turn it is, each with the worker; those that go on with the same come first."""
        waiting, free, served = list(self._waiting), list(reversed(self._free)), {}
        for number in list(free):
            had = self._had.get(number)
            same = next((ticket for ticket in waiting if had and ticket[0] == had), None)
            if same is not None:
                served[same] = number
                waiting.remove(same)
                free.remove(number)
        return served | dict(zip(waiting, free, strict=False))
