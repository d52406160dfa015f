"""The thread that sends a run's events while training goes on, and in between what other processes left.

Training only writes to the spool. Whatever the server does (refuse, answer late, never answer, die between a
request and its answer), this thread waits for it, and asks again after 2, 4, 8, ... at most 60 seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from tracking.runs.sender import Sender
from tracking.runs.spool import Spool
from tracking.store import Store, all_errors, first_line

SECONDS_BETWEEN_SENDS = 5.0
"""So that metrics of many steps go into one call, which costs some 20 ms of this process's interpreter."""
SECONDS_IF_UNREACHABLE = 3.0
_FIRST_RETRY, _LAST_RETRY = 2.0, 60.0

_LOG = logging.getLogger("aisle.tracking")
_warned: set[str] = set()


class SendingThread:
    """Sends the events of a spool as they are recorded; it closes the spool at the end, or removes it.

    `error` is why the last request failed, None where it did not.
    """

    def __init__(self, store: Store, *, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._sender = Sender(store, spool=spool)
        self._left_over = _send_left_over(store)
        self._answered = threading.Event()
        self._ending = threading.Event()
        self._num_calls = 0
        self._retry = 0.0
        self.error: Exception | None = None
        # The process does not wait for it at its exit: the next one sends what is in the spool then.
        self._thread = threading.Thread(target=self._run, name="aisle-runs", daemon=True)
        self._thread.start()

    def wait_for_begin(self, seconds: float) -> Sender:
        """The sender, once the server has answered about the run, a request has failed or time is over."""
        self._answered.wait(seconds)
        return self._sender

    def end(self, seconds: float) -> bool:
        """Let the rest be sent for so many seconds; whether all of it arrived.

        A request that fails is repeated once; where the last one had failed there are three seconds. What is
        late goes on being sent as long as the process lives.
        """
        num_calls, patience = self._num_calls, seconds
        if self._retry:
            patience = min(SECONDS_IF_UNREACHABLE, seconds)
        self._ending.set()
        self._thread.join(patience)
        if self._thread.is_alive() and self._num_calls > num_calls:  # it answers again
            self._thread.join(seconds - patience)
        return self._spool.is_removed

    def _run(self) -> None:
        # urllib3 tells of each retry on stderr, where nothing may be written while the interpreter ends.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        while True:
            ending = self._ending.is_set()  # asked before: what was recorded until then is sent now
            has_answered = not self._retry
            complete = self._send_waiting()
            if ending and (complete or not has_answered):
                break
            if not complete:
                self._ending.wait(self._retry)
            elif not next(self._left_over, False):
                self._ending.wait(SECONDS_BETWEEN_SENDS)
        if complete:
            self._spool.remove()
        else:
            self._spool.close()
        while complete and next(self._left_over, False):
            pass

    def _send_waiting(self) -> bool:
        """Send what is in the spool; False when a request failed."""
        try:
            while self._sender.send_next():
                self._num_calls += 1
                self._retry, self.error = 0.0, None
                self._answered.set()
        except all_errors() as error:
            self._fail(error)
            return False
        except Exception as error:  # ours: the events stay for a version that can send them
            _LOG.exception("Sending the run's events failed")
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        self._retry, self.error = min(2 * self._retry, _LAST_RETRY) or _FIRST_RETRY, error
        self._answered.set()
        if not self._ending.is_set():
            warn_once(self._store, error)


def warn_once(store: Store, error: Exception | None = None) -> None:
    """Say once per process and store that it does not take what is recorded."""
    if store.shown_uri not in _warned:
        _warned.add(store.shown_uri)
        _LOG.warning(
            "The request to MLflow at %s %s: metrics are kept in .aisle/spool and sent by "
            "`aisle sync` or the next stage",
            store.shown_uri,
            f"failed ({first_line(error)})" if error else "was not answered in time",
        )


def _send_left_over(store: Store) -> Iterator[bool]:
    """Send the spools that no living process holds, one call at each `next`, until the store fails at one."""
    for spool in Spool.left_over(store.spools):
        sender = Sender(store, spool=spool)
        try:
            while not spool.is_wanted and sender.send_next():
                yield True
            if not spool.is_wanted:
                sender.close_left_over()
                spool.remove()
        except all_errors() as error:
            _LOG.debug("%s is not sent: %s", spool.path, error)
            return
        finally:
            spool.close()
