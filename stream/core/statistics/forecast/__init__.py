"""Forecast of an error budget: when it runs out, with an interval, without chance.

What is known is kept apart from what is modelled. The past rolls off the window hour by hour as it was counted.
`PATHS` futures, always the same ones for the same history, go on from there:

* Traffic (`traffic`): profile by hour of the week, or of the day, at the level of the last days.
* Errors (`regime`, `futures`): the present level lasts as long as its age and its like in history suggest; after it,
  or at once where such levels ended before, history goes on as it did after hours like the last ones.
* Uncertainty: of the level, of its duration, of the traffic, and a drift that grows as history shortens.

How good it is (`python -m tests.calibrate --runs 3600 --seed 11`, 300 runs a process, half of them with at least 80 %
of the budget consumed; the constants were chosen on other seeds). Truth within the 80 % interval:

    a constant burn that began lately  83 %      a night job that fails             92 %
    incidents of hours                 81 %      steady growth or decline           78 %
    a wandering error ratio            83 %      days of history, window of thirty  83 %
    traffic that jumps                 88 %      a dozen events an hour             80 %
    bursts that bring errors           78 %      a calendar month                   87 %
    bad deploys, hours to weeks        82 %      a window of seven days             86 %

All: 83 %; of the intervals that name a time at all, 79 % (one that says "never" only holds more than 80 % by
construction). Misses are mostly truths that came before the interval: 15 % before, 2 % after. P(exhaust <= 24 h) has a
Brier score of 0.035; the base rate has 0.068, a straight line through the last six hours 0.078.

What it cannot know: that a service without a bad event will have one (it says never), that an incident will be worse
than any before, or that a growth of errors goes on ("never" is said there in 73 % where 62 % is true). A burn that is
constant for ever is forecast by a straight line better than by this.
"""

from stream.core.statistics.forecast.budget import (
    CalendarBudget,
    Forecast,
    History,
    Period,
    forecast,
    hours_to_exhaustion,
)

__all__ = ["CalendarBudget", "Forecast", "History", "Period", "forecast", "hours_to_exhaustion"]
