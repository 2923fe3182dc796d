"""Word problems with worked solutions in plain English: what a model is calibrated on that is given no text of its own.

They are written here from patterns, numbers and names, so that every machine has the same ones without a download. A text of
the kind that the model will write is better.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

VERSION = 1  # part of the texts' name: change it whenever a text changes
N_PROBLEMS = 120

_NAMES = (
    *("Amina", "Boris", "Carla", "Deniz", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Leila", "Milo"),
    *("Nora", "Oskar", "Priya", "Quentin", "Rosa", "Samuel", "Tamar", "Ulrike", "Viktor", "Wanda", "Yusuf", "Zoe"),
)
_THINGS = (
    *("apples", "notebooks", "tickets", "candles", "bricks", "eggs", "pencils", "bottles", "marbles", "postcards"),
    *("chairs", "muffins", "tiles", "seedlings", "stamps", "batteries", "lanterns", "ribbons", "books", "cups"),
)
_PLACES = (
    *("the market", "the school library", "a small workshop", "the harbour", "her uncle's farm", "the town museum"),
    *("a bakery", "the railway station", "the community garden", "a summer camp", "the theatre", "a repair shop"),
)
_STARTS = ("First,", "To begin with,", "Let us see:", "We know that", "Start with what is given:", "Okay, so")
_NEXT = ("Then", "Next,", "After that,", "So", "Now", "From this it follows that")
_CHECKS = (
    "Let me check this: {a} is indeed right, because the parts add up again.",
    "Wait, is that plausible? Yes, {a} is about what one would expect.",
    "Going back over the steps, nothing was left out, so {a} stands.",
    "",
    "",
)


class WorkedProblem(NamedTuple):
    """A question and the text that answers it, which ends with `answer`."""

    problem: str
    solution: str
    answer: int


def worked_problems(n_problems: int = N_PROBLEMS) -> list[WorkedProblem]:
    """Return the first problems, always the same ones."""
    return [_PATTERNS[index % len(_PATTERNS)](_Draw(index)) for index in range(n_problems)]


class _Draw:
    """What one problem draws."""

    def __init__(self, index: int) -> None:
        self._random = Random(f"worked problem {VERSION} {index}")

    def of(self, *choices: str) -> str:
        return choices[self._random.randrange(len(choices))]

    def two(self, choices: tuple[str, ...]) -> tuple[str, str]:
        first, second = self._random.sample(range(len(choices)), 2)
        return choices[first], choices[second]

    def number(self, low: int, high: int) -> int:
        return self._random.randrange(low, high + 1)

    def told(self, problem: str, steps: list[str], answer: int) -> WorkedProblem:
        """Put steps together, with a word before each and sometimes a check at the end."""
        said = [f"{self.of(*_STARTS)} {steps[0]}", *(f"{self.of(*_NEXT)} {step}" for step in steps[1:])]
        check = self.of(*_CHECKS).format(a=answer)
        ending = self.of(f"The answer is {answer}.", f"Therefore the answer is {answer}.", f"Answer: {answer}")
        return WorkedProblem(problem, self.of(" ", "\n").join(filter(None, [*said, check, ending])), answer)


def _boxes(draw: _Draw) -> WorkedProblem:
    (name, other), thing, place = draw.two(_NAMES), draw.of(*_THINGS), draw.of(*_PLACES)
    boxes, each, given = draw.number(3, 12), draw.number(6, 30), draw.number(2, 15)
    total = boxes * each
    return draw.told(
        f"{name} carries {boxes} boxes of {thing} to {place}. There are {each} {thing} in every box. On the way {name} gives "
        f"{given} of them to {other}. How many {thing} are left?",
        [
            f"{boxes} boxes with {each} {thing} each make {boxes} * {each} = {total} {thing}.",
            f"{other} gets {given} of them, which leaves {total} - {given} = {total - given}.",
        ],
        total - given,
    )


def _wages(draw: _Draw) -> WorkedProblem:
    name, place = draw.of(*_NAMES), draw.of(*_PLACES)
    wage, hours, days, extra = draw.number(9, 25), draw.number(3, 8), draw.number(2, 6), draw.number(5, 60)
    daily = wage * hours
    return draw.told(
        f"At {place}, {name} earns {wage} dollars an hour and works {hours} hours a day. After {days} days there is also a "
        f"bonus of {extra} dollars. How much money has {name} earned in all?",
        [
            f"one day brings {hours} * {wage} = {daily} dollars.",
            f"{days} days bring {days} * {daily} = {days * daily} dollars.",
            f"with the bonus that is {days * daily} + {extra} = {days * daily + extra} dollars.",
        ],
        days * daily + extra,
    )


def _ages(draw: _Draw) -> WorkedProblem:
    (young, old), times, age, years = draw.two(_NAMES), draw.number(2, 4), draw.number(4, 14), draw.number(3, 12)
    return draw.told(
        f"{old} is {times} times as old as {young}, who is {age} years old. What will the sum of their ages "
        f"be in {years} years?",
        [
            f"{old} is {times} * {age} = {times * age} years old today.",
            f"together they are {age} + {times * age} = {age + times * age} years old.",
            f"each of the two grows older by {years} years, so {2 * years} years are added in all.",
            f"the sum will be {age + times * age} + {2 * years} = {age + times * age + 2 * years}.",
        ],
        age + times * age + 2 * years,
    )


def _journey(draw: _Draw) -> WorkedProblem:
    name, place = draw.of(*_NAMES), draw.of(*_PLACES)
    speed, hours, slower, more = draw.number(40, 90), draw.number(2, 5), draw.number(5, 30), draw.number(1, 4)
    first, second = speed * hours, (speed - slower) * more
    return draw.told(
        f"{name} drives to {place}. For the first {hours} hours the speed is {speed} kilometres per hour; then it rains, and "
        f"for {more} more hours the car is {slower} kilometres per hour slower. How long is the way?",
        [
            f"the dry part is {hours} * {speed} = {first} kilometres long.",
            f"in the rain the speed is {speed} - {slower} = {speed - slower} kilometres per hour.",
            f"that part is {more} * {speed - slower} = {second} kilometres long.",
            f"the whole way has {first} + {second} = {first + second} kilometres.",
        ],
        first + second,
    )


def _shares(draw: _Draw) -> WorkedProblem:
    (name, other), thing = draw.two(_NAMES), draw.of(*_THINGS)
    people, each, broken = draw.number(3, 9), draw.number(4, 20), draw.number(1, 9)
    total = people * each + broken
    return draw.told(
        f"{name} and {other} have collected {total} {thing}, but {broken} of them are broken and are thrown away. The rest is "
        f"shared equally among {people} people. How many {thing} does each person get?",
        [
            f"{total} - {broken} = {total - broken} {thing} are whole.",
            f"if x is the share of one person, {people} * x = {total - broken}, so x = {total - broken} / {people} = {each}.",
        ],
        each,
    )


def _shopping(draw: _Draw) -> WorkedProblem:
    name, (first, second), place = draw.of(*_NAMES), draw.two(_THINGS), draw.of(*_PLACES)
    n_first, n_second, price, dearer = draw.number(2, 9), draw.number(2, 9), draw.number(2, 12), draw.number(1, 6)
    cost_first, cost_second = n_first * price, n_second * (price + dearer)
    paid = cost_first + cost_second + draw.number(1, 40)
    return draw.told(
        f"In a shop near {place}, {first} cost {price} dollars apiece, and {second} cost {dearer} dollars more than that. "
        f"{name} buys {n_first} {first} and {n_second} {second} and pays with {paid} dollars. How much change is there?",
        [
            f"the {first} cost {n_first} * {price} = {cost_first} dollars.",
            f"one of the {second} costs {price} + {dearer} = {price + dearer} dollars, and {n_second} of them {cost_second}.",
            f"the sum is {cost_first} + {cost_second} = {cost_first + cost_second} dollars.",
            f"the change is {paid} - {cost_first + cost_second} = {paid - cost_first - cost_second} dollars.",
        ],
        paid - cost_first - cost_second,
    )


def _garden(draw: _Draw) -> WorkedProblem:
    name, width, longer, price = draw.of(*_NAMES), draw.number(4, 20), draw.number(2, 15), draw.number(2, 9)
    length = width + longer
    around = 2 * (width + length)
    return draw.told(
        f"{name} wants a fence around a rectangular garden. The garden is {width} metres wide and {longer} metres longer than "
        f"it is wide. A metre of fence costs {price} dollars. What does the fence cost?",
        [
            f"the length is {width} + {longer} = {length} metres.",
            f"the way around is 2 * ({width} + {length}) = 2 * {width + length} = {around} metres.",
            f"the fence costs {around} * {price} = {around * price} dollars.",
        ],
        around * price,
    )


def _percent(draw: _Draw) -> WorkedProblem:
    place, thing = draw.of(*_PLACES), draw.of(*_THINGS)
    hundreds, share, sold = draw.number(2, 9), 10 * draw.number(1, 6), draw.number(5, 15)
    part = hundreds * share
    left = 100 * hundreds - part
    return draw.told(
        f"There are {100 * hundreds} {thing} at {place}. On Monday {share}% of them are sold, and on Tuesday {sold} more. "
        f"How many {thing} remain on Wednesday?",
        [
            f"{share}% of {100 * hundreds} is {100 * hundreds} * {share} / 100 = {part}.",
            f"after Monday {100 * hundreds} - {part} = {left} {thing} remain.",
            f"after Tuesday it is {left} - {sold} = {left - sold}.",
        ],
        left - sold,
    )


def _saving(draw: _Draw) -> WorkedProblem:
    name, start, weekly, weeks, spent = (
        draw.of(*_NAMES),
        draw.number(5, 60),
        draw.number(3, 20),
        draw.number(4, 12),
        draw.number(2, 12),
    )
    saved = start + weekly * weeks
    return draw.told(
        f"{name} has {start} dollars and puts {weekly} dollars aside every week. In the week after the {weeks}th, {name} "
        f"spends {spent} dollars on a present. How many dollars are there now?",
        [
            f"{weeks} weeks bring {weeks} * {weekly} = {weeks * weekly} dollars.",
            f"with the {start} dollars from before that makes {start} + {weeks * weekly} = {saved}.",
            f"the present costs {spent}, so {saved} - {spent} = {saved - spent} dollars are left.",
        ],
        saved - spent,
    )


def _equation(draw: _Draw) -> WorkedProblem:
    factor, x, added = draw.number(2, 12), draw.number(2, 25), draw.number(1, 60)
    right = factor * x + added
    return draw.told(
        f"Solve for x: {factor}x + {added} = {right}. Explain every step.",
        [
            f"we subtract {added} on both sides and get {factor}x = {right} - {added} = {right - added}.",
            f"we divide both sides by {factor}, so x = {right - added} / {factor} = {x}.",
            f"putting x = {x} into the left side gives {factor} * {x} + {added} = {right}, as it should be.",
        ],
        x,
    )


_PATTERNS: tuple[Callable[[_Draw], WorkedProblem], ...] = (
    *(_boxes, _wages, _ages, _journey, _shares, _shopping, _garden, _percent, _saving, _equation),
)
