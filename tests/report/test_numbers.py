"""Numbers as text: hand-written cases."""

from __future__ import annotations

import re

import pytest

from snnkd_deploy.report.numbers import NBSP, count, interval, percent, seconds, si, significant


def spaced(text: str) -> str:
    return text.replace(NBSP, " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (2.84e-7, "280 nJ"),
        (9.97e-7, "1.0 µJ"),
        (1.0e-6, "1.0 µJ"),
        (1.23e-5, "12 µJ"),
        (4.6e-12, "4.6 pJ"),
        (3.0, "3.0 J"),
        (5e-19, "0.50 aJ"),
    ],
)
def test_energy_has_two_digits_and_a_prefix(value: float, text: str) -> None:
    assert spaced(si(value, "J")) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (2.8e-7, 7.2e-7, "280–720 nJ"),
        (2.8e-7, 5.5e-6, "0.28–5.5 µJ"),
        (3.1e-5, 1.1e-3, "31 µs – 1.1 ms"),
        (0.0, 1.1e-7, "0–110 nJ"),
        (2e-6, 2e-6, "2.0 µJ"),
    ],
)
def test_interval(low: float, high: float, text: str) -> None:
    unit = "s" if "s" in text else "J"
    assert spaced(interval(low, high, unit)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.172, "0.172"), (8.4149, "8.41"), (62.2, "62.2"), (99.96, "100"), (1234567, "1,234,567")],
)
def test_count(value: float, text: str) -> None:
    assert count(value) == text


def test_percent_shows_more_digits_where_samples_allow() -> None:
    assert spaced(percent(0.97216)) == "97.2 %"
    assert spaced(percent(0.89514, 10_000)) == "89.51 %"
    assert spaced(percent(1.11)) == "111.0 %"


@pytest.mark.parametrize(("value", "text"), [(0.61, "0.6 s"), (96.8, "97 s"), (725, "12 min 5 s"), (7300, "2 h 1 min")])
def test_seconds(value: float, text: str) -> None:
    assert spaced(seconds(value)) == text


def test_significant_never_prints_an_exponent() -> None:
    for power in range(-12, 9):
        for lead in (1.0, 2.55, 9.96):
            text = significant(lead * 10.0**power, 2)
            assert re.fullmatch(r"[\d,.]+", text), text
            assert float(text.replace(",", "")) == pytest.approx(lead * 10.0**power, rel=0.06)


def test_a_share_that_is_not_nothing_does_not_read_as_nothing() -> None:
    assert [spaced(percent(share)) for share in (0.0, 0.000297, 0.0006)] == ["0.0 %", "0.030 %", "0.1 %"]
    assert spaced(percent(0.000297, 1000)) == "0.03 %"
