"""The functions that a device selector may call, as Kubernetes 1.36 declares them to CEL.

One line a function: its name, then its overloads `id(types) -> type`; a dot before the id marks a member call. The
order within a line is that in which overloads are tried. Sources: cel-go 0.26 common/stdlib, cel/library.go, ext;
k8s.io/apiserver pkg/cel/library; k8s.io/dynamic-resource-allocation cel.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kube.cel.types import Type, parse_types


class Overload(NamedTuple):
    """One signature of a function; `args` includes the target of a member call."""

    id: str
    member: bool
    args: tuple[Type, ...]
    result: Type


_COMPARED = ("bool", "int", "int,double", "int,uint", "uint", "uint,double", "uint,int")
_ORDERS = (*_COMPARED, "double", "double,int", "double,uint", "string", "bytes", "timestamp", "duration")
_ORDER_IDS = [
    "bool",
    "int64",
    "int64_double",
    "int64_uint64",
    "uint64",
    "uint64_double",
    "uint64_int64",
    "double",
    "double_int64",
    "double_uint64",
    "string",
    "bytes",
    "timestamp",
    "duration",
]
_COMPARABLE = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"]
_LONG = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}

_OPERATORS = """
_?_:_  conditional(bool, A, A) -> A
_&&_   logical_and(bool, bool) -> bool
_||_   logical_or(bool, bool) -> bool
!_     logical_not(bool) -> bool
@not_strictly_false  not_strictly_false(bool) -> bool
_==_   equals(A, A) -> bool
_!=_   not_equals(A, A) -> bool
_+_    add_bytes(bytes, bytes) -> bytes; add_double(double, double) -> double;
       add_duration_duration(duration, duration) -> duration;
       add_duration_timestamp(duration, timestamp) -> timestamp;
       add_timestamp_duration(timestamp, duration) -> timestamp; add_int64(int, int) -> int;
       add_list(list(A), list(A)) -> list(A); add_string(string, string) -> string; add_uint64(uint, uint) -> uint
_/_    divide_double(double, double) -> double; divide_int64(int, int) -> int; divide_uint64(uint, uint) -> uint
_%_    modulo_int64(int, int) -> int; modulo_uint64(uint, uint) -> uint
_*_    multiply_double(double, double) -> double; multiply_int64(int, int) -> int;
       multiply_uint64(uint, uint) -> uint
-_     negate_double(double) -> double; negate_int64(int) -> int
_-_    subtract_double(double, double) -> double; subtract_duration_duration(duration, duration) -> duration;
       subtract_int64(int, int) -> int; subtract_timestamp_duration(timestamp, duration) -> timestamp;
       subtract_timestamp_timestamp(timestamp, timestamp) -> duration; subtract_uint64(uint, uint) -> uint
_[_]   index_list(list(A), int) -> A; index_map(map(A, B), A) -> B;
       optional_list_index_int(optional_type(list(V)), int) -> optional_type(V);
       optional_map_index_value(optional_type(map(K, V)), K) -> optional_type(V)
_[?_]  list_optindex_optional_int(list(V), int) -> optional_type(V);
       optional_list_optindex_optional_int(optional_type(list(V)), int) -> optional_type(V);
       map_optindex_optional_value(map(K, V), K) -> optional_type(V);
       optional_map_optindex_optional_value(optional_type(map(K, V)), K) -> optional_type(V)
_?._   select_optional_field(dyn, string) -> optional_type(V)
@in    in_list(A, list(A)) -> bool; in_map(A, map(A, B)) -> bool
"""

_CONVERSIONS = """
type       type(A) -> type(A)
bool       bool_to_bool(bool) -> bool; string_to_bool(string) -> bool
bytes      bytes_to_bytes(bytes) -> bytes; string_to_bytes(string) -> bytes
double     double_to_double(double) -> double; int64_to_double(int) -> double; string_to_double(string) -> double;
           uint64_to_double(uint) -> double
duration   duration_to_duration(duration) -> duration; int64_to_duration(int) -> duration;
           string_to_duration(string) -> duration
dyn        to_dyn(A) -> dyn
int        int64_to_int64(int) -> int; double_to_int64(double) -> int; duration_to_int64(duration) -> int;
           string_to_int64(string) -> int; timestamp_to_int64(timestamp) -> int; uint64_to_int64(uint) -> int
string     string_to_string(string) -> string; bool_to_string(bool) -> string; bytes_to_string(bytes) -> string;
           double_to_string(double) -> string; duration_to_string(duration) -> string;
           int64_to_string(int) -> string; timestamp_to_string(timestamp) -> string;
           uint64_to_string(uint) -> string; ip_to_string(IP) -> string; cidr_to_string(CIDR) -> string
timestamp  timestamp_to_timestamp(timestamp) -> timestamp; int64_to_timestamp(int) -> timestamp;
           string_to_timestamp(string) -> timestamp
uint       uint64_to_uint64(uint) -> uint; double_to_uint64(double) -> uint; int64_to_uint64(int) -> uint;
           string_to_uint64(string) -> uint
"""

_STANDARD = """
size       size_bytes(bytes) -> int; .bytes_size(bytes) -> int; size_list(list(A)) -> int; .list_size(list(A)) -> int;
           size_map(map(A, B)) -> int; .map_size(map(A, B)) -> int; size_string(string) -> int;
           .string_size(string) -> int
contains   .contains_string(string, string) -> bool
endsWith   .ends_with_string(string, string) -> bool
startsWith .starts_with_string(string, string) -> bool
matches    matches(string, string) -> bool; .matches_string(string, string) -> bool
optional.of              optional_of(V) -> optional_type(V)
optional.ofNonZeroValue  optional_ofNonZeroValue(V) -> optional_type(V)
optional.none            optional_none() -> optional_type(V)
value      .optional_value(optional_type(V)) -> V
hasValue   .optional_hasValue(optional_type(V)) -> bool
or         .optional_or_optional(optional_type(V), optional_type(V)) -> optional_type(V)
orValue    .optional_orValue_value(optional_type(V), V) -> V
last       .list_last(list(V)) -> optional_type(V)
first      .list_first(list(V)) -> optional_type(V)
optional.unwrap  optional_unwrap(list(optional_type(V))) -> list(V)
unwrapOpt  .optional_unwrapOpt(list(optional_type(V))) -> list(V)
cel.@mapInsert   @mapInsert_map_key_value(map(K, V), K, V) -> map(K, V);
           @mapInsert_map_map(map(K, V), map(K, V)) -> map(K, V)
"""

_TEXT = """
charAt       .string_char_at_int(string, int) -> string
indexOf      .string_index_of_string(string, string) -> int; .string_index_of_string_int(string, string, int) -> int;
             .list_a_index_of_int(list(A), A) -> int
lastIndexOf  .string_last_index_of_string(string, string) -> int;
             .string_last_index_of_string_int(string, string, int) -> int; .list_a_last_index_of_int(list(A), A) -> int
lowerAscii   .string_lower_ascii(string) -> string
upperAscii   .string_upper_ascii(string) -> string
replace      .string_replace_string_string(string, string, string) -> string;
             .string_replace_string_string_int(string, string, string, int) -> string
split        .string_split_string(string, string) -> list(string);
             .string_split_string_int(string, string, int) -> list(string)
substring    .string_substring_int(string, int) -> string; .string_substring_int_int(string, int, int) -> string
trim         .string_trim(string) -> string
format       .string_format(string, list(dyn)) -> string
strings.quote  strings_quote(string) -> string
join         .list_join(list(string)) -> string; .list_join_string(list(string), string) -> string
find         .string_find_string(string, string) -> string
findAll      .string_find_all_string(string, string) -> list(string);
             .string_find_all_string_int(string, string, int) -> list(string)
"""

_LISTS = """
slice        .list_slice(list(T), int, int) -> list(T)
flatten      .list_flatten(list(list(T))) -> list(T); .list_flatten_int(list(dyn), int) -> list(dyn)
lists.range  lists_range(int) -> list(int)
reverse      .list_reverse(list(T)) -> list(T)
distinct     .list_distinct(list(T)) -> list(T)
sets.contains    list_sets_contains_list(list(T), list(T)) -> bool
sets.equivalent  list_sets_equivalent_list(list(T), list(T)) -> bool
sets.intersects  list_sets_intersects_list(list(T), list(T)) -> bool
"""

_KUBERNETES = """
quantity       string_to_quantity(string) -> Quantity
isQuantity     is_quantity_string(string) -> bool
sign           quantity_sign(Quantity) -> int
isGreaterThan  .quantity_is_greater_than(Quantity, Quantity) -> bool; .semver_is_greater_than(Semver, Semver) -> bool
isLessThan     .quantity_is_less_than(Quantity, Quantity) -> bool; .semver_is_less_than(Semver, Semver) -> bool
compareTo      .quantity_compare_to(Quantity, Quantity) -> int; .semver_compare_to(Semver, Semver) -> int
asApproximateFloat  .quantity_get_float(Quantity) -> double
asInteger      .quantity_get_int(Quantity) -> int
isInteger      .quantity_is_integer(Quantity) -> bool
add            .quantity_add(Quantity, Quantity) -> Quantity; .quantity_add_int(Quantity, int) -> Quantity
sub            .quantity_sub(Quantity, Quantity) -> Quantity; .quantity_sub_int(Quantity, int) -> Quantity
semver         string_to_semver(string) -> Semver; string_bool_to_semver(string, bool) -> Semver
isSemver       is_semver_string(string) -> bool; is_semver_string_bool(string, bool) -> bool
major          .semver_major(Semver) -> int
minor          .semver_minor(Semver) -> int
patch          .semver_patch(Semver) -> int
url            string_to_url(string) -> URL
isURL          is_url_string(string) -> bool
getScheme      .url_get_scheme(URL) -> string
getHost        .url_get_host(URL) -> string
getHostname    .url_get_hostname(URL) -> string
getPort        .url_get_port(URL) -> string
getEscapedPath .url_get_escaped_path(URL) -> string
getQuery       .url_get_query(URL) -> map(string, list(string))
ip             string_to_ip(string) -> IP; .cidr_ip(CIDR) -> IP
isIP           is_ip(string) -> bool
ip.isCanonical ip_is_canonical(string) -> bool
family         .ip_family(IP) -> int
isUnspecified  .ip_is_unspecified(IP) -> bool
isLoopback     .ip_is_loopback(IP) -> bool
isLinkLocalMulticast .ip_is_link_local_multicast(IP) -> bool
isLinkLocalUnicast   .ip_is_link_local_unicast(IP) -> bool
isGlobalUnicast      .ip_is_global_unicast(IP) -> bool
cidr           string_to_cidr(string) -> CIDR
isCIDR         is_cidr(string) -> bool
containsIP     .cidr_contains_ip_string(CIDR, string) -> bool; .cidr_contains_ip_ip(CIDR, IP) -> bool
containsCIDR   .cidr_contains_cidr_string(CIDR, string) -> bool; .cidr_contains_cidr(CIDR, CIDR) -> bool
prefixLength   .cidr_prefix_length(CIDR) -> int
masked         .cidr_masked(CIDR) -> CIDR
validate       .format-validate(Format, string) -> optional_type(list(string))
includes       .dra_includes_dyn_dyn(dyn, dyn) -> bool
format.named   format-named(string) -> optional_type(Format)
"""

# No selector has a value of these types; the names are taken all the same.
_AUTHORIZER = """
path           .authorizer_path(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.PathCheck
group          .authorizer_group(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.GroupCheck
serviceAccount .authorizer_serviceaccount(kubernetes.authorization.Authorizer, string, string) ->
               kubernetes.authorization.Authorizer
resource       .groupcheck_resource(kubernetes.authorization.GroupCheck, string) ->
               kubernetes.authorization.ResourceCheck
subresource    .resourcecheck_subresource(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.ResourceCheck
namespace      .resourcecheck_namespace(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.ResourceCheck
name           .resourcecheck_name(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.ResourceCheck
check          .pathcheck_check(kubernetes.authorization.PathCheck, string) -> kubernetes.authorization.Decision;
               .resourcecheck_check(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.Decision
errored        .decision_errored(kubernetes.authorization.Decision) -> bool
error          .decision_error(kubernetes.authorization.Decision) -> string
allowed        .decision_allowed(kubernetes.authorization.Decision) -> bool
reason         .decision_reason(kubernetes.authorization.Decision) -> string
fieldSelector  .authorizer_fieldselector(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.ResourceCheck
labelSelector  .authorizer_labelselector(kubernetes.authorization.ResourceCheck, string) ->
               kubernetes.authorization.ResourceCheck
"""

FORMAT_NAMES = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
]
TIME_PARTS = {
    "getFullYear": "year",
    "getMonth": "month",
    "getDayOfYear": "day_of_year",
    "getDayOfMonth": "day_of_month",
    "getDate": "day_of_month_1_based",
    "getDayOfWeek": "day_of_week",
    "getHours": "hours",
    "getMinutes": "minutes",
    "getSeconds": "seconds",
    "getMilliseconds": "milliseconds",
}
_OF_DURATION = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")


@cache
def functions() -> dict[str, tuple[Overload, ...]]:
    """Return the overloads by function."""
    found: dict[str, list[Overload]] = {}
    texts = (_OPERATORS, _CONVERSIONS, _STANDARD, _TEXT, _LISTS, _KUBERNETES, _AUTHORIZER)
    for line in [*(line for text in texts for line in _lines(text)), *_templates(), *_time()]:
        name, _, overloads = line.partition(" ")
        found.setdefault(name, []).extend(_overload(text) for text in overloads.split(";"))
    return {name: tuple(overloads) for name, overloads in found.items()}


def _lines(text: str) -> list[str]:
    joined: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _overload(text: str) -> Overload:
    call, _, result = text.strip().partition("->")
    name, _, args = call.strip().partition("(")
    inner = args.strip().removesuffix(")")
    return Overload(name.removeprefix("."), name.startswith("."), tuple(parse_types(inner)), parse_types(result)[0])


def _templates() -> list[str]:
    """Return the functions that are declared once per type."""
    lines: list[str] = []
    for function, prefix in {"_<_": "less", "_<=_": "less_equals", "_>_": "greater", "_>=_": "greater_equals"}.items():
        pairs = (kinds if "," in kinds else f"{kinds},{kinds}" for kinds in _ORDERS)
        ids = zip(_ORDER_IDS, pairs, strict=True)
        lines.append(f"{function} " + ";".join(f"{prefix}_{name}({kinds}) -> bool" for name, kinds in ids))
    for kind in _COMPARABLE:
        lines.append(f"isSorted .list_{kind}_is_sorted_bool(list({kind})) -> bool")
        lines += [f"{name} .list_{kind}_{name}_{kind}(list({kind})) -> {kind}" for name in ("min", "max")]
        lines.append(f"sort .list_{_LONG.get(kind, kind)}_sort(list({kind})) -> list({kind})")
        by = f"list_{_LONG.get(kind, kind)}_sortByAssociatedKeys"
        lines.append(f"@sortByAssociatedKeys .{by}(list(T), list({kind})) -> list(T)")
    lines += [f"sum .list_{kind}_sum_{kind}(list({kind})) -> {kind}" for kind in ("int", "uint", "double", "duration")]
    lines += [f"format.{name} format.{name}() -> Format" for name in FORMAT_NAMES]
    return lines


def _time() -> list[str]:
    """Return the functions that read parts of a timestamp, with or without a time zone, or of a duration."""
    lines: list[str] = []
    for name, part in TIME_PARTS.items():
        lines.append(f"{name} .timestamp_to_{part}(timestamp) -> int")
        lines.append(f"{name} .timestamp_to_{part}_with_tz(timestamp, string) -> int")
        if name in _OF_DURATION:
            lines.append(f"{name} .duration_to_{part}(duration) -> int")
    return lines
