"""A text service in a thread of its own, for harnesses that await each text by itself."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from designspace.harness.text_service import Order, TextService
from designspace.program.generated_text import GeneratedText


class ServiceThread:
    """Collects what is ordered, and writes it. The thread lives while there is something to write."""

    def __init__(self, service: TextService) -> None:
        self.service = service
        self._orders: deque[Order] = deque()
        self._awaited: dict[Order, Future[GeneratedText]] = {}
        self._lock = threading.Lock()  # between "nothing is left" and "something has come" lies the end of the thread
        self._running = False

    def order(self, order: Order) -> Future[GeneratedText]:
        """Have a text written.

        Raises:
            DeclarationError: it cannot be.
        """
        self.service.check(order)
        future: Future[GeneratedText] = Future()
        with self._lock:
            self._awaited[order] = future
            self._orders.append(order)
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="designspace texts", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                for order, text in self.service.write(self._orders):
                    self._awaited.pop(order).set_result(text)
            except BaseException as error:  # whoever awaits a text must hear of it, in a thread nobody else does
                self._fail(error)
            with self._lock:
                if not self._orders:
                    self._running = False
                    return

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._orders.clear()
            awaited, self._awaited = self._awaited, {}
        for future in awaited.values():
            future.set_exception(error)
