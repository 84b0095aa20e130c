"""`qma slo import sloth`: what is written, where, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.cli import main
from stream.config import exit_codes
from stream.config.openslo import load_configuration

SLOTH = Path(__file__).parents[1] / "config" / "sloth"


def test_what_is_written_can_be_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "openslo.yaml"
    arguments = ["--environment", "staging", "--namespace", "shop", "--period", "28d", "--output", str(output)]
    assert main(["slo", "import", "sloth", str(SLOTH / "kubernetes.yml"), *arguments]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["apply", "--dry-run", str(output)]) == 0
    assert "3 objectives valid" in capsys.readouterr().out
    objectives = load_configuration([output], now_ns=0).objectives
    assert {one.service for one in objectives} == {"staging/shop/orders-api", "staging/shop/billing"}
    assert {one.window_minutes for one in objectives} == {28 * 24 * 60}


def test_it_goes_to_standard_output_and_says_what_alerts_lose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slo", "import", "sloth", str(SLOTH / "http.yml")]) == 0
    written, said = capsys.readouterr()
    assert written.count("kind: SLO\n") == 2
    assert written.count("environment: production\n") == 3
    assert said == (
        "qma: 1 of the SLOs names alerts or labels of alerts; they are kept as annotations, nothing is routed by them\n"
    )


def test_where_one_slo_cannot_be_expressed_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "openslo.yaml"
    command = ["slo", "import", "sloth", str(SLOTH / "mixed.yml"), "--output", str(output)]
    assert main(command) == exit_codes.CONFIG
    written, said = capsys.readouterr()
    assert written == ""
    assert [line.split(": ")[-2] for line in said.splitlines()] == [
        "slos[1].sli.raw",
        "slos[2].sli.plugin",
        "slos[3].alerting.ticket_alert.disable",
    ]
    assert not output.exists()


def test_partial_writes_the_others_and_still_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "openslo.yaml"
    command = ["slo", "import", "sloth", str(SLOTH / "mixed.yml"), "--output", str(output), "--partial"]
    assert main(command) == exit_codes.CONFIG
    said = capsys.readouterr().err
    assert [one.name for one in load_configuration([output], now_ns=0).objectives] == ["wifi-joins"]
    assert said.count("mixed.yml:") == 3
    assert said.endswith("qma: 1 SLO was written, the rest was left out\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--period", "1M"], "'1M' is not a length of time"),
        (["--period", "91d"], "'91d' is not between 1 hour and 90 days"),
    ],
)
def test_a_window_that_cannot_be_kept_is_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["slo", "import", "sloth", str(SLOTH / "http.yml"), *arguments])
    assert ended.value.code == exit_codes.USAGE
    assert said in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["slo", "import", "sloth", str(SLOTH / "http.yml"), "--output", str(tmp_path / "no" / "file.yaml")]
    assert main(command) == exit_codes.CONFIG
    assert "file.yaml cannot be written (No such file or directory); name another file" in capsys.readouterr().err
