"""What a prompt is about: the scene, the palette and the overlay that its words choose.

A prompt without known words gets all three from its hash. The seed decides the rest, so that no two
clips look alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sora_dagster.sandbox.drawing import overlays, scenes
from sora_dagster.sandbox.drawing.layers import Layer, Stage
from sora_dagster.sandbox.drawing.palettes import PALETTES, Palette

_Choice = TypeVar("_Choice")

# Draws the layers of a scene, or those that a remix adds.
Painter = Callable[[Stage, Palette, np.random.Generator], list[Layer]]


@dataclass(frozen=True)
class Subject:
    """A prompt and the seed of one result."""

    prompt: str
    seed: int

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers that the same subject always gets for the same purpose."""
        text = f"{purpose}\n{self.seed}\n{self.prompt}".encode()
        return np.random.default_rng(list(hashlib.sha256(text).digest()))


# Each scene: the words that choose it, and the palettes that suit it.
_SCENES: Mapping[Painter, tuple[str, str]] = {
    scenes.hills: (
        "hill mountain valley desert dune canyon landscape meadow field volcano cliff horizon "
        "alpine peak savanna prairie glacier countryside arctic polar northern aurora winter ice "
        "snow cabin",
        "dawn sunset noon autumn lilac arctic rose desert emerald night",
    ),
    scenes.sea: (
        "sea ocean wave lake river shore beach coast sail boat ship harbor harbour island water "
        "surf lighthouse skiff lagoon fjord",
        "dawn sunset noon lilac rose lagoon storm night",
    ),
    scenes.city: (
        "city street skyline building tower neon urban town rooftop traffic downtown metropolis "
        "cyberpunk car robot train station market",
        "neon night sunset dawn lilac storm",
    ),
    scenes.forest: (
        "forest tree jungle woods mangrove bamboo pine leaf leaves fern garden grove moss "
        "orchard wolf fox deer",
        "emerald autumn dawn storm lilac arctic",
    ),
    scenes.underwater: (
        "underwater fish reef coral whale dolphin jellyfish submarine diver kelp octopus "
        "turtle deep-sea aquarium",
        "lagoon noon emerald arctic lilac",
    ),
    scenes.space: (
        "space planet galaxy star stars moon nebula astronaut rocket orbit cosmic comet "
        "spaceship satellite alien",
        "night neon lilac sunset lagoon autumn",
    ),
    scenes.bokeh: (
        "abstract bokeh light lights particles dance music party close-up macro portrait "
        "studio food coffee product logo dream",
        " ".join(PALETTES),
    ),
}

_PALETTES: Mapping[tuple[str, ...], str] = {
    ("sunset", "dawn"): "sunset dusk evening golden warm fire amber",
    ("dawn", "rose"): "dawn sunrise morning pastel soft blossom cherry spring",
    ("noon", "lagoon"): "noon day summer bright clear sunny tropical beach",
    ("night", "neon"): "night midnight dark moonlit moonlight stars",
    ("neon", "lilac"): "neon cyberpunk futuristic synthwave glowing violet purple",
    ("autumn", "desert"): "autumn fall october rust desert sand dune canyon savanna",
    ("arctic", "storm"): "winter snow ice frozen arctic polar glacier frost",
    ("storm", "emerald"): "storm rain fog mist monsoon grey gray cloudy thunder",
    ("emerald", "lagoon"): "green emerald moss turquoise teal bioluminescent lush",
    ("lilac", "rose"): "dream fantasy magic lavender romantic love",
}

_OVERLAYS: Mapping[Painter, str] = {
    overlays.snow: "snow winter blizzard ice frost frozen",
    overlays.rain: "rain storm monsoon wet downpour thunder",
    overlays.lanterns: "lantern firefly fireflies night candle sparks glow embers festival fire",
    overlays.rays: "sun golden light rays beam morning sunrise god heaven bright",
    overlays.birds: "bird birds flock gull crow fly flying wing dragon",
}


def scene_of(subject: Subject) -> Painter:
    """The scene that is painted for a subject."""
    words = {scene: words for scene, (words, _) in _SCENES.items()}
    return _named(subject.prompt, words) or _any(list(_SCENES), subject.random("scene"))


def palette_of(subject: Subject, scene: Painter) -> Palette:
    """The colours that a subject's scene is painted in."""
    suitable = _SCENES[scene][1].split()
    named = [name for name in _named(subject.prompt, _PALETTES) or () if name in suitable]
    random = subject.random("palette")
    return PALETTES[_any(named or suitable, random)].turned(float(random.uniform(-22, 22)))


def remix_palette_of(subject: Subject) -> Palette:
    """The colours that a remix moves its parent's towards."""
    random = subject.random("palette")
    names = _named(subject.prompt, _PALETTES) or tuple(PALETTES)
    return PALETTES[_any(list(names), random)].turned(float(random.uniform(-22, 22)))


def overlay_of(subject: Subject) -> Painter:
    """The layer that a remix adds."""
    return _named(subject.prompt, _OVERLAYS) or _any(list(_OVERLAYS), subject.random("overlay"))


def _any(choice: list[_Choice], random: np.random.Generator) -> _Choice:
    return choice[int(random.integers(len(choice)))]


def _named(prompt: str, vocabulary: Mapping[_Choice, str]) -> _Choice | None:
    found = re.findall(r"[a-z][a-z\-]+", prompt.lower())
    best, best_hits = None, 0
    for meaning, words in vocabulary.items():
        known = set(words.split())
        hits = sum(1 for word in found if word in known or word.removesuffix("s") in known)
        if hits > best_hits:
            best, best_hits = meaning, hits
    return best
