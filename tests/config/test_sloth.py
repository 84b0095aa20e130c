"""Sloth specifications: what is imported counts what the queries counted, and what cannot be is refused with a reason.

The files in `sloth/` are in Sloth's format (`pkg/prometheus/api/v1`, `pkg/kubernetes/api/sloth/v1`), with the shapes
of queries that its own examples have: getting-started, kubernetes-apiserver, grpc-server, k8s-multifile.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.openslo import load_configuration
from stream.config.promql import parse_query
from stream.config.sloth import Places, SlothFile, read_sloth
from stream.config.sloth_indicator import Part, read_indicator, read_total
from stream.config.sloth_openslo import openslo_text
from stream.core.columns import Kind
from stream.core.errors import ConfigError
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import Severity
from stream.core.slo.spec import Objective, SliSignal

HERE = Path(__file__).parent / "sloth"
PRODUCTION = Places(environment="production")
NOT_CLIENT = (Kind.UNSPECIFIED, Kind.INTERNAL, Kind.SERVER, Kind.PRODUCER, Kind.CONSUMER)
HTTP_5XX = tuple(str(code) for code in range(500, 600))
EVENTS = """\
version: prometheus/v1
service: checkout
slos:
  - name: availability
    objective: 99.9
    sli:
      events:
        error_query: {error}
        total_query: {total}
"""


def objective(name: str, target: str, metric: str, **more: Any) -> Objective:
    defaults: dict[str, Any] = {
        "service": "production/-/checkout",
        "window_minutes": 43200,
        "kinds": (),
        "signal": SliSignal.METRICS,
    }
    return Objective(name=name, target=target, metric=metric, **{**defaults, **more})


def imported(tmp_path: Path, found: SlothFile) -> list[Objective]:
    """Returns what `qma apply` makes of the OpenSLO text of the SLOs that were read."""
    path = tmp_path / "openslo.yaml"
    path.write_text("".join(openslo_text(slo, window="30d") for slo in found.slos))
    return list(load_configuration([path], now_ns=0).objectives)


def read(tmp_path: Path, text: str, places: Places = PRODUCTION) -> SlothFile:
    path = tmp_path / "sloth.yml"
    path.write_text(text)
    return read_sloth(path, places)


def lines(found: SlothFile) -> list[str]:
    return [re.sub(r"^.*/sloth\.yml:", "", str(problem)) for problem in found.problems]


def counted(labels: str, metric: str = "m_total") -> str:
    return f"sum(rate({metric}{{{labels}}}[{{{{.window}}}}]))"


@pytest.mark.parametrize(
    ("file", "objectives"),
    [
        (
            "http",
            [
                objective(
                    "checkout-requests-availability",
                    "0.999",
                    "http_request_duration_seconds",
                    bad_attributes=(("code", ("429", "500", "501", "502", "503")),),
                    alerting=Alerting(runbook="https://runbooks.example.com/checkout"),
                ),
                objective(
                    "checkout-requests-latency",
                    "0.95",
                    "http_request_duration_seconds",
                    duration_lte_ns=400_000_000,
                    without=(("verb", ("WATCH",)),),
                ),
            ],
        ),
        (
            "kubernetes",
            [
                objective(
                    "orders-grpc-availability",
                    "0.9995",
                    "grpc_server_handled_total",
                    service="production/-/orders-api",
                    good_attributes=(("grpc_code", ("OK",)),),
                ),
                objective(
                    "billing-invoices",
                    "0.99",
                    "invoices_total",
                    service="production/-/billing",
                    bad_metric="invoices_failed_total",
                ),
                objective(
                    "billing-exports",
                    "0.9",
                    "exports_total",
                    service="production/-/billing",
                    attributes=(("kind", ("pdf",)),),
                    good_metric="exports_finished_total",
                ),
            ],
        ),
        (
            "opentelemetry",
            [
                objective(
                    "checkout-http-server",
                    "0.999",
                    "http.server.request.duration",
                    service="production/shop/checkout",
                    attributes=(("http.request.method", ("GET", "POST")),),
                    bad_attributes=(("http.response.status_code", HTTP_5XX),),
                ),
                objective(
                    "checkout-old-http-server",
                    "0.999",
                    "http.server.duration",
                    attributes=(("http.request.method", ("GET",)),),
                    duration_lte_ns=250_000_000,
                ),
                objective(
                    "checkout-spans",
                    "0.99",
                    "calls",
                    kinds=(Kind.SERVER,),
                    bad_attributes=(("status.code", ("STATUS_CODE_ERROR",)),),
                ),
                objective(
                    "checkout-span-durations",
                    "0.99",
                    "traces.span.metrics.duration",
                    kinds=NOT_CLIENT,
                    duration_lte_ns=500_000_000,
                ),
                objective(
                    "checkout-utf-8-names",
                    "0.99",
                    "http.server.request.duration",
                    attributes=(("customer.tier", ("gold",)),),
                    bad_attributes=(("error.type", ("timeout",)),),
                ),
            ],
        ),
    ],
)
def test_what_is_imported_loads_as_objectives_that_count_the_same(
    file: str, objectives: list[Objective], tmp_path: Path
) -> None:
    found = read_sloth(HERE / f"{file}.yml", PRODUCTION)
    assert found.problems == []
    assert imported(tmp_path, found) == objectives


@pytest.mark.parametrize(
    ("error", "total", "counts"),
    [
        ('error!=""', "", {"good_attributes": (("error", ("!*",)),)}),
        ('error=~".+"', "", {"good_attributes": (("error", ("!*",)),)}),
        ('result=~"refused|"', "", {"bad_attributes": (("result", ("!*", "refused")),)}),
        ('a="1",tier!=""', 'tier!=""', {"without": (("tier", ("!*",)),), "bad_attributes": (("a", ("1",)),)}),
        ('a="1",tier!~".+"', 'tier=""', {"attributes": (("tier", ("!*",)),), "bad_attributes": (("a", ("1",)),)}),
    ],
)
def test_whether_there_is_a_label_at_all(error: str, total: str, counts: dict[str, Any], tmp_path: Path) -> None:
    # Source: Prometheus documentation, "Querying basics": a matcher of an empty value selects series without the label.
    found = read(tmp_path, EVENTS.format(error=f"'{counted(error)}'", total=f"'{counted(total)}'"))
    (one,) = imported(tmp_path, found)
    assert {name: getattr(one, name) for name in counts} == counts


def test_an_slo_that_cannot_be_expressed_is_one_line_and_the_others_stay(tmp_path: Path) -> None:
    found = read_sloth(HERE / "mixed.yml", Places())
    assert [str(problem).partition("mixed.yml:")[2].partition(";")[0] for problem in found.problems] == [
        "17:9: slos[1].sli.raw: a ratio cannot be counted",
        "22:9: slos[2].sli.plugin: a plugin's queries are not in this file",
        "33:18: slos[3].alerting.ticket_alert.disable: an SLO without any alert cannot be expressed",
    ]
    assert imported(tmp_path, found) == [
        objective(
            "wifi-joins",
            "0.95",
            "wifi_joins_total",
            service="home/-/wifi",
            bad_attributes=(("result", ("refused", "timeout")),),
        )
    ]


ALL, ONE = counted(""), counted('a="1"')
VALID = EVENTS.format(error=ONE, total=ALL)


@pytest.mark.parametrize(
    ("error", "total", "message"),
    [
        (counted('path=~"/api/.*"'), ALL, 'error_query: `path=~"/api/.*"` stands for values that cannot be listed'),
        (
            counted('code=~"5.."', "a_total"),
            ALL,
            "counts another metric than the total, with other labels",
        ),
        (counted('a="1",b!="2"'), ALL, "asks for labels that are something and, by `b`, for some that are not"),
        (counted('a!="1",b!="2"'), ALL, "asks for labels that are something and, by `a` or `b`"),
        (counted('a="*"'), ALL, "error_query: `*` means any value in an SLO, and not itself"),
        (counted('c="1",job=""'), counted('job=""'), "error_query: selects several services by `service.name`"),
        (counted('a="1",a="2"'), ALL, 'error_query: nothing can match `a="1"` and `a="2"`'),
        (ALL, ALL, "error_query: every event that the total counts is an error"),
        (counted('a="1"'), counted('a="2"'), "error_query: counts events that the total does not, by `a`"),
        (counted('b="1"'), counted('a="2"'), "error_query: counts events that the total does not, by `a`"),
        (f"{ALL} + {ALL}", ALL, "error_query: the arithmetic `+` cannot be expressed"),
        (ALL, f"{ALL} / {ALL}", "total_query: the arithmetic `/` cannot be expressed"),
        (f"{ALL} unless {ALL}", ALL, "error_query: the operator `unless` cannot be expressed"),
        (f"{ALL} or {ALL}", ALL, "error_query: the operator `or` cannot be expressed"),
        ("sum(errors:rate5m)", ALL, "error_query: `errors:rate5m` is a recording rule"),
        ("sum(rate(errors:total[{{.window}}]))", ALL, "error_query: `errors:total` is a recording rule"),
        ("sum(rate(m_total[5m]))", ALL, "error_query: counts over `5m` whatever the window is"),
        ("sum by (x) (rate(m_total[{{.window}}]))", ALL, "error_query: `sum by` has a result for each group"),
        ("sum(rate(m_total[{{.window}}])) by (x)", ALL, "error_query: `sum by` has a result for each group"),
        ("rate(m_total[{{.window}}])", ALL, "error_query: the function `rate` cannot be expressed outside of `sum`"),
        ("sum(irate(m_total[{{.window}}]))", ALL, "error_query: `irate` stands in `sum` where a rate"),
        ("sum(rate(m_total[{{.window}}] offset 1h))", ALL, "error_query: the modifier `offset` shifts time"),
        ('sum(rate(m_total{a="{{.sloService}}"}[{{.window}}]))', ALL, "a template other than `{{.window}}`"),
        ("histogram_quantile(0.9, m_bucket)", ALL, "a quantile counts no events"),
        ("sum(rate(m_total[{{.window}}]) > 0)", ALL, "error_query: the comparison `>` looks at values"),
        ("sum(rate(m_total", ALL, "error_query: the end of the query stands where `[` must be"),
        ("sum(increase(m_total[{{.window}}]))", ALL, "error_query: every event that the total counts is an error"),
        ('sum(increase(m_total{a="1"}[{{.window}}]))', ALL, "error_query: `increase` here and `rate` in another part"),
        (counted('le="1"', "m_seconds_bucket"), ALL, "error_query: the events up to a bound are counted as errors"),
        (counted("", "m_sum"), ALL, "error_query: `m_sum` adds up values and counts no events"),
        (counted("", "m_bucket"), ALL, "error_query: `m_bucket` cannot be counted so"),
        (ALL, counted('le="1"', "m_bucket"), "total_query: one bucket is not all events"),
        (ALL, f"{ALL} - {ALL}", "total_query: a difference cannot be expressed as all events"),
        (f"{ALL} - {ALL} - {ALL}", ALL, "error_query: more than one subtraction cannot be expressed"),
        (f"{ALL} - {ALL}", ALL, "error_query: every event that the total counts is good"),
        (f"{ONE} - {ALL}", ALL, "error_query: the good events are subtracted from something else"),
        (counted('service_name="a"'), ALL, "error_query: selects by `service.name` otherwise than the total"),
        (counted('job=~"a|b",c="1"'), counted('job=~"a|b"'), "error_query: selects several services by `service.name`"),
        (counted('x_y="1"', "calls_total"), counted("", "calls_total"), "may be the attribute `x.y` or `x_y`"),
        (counted('a="b'), ALL, "error_query: `a=` has no value in quotes"),
        ("(" * 1000, ALL, "error_query: brackets are nested deeper than 32 levels"),
    ],
)
def test_a_query_that_cannot_be_expressed_is_refused_at_its_place(
    error: str, total: str, message: str, tmp_path: Path
) -> None:
    found = read(tmp_path, EVENTS.format(error=f"'{error}'", total=f"'{total}'"))
    [line] = lines(found)
    assert message in line
    assert line.startswith(("8:22: slos[0].sli.events.error_query: ", "9:22: slos[0].sli.events.total_query: "))
    assert "; " in line
    assert found.slos == []


@pytest.mark.parametrize(
    ("bound", "of_metric", "message"),
    [
        ('le="fast"', "m_seconds", "is not one bound above 0"),
        ('le="0"', "m_seconds", "is not one bound above 0"),
        ('le=~"1|2"', "m_seconds", "is not one bound above 0"),
        ('le="1e-18"', "m_seconds", "is finer than a nanosecond"),
        ('le="1000000"', "m_seconds", "is longer than 7 days"),
        ('le="100"', "m_bytes", "`m_bytes` says no unit of time"),
        ('le="1",code="200"', "m_seconds", "good depends on a bound and on `code`"),
    ],
)
def test_a_bound_that_is_no_duration_is_refused(bound: str, of_metric: str, message: str) -> None:
    total = counted("", f"{of_metric}_count")
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_indicator(read_total(total), f"{total} - {counted(bound, f'{of_metric}_bucket')}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version: prometheus/v2\nservice: a\nslos: []\n", "1:10: version: `prometheus/v2` is not supported"),
        ("service: a\nslos: []\n", "1:1: version: is missing"),
        ("apiVersion: openslo/v1\nkind: SLO\n", "1:13: apiVersion: `openslo/v1` is no specification of Sloth"),
        (
            "apiVersion: sloth.slok.dev/v1\nkind: PrometheusServiceLevels\n",
            "2:7: kind: `PrometheusServiceLevels` is not known; did you mean `PrometheusServiceLevel`?",
        ),
        ("version: prometheus/v1\nslos: []\n", "1:1: service: is missing"),
        ("version: prometheus/v1\nservice: a\nslos: []\n", "1:1: file: holds no SLO"),
        ("", "1:1: file: holds no SLO"),
        (
            f"slo_plugins: {{chain: []}}\n{VALID}",
            "1:14: slo_plugins: plugins change what Sloth generates",
        ),
        (
            VALID.replace("99.9", "100"),
            "5:16: slos[0].objective: `100` leaves no error budget",
        ),
        (
            VALID.replace("99.9", f"99.{'9' * 40}"),
            f"5:16: slos[0].objective: `99.{'9' * 40}` has too many digits",
        ),
        (
            VALID.replace("objective", "objectiv"),
            "5:5: slos[0].objectiv: is not a known field; did you mean `objective`?",
        ),
    ],
)
def test_what_is_no_specification_is_refused_at_its_place(text: str, line: str, tmp_path: Path) -> None:
    found = read(tmp_path, text)
    assert [shown[: len(line)] for shown in lines(found)] == [line]
    assert found.slos == []


def test_two_slos_of_one_name_would_be_one_so_the_second_is_refused(tmp_path: Path) -> None:
    slos = VALID
    again = slos.partition("slos:\n")[2].replace("name: availability", "name: Availability!")
    found = read(tmp_path, slos + again)
    assert lines(found) == [
        "10:5: slo Availability!: becomes `checkout-availability`, as the one on line 4 does; rename it"
    ]
    assert [slo.name for slo in found.slos] == ["availability"]


def test_a_file_that_yaml_cannot_read_is_refused_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="anchors and aliases are refused"):
        read(tmp_path, f"{VALID}    labels: &labels {{a: b}}\n")
    with pytest.raises(ConfigError, match=r"missing\.yml cannot be read \(No such file or directory\)"):
        read_sloth(tmp_path / "missing.yml", PRODUCTION)


@pytest.mark.parametrize(
    ("matchers", "labels", "places", "key"),
    [
        ("", "{}", Places(environment="prod"), "prod/-/checkout"),
        ("", "{env: staging}", Places(), "staging/-/checkout"),
        ("", "{env: staging, service_namespace: shop}", Places(environment="prod"), "prod/shop/checkout"),
        ('env="dev",', "{env: staging}", Places(namespace="shop"), "dev/shop/checkout"),
        ('service_namespace="shop",job="x",', "{}", Places(environment="prod"), "prod/shop/x"),
    ],
)
def test_where_the_service_runs_is_said_by_queries_else_options_else_labels(
    matchers: str, labels: str, places: Places, key: str, tmp_path: Path
) -> None:
    text = EVENTS.format(error=counted(f'{matchers}a="1"'), total=counted(matchers.rstrip(",")))
    found = read(tmp_path, f"{text}    labels: {labels}\n", places)
    assert [one.service for one in imported(tmp_path, found)] == [key]


def test_an_environment_is_asked_for_and_must_not_contradict_the_queries(tmp_path: Path) -> None:
    text = EVENTS.format(error=counted('env="dev",a="1"'), total=counted('env="dev"'))
    assert lines(read(tmp_path, text)) == [
        "7:7: slos[0].sli: the queries name `dev`, not `production`; correct `--environment`"
    ]
    text = VALID
    [line] = lines(read(tmp_path, text, Places()))
    assert "neither the queries nor the labels name an environment; add `--environment production`" in line


def test_an_environment_that_no_telemetry_can_report_is_refused(tmp_path: Path) -> None:
    [line] = lines(read(tmp_path, VALID, Places(environment=" ")))
    assert "` ` cannot be a resource attribute" in line


def test_labels_links_and_what_alerts_carry_are_kept(tmp_path: Path) -> None:
    found = read_sloth(HERE / "http.yml", PRODUCTION)
    text = openslo_text(found.slos[0], window="28d")
    for kept in (
        "# errors: sum(rate(http_request_duration_seconds_count{job=",
        "    env: production\n",
        "    qma/runbook: https://runbooks.example.com/checkout\n",
        "    sloth.slok.dev/alerting.name: CheckoutErrors\n",
        "    sloth.slok.dev/alerting.page_alert.labels.severity: page\n",
        "  description: Customers can pay.\n",
        "    - duration: 28d\n",
        "    - targetPercent: 99.9\n",
    ):
        assert kept in text


def test_where_tickets_are_switched_off_only_the_pages_of_sloth_are_left(tmp_path: Path) -> None:
    found = read(tmp_path, f"{VALID}    alerting: {{ticketAlert: {{disable: true}}}}\n")
    assert found.problems == []
    [one] = imported(tmp_path, found)
    # Source: Sloth, internal windows for 30 days: 2 % of the budget in 1 h (and 5 min), 5 % in 6 h (and 30 min).
    assert [
        (rule.severity, rule.long_minutes, rule.short_minutes, rule.factor(43200)) for rule in one.alerting.rules
    ] == [
        (Severity.PAGE, 60, 5, Fraction("14.4")),
        (Severity.PAGE, 360, 30, 6),
    ]
    assert not one.alerting.at_least
    with pytest.raises(ConfigError, match="no alert that is left looks back as little as 1h"):
        openslo_text(replace(found.slos[0], silent=(Severity.PAGE,)), window="1h")


def test_texts_that_look_like_other_yaml_come_back_as_they_were(tmp_path: Path) -> None:
    text = EVENTS.format(error=counted('a=~"1e3|no|null|007|200|# x|true"'), total=ALL)
    found = read(tmp_path, f'{text}    description: "a: b\\n# c"\n    labels: {{x: 1e3, "y: z": "no"}}\n')
    [one] = imported(tmp_path, found)
    assert one.bad_attributes == (("a", ("# x", "007", "1e3", "200", "no", "null", "true")),)


LABELS = ("a", "b")
VALUES = ("x", "y", "z")
SERIES = [dict(zip(LABELS, values, strict=True)) for values in itertools.product(("", *VALUES), repeat=len(LABELS))]
MATCHERS = st.lists(
    st.tuples(
        st.sampled_from(LABELS),
        st.sampled_from(("=", "!=", "=~", "!~")),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True),
    ).map(lambda m: (m[0], m[1], "|".join(m[2] if "~" in m[1] else m[2][:1]))),
    max_size=3,
)


def matches(series: dict[str, str], matchers: list[tuple[str, str, str]]) -> bool:
    """PromQL: regular expressions are anchored, a label that is not there is empty."""
    return all((re.fullmatch(value, series[label]) is not None) == ("!" not in op) for label, op, value in matchers)


def has(series: dict[str, str], wanted: Any) -> list[bool]:
    return [series[name] in values for name, values in wanted]


@given(MATCHERS, MATCHERS, st.booleans())
def test_the_same_series_are_good_and_bad_as_in_prometheus(
    of_total: list[tuple[str, str, str]], further: list[tuple[str, str, str]], is_difference: bool
) -> None:
    def query(matchers: list[tuple[str, str, str]]) -> str:
        return counted(",".join(f'{label}{op}"{value}"' for label, op, value in matchers))

    total, part = query(of_total), query([*of_total, *further])
    try:
        indicator = read_indicator(read_total(total), f"{total} - {part}" if is_difference else part)
    except ConfigError:
        return
    for series in SERIES:
        selected = all(has(series, indicator.attributes)) and not any(has(series, indicator.without))
        assert selected == matches(series, of_total)
        if selected:
            assert isinstance(indicator.rule, Part)
            is_bad = all(has(series, indicator.rule.attributes)) == (indicator.rule.name == "bad")
            assert is_bad == (matches(series, further) != is_difference)


PIECES = (
    "sum ( ) rate increase m_bucket m_count { } [ ] {{.window}} {{ le= a=~ '1' \"x 'y `z` - + or vector 0 , by # \\"
)


@given(st.lists(st.sampled_from([" ", *PIECES.split()]) | st.text(max_size=3), max_size=25).map("".join))
def test_whatever_stands_there_is_read_or_refused_in_words_with_a_fix(query: str) -> None:
    try:
        parse_query(query)
    except ConfigError as error:
        message = str(error)
    else:
        message = "read; nothing to fix"
    assert "; " in message
