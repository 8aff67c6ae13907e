"""
What the monitor may see: it asks the policies of the Jobs that its runtime runs, as the subject "monitor".

Rule 1: through the hook that every call goes through (`callsheet.guard`), with the same answers.
Rule 2: of Jobs that may not be read at all nothing is shown: no run, no counter, no queue, no task, no schedule.
Rule 3: Jobs that this runtime does not run are shown where they are known to have no policy, as to a client without the code;
    else it is as if they were not there.
Not here: who is let in (`guard`), what is looked at (`feed`), what is done (`desk`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from attrs import evolve, field, frozen

from ..client.published import is_guarded
from ..errors import PolicyDenied
from ..guard import Action, acting_as, may_do, may_read, may_see, require
from ..jobs import Jobs
from ..store.contract import Reader
from ..store.records import Count, Run
from ..supervisor import paths
from ..supervisor.slots import Slots
from ..tree import Node
from .rows import Row
from .timetable import Posted, Rights, schedule_row, soonest_first

SUBJECT: Final = "monitor"


def guarded_elsewhere(reader: Reader, identities: Iterable[str], ours: Sequence[Jobs]) -> frozenset[str]:
    """Those of these Jobs that are not ours, and have a policy, or may have one: they were never published."""
    foreign = frozenset(identities) - {each.identity for each in ours}
    return foreign and foreign - {each.jobs for each in reader.published() if not is_guarded(each)}


@frozen
class Sight:
    """
    What may be seen at one look; each of our policies is asked once for its Jobs, once for each run, and, when schedules
    changed, for each of their tasks.
    """

    ours: Sequence[Jobs]
    elsewhere: frozenset[str]
    hidden: frozenset[str] = field(init=False)
    """Jobs of which nothing may be seen."""

    @hidden.default
    def _find_hidden(self) -> frozenset[str]:
        return self.elsewhere | {each.identity for each in self.ours if not _may_look(each)}

    def rows(self, found: Iterable[tuple[Run, Row]]) -> list[Row]:
        """The rows of those runs that may be seen."""
        ours = {each.identity: each for each in self.ours}
        with acting_as(SUBJECT):
            return [
                row
                for run, row in found
                if run.lane.jobs not in self.hidden
                and (run.lane.jobs not in ours or may_read(ours[run.lane.jobs], run))
            ]

    def schedules(self, posted: Iterable[Posted]) -> Iterator[Callable[[], Row]]:
        """What makes the rows of those schedules that may be seen, soonest first."""
        ours = {each.identity: each for each in self.ours}
        seen: dict[tuple[str, str | None], Rights | None] = {}
        for each in sorted([each for each in posted if each.schedule.jobs not in self.hidden], key=soonest_first):
            jobs, task = each.schedule.jobs, None if each.said is None else each.said.task
            if (jobs, task) not in seen:
                seen[jobs, task] = self._rights(ours.get(jobs), task)
            rights = seen[jobs, task]
            if rights is not None:
                yield partial(schedule_row, each, rights, is_here=has_task(ours.get(jobs), task))

    def counts(self, counts: Sequence[Count]) -> Sequence[Count]:
        """Those that may be seen."""
        return [each for each in counts if each.lane.jobs not in self.hidden] if self.hidden else counts

    def slots(self, slots: Mapping[str, Slots]) -> Mapping[str, Slots]:
        """Those of the queues that may be seen."""
        queues = self._queues()
        return {identity: each for identity, each in slots.items() if identity not in queues} if queues else slots

    def tree(self, root: Node) -> Node:
        """Without the actors that may not be seen."""
        if not self.hidden:
            return root
        return _without(root, {*map(paths.jobs, self.hidden), *map(paths.queue, self._queues())})

    def _rights(self, jobs: Jobs | None, task: str | None) -> Rights | None:
        """None where schedules of this task may not be seen. task: None where it cannot be read, and so no policy be asked."""
        if task is None:
            return None if jobs is not None and jobs.policy is not None else Rights()
        with acting_as(SUBJECT):
            return None if jobs is not None and not may_see(jobs, task) else rights_of(jobs, task)

    def _queues(self) -> set[str]:
        return {queue for each in self.ours if each.identity in self.hidden for queue in each.declared_queues}


def has_task(jobs: Jobs | None, task: str | None) -> bool:
    """Whether the code has it, as far as that is known here. jobs: None for those that run elsewhere."""
    return jobs is None or task is None or task in jobs.tasks or task in jobs.aliases


def rights_of(jobs: Jobs | None, task: str) -> Rights:
    """What may be done with schedules of this task. jobs: None for those that run elsewhere."""
    if jobs is None:
        return Rights()
    with acting_as(SUBJECT):
        may_steer = may_do(jobs, Action.STEER, task)
        return Rights(may_steer, may_steer and may_do(jobs, Action.ENQUEUE, task))


def _may_look(jobs: Jobs) -> bool:
    with acting_as(SUBJECT):
        try:
            require(jobs, Action.READ)
        except PolicyDenied:
            return False
    return True


def _without(node: Node, hidden: set[str]) -> Node:
    return evolve(node, children=tuple([_without(each, hidden) for each in node.children if each.path not in hidden]))
