"""What needles are hidden in, and what they are made of: sentences, prose, numbers, names and coined words."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Final

Draw = Callable[[random.Random], str]

# The same few sentences again and again.
NOISE: Final = "The road is long. The lake is calm. The wind is cold. On we walk. Over the hill and home again."


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


_QUALITIES: Final = _parts(
    "amber, brave, brisk, calm, clever, cosmic, dapper, dusty, eager, early, faint, fancy, frosty, gentle, giant, golden, "
    "grand, hidden, hollow, humble, icy, idle, jolly, keen, lazy, light, little, lively, lucky, mellow, mighty, misty, "
    "modest, narrow, noble, odd, pale, patient, plain, polite, proud, quick, quiet, rapid, rare, rustic, shy, silent, "
    "silver, sleepy, slow, smooth, solid, steady, subtle, sunny, tall, tender, tidy, tiny, vast, velvet, vivid, warm, "
    "wild, wise, witty, young"
)
_THINGS: Final = _parts(
    "anchor, apple, arrow, badge, basin, beacon, bell, bench, bottle, branch, bridge, bucket, button, cabin, candle, "
    "canvas, carpet, castle, cellar, chalk, clock, cloud, comet, compass, copper, corner, cotton, cradle, crystal, "
    "curtain, desert, drum, eagle, engine, falcon, feather, fence, ferry, garden, glacier, hammer, harbor, harvest, hedge, "
    "island, kettle, ladder, lantern, lemon, lizard, magnet, maple, marble, meadow, mirror, orchard, otter, paddle, "
    "pebble, pepper, pillow, planet, pocket, ribbon, river, saddle, sparrow, spoon, stable, summit, thimble, thunder, "
    "ticket, tunnel, turtle, valley, violin, walnut, whistle, willow, window"
)
_PEOPLE: Final = _parts(
    "the baker, the pilot, a neighbour, the old teacher, my cousin, the surveyor, a young painter, the night guard"
)
_DOINGS: Final = _parts(
    "carried, repaired, borrowed, painted, described, forgot, measured, found, sold, kept, wrapped, cleaned"
)
_PLACES: Final = _parts(
    "near the market, behind the station, at the edge of the town, in the upper hall, beside the canal, "
    "on the second floor, under the stairs, across the square"
)
_TIMES: Final = _parts(
    "In the morning, Before the rain, Late in spring, After the meeting, On the third day, At noon, Some years ago, "
    "Every winter"
)
_SYLLABLES: Final = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def prose_sentence(rng: random.Random) -> str:
    """Return a sentence of a story that goes nowhere; there are about 35 million."""
    quality, thing = rng.choice(_QUALITIES), rng.choice(_THINGS)
    return f"{rng.choice(_TIMES)}, {rng.choice(_PEOPLE)} {rng.choice(_DOINGS)} the {quality} {thing} {rng.choice(_PLACES)}."


def number(rng: random.Random) -> str:
    """Return a number of seven digits."""
    return str(rng.randint(1_000_000, 9_999_999))


def name(rng: random.Random) -> str:
    """Return two words with a hyphen."""
    return f"{rng.choice(_QUALITIES)}-{rng.choice(_THINGS)}"


def uuid(rng: random.Random) -> str:
    """Return a random identifier in the form of UUID version 4 (RFC 9562): the digits that the form fixes are fixed."""
    digits = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def coined_word(rng: random.Random) -> str:
    """Return a word of three syllables that means nothing; there are 343,000."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(3))


def letters(rng: random.Random, n: int, alphabet: str) -> str:
    """Return random letters."""
    return "".join(rng.choice(alphabet) for _ in range(n))


def distinct(draw: Draw, n: int, rng: random.Random, but: Collection[str] = ()) -> list[str]:
    """Return `n` different texts, in the order they were drawn, none of them in `but`."""
    found: dict[str, None] = {}
    while len(found) < n:
        text = draw(rng)
        if text not in but:
            found[text] = None
    return list(found)


def n_words(text: str) -> int:
    """Return the length of a text: words between blanks."""
    return len(text.split())
