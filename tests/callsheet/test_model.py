"""Random stories told to the public API, and to a model of a page: they end alike."""

from __future__ import annotations

from typing import Final

import trio
import trio.testing
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet import Context, Jobs, Retry, RunNotFinished
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables

from .house import open_house

ATTEMPTS: Final = 3
WAIT_S: Final = 7
WORK_S: Final = 2


@define(eq=False)
class Modelled:
    """One run: it fails `failures` times, works two seconds each time, waits seven between."""

    failures: int
    due_s: float
    scheduled: bool
    canceled_s: float | None = None

    def status(self, now_s: float) -> str:
        begins_s = self.due_s
        until_s = now_s if self.canceled_s is None else min(now_s, self.canceled_s)
        for attempt in range(1, ATTEMPTS + 1):
            if until_s < begins_s:
                return self._waiting("retrying" if attempt > 1 else "scheduled" if self.scheduled else "queued")
            if until_s < begins_s + WORK_S:
                return self._waiting("running")
            if attempt > self.failures:
                return "succeeded"
            begins_s += WORK_S + WAIT_S
        return "dead_lettered"

    def _waiting(self, status: str) -> str:
        return status if self.canceled_s is None else "canceled"


steps = st.one_of(
    st.tuples(st.just("enqueue"), st.integers(0, 4), st.sampled_from([0, 0, 1, 10, 50])),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("replay"), st.integers(0, 9), st.sampled_from([0, 5])),
    st.tuples(st.just("advance"), st.integers(1, 30), st.just(0)),
)


@settings(max_examples=60)
@given(st.lists(steps, max_size=25))
def test_a_story_ends_as_the_model_says(story: list[tuple[str, int, int]]) -> None:
    """Enqueue, delay, fail, cancel, replay, and time: every status at every moment is that of the model."""
    trio.run(_tell, story, clock=trio.testing.MockClock(autojump_threshold=0))


async def _tell(story: list[tuple[str, int, int]]) -> None:
    tables = Tables()
    jobs = Jobs("j", retry=Retry(attempts=ATTEMPTS, backoff="fixed", initial_delay=WAIT_S))
    runs: list[tuple[str, Modelled]] = []

    @jobs.task("work")
    async def work(failures: int, ctx: Context) -> None:
        await trio.sleep(WORK_S)
        if ctx.attempt <= failures:
            raise ValueError

    async with open_house(lambda: MemoryStore(tables), jobs, grace=0):
        for what, n, delay in [*story, ("advance", 200, 0)]:
            await trio.sleep(0.2137)  # odd, so that no step falls on the edge of a moment
            now_s = trio.current_time()
            if what == "enqueue":
                result = await jobs.enqueue("work", n, delay=delay)
                runs.append((result.run_id, Modelled(n, now_s + delay, delay > 0)))
            elif what == "advance":
                await trio.sleep(n)
            elif n < len(runs):
                run_id, model = runs[n]
                status = model.status(now_s)
                final = status in ("succeeded", "dead_lettered", "canceled")
                if what == "cancel":
                    answer = await jobs.runs.cancel(run_id)
                    assert (not final, status if final else "canceled") == (answer.canceled, str(answer.status))
                    model.canceled_s = now_s if answer.canceled else model.canceled_s
                else:
                    try:
                        result = await jobs.runs.replay(run_id, delay=delay)
                    except RunNotFinished:
                        assert not final
                    else:
                        assert final
                        runs.append((result.run_id, Modelled(model.failures, now_s + delay, delay > 0)))
            await trio.sleep(0.1291)
            now_s = trio.current_time()
            seen = [str((await jobs.runs.get(run_id)).run.status) for run_id, _ in runs]
            assert [model.status(now_s) for _, model in runs] == seen
