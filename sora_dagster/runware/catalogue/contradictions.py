"""What in a catalogue entry contradicts something else in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sora_dagster.runware.catalogue.conditions import GIVEN, MISSING, Condition, Scalar
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import (
    FIELD_NAMES,
    REQUEST_FIELDS,
    AudioSwitch,
    RemixWay,
    Setting,
    shown_value,
)
from sora_dagster.runware.catalogue.prices import Rate
from sora_dagster.runware.catalogue.sizes import parse_size
from sora_dagster.runware.errors import Problem
from sora_dagster.user_files.problems import did_you_mean

# Set by every request, or derived from others: a rule cannot forbid or require them.
_ALWAYS_SET = ("positivePrompt", "numberResults", "outputFormat", "tier", "audio")


@dataclass(frozen=True)
class Contradiction:
    """A contradiction inside an entry.

    Arguments:
        path: the part of the entry, by names and indexes.
        message: what contradicts what.
    """

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.message}"


def path_text(path: Sequence[str | int]) -> str:
    """A part of an entry in words; items of lists count from 1."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)


def contradictions(entry: VideoModel) -> list[Contradiction]:
    """All contradictions of an entry."""
    return [
        *_of_sizes(entry),
        *_of_texts_and_inputs(entry),
        *_of_settings(entry),
        *_of_rules(entry),
        *_of_default_request(entry),
        *_of_remixes(entry),
        *_of_prices(entry),
    ]


def _of_sizes(entry: VideoModel) -> Iterator[Contradiction]:
    if entry.sizes and entry.size_rule is not None:
        yield Contradiction(("size_rule",), "sizes and size_rule cannot be combined; remove one")
    seen: set[object] = set()
    for tier, sizes in entry.sizes.items():
        for index, size in enumerate(sizes):
            if size in seen:
                yield Contradiction(("sizes", tier, index), f"{size} is listed twice")
            seen.add(size)
    for index, tier in enumerate(entry.resolutions):
        if tier in entry.resolutions[:index]:
            yield Contradiction(("resolutions", index), f"{tier!r} is listed twice")
    rule = entry.size_rule
    if rule is not None and rule.min > rule.max:
        yield Contradiction(("size_rule",), f"min {rule.min} is above max {rule.max}")
    if entry.default_size is not None and not entry.allows_size(entry.default_size):
        yield Contradiction(
            ("default_size",),
            f"{entry.default_size} is not an allowed size; allowed: {entry.sizes_text}",
        )
    if entry.default_resolution is not None and entry.default_resolution not in entry.tiers:
        yield Contradiction(
            ("default_resolution",), f"there is no tier {entry.default_resolution!r}{_tiers(entry)}"
        )


def _of_texts_and_inputs(entry: VideoModel) -> Iterator[Contradiction]:
    for field, text in (("prompt", entry.prompt), ("negative_prompt", entry.negative_prompt)):
        if text is not None and text.min > text.max:
            yield Contradiction((field,), f"min {text.min} is above max {text.max}")
    for name, limits in entry.inputs.items():
        for unit, low, high in (
            ("pixels", limits.min_pixels, limits.max_pixels),
            ("seconds", limits.min_seconds, limits.max_seconds),
        ):
            if low is not None and high is not None and low > high:
                yield Contradiction(
                    ("inputs", name), f"min_{unit} {low:g} is above max_{unit} {high:g}"
                )


def _of_settings(entry: VideoModel) -> Iterator[Contradiction]:
    if isinstance(entry.audio, AudioSwitch):
        setting = entry.settings.get(entry.audio.setting)
        if setting is None or setting.type != "boolean":
            yield Contradiction(
                ("audio",), f"{entry.audio.setting!r} is not a boolean of settings; add it there"
            )
        elif setting.default is not None and setting.default != entry.audio.default:
            yield Contradiction(
                ("audio",),
                f"the default is {shown_value(entry.audio.default)}, but that of the setting is "
                f"{shown_value(setting.default)}",
            )
    for name, setting in entry.settings.items():
        path = ("settings", name)
        if setting.at == "request" and name in REQUEST_FIELDS:
            yield Contradiction(
                path, f"{name} is a field of every request, not a setting; remove it from settings"
            )
        if setting.min is not None and setting.max is not None and setting.min > setting.max:
            yield Contradiction(path, f"min {setting.min:g} is above max {setting.max:g}")
        of_type = Setting(type=setting.type)
        for value in setting.values:
            if (allowed := of_type.problem(value)) is not None:
                yield Contradiction(
                    (*path, "values"), f"{shown_value(value)} is not allowed; allowed: {allowed}"
                )
        if setting.default is not None and (allowed := setting.problem(setting.default)):
            yield Contradiction(
                (*path, "default"),
                f"{shown_value(setting.default)} is not allowed; allowed: {allowed}",
            )


def _of_rules(entry: VideoModel) -> Iterator[Contradiction]:
    for index, rule in enumerate(entry.rules):
        path = ("rules", index)
        yield from _unknown_names(entry, rule.fields, path)
        yield from _condition_of(entry, rule.if_, (*path, "if"))
        for name in (*rule.at_most_one_of, *rule.exactly_one_of, *rule.forbid, *rule.require):
            if name in _ALWAYS_SET:
                yield Contradiction(path, f"{name!r} may stand only in 'if' and in 'allow'")
        if both := set(rule.forbid) & set(rule.require):
            yield Contradiction(
                path, f"{', '.join(sorted(both))} is both forbidden and required; remove one"
            )
        for name in rule.require:
            if not _takes(entry, name):
                yield Contradiction(path, f"{name} is required, but the model does not take it")
        if rule.exactly_one_of and not any(_takes(entry, name) for name in rule.exactly_one_of):
            listed = ", ".join(rule.exactly_one_of)
            yield Contradiction(path, f"one of {listed} is required, but the model takes none")
        for name, allowed in rule.allow.items():
            if not _allows_any(entry, name, allowed):
                listed = str(allowed) if isinstance(allowed, NumberRule) else _listed(allowed)
                yield Contradiction(
                    (*path, "allow", name),
                    f"the model allows no {name} of {listed}",
                )
        for name in rule.max_items:
            if name.removeprefix("inputs.") not in entry.inputs:
                yield Contradiction(
                    (*path, "max_items", name), f"the model accepts no {name}; remove it"
                )
        if not rule.if_ and "duration" in rule.forbid and entry.durations is not None:
            yield Contradiction(path, "duration is forbidden, but there are durations")


def _of_default_request(entry: VideoModel) -> Iterator[Contradiction]:
    """The request of a clip that sets nothing but its prompt."""
    fields = _base_fields(entry)
    if entry.default_size is not None:
        fields |= {"size": entry.default_size, "tier": entry.tier_of(entry.default_size)}
    if entry.durations is not None:
        fields["duration"] = entry.durations.default
    places = {"width": ("default_size",), "duration": ("durations", "default")}
    for problem in entry.field_rules.broken(_set(fields)):
        # What is missing, such as the video of a model that edits, a row or a recipe sets.
        if problem.field in places and problem.value != "not given":
            yield Contradiction(
                places[problem.field], f"a request with the defaults is refused: {problem.message}"
            )


def _of_remixes(entry: VideoModel) -> Iterator[Contradiction]:
    for mode, way in entry.remix.items():
        path = ("remix", mode)
        found = list(_of_remix_way(entry, way, path))
        yield from found
        if found:
            continue
        settings = set(map(entry.setting_field, entry.settings))
        for problem in _closest_problems(entry, way):
            # A recipe may set settings that the way leaves out.
            if problem.field not in settings or problem.value != "not given":
                yield Contradiction(path, f"its request is refused: {problem.message}")


def _of_remix_way(
    entry: VideoModel, way: RemixWay, path: tuple[str, str]
) -> Iterator[Contradiction]:
    if way.input not in entry.inputs:
        yield Contradiction(path, f"the model does not accept inputs.{way.input}")
    for name, value in way.settings.items():
        setting = entry.settings.get(name)
        if setting is None:
            yield Contradiction(
                (*path, "settings", name),
                f"there is no such setting{did_you_mean(name, list(entry.settings))}",
            )
        elif (allowed := setting.problem(value)) is not None:
            yield Contradiction(
                (*path, "settings", name),
                f"{shown_value(value)} is not allowed; allowed: {allowed}",
            )
    place = (*path, "duration")
    if way.duration != "none" and entry.durations is None:
        yield Contradiction(place, "the model takes no duration")
    elif (
        (isinstance(way.duration, float) or way.duration == "auto")
        and entry.durations is not None
        and not entry.durations.allows_duration(way.duration)
    ):
        yield Contradiction(
            place, f"{shown_value(way.duration)} is not allowed; allowed: {entry.durations}"
        )
    if way.size == "parent" and not entry.takes_size:
        yield Contradiction((*path, "size"), "the model takes no size")
    if way.size == "resolution" and not entry.resolutions:
        yield Contradiction((*path, "size"), "the model takes no resolution")


def _closest_problems(entry: VideoModel, way: RemixWay) -> list[Problem]:
    """The problems of the best request that the way can make. Empty: one is accepted."""
    durations: Sequence[object] = (None,)
    if entry.durations is not None:
        numbers = entry.durations
        durations = {
            "none": (None,),
            "default": (numbers.default,),
            "parent": _samples(numbers),
        }.get(str(way.duration), (way.duration,))
    sizes: list[Mapping[str, object]] = [{}]
    if way.size == "parent":
        sizes = [{"size": True, "tier": tier} for tier in entry.tiers]
    elif way.size == "resolution":
        sizes = [{"resolution": tier, "tier": tier} for tier in entry.resolutions]
    given = {entry.setting_field(name): value for name, value in way.settings.items()}
    base = {**_base_fields(entry), **given, "inputs": True, f"inputs.{way.input}": ("",)}
    found = [
        list(entry.field_rules.broken(_set({**base, **size, "duration": duration})))
        for size in sizes
        for duration in durations
    ]
    return min(found, key=len)


def _samples(numbers: NumberRule) -> Sequence[float]:
    """Allowed numbers, enough to find one that a rule allows."""
    if numbers.values:
        return numbers.values
    span = numbers.highest - numbers.lowest
    count = max(min(int(span / numbers.step + 1e-9), 1000), 1)
    return [numbers.nearest(numbers.lowest + span * part / count) for part in range(count + 1)]


def _of_prices(entry: VideoModel) -> Iterator[Contradiction]:
    rates = entry.prices.rates
    for index, rate in enumerate(rates):
        path = ("prices", "rates", index)
        yield from _unknown_names(entry, rate.if_, path)
        yield from _condition_of(entry, rate.if_, (*path, "if"))
        for name, values in rate.if_.items():
            if name == "size" and not {GIVEN, MISSING}.issuperset(values):
                # The size of an input may be unknown; a price of its tier still has a highest one.
                yield Contradiction(
                    (*path, "if", name), "prices depend on tiers, not on sizes; name the tier"
                )
            elif not any(_can_be(entry, name, value) for value in values):
                yield Contradiction(
                    (*path, "if", name),
                    f"the rate never counts: {name} is never {_listed(values)} for this model",
                )
        earlier = next((i for i in range(index) if _covers(rates[i], rate)), None)
        if earlier is not None:
            yield Contradiction(
                path,
                f"the rate never counts, since rate {earlier + 1} counts first; put special rates "
                f"before general ones",
            )
    if entry.prices.certainty == "unknown":
        return
    for tier in entry.tiers or (None,):
        for audio in _sounds(entry):
            if not any(_may_count(rate, {"tier": tier, "audio": audio}) for rate in rates):
                parts = [] if tier is None else [f"tier {tier!r}"]
                parts += [f"audio {str(audio).lower()}"] * (len(_sounds(entry)) > 1)
                yield Contradiction(("prices",), f"there is no rate for {' with '.join(parts)}")


def _covers(earlier: Rate, later: Rate) -> bool:
    """Whether the earlier rate counts whenever the later one would."""
    for name, values in earlier.if_.items():
        narrower = later.if_.get(name)
        if narrower is None:
            return False
        is_given = GIVEN in values and MISSING not in narrower
        if not is_given and not set(narrower) <= set(values):
            return False
    return True


def _may_count(rate: Rate, fields: Mapping[str, object]) -> bool:
    return all(
        name not in rate.if_ or value is None or value in rate.if_[name]
        for name, value in fields.items()
    )


def _sounds(entry: VideoModel) -> tuple[bool, ...]:
    return (True, False) if entry.has_audio_switch else (entry.makes_sound(),)


def _unknown_names(
    entry: VideoModel, names: Iterator[str] | Mapping[str, object], path: tuple[str | int, ...]
) -> Iterator[Contradiction]:
    known = [*FIELD_NAMES, *map(entry.setting_field, entry.settings)]
    for name in dict.fromkeys(names):
        if name not in known:
            yield Contradiction(path, f"there is no field {name!r}{did_you_mean(name, known)}")


def _condition_of(
    entry: VideoModel, condition: Condition, path: tuple[str | int, ...]
) -> Iterator[Contradiction]:
    for name, values in condition.items():
        if GIVEN in values and MISSING in values:
            yield Contradiction(
                (*path, name), f"{name} is always either given or missing; remove it from 'if'"
            )
        for value in values:
            if value in (GIVEN, MISSING):
                continue
            if name.startswith("inputs") or (name == "size" and not _is_size(entry, value)):
                allowed = (
                    "given, missing" if name != "size" else f"given, missing, {entry.sizes_text}"
                )
                yield Contradiction(
                    (*path, name),
                    f"{name} is never {shown_value(value)}; allowed: {allowed}",
                )
            if name in ("tier", "resolution") and value not in entry.tiers:
                yield Contradiction((*path, name), f"there is no tier {value!r}{_tiers(entry)}")


def _can_be(entry: VideoModel, name: str, value: Scalar) -> bool:
    """Whether a field may have a value in any request."""
    if name == "audio":
        return value in _sounds(entry)
    if value == MISSING:
        return name not in _ALWAYS_SET or name == "tier"
    if not _takes(entry, name):
        return False
    return value == GIVEN or _allows_any(entry, name, (value,))


def _allows_any(entry: VideoModel, name: str, allowed: NumberRule | tuple[Scalar, ...]) -> bool:
    """Whether the model allows any of the values for a field."""
    numbers = {"duration": entry.durations, "fps": entry.fps, "seed": entry.seed}.get(name)
    if isinstance(allowed, NumberRule):
        return numbers is None or any(map(allowed.allows, _samples(numbers)))
    if numbers is not None:
        auto = entry.durations is not None and entry.durations.auto and "auto" in allowed
        return (name == "duration" and auto) or any(
            isinstance(value, (int, float)) and numbers.allows(value) for value in allowed
        )
    for setting_name, setting in entry.settings.items():
        if entry.setting_field(setting_name) == name:
            return any(setting.problem(value) is None for value in allowed)
    if name == "size":
        return any(_is_size(entry, value) for value in allowed)
    if name == "resolution":
        return any(value in entry.resolutions for value in allowed)
    return True


def _is_size(entry: VideoModel, value: Scalar) -> bool:
    try:
        size = parse_size(value)
    except ValueError:
        return False
    # Compared as text, so it has one spelling.
    return entry.allows_size(size) and str(size) == value


def _takes(entry: VideoModel, name: str) -> bool:
    """Whether requests may have a field at all. True for a name that no model has."""
    if name.startswith("inputs."):
        return name.removeprefix("inputs.") in entry.inputs
    taken: Mapping[str, object] = {
        "negativePrompt": entry.negative_prompt,
        "size": entry.takes_size,
        "resolution": entry.resolutions,
        "tier": entry.tiers,
        "duration": entry.durations,
        "seed": entry.seed,
        "fps": entry.fps,
        "inputs": entry.inputs,
    }
    return bool(taken.get(name, True))


def _base_fields(entry: VideoModel) -> dict[str, object]:
    return {
        "positivePrompt": "text",
        "numberResults": 1,
        "outputFormat": entry.output_formats[0],
        "audio": entry.makes_sound(),
    }


def _set(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _tiers(entry: VideoModel) -> str:
    return f"; tiers: {', '.join(entry.tiers) or 'none'}"


def _listed(values: Sequence[Scalar]) -> str:
    return " or ".join(map(shown_value, values))
