"""Named formats of Kubernetes: format.dns1123Label().validate(text) yields the list of faults, or none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from kube.cel import types
from kube.cel.compare import register_equality
from kube.cel.errors import SelectorFault
from kube.cel.lib.urls import check
from kube.cel.values import NOTHING, KubernetesValue, Optional, Value, register

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_UUID = "[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))")
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_DNS1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character"
)

Faults = list[str]


def _rule(rule: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"


def _too_long(text: str, most: int) -> Faults:
    return [f"must be no more than {most} bytes"] if len(text.encode(errors="replace")) > most else []


def _label(text: str) -> Faults:
    faults = _too_long(text, 63)
    if not re.fullmatch(_LABEL, text):
        dotted = re.fullmatch(_SUBDOMAIN, text)
        faults.append("must not contain dots" if dotted else _rule(_LABEL_RULE, _LABEL, "my-name", "123-abc"))
    return faults


def _subdomain(text: str) -> Faults:
    faults = _too_long(text, 253)
    if not re.fullmatch(_SUBDOMAIN, text):
        faults.append(_rule(_SUBDOMAIN_RULE, _SUBDOMAIN, "example.com"))
    return faults


def _dns1035(text: str) -> Faults:
    faults = _too_long(text, 63)
    if not re.fullmatch(_DNS1035, text):
        faults.append(_rule(_DNS1035_RULE, _DNS1035, "my-name", "abc-123"))
    return faults


def _qualified(text: str) -> Faults:
    parts = text.split("/")
    examples = ("MyName", "my.name", "123-abc")
    faults: Faults = []
    if len(parts) > 2:
        whole = "a valid label key " + _rule(_QUALIFIED_RULE, _QUALIFIED, *examples)
        return [whole + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if len(parts) == 2:
        if not parts[0]:
            faults.append("prefix part must be non-empty")
        else:
            faults += [f"prefix part {fault}" for fault in _subdomain(parts[0])]
    name = parts[-1]
    if not name:
        faults.append("name part must be non-empty")
    else:
        faults += [f"name part {fault}" for fault in _too_long(name, 63)]
    if not re.fullmatch(_QUALIFIED, name):
        faults.append("name part " + _rule(_QUALIFIED_RULE, _QUALIFIED, *examples))
    return faults


def _label_value(text: str) -> Faults:
    faults = _too_long(text, 63)
    if not re.fullmatch(_VALUE, text):
        faults.append(_rule(_VALUE_RULE, _VALUE, "MyValue", "my_value", "12345"))
    return faults


def _prefix(faults: Callable[[str], Faults]) -> Callable[[str], Faults]:
    """Allow a dash at the end, as of a name that is going to be completed."""
    return lambda text: faults(text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text)


def _uri(text: str) -> Faults:
    try:
        check(text, request=True)
    except SelectorFault as fault:
        return [str(fault)]
    return []


def _unless(holds: Callable[[str], bool], fault: str) -> Callable[[str], Faults]:
    return lambda text: [] if holds(text) else [fault]


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    year, month, day = map(int, text.split("-"))
    try:
        date(year or 400, month, day)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    parts = text.lower().split("t")
    if len(parts) < 2 or not _is_date(parts[0]):
        return False
    found = _CLOCK.fullmatch(parts[1])
    return found is not None and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


@dataclass(frozen=True, slots=True)
class Format(KubernetesValue):
    """A format. `regex_size` is what its cost is counted from."""

    name: str
    faults: Callable[[str], Faults]
    regex_size: int


_UUID_SIZE, _CLOCK_SIZE = len(f"(?i)^{_UUID}$"), len(f"^{_CLOCK.pattern}$")
FORMATS = {
    "dns1123Label": Format("DNS1123Label", _label, 30),
    "dns1123Subdomain": Format("DNS1123Subdomain", _subdomain, 60),
    "dns1035Label": Format("DNS1035Label", _dns1035, 30),
    "qualifiedName": Format("QualifiedName", _qualified, 60),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", _prefix(_label), 30),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", _prefix(_subdomain), 60),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", _prefix(_dns1035), 30),
    "labelValue": Format("LabelValue", _label_value, 40),
    "uri": Format("URI", _uri, 1103),
    "uuid": Format(
        "uuid",
        _unless(
            lambda text: re.fullmatch(_UUID, text, re.IGNORECASE | re.ASCII) is not None,
            "does not match the UUID format",
        ),
        _UUID_SIZE,
    ),
    "byte": Format("byte", _unless(lambda text: _BASE64.fullmatch(text) is not None, "invalid base64"), 84),
    "date": Format("date", _unless(_is_date, "invalid date"), _CLOCK_SIZE),
    "datetime": Format("datetime", _unless(_is_date_time, "invalid datetime"), _CLOCK_SIZE),
}


def _validate(named: Format, text: str) -> Optional:
    faults = named.faults(text)
    return Optional((tuple(faults),)) if faults else NOTHING


def _equal(one: Value, two: Value) -> bool:
    if type(two) is not Format:
        raise SelectorFault("no such overload: == of a format and something else")
    return bool(one.name == two.name)


def _constant(named: Format) -> Callable[[], Format]:
    return lambda: named


register(Format, types.FORMAT)
register_equality(Format, _equal)

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    **{f"format.{name}": _constant(named) for name, named in FORMATS.items()},
    "format-validate": _validate,
    "format-named": lambda name: Optional((FORMATS[name],)) if name in FORMATS else NOTHING,
}
