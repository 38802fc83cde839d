"""How the rules between fields of an entry differ from those that Runware publishes now.

Rules can be written in many ways, so they are compared by what they allow: every combination of up
to three fields, with the values that rules may tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.parts import AudioSwitch, Setting, shown_value

_MOST_FIELDS = 3
_MOST_CHANGES = 5
_MOST_VALUES = 5
_GIVEN = "given"


def rule_changes(entry: VideoModel, published: VideoModel, *, is_complete: bool) -> Iterator[str]:
    """Combinations of fields that only one of the two allows, in words; the smallest ones.

    Arguments:
        entry: the entry.
        published: an entry made from what is published.
        is_complete: whether all published rules are in it. If not, what it allows proves nothing.
    """
    choices = dict(_choices(entry, published))
    found: list[frozenset[str]] = []
    for count in range(_MOST_FIELDS + 1):
        for names in combinations(choices, count):
            if any(known <= set(names) for known in found):
                continue
            for values in product(*(choices[name] for name in names)):
                sent = dict(zip(names, values, strict=True))
                is_ours = _allows(entry, sent)
                is_theirs = _allows(published, sent)
                if is_ours == is_theirs or (is_theirs and not is_complete):
                    continue
                found.append(frozenset(names))
                yield _text(sent, is_allowed=is_theirs)
                break
            if len(found) == _MOST_CHANGES:
                return


def _choices(entry: VideoModel, published: VideoModel) -> Iterator[tuple[str, list[Any]]]:
    """The fields that both entries know, with values that both allow."""
    sizes = [
        size
        for tier in entry.sizes
        for size in entry.sizes[tier][:1]
        if size in published.allowed_sizes
    ]
    if sizes:
        yield "size", sizes
    if tiers := [tier for tier in entry.resolutions if tier in published.resolutions]:
        yield "resolution", tiers
    if entry.durations is not None and published.durations is not None:
        ours, theirs = entry.durations, published.durations
        seconds = dict.fromkeys((ours.default, ours.lowest, ours.highest, *ours.values[:3]))
        both = [value for value in seconds if theirs.allows_duration(value)]
        yield "duration", [*both, *["auto"] * (ours.auto and theirs.auto)][:_MOST_VALUES]
    for name in ("seed", "fps"):
        rule, other = getattr(entry, name), getattr(published, name)
        if rule is not None and other is not None:
            values = [value for value in rule.values or (rule.lowest,) if other.allows(value)]
            yield name, values[:_MOST_VALUES]
    for input_name in entry.inputs:
        if input_name in published.inputs:
            yield f"inputs.{input_name}", [_GIVEN]
    for name, setting in entry.settings.items():
        if name in published.settings and setting.at == published.settings[name].at:
            yield entry.setting_field(name), _values(setting)[:_MOST_VALUES]


def _values(setting: Setting) -> list[Any]:
    if setting.values:
        return list(setting.values)
    if setting.type == "boolean":
        return [True, False]
    return [_GIVEN if setting.min is None else setting.min]


def _allows(entry: VideoModel, sent: Mapping[str, Any]) -> bool:
    fields: dict[str, Any] = {**sent, "positivePrompt": _GIVEN, "numberResults": 1}
    if any(name.startswith("inputs.") for name in sent):
        fields["inputs"] = True
    tier = entry.tier_of(sent["size"]) if "size" in sent else sent.get("resolution")
    if tier is not None:
        fields["tier"] = tier
    fields["audio"] = entry.makes_sound()
    if isinstance(entry.audio, AudioSwitch):
        switch = entry.setting_field(entry.audio.setting)
        fields["audio"] = sent.get(switch, fields["audio"])
    return not any(True for _ in entry.field_rules.broken(fields))


def _text(sent: Mapping[str, Any], *, is_allowed: bool) -> str:
    parts = [
        name if value == _GIVEN else f"{name} {shown_value(value)}" for name, value in sent.items()
    ]
    what = f"a request with {' and '.join(parts)}" if parts else "a request with a prompt only"
    if is_allowed:
        return f"rules: {what} is allowed now; the entry refuses it"
    return f"rules: {what} is not allowed now; the entry allows it"
