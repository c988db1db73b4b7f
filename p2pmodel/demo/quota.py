"""So many requests in a window of time and no more, said ahead in `RateLimit` as huggingface.co does."""

from __future__ import annotations

from dataclasses import replace

import trio

from p2pmodel.demo.exchange import Answer, json_answer


class Quota:
    """A fixed window for all clients together: a site goes by one address."""

    def __init__(self) -> None:
        self.requests: int | None = None  # None: no limit; may be changed at any time
        self.window_s = 300.0
        self._ends_at = 0.0
        self._left = 0

    def set(self, requests: int | None, window_s: float) -> None:
        """From now on, with a fresh window."""
        self.requests, self.window_s, self._ends_at = requests, window_s, 0.0

    def spend(self) -> Answer | None:
        """One request; the refusal if there is none left."""
        if self.requests is None:
            return None
        now = trio.current_time()
        if now >= self._ends_at:
            self._ends_at, self._left = now + self.window_s, self.requests
        if self._left == 0:
            refusal = json_answer(429, {"error": "too many requests"}, {"Retry-After": str(self._seconds)})
            return self.told(refusal)
        self._left -= 1
        return None

    def told(self, answer: Answer) -> Answer:
        """The answer, with what is left."""
        if self.requests is None:
            return answer
        left = {"RateLimit": f'"api";r={self._left};t={self._seconds}'}
        return replace(answer, headers={**answer.headers, **left})

    @property
    def _seconds(self) -> int:
        """Until the window ends, rounded up."""
        return max(1, -int((trio.current_time() - self._ends_at) // 1))
