"""Photos of all requests in one queue, computed in batches by threads of one core each.

A batcher takes what is waiting and never waits for more: waiting 5 ms to fill a batch cost 6.6 ms at one
connection and gained nothing; and two threads of one core each answered 212 photos a second where one thread
of two cores answered 128 (ResNet-18 in bf16, 32 connections).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from recognition.recognizer import Answer, Canvases, Recognizer


class Overloaded(RuntimeError):  # noqa: N818  says what the house is
    """More photos are in the house than it takes."""


@dataclass(frozen=True)
class _Item:
    photo: Canvases
    top_k: int
    answer: Future[Answer] = field(default_factory=Future)


class Batcher:
    """Answers prepared photos; `submit` may be called from any thread."""

    def __init__(self, recognizer: Recognizer, *, num_threads: int, max_batch: int, max_waiting: int) -> None:
        self._recognizer = recognizer
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._admitted = 0
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher-{number}", daemon=True)
            for number in range(num_threads)
        ]

    def start(self, *, warm_up: Canvases) -> None:
        """Start the threads and return when each has computed `warm_up`, alone and in a full batch."""
        for thread in self._threads:
            thread.start()
        for size in (1, self._max_batch):
            futures = [self.submit(warm_up, top_k=1) for _ in range(size * len(self._threads))]
            for future in futures:
                future.result()

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Count `count` photos as being in the house; Overloaded when they would be too many."""
        with self._changed:
            if self._admitted + count > self._max_waiting and self._admitted > 0:
                raise Overloaded(f"{self._admitted} photos are being answered already")
            self._admitted += count
        try:
            yield
        finally:
            with self._changed:
                self._admitted -= count

    def submit(self, photo: Canvases, *, top_k: int) -> Future[Answer]:
        """Queue one photo; an error that computing it raises is its future's alone."""
        item = _Item(photo, top_k)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._items.append(item)
            self._changed.notify()
        return item.answer

    def close(self) -> None:
        """Answer what is queued and stop the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        torch.set_num_threads(1)  # of this thread only
        while batch := self._take():
            wanted = [item for item in batch if item.answer.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _take(self) -> list[_Item]:
        """What is waiting, at most one batch; nothing once closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            return [self._items.popleft() for _ in range(min(self._max_batch, len(self._items)))]

    def _answer(self, batch: Sequence[_Item]) -> None:
        try:
            answers = self._recognizer.predict_batch(
                [item.photo for item in batch], top_k=max(item.top_k for item in batch)
            )
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:  # one by one, so that the others get their answers
                for item in batch:
                    self._answer([item])
            return
        for item, answer in zip(batch, answers, strict=True):
            item.answer.set_result(Answer(predictions=answer.predictions[: item.top_k]))
