"""Where the boxes and lines of the cohort flow lie; the page's template draws them as SVG."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from reports.flow import Flow, FlowStep, counted

STEP_WIDTH, ASIDE_WIDTH, LINE_HEIGHT, GAP, PADDING, MARGIN = 370, 570, 19, 36, 9, 4
SPLIT_GAP = 20
PIXELS_A_LETTER, PIXELS_A_BOLD_LETTER = 7.2, 8.6
WHOLE_WIDTH = STEP_WIDTH + 2 * GAP + ASIDE_WIDTH


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with its lines of text, the first ``bold`` of them its title. Pixels from the top left."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    bold: int
    aside: bool

    @property
    def middle_x(self) -> int:
        """Give the x of its middle."""
        return self.x + self.width // 2

    @property
    def bottom(self) -> int:
        """Give the y of its lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line from (x1, y1) to (x2, y2), with an arrow's head at its end or without."""

    x1: int
    y1: int
    x2: int
    y2: int
    head: bool


@dataclass(frozen=True, slots=True)
class Diagram:
    """The boxes and lines of the flow, and the size of the whole in pixels."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int


def lay_out(flow: Flow) -> Diagram:
    """Place the steps one below the other, what was left out beside them, and the splits in a row at the end."""
    boxes: list[Box] = []
    lines: list[Line] = []
    y, above = MARGIN, None
    for step in flow.steps:
        box = _box(MARGIN, y, STEP_WIDTH, step.title, [counted(step.volumes, step.participants)])
        if above is not None:
            lines.append(Line(box.middle_x, above.bottom, box.middle_x, box.y, True))
        boxes.append(box)
        above, y = box, box.bottom + GAP
        if step.left_out:
            aside = _aside(step, box.bottom + GAP // 2)
            turn = aside.y + min(aside.height // 2, LINE_HEIGHT)
            boxes.append(aside)
            lines.append(Line(box.middle_x, turn, aside.x, turn, True))
            y = aside.bottom + GAP // 2
    if above is not None and flow.splits:
        row, rails = _split_row(flow.splits, above, y)
        boxes += row
        lines += rails
    height = max((box.bottom for box in boxes), default=0) + MARGIN
    return Diagram(tuple(boxes), tuple(lines), WHOLE_WIDTH + 2 * MARGIN, height)


def _aside(step: FlowStep, y: int) -> Box:
    reasons = [f"{counted(out.volumes, out.participants)}: {out.reason}" for out in step.left_out]
    return _box(MARGIN + STEP_WIDTH + 2 * GAP, y, ASIDE_WIDTH, "Left out", reasons, aside=True)


def _split_row(splits: Sequence[FlowStep], above: Box, y: int) -> tuple[list[Box], list[Line]]:
    width = (WHOLE_WIDTH - SPLIT_GAP * (len(splits) - 1)) // len(splits)
    boxes = [
        _box(MARGIN + i * (width + SPLIT_GAP), y, width, split.title, [counted(split.volumes, split.participants)])
        for i, split in enumerate(splits)
    ]
    rail = y - GAP // 2
    lines = [
        Line(above.middle_x, above.bottom, above.middle_x, rail, False),
        Line(boxes[0].middle_x, rail, max(boxes[-1].middle_x, above.middle_x), rail, False),
    ]
    return boxes, lines + [Line(box.middle_x, rail, box.middle_x, box.y, True) for box in boxes]


def _box(x: int, y: int, width: int, title: str, texts: Sequence[str], *, aside: bool = False) -> Box:
    letters, bold = (int((width - 2 * PADDING) / size) for size in (PIXELS_A_LETTER, PIXELS_A_BOLD_LETTER))
    titles = textwrap.wrap(title, bold) or [""]
    lines = titles + [part for text in texts for part in textwrap.wrap(text, letters)]
    return Box(x, y, width, LINE_HEIGHT * len(lines) + 2 * PADDING, tuple(lines), len(titles), aside)
