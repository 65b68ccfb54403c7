"""Hypotheses about the neuron: reset, threshold, rounding, overflow, decay, start of the bias."""

from __future__ import annotations

import math
from dataclasses import replace

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT
from snnkd_deploy.evaluate.diagnose.hypothesis import Case, Hypotheses, Hypothesis
from snnkd_deploy.evaluate.diagnose.rule import STATE_BITS, Rule

# Ratios between the timesteps that people mix up: 1 ms against 0.1 ms, half and double rate, ...
DT_FACTORS = (2.0, 0.5, 10.0, 0.1, 4.0, 0.25, 5.0, 0.2)


def neuron_hypotheses(case: Case) -> Hypotheses:
    """Everything that leaves the inputs as they are, but for the scan of decays."""
    yield from _threshold(case.rule)
    yield from _reset(case.rule)
    yield from _rounding(case.rule)
    yield from _overflow(case)
    yield from _decay(case.rule)
    yield from _bias_start(case)


def _threshold(rule: Rule) -> Hypotheses:
    yield Hypothesis("threshold test", "it fires at v >= threshold, not v > threshold", replace(rule, fires=">="))
    unit = 1 << INPUT_SHIFT
    for offset, name in ((unit, "one mantissa step"), (-unit, "one mantissa step"), (1, "one"), (-1, "one")):
        side = "above" if offset > 0 else "below"
        text = f"its threshold is {name} {side} the model's {rule.threshold:g}"
        yield Hypothesis("threshold test", text, replace(rule, threshold=rule.threshold + offset))


def _reset(rule: Rule) -> Hypotheses:
    yield Hypothesis("reset kind", "it subtracts the threshold after a spike", replace(rule, reset="subtract"))
    yield Hypothesis("reset kind", "it does not reset the membrane after a spike", replace(rule, reset="none"))


def _rounding(rule: Rule) -> Hypotheses:
    for kind, text in (
        ("floor", "its decay rounds down (towards minus infinity)"),
        ("nearest", "its decay rounds to the nearest integer"),
        ("none", "its decay keeps fractions (floating point)"),
        ("ceil", "its decay rounds up: it subtracts a rounded-down part"),
        ("away", "its decay rounds away from zero"),
    ):
        yield Hypothesis("rounding", text, replace(rule, rounding=kind))


def _overflow(case: Case) -> Hypotheses:
    rule = case.rule
    # Registers without limits show what they would have to hold: narrower ones that hold it change nothing.
    free = case.course(Hypothesis("overflow", "", replace(rule, u_overflow="none", v_overflow="none")))
    peaks = {"u": float(free.u.abs().max()), "v": float(free.before.abs().max())}
    if max(peaks.values()) >= 1 << (STATE_BITS - 1):
        for kind, text in (("saturate", "saturates"), ("none", "is wider than 24 bits"), ("wrap", "wraps fully")):
            yield Hypothesis("overflow", f"its current u {text}", replace(rule, u_overflow=kind))
        for kind, text in (("wrap", "wraps around"), ("none", "is wider than 24 bits")):
            yield Hypothesis("overflow", f"its membrane v {text}", replace(rule, v_overflow=kind))
        both = replace(rule, u_overflow="saturate", v_overflow="wrap")
        yield Hypothesis("overflow", "its current saturates and its membrane wraps around", both)
    for bits in (STATE_BITS - 1, 20, 16, 12, 8):
        for register, peak in peaks.items():
            for kind, text in (("saturate", "saturates"), ("wrap", "wraps")) if peak >= 1 << (bits - 1) else ():
                changed = {f"{register}_bits": bits, f"{register}_overflow": kind}
                text_all = f"its register {register} has {bits} bits and {text}"
                yield Hypothesis("overflow", text_all, replace(rule, **changed))  # type: ignore[arg-type]


def at_dt(rule: Rule, factor: float) -> Rule:
    """The rule for a timestep `factor` times as long. A decay of 0 or 4096 means none or all at any timestep."""

    def scaled(decay: int) -> int:
        return decay if decay in (0, DECAY_ONE) else min(DECAY_ONE, max(1, round(decay * factor)))

    return replace(rule, Du=scaled(rule.Du), Dv=scaled(rule.Dv))


def _decay(rule: Rule) -> Hypotheses:
    for name in ("Dv", "Du"):
        value: int = getattr(rule, name)
        share = value / DECAY_ONE
        known = {
            value + 1: "one more than the model's",
            value - 1: "one less than the model's",
            DECAY_ONE - value: "what the model keeps, not what it forgets",
            round(DECAY_ONE * (1 - math.exp(-share))): "1 - exp(-dt/tau) in place of dt/tau",
            0: "no decay at all",
            DECAY_ONE: "everything is forgotten",
        }
        if 0 < value < DECAY_ONE:
            known[round(-DECAY_ONE * math.log1p(-share))] = "dt/tau in place of 1 - exp(-dt/tau)"
        for candidate, text in known.items():
            if 0 <= candidate <= DECAY_ONE and candidate != value:
                changed = replace(rule, **{name: candidate})  # type: ignore[arg-type]
                yield Hypothesis("decay value", f"its {name} is {candidate}: {text}", changed)
    if rule.Du != rule.Dv:
        swapped = replace(rule, Du=rule.Dv, Dv=rule.Du)
        yield Hypothesis("decay value", "its decays of current and membrane are exchanged", swapped)


def decay_scan(rule: Rule) -> Hypotheses:
    """Decays around the model's and all over the range: an unexpected constant is found, if only roughly."""
    for name in ("Dv", "Du"):
        value: int = getattr(rule, name)
        near = [round(value * (1 + p / 100)) for p in (-40, -30, -20, -15, -10, -5, -2, 2, 5, 10, 15, 20, 30, 40, 60)]
        for candidate in sorted({*near, *range(256, DECAY_ONE, 512)}):
            if 0 <= candidate <= DECAY_ONE and candidate != value:
                text = f"its {name} is near {candidate}: the model has {value}"
                yield Hypothesis("decay value", text, replace(rule, **{name: candidate}))  # type: ignore[arg-type]


def decay_refined(rule: Rule, found: Rule) -> Hypotheses:
    """Every so often between the neighbours of a value that the scan found."""
    for name in ("Dv", "Du"):
        value, near = getattr(rule, name), getattr(found, name)
        reach = max(2, round(abs(near - value) * 0.3))
        for candidate in {near + round(reach * i / 16) for i in range(-16, 17)} if near != value else set():
            if 0 <= candidate <= DECAY_ONE and candidate not in (value, near):
                text = f"its {name} is near {candidate}: the model has {value}"
                yield Hypothesis("decay value", text, replace(rule, **{name: candidate}))  # type: ignore[arg-type]


def _bias_start(case: Case) -> Hypotheses:
    if not bool(case.bias.any()):
        return
    for steps in (1, 2, 3, 4, 5, 6, 8):
        text = f"its bias acts {steps} step(s) before the first input arrives"
        yield Hypothesis("early bias", text, replace(case.rule, lead=steps))
    for steps in (1, 2):
        yield Hypothesis("early bias", f"its bias starts {steps} step(s) late", replace(case.rule, lead=-steps))
