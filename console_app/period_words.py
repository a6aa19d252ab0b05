"""A dependency by period in words."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks_app.models import TaskDependency
from tasks_app.periods import PeriodPolicy, Unit

SAME: dict[str, Promise] = {
    Unit.HOUR: gettext_lazy("the same hour"),
    Unit.DAY: gettext_lazy("the same day"),
    Unit.WEEK: gettext_lazy("the same week"),
    Unit.MONTH: gettext_lazy("the same month"),
}
BEFORE: dict[str, Promise] = {
    Unit.HOUR: gettext_lazy("the hour before"),
    Unit.DAY: gettext_lazy("the day before"),
    Unit.WEEK: gettext_lazy("the week before"),
    Unit.MONTH: gettext_lazy("the month before"),
}
BACK: dict[str, Promise] = {
    Unit.HOUR: gettext_lazy("%(n)d hours before"),
    Unit.DAY: gettext_lazy("%(n)d days before"),
    Unit.WEEK: gettext_lazy("%(n)d weeks before"),
    Unit.MONTH: gettext_lazy("%(n)d months before"),
}


def period_words(edge: TaskDependency) -> str:
    """`last run of the day before`; empty for a dependency that is not by period."""
    if not edge.period:
        return ""
    if edge.period_back == 0:
        period = str(SAME[edge.period])
    elif edge.period_back == 1:
        period = str(BEFORE[edge.period])
    else:
        period = str(BACK[edge.period]) % {"n": edge.period_back}
    if edge.period_policy == PeriodPolicy.FAIL:
        return _("last run of %(period)s, fails without one") % {"period": period}
    return _("last run of %(period)s") % {"period": period}
