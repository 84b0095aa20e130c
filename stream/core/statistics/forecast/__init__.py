"""Forecast of an error budget: when it runs out, with an interval and without chance."""

from stream.core.statistics.forecast.budget import (
    CalendarBudget,
    Forecast,
    History,
    Period,
    forecast,
    hours_to_exhaustion,
)

__all__ = ["CalendarBudget", "Forecast", "History", "Period", "forecast", "hours_to_exhaustion"]
