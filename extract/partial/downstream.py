"""Whether the stages after fetching could do more than they get."""

from extract.stages import StageClock

LATER = (("decode", "preprocess"), ("encode",), ("write",))
"""Stages that share their workers stand together."""


class Downstream:
    """Looks at the stage clock now and then; a stage has no room while as many are at work in it as ever were.

    Before the first volume is through the last stage, nothing is known of any, and none is said to have room.
    """

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        self._most = [0] * len(LATER)

    def has_room(self) -> bool:
        """Tell whether no later stage is full at this moment; the share of such moments is the share of idle time."""
        if not self._clock.seconds()[LATER[-1][-1]]:
            return False
        running = self._clock.running()
        at_work = [sum(running[stage] for stage in stages) for stages in LATER]
        self._most = list(map(max, self._most, at_work))
        return not any(now == most > 0 for now, most in zip(at_work, self._most, strict=True))
