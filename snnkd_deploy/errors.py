"""Errors that a user can act on: what is wrong, where, need versus have, and what to try."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be done, found before any work is spent on it.

    `where` is a node, file or recipe key; `need` and `have` are the two numbers that clash,
    written with their unit; `remedy` is something the user can do about it.
    """

    what: str
    where: str = ""
    need: str = ""
    have: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.need or self.have:
            given = (("need", self.need), ("have", self.have))
            text += f" ({', '.join(f'{name} {value}' for name, value in given if value)})"
        return text


class SnnkdError(Exception):
    """Base of every error this package raises on purpose. The CLI prints it without a traceback.

    Holds one or more `Problem`s: the first is the headline, the others follow as "also".
    """

    exit_code = 1

    def __init__(
        self,
        what: str | Problem,
        *,
        where: str = "",
        need: object = "",
        have: object = "",
        remedy: str = "",
        also: tuple[Problem, ...] | list[Problem] = (),
    ) -> None:
        if isinstance(what, Problem):
            first = what
        else:
            first = Problem(what, where, str(need), str(have), remedy)
        self.problems: tuple[Problem, ...] = (first, *also)
        super().__init__(self.render())

    @classmethod
    def from_problems(cls, problems: list[Problem] | tuple[Problem, ...]) -> SnnkdError:
        """One error that carries all `problems` (at least one), the first as its headline."""
        return cls(problems[0], also=tuple(problems[1:]))

    def render(self) -> str:
        first, *rest = self.problems
        lines = [str(first)]
        lines += [f"  also: {problem}" for problem in rest]
        remedies = list(dict.fromkeys(p.remedy for p in self.problems if p.remedy))
        lines += [f"  try: {remedy}" for remedy in remedies]
        return "\n".join(lines)


class UsageError(SnnkdError):
    """The call itself is wrong: an unknown name, a missing option, two options that clash."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file has unknown keys, wrong types or an impossible combination."""


class DataError(SnnkdError):
    """A data set or an input file is missing, damaged or of the wrong shape."""


class ChipError(SnnkdError):
    """A chip file is broken, or a network does not fit the chip."""


class GraphError(SnnkdError):
    """A model file is damaged, or says something that we cannot represent without loss."""


class BackendError(SnnkdError):
    """A backend is missing, cannot run this model, or failed while running it."""


class RefusedError(BackendError):
    """A backend cannot do what it was asked, and another try would end the same way."""


class TrainingError(SnnkdError):
    """Training cannot go on (for instance a loss that is not finite)."""
