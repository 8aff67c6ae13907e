"""Jobs with a policy: ada may do everything, eve nothing, max cancel what has no trace, everybody look."""

from __future__ import annotations

from callsheet import Access, Action, Context, Jobs


def policy(access: Access) -> bool | str:
    """See above. Of eve nothing is told."""
    if access.subject in (None, "cli:ada"):
        return True
    if access.subject == "cli:eve":
        return False
    if access.subject == "cli:max" and access.action is Action.CANCEL:
        return True if access.run is None or access.run.trace_id is None else "that one stays"
    return True if access.action is Action.READ else "only ada changes anything"


jobs = Jobs("guarded", policy=policy)


@jobs.task("note")
async def note(payload: object, ctx: Context) -> None:
    """Nothing."""
