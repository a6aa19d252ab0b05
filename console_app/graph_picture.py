"""A graph of tasks as a picture: where each box stands, how each edge runs. Left to right, upstream to downstream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from statistics import fmean

from console_app.period_words import period_words
from console_app.states import Look, look
from tasks_app.graph import Graph
from tasks_app.models import TaskDependency

BOX_WIDTH, BOX_HEIGHT = 148, 32
GAP_X, GAP_Y = 44, 12
MARGIN = 8
# Below the boxes each edge that leads back has a lane of its own, and turns into it this far beside its boxes.
LANE, TURN = 14, 14
NAME_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Box:
    """One task; `look` is that of its last run, None where it never ran."""

    task_id: int
    name: str
    short_name: str
    x: int
    y: int
    look: Look | None
    is_centre: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One edge: the path of an SVG, the place of its mark, and what the mark means."""

    path: str
    x: int
    y: int
    mark: str
    meaning: str
    is_period: bool


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    boxes: list[Box]
    lines: list[Line]


def draw(graph: Graph, centre: int, last_states: Mapping[int, str]) -> Picture:
    """The picture of the graph around the task `centre`; `last_states` has the state of the last run of each task."""
    layers = _layers(graph)
    rows = max(len(layer) for layer in layers)
    margin = MARGIN + (TURN if any(edge.period_back for edge in graph.edges) else 0)
    at: dict[int, tuple[int, int]] = {}
    for column, layer in enumerate(layers):
        # Each column stands in the middle of the height.
        top = (rows - len(layer)) * (BOX_HEIGHT + GAP_Y) // 2
        for row, task_id in enumerate(layer):
            at[task_id] = (margin + column * (BOX_WIDTH + GAP_X), MARGIN + top + row * (BOX_HEIGHT + GAP_Y))
    bottom = MARGIN + rows * (BOX_HEIGHT + GAP_Y) - GAP_Y
    boxes = [
        Box(
            task.pk,
            task.name,
            task.name if len(task.name) <= NAME_CHARACTERS else f"{task.name[: NAME_CHARACTERS - 1]}…",
            *at[task.pk],
            look(last_states[task.pk]) if task.pk in last_states else None,
            task.pk == centre,
        )
        for task in graph.tasks
    ]
    lines: list[Line] = []
    for edge in graph.edges:
        if edge.upstream_id in at and edge.downstream_id in at:
            leads_back = at[edge.upstream_id][0] >= at[edge.downstream_id][0]
            bottom += LANE if leads_back else 0
            marks = [(line.x, line.y) for line in lines if line.mark]
            lines.append(_line(edge, at, bottom if leads_back else None, marks))
    width = 2 * margin + len(layers) * BOX_WIDTH + (len(layers) - 1) * GAP_X
    return Picture(width, bottom + MARGIN, boxes, lines)


def _layers(graph: Graph) -> list[list[int]]:
    """The tasks by columns: each stands behind all of its upstream tasks, save those of an earlier period."""
    above: dict[int, set[int]] = {task.pk: set() for task in graph.tasks}
    for edge in graph.edges:
        if not edge.period_back and edge.upstream_id in above and edge.downstream_id in above:
            above[edge.downstream_id].add(edge.upstream_id)
    column: dict[int, int] = {}
    for task_id in TopologicalSorter(above).static_order():
        column[task_id] = max((column[up] + 1 for up in above[task_id]), default=0)
    _pull_sources(column, above)
    layers: dict[int, list[int]] = defaultdict(list)
    for task_id in sorted(column):
        layers[column[task_id]].append(task_id)
    return _ordered([layers[number] for number in sorted(layers)], above)


def _pull_sources(column: dict[int, int], above: Mapping[int, set[int]]) -> None:
    """A task without upstream stands right before the first that waits for it, not at the far left."""
    below: dict[int, list[int]] = defaultdict(list)
    for task_id, ups in above.items():
        for up in ups:
            below[up].append(task_id)
    for task_id in [task_id for task_id, ups in above.items() if not ups and below[task_id]]:
        column[task_id] = min(column[down] for down in below[task_id]) - 1


def _ordered(layers: Sequence[list[int]], above: Mapping[int, set[int]]) -> list[list[int]]:
    """Each column in the order of the middle of what stands before it: fewer lines cross."""
    place: dict[int, float] = {}
    done = []
    for layer in layers:
        middle = {task_id: fmean([place[up] for up in above[task_id] if up in place] or [0.5]) for task_id in layer}
        ordered = sorted(layer, key=lambda task_id: (middle[task_id], task_id))
        place |= {task_id: (number + 0.5) / len(ordered) for number, task_id in enumerate(ordered)}
        done.append(ordered)
    return done


def _line(
    edge: TaskDependency, at: Mapping[int, tuple[int, int]], lane: int | None, marks: Sequence[tuple[int, int]]
) -> Line:
    """The line of an edge: a curve to the right, or along a lane below all boxes where it leads back."""
    (x1, y1), (x2, y2) = at[edge.upstream_id], at[edge.downstream_id]
    x1, y1, y2 = x1 + BOX_WIDTH, y1 + BOX_HEIGHT // 2, y2 + BOX_HEIGHT // 2
    mark = "?" if edge.condition else "◷" if edge.period else ""
    meaning = edge.condition or period_words(edge)
    if lane is not None:
        path = f"M{x1} {y1}h{TURN}V{lane}H{x2 - TURN}V{y2}H{x2}"
        return Line(path, (x1 + x2) // 2, lane, mark, meaning, bool(edge.period))
    bend = max(GAP_X // 2, (x2 - x1) // 3)
    path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    places = [_on_curve(part, (x1, y1), bend, (x2, y2)) for part in (0.5, 0.7, 0.3, 0.85)]
    free = [place for place in places if all(abs(place[0] - x) + abs(place[1] - y) > 18 for x, y in marks)]
    return Line(path, *(free or places)[0], mark, meaning, bool(edge.period))


def _on_curve(part: float, start: tuple[int, int], bend: int, end: tuple[int, int]) -> tuple[int, int]:
    """The point that far along the curve."""
    rest = 1 - part
    weights = (rest**3, 3 * rest**2 * part, 3 * rest * part**2, part**3)
    xs, ys = (start[0], start[0] + bend, end[0] - bend, end[0]), (start[1], start[1], end[1], end[1])
    x, y = (sum(weight * value for weight, value in zip(weights, values, strict=True)) for values in (xs, ys))
    return round(x), round(y)
